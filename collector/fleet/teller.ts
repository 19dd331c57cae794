/**
 * Tells how gateways stand (`standing.ts`) and what fields are measured in (`fields.ts`), as results in the log: so they are
 * in store and lake like others, once in effect by their identity, whichever collector of a log says them. What cannot be
 * written is said with the next look.
 */
import { messageOf } from '../../shared/errors.ts';
import type { Reading } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { REPORTS_MAX } from '../ledger/epoch-ledger.ts';
import type { LedgerView, Standing } from '../ledger/view.ts';
import { TOPIC_RESULTS, type Log } from '../log/log.ts';
import { FLEET, Results, Revisions } from '../stream/results.ts';
import type { Fields } from './fields.ts';
import {
  goneOf,
  goneReading,
  nameOf,
  sinceOf,
  stateOf,
  stateReading,
  type Gone,
  type State,
  type Told,
} from './standing.ts';

const LOOK_MS = 5000;
/** A state is told once it has held for so long. */
export const TROUBLE_MS = 10_000;
/** The first word on a gateway, where nothing is wrong; what fields are measured in as well. */
export const FIRST_MS = 60_000;
const HOUR_MS = 3_600_000;
/** A gateway that was silent for longer is spoken of no more. */
const SILENT_MS = 30 * 24 * HOUR_MS;
/** What was lost longer ago than that before the start has been told by an earlier run. */
const PAST_MS = 24 * HOUR_MS;

interface Known {
  told: Told | undefined;
  /** What it is now, and since when, by the monotonic clock. */
  seen: { state: State; sinceMs: number } | undefined;
  late: number;
  hour: number;
  /** Name → what was told to be gone, and of how many messages. */
  gone: Map<string, Gone>;
}

export interface TellerOptions {
  log: Log;
  ledger: Pick<LedgerView, 'standingOf' | 'linked' | 'onChange' | 'isRead'>;
  fields: Pick<Fields, 'due'> | undefined;
  locationOf: (gateway: string) => readonly [number, number] | undefined;
  nowMs: () => number;
  monotonicMs: () => number;
  notify: Notify;
}

export class Teller {
  private readonly options: TellerOptions;
  private readonly known = new Map<string, Known>();
  private readonly touched = new Set<string>();
  private readonly beganMs: number;
  private readonly revisions = new Revisions(0);
  private timer: NodeJS.Timeout | undefined;
  private turn: Promise<void> = Promise.resolve();
  private hour = 0;
  private said = '';

  constructor(options: TellerOptions) {
    this.options = options;
    this.beganMs = options.nowMs();
    for (const gateway of options.ledger.linked()) this.touched.add(gateway);
    options.ledger.onChange = (gateway) => this.touched.add(gateway);
  }

  start(): void {
    this.timer = setInterval(() => {
      this.turn = this.turn.then(() => this.look());
    }, LOOK_MS);
    this.timer.unref();
  }

  /** Looks at the gateways of which something has changed, or is about to be told. */
  async look(): Promise<void> {
    // Of half a ledger nothing is said.
    if (!this.options.ledger.isRead) return;
    const nowMs = this.options.nowMs();
    const hour = Math.floor(nowMs / HOUR_MS);
    if (hour !== this.hour) for (const gateway of this.known.keys()) this.touched.add(gateway);
    this.hour = hour;
    const results = new Results(FLEET);
    const settled: (() => void)[] = [];
    for (const gateway of [...this.touched]) {
      const standing = this.options.ledger.standingOf(gateway);
      this.touched.delete(gateway);
      if (standing === undefined) continue;
      const word = this.wordOn(gateway, standing, nowMs);
      if (!word.isSettled) this.touched.add(gateway);
      for (const reading of word.readings) results.add(`gateways/${gateway}`, reading);
      settled.push(word.keep);
    }
    const fields = this.options.fields?.due(nowMs, this.options.monotonicMs());
    for (const [epoch, reading] of fields?.readings ?? []) results.add(epoch, reading);
    if (fields !== undefined) settled.push(fields.keep);
    if (results.isEmpty) return settled.forEach((keep) => keep());
    await this.write(results, nowMs, settled);
  }

