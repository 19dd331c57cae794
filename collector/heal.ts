/**
 * Makes rows of the lake again that are lost: raw frames from the log, from what can be read of the file that was set
 * aside (a frame has a checksum of its own), and at last from gateways that still hold them; readings from raw frames,
 * decoded again; results from the log, where their identity keeps them once. What comes back takes the usual way, so the
 * store has it too. What no source has is told, and nobody waits for it any more.
 */
import { isBug, messageOf } from '../shared/errors.ts';
import { TOPIC_RAW, TOPIC_RESULTS, type Log } from './log/log.ts';
import { HEADER_HEALED, lakeGroup } from './log/topics.ts';
import type { ReplayJobs } from './decode/replay-jobs.ts';
import type { Rebuild } from './rebuild.ts';
import {
  Unnumbered,
  bareText,
  frameOf,
  goneResultsText,
  goneText,
  isAskedOf,
  isBefore,
  isUnnumbered,
  salvage,
  neverKept,
  neverKeptText,
  reportsText,
  rawThere,
  sayAgain,
  sayAhead,
  spansBy,
  tellUnknownResults,
  zoneSpans,
  type LogReading,
  type Lost,
} from './heal-frames.ts';
import { MadeAgain, Returned, folderOfKey, isNothing, readingsIn, unmade } from './heal-rows.ts';
import { forgottenUntilMs } from './lake/forgotten.ts';
import { keepUnproven, keepWhole } from './lake/keep.ts';
import type { Lake } from './lake/lake.ts';
import { isAllInLog } from './lake/gather.ts';
import { gatewayOf, ZONES, type Zone } from './lake/layout.ts';
import { SpanSet, beyond, union, type FileEntry, type Spans } from './lake/manifest.ts';

const POLL_MS = 300;
const RETRY_MS = 5000;
/** What is lost at the same time is made again at once. */
const GATHER_MS = 1000;
const BRINGS_MS = 20_000;
const CAUGHT_UP_MS = 600_000; // Of the lake stages, to have what was said again.

const nowMs = (): number => Math.round(performance.timeOrigin + performance.now());

export interface HealOptions {
  log: Log;
  lake: Lake;
  rebuild: Rebuild;
  replays: ReplayJobs;
  newId: () => string;
  /** What the ledger has as arrived. */
  received?: () => SpanSet;
  /** Whether a gateway that is connected still has any of these. */
  holds?: (gateway: string, spans: Spans) => boolean;
  /** Connected ones are to say again what they hold. */
  askGateways?: () => void;
}

export class Heal {
  /** Raw frames that neither log nor lake has: gateways that hold them are asked. */
  readonly wanted = new Map<string, Spans>();
  /** Of these, what no file of the lake ever had. */
  private readonly asked = new Map<string, Spans>();
  private readonly made = new MadeAgain();
  /** The readings had less than they had, and nobody knew what; before a restart it may have been so. */
  private wasLess = false;
  /** Raw frames that came when nobody waited for them any more: their readings are still to be made. */
  private readonly late = new SpanSet();
  /** What the present round is about. */
  private begun: ReadonlySet<Lost> = new Set();
  private hasLooked = false; // A round came to its end.
  private readonly options: HealOptions;
  private running: Promise<void> | undefined;
  private isAsked = false;
  private stopped = false;

  constructor(options: HealOptions) {
    this.options = options;
    const { check } = options.lake;
    check.onLost = () => this.ask();
    // What was found before.
    const isOfLog = options.log.hasLost?.('lake') === true;
    if (check.lost.size + check.less.zones.size + check.ahead.gateways.length > 0 || isOfLog)
      this.ask();
  }

  /** What a gateway is asked for; whether it has come is looked at then. */
  stillWanted(gateway: string): Spans {
    const isNew = !this.hasLooked && this.options.log.hasLost?.('lake') === true;
    if (this.wanted.has(gateway) || isNew) this.ask();
    return this.wanted.get(gateway) ?? {};
  }

  ask(): void {
    this.isAsked = true;
    if (!this.stopped) this.running ??= this.run().finally(() => (this.running = undefined));
  }

