/**
 * The audit: whether log, lake and store have the same readings, and lake and log the same frames. A pass compares
 * (`compare.ts`); what differs is waited for until every stage has had what the others had, and compared again: only what
 * stays as it was is told, and mended (`mend.ts`). In the background it rests two hundred times as long as it works.
 */
import { HeadwaterError, isBug, messageOf } from '../../shared/errors.ts';
import { Rest, processTimers } from '../../shared/env/timers.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { ReplayJobs } from '../decode/replay-jobs.ts';
import type { Lake } from '../lake/lake.ts';
import { HEADER_AGAIN, TOPIC_RAW, TOPIC_READINGS, type Log } from '../log/log.ts';
import type { Rebuild } from '../rebuild.ts';
import type { StoreStage } from '../store/stage.ts';
import type { TimeSeriesStore } from '../store/store.ts';
import { isSumming } from '../store/sums.ts';
import {
  Ahead,
  Compare,
  isSameDay,
  signature,
  type Comparison,
  type Pacing,
  type Suspect,
} from './compare.ts';
import { epochName } from './epoch-name.ts';
import { AuditEngine } from './engine.ts';
import { gathered, judge, type Finding, type Found } from './findings.ts';
import { LakeSide } from './lake-side.ts';
import { LogSide, lakeState, type Bounds } from './log-side.ts';
import { Mend, daysOf } from './mend.ts';
import { Progress } from './progress.ts';
import { RawSide } from './raw-side.ts';
import { Places, stayed, type PlaceDifferences } from './places.ts';
import {
  briefOf,
  findingOf,
  rawFindings,
  reportOf,
  sentenceOf,
  type Report,
  type Standing,
} from './report.ts';
import { SummingSide } from './store-side.ts';

/** Rest for each millisecond of work: with what the lake's scrub takes it stays under 2 % of a core. */
const REST = 200;
/** Only so that a clock that jumps in the middle of work does not end it for good. */
const REST_MS_MAX = 6 * 3_600_000;
const PAUSE_MS = 3_600_000;
const FIRST_MS = 300_000;
const RETRY_MS = 60_000;
/** The same, while a pass is urgent. */
const URGENT_MS = 3000;
/** Comparisons until what differs stays as it is, and attempts to mend it. */
const ROUNDS = 4;
const MENDS = 3;

export interface AuditOptions {
  log: Log;
  lake: Lake | undefined;
  store: TimeSeriesStore | undefined;
  storing: StoreStage | undefined;
  again: { replays: ReplayJobs; rebuild: Rebuild } | undefined;
  /** Of this process: what it is a part of. */
  folder: string;
  notify: Notify;
  nowMs: () => number;
  newId: () => string;
}

export class Audit {
  last: Report | undefined;
  /** Readings found differing since the start. */
  found = 0;
  mended = 0;
  asked: { running: boolean; report: Report | null; failure?: string } = {
    running: false,
    report: null,
  };
  /** At work, without its rests, milliseconds. */
  workMs = 0;
  /** Epoch milliseconds at which the next pass begins of itself; undefined: one is under way. */
  private nextMs: number | undefined;
  private readonly options: AuditOptions;
  private readonly engine: AuditEngine;
  private turn: Promise<unknown> = Promise.resolve();
  private running: Promise<void> | undefined;
  private stopped = false;
  private readonly rests = new Rest(processTimers);
  private readonly ahead = new Ahead();
  private said = '';
  /** What is there is not what was: the next pass comes soon and looks at everything. */
  private urgent = false;
  private readonly progress: Progress;

  constructor(options: AuditOptions) {
    this.options = options;
    this.engine = new AuditEngine(options.folder);
    this.progress = new Progress(
      options,
      (ms) => this.rest(ms),
      () => this.stopped,
    );
  }

  /** Whether lake and store have a day alike; undefined where the store cannot say. Throws LAKE_UNAVAILABLE, STORE_UNAVAILABLE. */
  get sameDay(): ((day: string) => Promise<boolean>) | undefined {
    const { lake, store } = this.options;
    if (lake === undefined || store === undefined || !isSumming(store)) return undefined;
    const sides = { lake: new LakeSide(lake, this.engine), store: new SummingSide(store) };
    return (day) => isSameDay(sides, day);
  }

  /** Begins one at full speed, unless one was asked for and still runs. */
  begin(full: boolean): void {
    if (this.asked.running) return;
    this.asked = { running: true, report: null };
    this.pass(full)
      .then((report) => void (this.asked = { running: false, report }))
      .catch((error: unknown) => {
        this.asked = { running: false, report: null, failure: messageOf(error) };
      });
  }

  start(): void {
    const { storing } = this.options;
    if (storing !== undefined) {
      storing.onOther = () => this.hurry();
      if (storing.other !== undefined) this.hurry();
    }
    this.running = this.loop();
  }

  /** A pass as soon as may be, at full speed, which takes nothing for being on its way: the log was lost, or the store is another one. */
  hurry(): void {
    this.urgent = true;
    this.rests.wake();
  }

