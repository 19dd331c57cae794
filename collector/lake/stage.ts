/**
 * The lake stage of one zone: records of its topic → Parquet files, once in effect.
 *
 * Records are gathered until there are enough or they have waited long enough, and become files beside the lake. Then the
 * step and the dates that it writes to are announced in the log (`lake/ZONE` in the topic `state`), the files are put
 * under names made of the step, the manifests say what they are, and the offsets are committed. What is written once
 * more, after a crash in between or by a log that says things again, is known by its identity: see `write.ts`.
 *
 * Small files are merged as they become many (see `layout.ts` for what a reader sees meanwhile).
 */
import { randomBytes } from 'node:crypto';
import { Backoff } from '../../shared/env/backoff.ts';
import { isRetryable } from '../../contracts/errors.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { wayOf } from '../../shared/telemetry/way.ts';
import { TOPIC_STATE, type Log, type Produced, type StoredRecord } from '../log/log.ts';
import { lakeGroup } from '../log/topics.ts';
import type { Offsets } from '../stage/membership.ts';
import type { Announce, Stage } from '../stage/options.ts';
import { asideRecord } from '../stage/aside.ts';
import { runStage } from '../stage/stage.ts';
import { isOfDisk } from './engine.ts';
import {
  LAKE_PREFIX,
  TOPIC_OF,
  endOf,
  isDue,
  partOf,
  take,
  type LakeState,
  type Part,
} from './gather.ts';
import type { Lake } from './lake.ts';
import type { Zone } from './layout.ts';
import { finishMerge, merge } from './merge.ts';
import { writerOf } from './manifest.ts';
import { mergePast } from './past-merge.ts';
import { markPast } from './past.ts';
import { recover } from './recover.ts';
import { remake } from './remake.ts';
import { sift } from './sift.ts';
import { Writer, datesOf, marksOf, pathsOf, type Prepared } from './write.ts';

/** Making the files of a step has failed so often, before the record that is the reason is looked for. */
const SIFT_AFTER = 5;

/** Of a writer that begins. */
const newId = (): string => randomBytes(4).toString('hex');

/** What cannot be merged now may be much to read. */
const MERGE_AGAIN = { firstMs: 500, mostMs: 60_000 };

export interface LakeStageOptions {
  zone: Zone;
  log: Log;
  lake: Lake;
  /** Records wait at most so long for others, milliseconds. */
  flushMs: number;
  /** Records of so many bytes do not wait. */
  flushBytes: number;
  notify: Notify;
}

export class LakeStage {
  mergedFiles = 0;
  /** What merging waits for, as it was told. */
  private mergeSaid = '';
  /** When it is tried again. */
  private mergeDueMs = 0;
  private readonly mergeBackoff = new Backoff(MERGE_AGAIN);

  readonly zone: Zone;
  private readonly options: LakeStageOptions;
  private readonly writer: Writer;
  private readonly parts = new Map<number, Part>();
  /** What was written last did not arrive: whether the store is there is asked before all is made again. */
  private isTroubled = false;
  /** It is known since when this lake keeps what is replaced. */
  private isMarked = false;
  /** Of making files, in a row. */
  private failures = 0;
  private stage: Stage | undefined;

  constructor(options: LakeStageOptions) {
    this.zone = options.zone;
    this.options = options;
    this.writer = new Writer(options.lake, options.zone);
  }

  get writtenRows(): number {
    return this.writer.writtenRows;
  }

  get rewrittenFiles(): number {
    return this.writer.rewrittenFiles;
  }

  start(): void {
    const { zone, log, lake, notify } = this.options;
    lake.settling.add(zone);
    this.stage = runStage({
      name: `lake_${zone}`,
      touches: 'gathers',
      isPlaceOwn: true,
      log,
      notify,
      consumer: {
        group: lakeGroup(zone),
        topic: TOPIC_OF[zone],
        from: 'start',
        bytesMax: 1024 * 1024,
        onAssign: (partition) => this.load(partition),
        onRevoke: (partition) => this.leave(partition),
      },
      step: (records, offsets, announce) => this.gather(records, offsets, announce),
      idle: (offsets, announce) => this.gather([], offsets, announce),
    });
  }