  private async run(): Promise<void> {
    const { notify } = this.options.lake.check;
    let said = '';
    while (this.isAsked && !this.stopped) {
      this.isAsked = false;
      await this.rest(GATHER_MS);
      try {
        this.made.begin();
        await this.round();
        await this.untilDue();
      } catch (error) {
        this.isAsked = true;
        const text = `lost rows of the lake wait to be made again: ${messageOf(error)}`;
        if (isBug(error)) throw error;
        if (text !== said) notify({ level: 'warn', event: 'lake_heal', text });
        said = text;
        await this.rest(RETRY_MS);
      }
    }
  }

  private get open(): Lost[] {
    const all = [...this.options.lake.check.lost.values()];
    return all.filter(({ entry }) => entry.final !== true);
  }

  /** What is lost again and again waits, and something else that is found ends the wait. */
  private async untilDue(): Promise<void> {
    const { store, check } = this.options.lake;
    const keys = this.open.map(({ entry }) => entry.key);
    const dueMs = this.made.nextMs(keys, store.address, check.notify);
    if (dueMs === undefined) return;
    while (!this.stopped && !this.isAsked && performance.now() < dueMs) await this.rest(POLL_MS);
    this.isAsked = true;
  }

  private async rest(ms: number): Promise<void> {
    for (let waited = 0; waited < ms && !this.stopped; waited += POLL_MS)
      await new Promise((resolve) => setTimeout(resolve, Math.min(POLL_MS, ms - waited)));
  }

  private get reading(): LogReading {
    const { log, newId } = this.options;
    return { log, newId, isStopped: () => this.stopped };
  }

  /** What is found meanwhile, and has row groups that are whole, is for the next round, which begins with keeping those. */
  private of(zone: Zone): Lost[] {
    const now = performance.now();
    return this.open.filter((lost) => {
      const { key, gone, groups } = lost.entry;
      const isKept = this.begun.has(lost) || gone !== 'damaged' || groups.length === 0;
      return lost.zone === zone && isKept && this.made.dueMs(key) <= now;
    });
  }

  private async round(): Promise<void> {
    const { lake, log } = this.options;
    const { less } = lake.check;
    // What the log has lost the lake may not have been given yet.
    const isOfLog = log.hasLost?.('lake') === true;
    if (isOfLog) for (const zone of ZONES) less.note(zone, false, nowMs());
    await sayAhead(lake, this.options.rebuild);
    await this.lookAgain();
    this.begun = new Set(lake.check.lost.values());
    const readings = await Returned.since(lake, this.of('readings'));
    const results = await Returned.since(lake, this.of('results'));
    for (const { zone, entry } of this.begun) await keepWhole(lake, zone, entry);
    await this.ofZone('raw', (isAll) => this.raw(isAll));
    await this.ofZone('readings', (isAll) => this.readings(isAll, readings));
    await this.ofZone('results', (isAll) => this.results(isAll, results));
    // What a gateway was asked for and no file has ever had is known to nobody else.
    const isKept = this.asked.size === 0 && lake.settling.size === 0;
    if (isOfLog && isKept && less.zones.size === 0) await log.madeUp?.('lake');
    this.hasLooked = true;
  }

  /** What is found to be gone meanwhile is for the next round. */
  private async ofZone(zone: Zone, work: (isAll: boolean) => Promise<void>): Promise<void> {
    const { less } = this.options.lake.check;
    const before = less.zones.get(zone)?.times;
    if (zone === 'readings') this.wasLess ||= before !== undefined;
    const marks = before === undefined ? [] : await less.marksOf(zone);
    await work(before !== undefined);
    if (before !== undefined) await less.settle(zone, before, marks);
  }

  /** What was given up may have come after all: from a gateway, or by a rebuild. */
  private async lookAgain(): Promise<void> {
    const { lake } = this.options;
    for (const [gateway, spans] of this.asked)
      if (isNothing(beyond(spans, await lake.catalog('raw').spansOf(gateway)))) {
        this.asked.delete(gateway);
        this.wanted.delete(gateway);
        this.rawCame(gateway, spans, true);
      }
    const received = this.options.received?.();
    for (const { zone, entry } of [...lake.check.lost.values()]) {
      if (entry.final !== true || isNothing(entry.spans)) continue;
      const gateway = gatewayOf(entry.key);
      const raw = await lake.catalog('raw').spansOf(gateway);
      if (zone === 'readings' && isNothing(unmade(entry, raw, received))) delete entry.final;
      if (zone !== 'raw') continue;
      const rest = beyond(entry.spans, raw);
      // A process before this one may have given it up.
      if (!isNothing(beyond(rest, this.wanted.get(gateway) ?? {}))) this.want(gateway, rest);
      if (!isNothing(rest)) continue;
      this.wanted.delete(gateway);
      await this.settle(entry.key);
      this.rawCame(gateway, entry.spans, true);
    }
  }

