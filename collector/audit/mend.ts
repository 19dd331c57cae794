/**
 * Puts right what an audit found, from whoever has it right: the store from the lake (or the log, where there is no lake),
 * the lake from the log, which says it again, and what neither can settle from raw, decoded again. Nothing is taken out of
 * a store on the lake's word alone: raw must have the message, and decoding it again must not have made the reading. What
 * raw has no more, and log and lake neither, is said again as the store has it (decision 36).
 */
import { encodeReadings } from '../../shared/model/readings-record.ts';
import type { Range } from '../../shared/model/ranges.ts';
import type { Reading } from '../../shared/model/reading.ts';
import type { ReplayJobs } from '../decode/replay-jobs.ts';
import type { PointSum } from '../duckdb/points.ts';
import type { Lake } from '../lake/lake.ts';
import { SpanSet } from '../lake/manifest.ts';
import {
  HEADER_AGAIN,
  HEADER_STORED,
  TOPIC_READINGS,
  TOPIC_RESULTS,
  type Log,
  type LogRecord,
} from '../log/log.ts';
import type { Rebuild } from '../rebuild.ts';
import { identityName } from '../store/changes.ts';
import type { StoreStage } from '../store/stage.ts';
import type { Change, Identity } from '../store/store.ts';
import type { Suspect } from './compare.ts';
import { judge, type Verdict } from './findings.ts';
import { isResult, type LakeSide } from './lake-side.ts';
import type { SummingSide } from './store-side.ts';

const POLL_MS = 200;
const STORED_AGAIN = { [HEADER_AGAIN]: 'true', [HEADER_STORED]: 'true' };

export interface MendOptions {
  log: Log;
  lake: LakeSide | undefined;
  store: SummingSide | undefined;
  storing: StoreStage | undefined;
  /** Undefined where this process cannot have raw decoded again. */
  again: { replays: ReplayJobs; rebuild: Rebuild } | undefined;
  isStopped: () => boolean;
  nowMs: () => number;
  /** The log is not the one that the store was filled from: what nothing but the store has may be the last of its kind. */
  other: Other | undefined;
}

export interface Other {
  /** The store is of this log, or there is no older lake: whatever it has is ours. Else that whose epoch the lake knows. */
  isOurs: boolean;
}

type Wrong = [suspect: Suspect, verdict: Verdict];

export class Mend {
  private readonly options: MendOptions;
  /** Decoded again in this pass. */
  private readonly decoded = new Set<string>();
  /** Said again in this pass as the store has it, by the name of the identity. */
  readonly stored = new Set<string>();

  constructor(options: MendOptions) {
    this.options = options;
  }

  /** Once; whether it helped the next comparison says. Gives how many it could do something for. */
  async all(suspects: Iterable<Suspect>): Promise<number> {
    const wrong: Wrong[] = [];
    for (const suspect of suspects) {
      const verdict = judge(suspect.sides);
      if (verdict !== undefined) wrong.push([suspect, verdict]);
    }
    const of = (stage: Verdict['stage'], from: Verdict['from']): Suspect[] =>
      wrong
        .filter(([, verdict]) => verdict.stage === stage && verdict.from === from)
        .map(([suspect]) => suspect);
    const raw = wrong.filter(([, { from }]) => from === 'raw').map(([suspect]) => suspect);
    const extra = raw.filter((suspect) => this.isUnmade(suspect));
    const stored = await this.store([...of('store', 'lake'), ...extra], 'lake');
    const fromLog = await this.store(of('store', 'log'), 'log');
    const said = await this.sayAgain(of('lake', 'log'));
    const rest = raw.filter((suspect) => !extra.includes(suspect));
    const kept = await this.inRaw(rest);
    const decoded = await this.decode(rest.filter((suspect) => kept.has(suspect)));
    const lone = await this.sayStored(rest.filter((suspect) => !kept.has(suspect)));
    return stored + fromLog + said + decoded + lone;
  }

  /** Those whose messages the raw zone has: not what a file had that is lost. */
  private async inRaw(suspects: readonly Suspect[]): Promise<Set<Suspect>> {
    const { lake } = this.options;
    const found = new Set<Suspect>();
    if (lake === undefined) return found;
    const catalog = lake.lake.catalog('raw');
    const raw = new SpanSet();
    const gateways = new Set(suspects.map(({ identity }) => identity.gateway));
    for (const gateway of gateways)
      if (!isResult(gateway)) raw.add(gateway, await catalog.spansOf(gateway));
    for (const suspect of suspects) {
      const { gateway, epoch, sequence } = suspect.identity;
      if (raw.covers(gateway, { [epoch]: [[sequence, sequence]] })) found.add(suspect);
    }
    return found;
  }

  private isLone({ identity, sides: { lake, log, store } }: Suspect): boolean {
    const isOnly = lake === undefined && log === null && store?.isTwice === false;
    return isOnly && !this.stored.has(identityName(identity));
  }

  /** Whether raw had it, or may have had it: else it was put into the store behind our back, and stays what it is. */
  private async isLast(lake: Lake, identity: Identity): Promise<boolean> {
    const { gateway, epoch, sequence } = identity;
    const { other } = this.options;
    if (isResult(gateway)) return other?.isOurs === true;
    const raw = lake.catalog('raw');
    if (await raw.covers(gateway, epoch, sequence, sequence)) return true;
    if (other === undefined || other.isOurs) return other !== undefined;
    const readings = lake.catalog('readings');
    return (
      ((await raw.span(gateway, epoch)) ?? (await readings.span(gateway, epoch))) !== undefined
    );
  }