  private async write(results: Results, nowMs: number, settled: (() => void)[]): Promise<void> {
    const { log, notify } = this.options;
    const records = results.records(this.revisions.next(nowMs), Math.round(nowMs));
    try {
      await log.append(TOPIC_RESULTS, records);
      for (const keep of settled) keep();
      this.said = '';
    } catch (error) {
      for (const gateway of this.known.keys()) this.touched.add(gateway);
      const text = `how gateways stand could not be noted: ${messageOf(error)}`;
      if (text !== this.said) notify({ level: 'warn', event: 'fleet', text });
      this.said = text;
    }
  }

  private knownOf(gateway: string, standing: Standing): Known {
    let known = this.known.get(gateway);
    if (known === undefined) {
      const old = goneOf(standing).filter(({ since }) => since < this.beganMs - PAST_MS);
      const gone = new Map(old.map((each) => [nameOf(each), each]));
      known = { told: undefined, seen: undefined, late: 0, hour: this.hour, gone };
      this.known.set(gateway, known);
    }
    return known;
  }

  private wordOn(
    gateway: string,
    standing: Standing,
    nowMs: number,
  ): { readings: Reading[]; isSettled: boolean; keep: () => void } {
    const known = this.knownOf(gateway, standing);
    const lost = this.goneSince(gateway, known.gone, standing);
    const monotonicMs = this.options.monotonicMs();
    const state = stateOf(standing, nowMs);
    if (state !== undefined && state !== known.seen?.state)
      known.seen = { state, sinceMs: monotonicMs };
    const { told, seen } = known;
    if (told?.state === 'fresh' && seen?.state === 'fresh') known.late = 0;
    else if (standing.link.connected) known.late = Math.max(known.late, standing.waiting);
    const heldMs = monotonicMs - (seen?.sinceMs ?? monotonicMs);
    const isNew = seen !== undefined && seen.state !== told?.state;
    const isFirst = told === undefined && seen?.state === 'fresh';
    const isDue = isNew && heldMs >= (isFirst ? FIRST_MS : TROUBLE_MS);
    const isAgain = !isDue && told !== undefined && known.hour !== this.hour;
    if (seen === undefined || !(isDue || (isAgain && !isLongSilent(told, nowMs))))
      return { ...lost, isSettled: state !== undefined && !isNew };
    const now: Told = isDue
      ? { state: seen.state, sinceMs: sinceOf(seen.state, told?.state, standing, nowMs) }
      : (told as Told); // Again: it was told.
    const reading = stateReading({
      ...{ gateway, standing, isAgain, before: told, late: known.late },
      state: now.state,
      sinceMs: now.sinceMs,
      timeMs: Math.round(isDue ? now.sinceMs : this.hour * HOUR_MS),
      location: this.options.locationOf(gateway),
    });
    const keep = (): void => {
      lost.keep();
      known.told = now;
      known.hour = this.hour;
      if (now.state === 'silent') known.late = 0;
    };
    return { readings: [reading, ...lost.readings], isSettled: true, keep };
  }

  private goneSince(
    gateway: string,
    told: Map<string, Gone>,
    standing: Standing,
  ): { readings: Reading[]; keep: () => void } {
    const now = new Map(goneOf(standing).map((each) => [nameOf(each), each]));
    const fresh = [...now].filter(([name, { to }]) => told.get(name)?.to !== to);
    // What is at its limit forgets its oldest.
    const isWhole = standing.lost.length < REPORTS_MAX;
    const here = [...told].filter(
      ([name, { cause }]) => !now.has(name) && (isWhole || cause === 'missing'),
    );
    return {
      readings: [
        ...fresh.map(([, gone]) => goneReading(gateway, gone, false)),
        ...here.map(([, gone]) => goneReading(gateway, gone, true)),
      ],
      keep: () => {
        for (const [name, gone] of fresh) told.set(name, gone);
        for (const [name] of here) told.delete(name);
      },
    };
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.turn;
  }
}

const isLongSilent = (told: Told, nowMs: number): boolean =>
  told.state === 'silent' && nowMs - told.sinceMs > SILENT_MS;