  /** Readings that had nothing to be made of can be made now: of files that were given up, and of those that nobody knows. */
  private rawCame(gateway: string, spans: Spans, isLate: boolean): void {
    const { check } = this.options.lake;
    for (const each of check.lost.values()) if (each.zone === 'readings') delete each.entry.final;
    this.isAsked = true;
    if (!isLate && !this.wasLess) return;
    if (isNothing(spans)) check.less.note('readings', false, nowMs());
    else this.late.add(gateway, spans);
  }

  // ---- raw ----

  private async raw(isAll: boolean): Promise<void> {
    const lost = this.of('raw');
    if (lost.length === 0 && !isAll) return;
    const { lake, log } = this.options;
    const wanted = spansBy(lost);
    const there = isAll ? await zoneSpans(this.options.lake, 'raw') : new SpanSet();
    const received = isAll ? this.options.received?.() : undefined;
    const said = new SpanSet();
    const forgottenMs = await forgottenUntilMs(lake.store);
    const unnumbered = await Unnumbered.of(lake, lost);
    await sayAgain(this.reading, TOPIC_RAW, (record) => {
      const found = frameOf(record.value);
      if (found === undefined) return unnumbered.takes(record);
      if (said.touches(found.gateway, found.spans)) return false;
      const isMissing =
        wanted.touches(found.gateway, found.spans) ||
        (isAll && !isBefore(record, forgottenMs) && !there.covers(found.gateway, found.spans));
      if (isMissing) said.add(found.gateway, found.spans);
      return isMissing;
    });
    for (const { entry } of lost) {
      const rest = beyond(entry.spans, said.of(gatewayOf(entry.key)));
      if (!isNothing(rest) || unnumbered.lacks(entry))
        await salvage(lake, log, entry, rest, unnumbered);
    }
    await this.caughtUp('raw');
    for (const { entry } of lost) {
      const isWhole = unnumbered.has(entry);
      const isOfReports = isUnnumbered(entry) && entry.reports === entry.rows;
      if (isUnnumbered(entry) && isWhole) await this.settle(entry.key);
      else if (isOfReports) await lake.check.settle(entry.key, reportsText(entry));
      else await this.judge('raw', entry, isAll, await this.rawLess(entry));
      if (!isUnnumbered(entry) && !isWhole)
        lake.check.notify({ level: 'error', event: 'lake_lost', text: bareText(entry) });
    }
    // Of a log that was damaged before the lake had them.
    for (const [gateway, rest] of await neverKept(lake, received)) {
      this.want(gateway, rest);
      this.asked.set(gateway, rest);
      const text = neverKeptText(gateway, rest);
      lake.check.notify({ level: 'error', event: 'log_raw_lost', text });
    }
  }

  /** What of a lost file neither log nor lake has; a gateway that is connected and holds it is asked, and has time to bring it. */
  private async rawLess({ key, spans }: FileEntry): Promise<Spans> {
    const catalog = this.options.lake.catalog('raw');
    const gateway = gatewayOf(key);
    for (let waited = 0; ; waited += POLL_MS) {
      catalog.refresh();
      const rest = beyond(spans, await catalog.spansOf(gateway));
      const isHeld = !isNothing(rest) && this.options.holds?.(gateway, rest) === true;
      if (!isHeld || waited > BRINGS_MS || this.stopped) return rest;
      if (waited === 0) this.want(gateway, rest);
      await this.rest(POLL_MS);
    }
  }

  private want(gateway: string, spans: Spans): void {
    this.wanted.set(gateway, union([this.wanted.get(gateway) ?? {}, spans]));
    this.options.askGateways?.();
  }

  // ---- readings ----