  private async loop(): Promise<void> {
    if (!this.urgent) await this.pause(FIRST_MS);
    while (!this.stopped) {
      const { urgent } = this;
      let restMs = PAUSE_MS;
      try {
        const resting = (workMs: number): Promise<void> =>
          this.rest(Math.min(workMs * REST, REST_MS_MAX));
        const { left, isCut } = await this.pass(false, urgent ? undefined : resting, urgent);
        this.said = '';
        if (urgent) this.urgent = left.length > 0 || isCut;
        if (urgent && !this.urgent) await this.options.storing?.knowOther();
        if (this.urgent) restMs = URGENT_MS;
      } catch (error) {
        // Whatever a library throws is no reason to end the process.
        if (isBug(error)) throw error;
        const text = `the audit waits: ${messageOf(error)}`;
        if (text !== this.said && !this.stopped)
          this.options.notify({ level: 'warn', event: 'audit', text });
        this.said = text;
        restMs = urgent ? URGENT_MS : RETRY_MS;
      }
      await this.pause(restMs);
    }
  }

  /** Between two passes. */
  private async pause(ms: number): Promise<void> {
    this.nextMs = this.options.nowMs() + ms;
    await this.rest(ms);
    this.nextMs = undefined;
  }

  /** For whoever asks how it stands: the last pass, the next one, and what keeps it waiting. */
  standing(): Standing {
    const { last, nextMs, said, found, mended } = this;
    return {
      last: last === undefined ? null : briefOf(last),
      next: nextMs === undefined ? null : Math.round(nextMs),
      why: said === '' ? null : said,
      found,
      mended,
    };
  }

  private async rest(ms: number): Promise<void> {
    if (!this.stopped) await this.rests.for(ms);
  }

  /** One after another. Throws LOG_UNAVAILABLE, LAKE_UNAVAILABLE, STORE_UNAVAILABLE: it is tried again. */
  pass(
    full: boolean,
    rest: (workMs: number) => Promise<void> = () => Promise.resolve(),
    urgent = false,
  ): Promise<Report> {
    const pacing: Pacing = {
      rest: (workMs) => {
        this.workMs += workMs;
        return rest(workMs);
      },
      isStopped: () => this.stopped,
    };
    const run = this.turn.then(() => this.once(full, pacing, urgent));
    this.turn = run.catch(() => undefined); // The caller sees it; the next one takes its turn.
    return run;
  }

  private async once(full: boolean, pacing: Pacing, urgent: boolean): Promise<Report> {
    const { log, lake, store, storing, nowMs, newId, again } = this.options;
    const startedMs = nowMs();
    if ((storing?.fill.incomplete().length ?? 0) > 0)
      throw new HeadwaterError('STORE_UNAVAILABLE', 'the store is still being filled');
    const lakeSide = lake === undefined ? undefined : new LakeSide(lake, this.engine);
    if (lakeSide !== undefined && full) lakeSide.trustMs = 0;
    const storeSide = store !== undefined && isSumming(store) ? new SummingSide(store) : undefined;
    const stages = { log: new LogSide(log, this.engine, newId), lake: lakeSide, store: storeSide };
    if (!full) this.ahead.begin();
    const compare = new Compare(stages, pacing, full || urgent ? undefined : this.ahead);
    const first = await compare.whole(await this.progress.bounds());
    if (lakeSide !== undefined) lakeSide.trustMs = 600_000;
    const suspects = await this.confirmed(compare, first);
    const mend = new Mend({
      log,
      lake: lakeSide,
      store: storeSide,
      storing,
      again,
      isStopped: pacing.isStopped,
      nowMs,
      other: await this.progress.other(),
    });
    const found = await this.mend(compare, mend, suspects);
    const places = await this.places(lakeSide, pacing);
    const findings = gathered([...found, ...places.found]);
    if (lakeSide !== undefined) findings.push(...(await this.raw(lakeSide.lake, full, pacing)));
    findings.push(...(await this.logAlone(first)));
    if (pacing.isStopped()) throw new HeadwaterError('LOG_UNAVAILABLE', 'the audit was stopped');
    const report = reportOf({
      startedMs,
      endedMs: nowMs(),
      full,
      stages: { log: log.kind, lake: lake?.store.kind, store: store?.kind },
      isStoreAudited: storeSide !== undefined || places.compared !== undefined,
      places: places.compared,
      comparison: first,
      findings,
    });
    this.tell(report);
    this.last = report;
    return report;
  }

  // ---- what differs ----

  /** Suspects that stay as they are once all stages have settled. */
  private async confirmed(compare: Compare, first: Comparison): Promise<Map<string, Suspect>> {
    let before = first.suspects;
    for (let round = 0; round < ROUNDS && before.size > 0; round++) {
      await this.progress.settled();
      const { suspects } = await compare.whole(
        await this.progress.bounds(),
        daysOf(before.values()),
      );
      const same = [...suspects].filter(([name, suspect]) => {
        const known = before.get(name);
        return known !== undefined && signature(known) === signature(suspect);
      });
      if (same.length === suspects.size || round === ROUNDS - 1) return new Map(same);
      before = suspects;
    }
    return new Map();
  }