  private get stateKey(): string {
    return `${LAKE_PREFIX}${this.zone}`;
  }

  /** What the log knows; the lake is looked at before the first step, when it may be waited for. */
  private async load(partition: number): Promise<number> {
    const records = await this.options.log.state(TOPIC_STATE, partition, this.stateKey);
    const known = records.find(({ key }) => key === `${this.stateKey}/${partition}`)?.value;
    const part = partOf(known, newId);
    this.parts.set(partition, part);
    this.options.lake.settling.add(this.zone);
    return part.state.next;
  }

  private leave(partition: number): void {
    const part = this.parts.get(partition);
    this.parts.delete(partition);
    if (part === undefined) return;
    this.options.lake.catalog(this.zone).release(writerOf(part.state.log, partition));
  }

  private stateRecord(partition: number, state: LakeState): Produced {
    return {
      topic: TOPIC_STATE,
      partition,
      key: `${this.stateKey}/${partition}`,
      headers: {},
      value: Buffer.from(JSON.stringify(state)),
    };
  }

  private async gather(
    records: StoredRecord[],
    offsets: Offsets,
    announce: Announce,
  ): Promise<Produced[] | undefined> {
    const now = performance.now();
    for (const record of records) {
      const part = this.parts.get(record.partition);
      if (part !== undefined) take(part, record, now);
    }
    const { lake } = this.options;
    const catalog = lake.catalog(this.zone);
    for (const broken of [...catalog.broken.values()]) await remake(lake, this.zone, broken);
    for (const [partition, part] of this.parts) {
      if (part.isReady) continue;
      const { log } = part.state;
      await recover(lake, this.zone, partition, part, newId);
      const isHoled = this.options.log.hasLost?.('lake') === true;
      if (isHoled) part.state = { ...part.state, holed: part.state.step };
      // Who goes on beside a lake that is ahead says so at once: an audit reads it, and so does the next start.
      if (part.state.log !== log || isHoled)
        await announce([this.stateRecord(partition, part.state)]);
    }
    lake.settling.delete(this.zone);
    await this.mark(now);
    if (isDue(this.parts.values(), now, this.options))
      return await lake.alone(this.zone, () => this.flush(offsets, announce));
    if (records.length === 0) await this.tidy(announce);
    return undefined;
  }

  /** What is replaced is kept from the first step on, and the lake says so. */
  private async mark(now: number): Promise<void> {
    const [first] = this.parts;
    if (this.zone !== 'readings' || this.isMarked || first === undefined) return;
    const [partition, { state }] = first;
    await markPast(this.options.lake, writerOf(state.log, partition), performance.timeOrigin + now);
    this.isMarked = true;
  }

  /** The files of a step. A record that none can be made of goes aside once that has failed often enough. */
  private async prepare(
    part: Part,
    partition: number,
  ): Promise<{ prepared: Prepared; aside: Produced[] }> {
    const { lake, notify } = this.options;
    const { records } = part;
    try {
      const prepared = await this.writer.prepare(part, partition, records);
      this.failures = 0;
      return { prepared, aside: [] };
    } catch (error) {
      // A failing disk fails for any record.
      if (isOfDisk(error) || ++this.failures < SIFT_AFTER) throw error;
      this.failures = 0;
      const found = await sift(records, async (some) => {
        const tried = await this.writer.prepare(part, partition, some);
        await lake.discard(pathsOf(tried));
      });
      if (found.size === 0) throw error;
      const rest = records.filter((record) => !found.has(record));
      const prepared = await this.writer.prepare(part, partition, rest);
      const aside = [...found].map(([record, why]) => {
        const place = `${TOPIC_OF[this.zone]}/${record.partition}, offset ${record.offset}`;
        const reason = `the lake cannot take this record (${place}): ${messageOf(why)}`;
        notify({
          level: 'error',
          event: `lake_${this.zone}_aside`,
          text: `${reason}; it is in quarantine`,
        });
        return asideRecord(record, reason);
      });
      return { prepared, aside };
    }
  }