  private async readings(isAll: boolean, back: Returned): Promise<void> {
    const lost = this.of('readings');
    if (lost.length === 0 && !isAll && this.late.gateways.length === 0) return;
    const { lake, rebuild, replays } = this.options;
    const received = this.options.received?.();
    const wanted = spansBy(lost);
    for (const gateway of this.late.gateways) wanted.add(gateway, this.late.of(gateway));
    const raw = await rawThere(lake, this.reading);
    if (isAll) {
      const readings = await readingsIn(lake);
      for (const gateway of raw.gateways)
        wanted.add(gateway, beyond(raw.of(gateway), readings.of(gateway)));
    }
    await rebuild.restore(wanted);
    const named = wanted.named();
    if (Object.keys(named).length > 0) {
      const { id } = await replays.create({ which: 'named' }, named);
      while (!replays.isFinished(id) && !this.stopped) await this.rest(POLL_MS);
    }
    await this.caughtUp('readings');
    lake.catalog('readings').refresh();
    for (const { entry } of lost) {
      const isBack = (await back.of(entry)) === entry.rows;
      const rest = isBack ? {} : unmade(entry, raw.of(gatewayOf(entry.key)), received);
      await this.judge('readings', entry, isAll, rest);
    }
    this.late.clear();
  }

  // ---- results ----

  private async results(isAll: boolean, back: Returned): Promise<void> {
    const lost = this.of('results');
    if (lost.length === 0 && !isAll) return;
    const { lake, log } = this.options;
    const folders = new Set(lost.map(({ entry }) => folderOfKey(entry.key)));
    for (const folder of isAll ? [...folders, ''] : folders) lake.suspects.add(folder);
    const forgottenMs = await forgottenUntilMs(lake.store);
    await sayAgain(this.reading, TOPIC_RESULTS, isAskedOf(folders, isAll, forgottenMs), {
      [HEADER_HEALED]: String(nowMs()),
    });
    await this.caughtUp('results');
    lake.catalog('results').refresh();
    for (const { entry } of lost) {
      const now = await back.of(entry);
      const isBack = now === entry.rows || (await isAllInLog(log, 'results', entry.key));
      if (isBack || (await keepUnproven(lake, 'results', entry))) await this.settle(entry.key);
      else await lake.check.giveUp(entry.key, goneResultsText(entry, now));
    }
    if (isAll) await tellUnknownResults(lake, log);
  }

  // ---- what all share ----

  private async settle(key: string): Promise<void> {
    this.made.note(key, performance.now());
    await this.options.lake.check.settle(key);
  }

  /** Settled when all of it is there again, but for `rest`; else told, and nobody waits any more. */
  private async judge(
    zone: 'raw' | 'readings',
    entry: FileEntry,
    isAll: boolean,
    rest: Spans,
  ): Promise<void> {
    const { lake } = this.options;
    const gateway = gatewayOf(entry.key);
    const isKnown = !isNothing(entry.spans);
    // Of what nothing is known, everything that is known was looked for.
    if ((isKnown || isAll) && isNothing(rest)) {
      await this.settle(entry.key);
      if (zone === 'readings') return;
      this.wanted.delete(gateway);
      this.rawCame(gateway, entry.spans, false);
      return;
    }
    if (zone === 'readings' && (await keepUnproven(lake, zone, entry)))
      return await this.settle(entry.key);
    if (zone === 'raw') this.want(gateway, rest);
    await lake.check.giveUp(entry.key, goneText(zone, entry, rest));
  }

  /** Until the lake's stage of a zone has what the log has. */
  private async caughtUp(zone: Zone): Promise<void> {
    const { log } = this.options;
    const end = performance.now() + CAUGHT_UP_MS;
    for (let quiet = 0; quiet < 2 && !this.stopped && performance.now() < end; ) {
      await this.rest(POLL_MS);
      const groups = log.groups().filter(({ group }) => group.endsWith(lakeGroup(zone)));
      // A log that cannot say does not say that nothing is left.
      const isQuiet = groups.length > 0 && groups.every(({ lagRecords }) => lagRecords === 0);
      quiet = isQuiet ? quiet + 1 : 0;
    }
  }

  async close(): Promise<void> {
    this.stopped = true;
    await this.running?.catch(() => undefined); // Reported where it was thrown.
  }
}