  private async mend(
    compare: Compare,
    mend: Mend,
    confirmed: ReadonlyMap<string, Suspect>,
  ): Promise<Found[]> {
    const found = new Map<string, Found>();
    for (const [name, { identity, sides }] of confirmed) {
      const verdict = judge(sides);
      if (verdict !== undefined) found.set(name, { identity, verdict, mended: 'no' });
    }
    const days = daysOf(confirmed.values());
    let open = confirmed;
    for (let attempt = 0; attempt < MENDS && open.size > 0 && !this.stopped; attempt++) {
      if ((await mend.all(open.values())) === 0) break;
      await this.progress.heard();
      const { suspects } = await compare.whole(await this.progress.bounds(), days);
      for (const [name, each] of found) {
        const now = suspects.get(name);
        if (now === undefined || judge(now.sides) === undefined) {
          each.mended = 'yes';
          if (mend.stored.has(name)) each.verdict = { ...each.verdict, from: 'store' };
        }
        // Nobody but the store had it after all.
        else if (now.sides.lake === undefined && each.verdict.from === 'raw')
          each.verdict = { ...each.verdict, stage: 'store', kind: 'extra' };
      }
      open = new Map([...suspects].filter(([name]) => confirmed.has(name)));
    }
    return [...found.values()];
  }

  /** A store without identities. */
  private async places(
    lake: LakeSide | undefined,
    pacing: Pacing,
  ): Promise<{ found: Found[]; compared?: PlaceDifferences }> {
    const { store, storing } = this.options;
    if (
      store?.scan === undefined ||
      storing === undefined ||
      lake === undefined ||
      isSumming(store)
    )
      return { found: [] };
    const side = new Places(lake, store, pacing);
    const days = await side.days();
    const compared = await side.compare(days);
    let open = compared;
    // What differs twice, once every stage has had what the others had, is not on its way.
    for (let round = 0; round < 2 && open.lacking.size + open.strange.size > 0; round++) {
      await this.progress.settled();
      open = stayed(open, await side.compare(days));
    }
    if (open.lacking.size + open.strange.size === 0 || this.stopped) return { found: [], compared };
    return { found: await side.mend(storing, open), compared };
  }

  // ---- raw, and the log by itself ----

  private async raw(lake: Lake, full: boolean, pacing: Pacing): Promise<Finding[]> {
    const { log, newId } = this.options;
    const bounds = new Map<number, Bounds>();
    for (let partition = 0; partition < log.partitions; partition++) {
      const state = await lakeState(log, 'raw', partition);
      if (state !== undefined) bounds.set(partition, { from: state.begins, to: state.next });
    }
    if (lake.check.damages.some(({ zone, final }) => zone === 'raw' && !final)) return [];
    const side = new RawSide(log, lake, newId);
    const compared = await side.compare(bounds, pacing);
    if (full) await side.check(compared, pacing);
    const missing = compared.missing.map(({ record }) => record);
    if (missing.length > 0) await log.append(TOPIC_RAW, missing);
    return rawFindings(compared);
  }

  /** What the lake has from the log and the log no more: it is said again. And what the log says twice, which harms nobody. */
  private async logAlone({ scanned, unsaid }: Comparison): Promise<Finding[]> {
    const found: Finding[] = [];
    for (const [name, set] of scanned.doubled)
      found.push(findingOf(name, set, { stage: 'log', kind: 'doubled', mended: 'harmless' }));
    const lacking = new Map<string, RangeSet>();
    for (const { gateway, epoch, readings } of unsaid) {
      const name = epochName(gateway, epoch);
      const set = lacking.get(name) ?? new RangeSet();
      for (const { sequence } of readings) set.add(sequence, sequence);
      lacking.set(name, set);
    }
    const records = unsaid.map((batch) => ({
      key: batch.gateway,
      headers: { [HEADER_AGAIN]: 'true' },
      value: encodeReadings(batch),
    }));
    if (records.length > 0) await this.options.log.append(TOPIC_READINGS, records);
    for (const [name, set] of lacking)
      found.push(findingOf(name, set, { stage: 'log', kind: 'missing', mended: 'yes' }));
    return found;
  }

  private tell({ findings }: Report): void {
    const { notify } = this.options;
    for (const finding of findings) {
      if (finding.mended === 'harmless') continue;
      this.found += finding.readings;
      if (finding.mended === 'yes') this.mended += finding.readings;
      notify({
        level: finding.mended === 'yes' ? 'warn' : 'error',
        event: 'audit_differs',
        text: sentenceOf(finding),
      });
    }
  }

  async close(): Promise<void> {
    this.stopped = true;
    this.rests.wake();
    await this.running;
    await this.turn;
    await this.engine.close();
  }
}