  private async flush(offsets: Offsets, announce: Announce): Promise<Produced[]> {
    const { lake } = this.options;
    const due = [...this.parts].filter(([, part]) => part.records.length > 0);
    if (this.isTroubled) await lake.store.open();
    this.isTroubled = true;
    const made: [number, Part, Prepared][] = [];
    const asides: Produced[] = [];
    try {
      for (const [partition, part] of due) {
        await finishMerge(lake, this.zone, partition, part);
        const { prepared, aside } = await this.prepare(part, partition);
        asides.push(...aside);
        made.push([partition, part, prepared]);
        const { seal: _, ...state } = part.state;
        part.state = { ...state, writing: datesOf(prepared), made: marksOf(prepared) };
      }
      // What they say was not looked at: it is made again first.
      for (const { key } of lake.catalog(this.zone).broken.values())
        throw new HeadwaterError('LAKE_UNAVAILABLE', `the lake: the manifest ${key} is damaged`);
      await announce(made.map(([partition, part]) => this.stateRecord(partition, part.state)));
      const done: Produced[] = [...asides];
      for (const [partition, part, prepared] of made) {
        const seal = await this.writer.commit(part, partition, prepared);
        const next = endOf(part.records);
        part.state = { ...this.lasting(part), step: part.state.step + 1, next, seal };
        part.records = [];
        part.bytes = 0;
        offsets.set(partition, next);
        done.push(this.stateRecord(partition, part.state));
      }
      this.isTroubled = false;
      return done;
    } finally {
      await lake.discard(made.flatMap(([, , prepared]) => pathsOf(prepared)));
    }
  }

  /** What of a state a step does not change. */
  private lasting({
    state,
  }: Part): Pick<LakeState, 'log' | 'begins' | 'beside' | 'holed' | 'ahead'> {
    const { log, begins, beside, holed, ahead } = state;
    const isSaid = this.options.lake.check.ahead.gateways.length === 0;
    return {
      ...{ log, begins },
      ...(beside !== undefined && { beside }),
      ...(holed !== undefined && { holed }),
      // Until the log has it again.
      ...(ahead !== undefined && !isSaid && { ahead }),
    };
  }

  /** Merges what has become many small files. */
  private async tidy(announce: Announce): Promise<void> {
    const { lake } = this.options;
    if (performance.now() < this.mergeDueMs) return;
    let isWell = true;
    for (const [partition, part] of this.parts) {
      try {
        await finishMerge(lake, this.zone, partition, part);
        for (const folder of part.touched) {
          part.touched.delete(folder);
          const say = (): Promise<void> => announce([this.stateRecord(partition, part.state)]);
          let merged = 1;
          try {
            merged = await merge(lake, this.zone, [partition, part], folder, say);
          } finally {
            // Behind the others: what has failed is tried again, and may have more where it has not.
            if (merged > 0) part.touched.add(folder);
          }
          if (merged === 0) continue;
          this.mergedFiles += merged;
          return; // One at a time: what comes in goes first.
        }
        if (this.zone === 'readings') {
          const { log } = part.state;
          await mergePast(lake, writerOf(log, partition), { log, partition });
        }
      } catch (error) {
        if (!isRetryable(error)) throw error;
        this.mergeFailed(messageOf(error));
        isWell = false;
      }
    }
    if (!isWell) {
      this.mergeDueMs = performance.now() + this.mergeBackoff.next();
      return;
    }
    this.mergeSaid = '';
    this.mergeBackoff.reset();
  }

  /** Told when it begins, and when the reason changes. */
  private mergeFailed(text: string): void {
    const way = wayOf(text);
    if (way !== this.mergeSaid)
      this.options.notify({
        level: 'warn',
        event: 'lake_merge',
        text: `merging small files waits: ${text}`,
      });
    this.mergeSaid = way;
  }

  running(): readonly Stage[] {
    return this.stage === undefined ? [] : [this.stage];
  }

  async close(): Promise<void> {
    await this.stage?.close();
    this.options.lake.settling.delete(this.zone);
  }
}