  /** What nothing but the store has any more goes back into the log, and from there into the lake. */
  private async sayStored(suspects: readonly Suspect[]): Promise<number> {
    const { lake, store, log, nowMs } = this.options;
    if (lake === undefined || store === undefined) return 0;
    const lone: Suspect[] = [];
    for (const suspect of suspects)
      if (this.isLone(suspect) && (await this.isLast(lake.lake, suspect.identity)))
        lone.push(suspect);
    // A result that was taken back has a revision that says so.
    const taken = await lake.results(lone.map(({ identity }) => identity));
    const asked = lone
      .map(({ identity }) => identity)
      .filter((identity) => !taken.has(identityName(identity)));
    const records = new Map<string, LogRecord[]>();
    for (const { identity, put } of await store.readings(asked)) {
      if (put === undefined) continue;
      const { gateway, epoch } = identity;
      // When it arrived only raw and lake knew: not before its own time, as far as that can be believed.
      const arrivedMs = Math.min(put.timeMs, nowMs());
      const isOfResults = isResult(gateway);
      const value = encodeReadings({
        ...{ gateway, epoch, arrivedMs, readings: [put] },
        ...(isOfResults ? { revision: 1 } : {}),
      });
      const headers = isOfResults ? { [HEADER_STORED]: 'true' } : STORED_AGAIN;
      const topic = isOfResults ? TOPIC_RESULTS : TOPIC_READINGS;
      const key = isOfResults ? epoch : gateway;
      const list = records.get(topic);
      if (list === undefined) records.set(topic, [{ key, value, headers }]);
      else list.push({ key, value, headers });
      this.stored.add(identityName(identity));
    }
    for (const [topic, list] of records) await log.append(topic, list);
    return this.stored.size === 0 ? 0 : asked.length;
  }

  /** Raw has its message, it was decoded again in this pass, and nobody but the store has it. */
  private isUnmade({ identity, sides }: Suspect): boolean {
    const isOnlyStored = sides.lake === undefined && (sides.log ?? undefined) === undefined;
    return isOnlyStored && this.decoded.has(identityName(identity));
  }

  // ---- the store ----

  private async store(suspects: readonly Suspect[], from: 'lake' | 'log'): Promise<number> {
    const { storing, store, lake } = this.options;
    if (suspects.length === 0 || storing === undefined || store === undefined) return 0;
    const asked = suspects.map(({ identity }) => identity);
    const days = daysOf(suspects);
    const right = new Map<string, Change>();
    if (from === 'lake')
      for (const change of (await lake?.changes(asked, days)) ?? [])
        right.set(identityName(change.identity), change);
    else
      for (const { saying } of suspects)
        if (saying !== undefined)
          right.set(identityName(saying.identity), {
            identity: saying.identity,
            put: saying.reading,
          });
    await storing.mend(async () => {
      const now = new Map((await store.sums(asked)).map((sum) => [identityName(sum), sum]));
      // What was written since then is newer than what is known here.
      return suspects
        .filter(({ identity, sides }) => isAs(now.get(identityName(identity)), sides.store))
        .map(
          ({ identity }): Change =>
            right.get(identityName(identity)) ?? { identity, put: undefined },
        );
    });
    return suspects.length;
  }

  // ---- the lake ----

  private async sayAgain(suspects: readonly Suspect[]): Promise<number> {
    const { lake } = this.options;
    const there = new Map<string, Reading[]>();
    const asked = suspects.map(({ identity }) => identity);
    for (const { identity, put } of (await lake?.changes(asked, daysOf(suspects))) ?? []) {
      const name = identityName(identity);
      if (put !== undefined) there.set(name, [...(there.get(name) ?? []), put]);
    }
    const records: LogRecord[] = [];
    let count = 0;
    for (const { saying, identity } of suspects) {
      if (saying === undefined || isResult(identity.gateway)) continue;
      const { gateway, epoch } = identity;
      const { reading, arrivedMs } = saying;
      // Where the lake has it, and in which file, is named: no manifest may speak of that file.
      const removed = there.get(identityName(identity)) ?? [];
      const readings = reading === undefined ? [] : [reading];
      const value = encodeReadings({ gateway, epoch, arrivedMs, readings, removed });
      records.push({ key: gateway, value, headers: { [HEADER_AGAIN]: 'true' } });
      count++;
    }
    if (records.length > 0) await this.options.log.append(TOPIC_READINGS, records);
    return count;
  }

  // ---- raw ----

  private async decode(suspects: readonly Suspect[]): Promise<number> {
    const { again, isStopped, lake } = this.options;
    if (again === undefined || lake === undefined) return 0;
    const spans = new SpanSet();
    for (const { identity } of suspects) {
      const { gateway, epoch, sequence } = identity;
      if (this.decoded.has(identityName(identity))) continue;
      this.decoded.add(identityName(identity));
      spans.add(gateway, { [epoch]: [[sequence, sequence]] });
    }
    if (spans.gateways.length === 0) return 0;
    await again.rebuild.restore(spans);
    const named: Record<string, Range[]> = {};
    for (const gateway of spans.gateways)
      for (const [epoch, ranges] of Object.entries(spans.of(gateway)))
        named[`${gateway}/${epoch}`] = ranges;
    const { id } = await again.replays.create({ which: 'named' }, named);
    while (!again.replays.isFinished(id) && !isStopped())
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    return suspects.length;
  }
}

export function daysOf(suspects: Iterable<Suspect>): Set<string> {
  const days = new Set([...suspects].flatMap((suspect) => [...suspect.days]));
  days.delete('');
  return days;
}

function isAs(now: PointSum | undefined, then: PointSum | undefined | null): boolean {
  return (now?.points ?? 0) === (then?.points ?? 0) && now?.digest === (then ?? undefined)?.digest;
}
