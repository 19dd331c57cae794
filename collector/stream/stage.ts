/**
 * The stream stage: readings → results, once in effect. State, results and offsets are one step of the log.
 *
 * With one partition the engine reads `readings` itself. With several, a series may come by more than one gateway, and a
 * rule may join those of several: a router then writes to `stream` what each partition's groups need, and engines read that.
 */
import { messageOf } from '../../shared/errors.ts';
import { encodeReadings, readingsOf } from '../../shared/model/readings-record.ts';
import type { Reading } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { Lake } from '../lake/lake.ts';
import { SeriesTexts } from '../lake/rows.ts';
import type { LakeState } from '../lake/gather.ts';
import { LAKE_PREFIX } from '../lake/gather.ts';
import {
  HEADER_AGAIN,
  TOPIC_READINGS,
  TOPIC_STATE,
  TOPIC_STREAM,
  type Log,
  type LogRecord,
  type Produced,
  type StoredRecord,
} from '../log/log.ts';
import { View } from '../log/view.ts';
import type { Offsets } from '../stage/membership.ts';
import { OwnPlaces } from '../stage/own-place.ts';
import type { Stage } from '../stage/options.ts';
import { runStage } from '../stage/stage.ts';
import { Engine, REVISION_PREFIX, waysOf } from './engine.ts';
import { partitionOfHash } from './partition.ts';
import type { Place } from './place.ts';
import { STREAM } from './results.ts';
import type { Rule } from './rules.ts';
import type { Silence } from './tracks.ts';

/** Readings are gathered so long, or so many bytes of them, for one step: state is written once for all of them. */
const STEP_MS = 500;
const STEP_BYTES = 4 * 1024 * 1024;
const HEADER_PLACE = 'place';
/**
 * How far engine and router have come. It is kept with the state, since what is read twice would count twice, and Kafka
 * forgets the offsets of a group that was away for a week.
 */
const STREAMED = new OwnPlaces(TOPIC_STATE, 'stream-next/');
const ROUTED_PREFIX = 'route-next/';
const ROUTED = new OwnPlaces(TOPIC_STATE, ROUTED_PREFIX);
/** Kept in the same way: the newest revision that a partition has given out. */
const REVISIONS = new OwnPlaces(TOPIC_STATE, REVISION_PREFIX);

export interface StreamOptions {
  log: Log;
  lake: Lake | undefined;
  stateBytesMax: number;
  wallMs: () => number;
  explain: (gateway: string, sinceMs: number) => Silence;
  /** Resolves once `explain` knows what it is asked; left out: it does. */
  known?: Promise<void>;
  notify: Notify;
}

interface Part {
  engine: Engine;
  bytes: number;
  sinceMs: number;
}

export class StreamStage {
  processedReadings = 0;
  settledWindows = 0;
  private readonly options: StreamOptions;
  private readonly parts = new Map<number, Part>();
  private readonly lakeProgress = new Map<number, LakeState>();
  private rules: readonly Rule[] = [];
  private stages: Stage[] = [];
  private readonly progress: View;
  /** It begins when the log has been read. */
  private isAwaited = false;
  private isClosed = false;
  private said = '';

  constructor(options: StreamOptions) {
    this.options = options;
    this.progress = new View(options.log, TOPIC_STATE, 'how far the lake is');
  }

  get inForce(): readonly Rule[] {
    return this.rules;
  }

  /** Over how many partitions it works is known once the log is there: where that is away it begins then. */
  async start(rules: readonly Rule[]): Promise<void> {
    this.rules = rules;
    const prefix = `${LAKE_PREFIX}readings/`;
    await this.progress.start((records) => {
      for (const { key, value } of records) {
        if (!key.startsWith(prefix) || value.length === 0) continue;
        const state = JSON.parse(value.toString('utf8')) as LakeState;
        this.lakeProgress.set(Number(key.slice(prefix.length)), state);
      }
    });
    if (this.progress.isRead) return this.begin();
    this.isAwaited = true;
    void Promise.all([this.progress.whenRead, this.options.known]).then(() => {
      this.isAwaited = false;
      // With the rules that are in force by then.
      if (!this.isClosed) this.begin();
    });
  }

  private begin(): void {
    const { log, notify } = this.options;
    const isRouted = log.partitions > 1;
    if (isRouted)
      this.stages.push(
        runStage({
          name: 'stream_route',
          touches: 'nothing',
          log,
          notify,
          consumer: {
            group: 'headwater-stream-route',
            topic: TOPIC_READINGS,
            from: 'start',
            bytesMax: 1024 * 1024,
            onAssign: async (partition) =>
              ROUTED.in(await log.state(TOPIC_STATE, partition, ROUTED_PREFIX), partition),
          },
          isPlaceOwn: true,
          step: (records, offsets) =>
            Promise.resolve([...this.route(records), ...ROUTED.records(offsets)]),
          passOver: (offsets) => ROUTED.records(offsets),
        }),
      );
    this.stages.push(
      runStage({
        name: 'stream',
        touches: 'nothing',
        log,
        notify,
        consumer: {
          group: 'headwater-stream',
          topic: isRouted ? TOPIC_STREAM : TOPIC_READINGS,
          from: 'start',
          bytesMax: 1024 * 1024,
          onAssign: async (partition, committed) => {
            // All of it at once: each look at a partition's state reads the whole of it from Kafka.
            const records = await log.state(TOPIC_STATE, partition, '');
            const own = STREAMED.in(records, partition);
            // A log that is new may stand beside a lake that is not: its readings are the rules' past.
            const isFirst = (own ?? committed) === undefined && !(await this.hasPast());
            await this.load(partition, records, isFirst, own ?? committed ?? 0);
            return own;
          },
          onRevoke: (partition) => this.parts.delete(partition),
        },
        step: (records, offsets, _announce, isCareful) =>
          Promise.resolve(this.step(records, offsets, isCareful)),
        isPlaceOwn: true,
        passOver: (offsets) => STREAMED.records(offsets),
        idle: (offsets) => this.idle(offsets),
      }),
    );
  }

  /** Takes up new rules where the old ones stopped. */
  async change(rules: readonly Rule[]): Promise<void> {
    await this.stop();
    this.rules = rules;
    if (!this.isAwaited) this.begin();
  }

  /** Where in `readings` it goes on: what comes to a partition of `stream` may be of any of them. */
  private async from(partition: number, next: number): Promise<Map<number, number>> {
    const { log } = this.options;
    if (log.partitions === 1) {
      const first = (await log.first?.(TOPIC_READINGS, partition)) ?? 0;
      return new Map([[partition, Math.max(first, next)]]);
    }
    const from = new Map<number, number>();
    // What was routed before may lack what the rules of now want: from the end on it is whole.
    for (let each = 0; each < log.partitions; each++)
      from.set(each, (await log.next?.(TOPIC_READINGS, each)) ?? 0);
    return from;
  }

  private async hasPast(): Promise<boolean> {
    return ((await this.options.lake?.files('readings')) ?? []).length > 0;
  }

  private async load(
    partition: number,
    records: readonly LogRecord[],
    isFirst: boolean,
    next: number,
  ): Promise<void> {
    const { log, lake, stateBytesMax, wallMs, explain, notify } = this.options;
    // A log that is new may stand beside a lake that has results, of a clock that was ahead of this one.
    const revision = REVISIONS.in(records, partition) ?? (await lake?.newestRevision(STREAM)) ?? 0;
    const engine = new Engine(
      {
        rules: this.rules,
        partition,
        partitions: log.partitions,
        stateBytesMax: stateBytesMax / log.partitions,
        revision,
        from: await this.from(partition, next),
        wallMs,
        monotonicMs: () => performance.now(),
        explain,
        onTrouble: (text) => {
          if (text !== this.said) notify({ level: 'warn', event: 'stream_function', text });
          this.said = text;
        },
      },
      records,
      isFirst,
    );
    this.parts.set(partition, { engine, bytes: 0, sinceMs: 0 });
  }

  /** What each partition's groups need of these readings. */
  private route(records: StoredRecord[]): Produced[] {
    const { partitions } = this.options.log;
    const produced: Produced[] = [];
    for (const record of records) {
      const batch = readingsOf(record.value);
      if (batch === undefined) continue;
      const texts = new SeriesTexts();
      const cache = new Map<string, number[]>();
      const targets = (reading: Reading): number[] => {
        const text = texts.of(reading.measurement, reading.tags);
        let found = cache.get(text);
        if (found === undefined) {
          const ways = waysOf(this.rules, reading);
          found = [...new Set(ways.map(({ hash }) => partitionOfHash(hash, partitions)))];
          cache.set(text, found);
        }
        return found;
      };
      const parts = new Map<number, { readings: Reading[]; removed: Reading[] }>();
      const part = (partition: number): { readings: Reading[]; removed: Reading[] } => {
        let made = parts.get(partition);
        if (made === undefined) parts.set(partition, (made = { readings: [], removed: [] }));
        return made;
      };
      for (const reading of batch.readings)
        for (const partition of targets(reading)) part(partition).readings.push(reading);
      for (const reading of batch.removed ?? [])
        for (const partition of targets(reading)) part(partition).removed.push(reading);
      const place = `${record.partition}/${record.offset}`;
      for (const [partition, { readings, removed }] of parts)
        produced.push({
          topic: TOPIC_STREAM,
          partition,
          key: batch.gateway,
          headers: { ...record.headers, [HEADER_PLACE]: place },
          value: encodeReadings({ ...batch, readings, removed }),
        });
    }
    return produced;
  }

  private step(
    records: StoredRecord[],
    offsets: Offsets,
    isCareful: boolean,
  ): Produced[] | undefined {
    const now = performance.now();
    for (const record of records) {
      const part = this.parts.get(record.partition);
      if (part === undefined) continue;
      if (part.bytes === 0) part.sinceMs = now;
      part.bytes += record.value.length;
      // Without rules it only goes along.
      const batch = this.rules.length === 0 ? undefined : readingsOf(record.value);
      if (batch === undefined) continue;
      const { engine } = part;
      const before = engine.processedReadings;
      engine.take(batch, record.headers[HEADER_AGAIN] !== undefined, placeOf(record));
      this.processedReadings += engine.processedReadings - before;
    }
    const isDue = [...this.parts.values()].some(
      ({ bytes, sinceMs }) => bytes > 0 && (bytes >= STEP_BYTES || now - sinceMs >= STEP_MS),
    );
    return isDue || isCareful ? this.commit(offsets) : undefined;
  }

  private commit(offsets: Offsets): Produced[] {
    const produced = STREAMED.records(offsets);
    for (const part of this.parts.values()) {
      produced.push(...part.engine.commit());
      part.bytes = 0;
    }
    return produced;
  }

  private async idle(offsets: Offsets): Promise<Produced[]> {
    const { lake, notify } = this.options;
    if (lake !== undefined)
      for (const { engine } of this.parts.values()) {
        try {
          this.settledWindows += await engine.settle(lake, this.lakeProgress);
          this.said = '';
        } catch (error) {
          // It waits on: what it would settle is noted.
          const text = `windows wait for the lake: ${messageOf(error)}`;
          if (text !== this.said) notify({ level: 'warn', event: 'stream_lake', text });
          this.said = text;
        }
      }
    return this.commit(offsets);
  }

  running(): readonly Stage[] {
    return this.stages;
  }

  get openWindows(): number {
    let count = 0;
    for (const { engine } of this.parts.values()) count += engine.openWindows;
    return count;
  }

  get stateBytes(): number {
    let bytes = 0;
    for (const { engine } of this.parts.values()) bytes += engine.stateBytes;
    return bytes;
  }

  get waitingCorrections(): number {
    let count = 0;
    for (const { engine } of this.parts.values()) count += engine.corrections.count;
    return count;
  }

  private async stop(): Promise<void> {
    const { stages } = this;
    this.stages = [];
    await Promise.all(stages.map((stage) => stage.close()));
    this.parts.clear();
  }

  async close(): Promise<void> {
    this.isClosed = true;
    await this.stop();
    await this.progress.close();
  }
}

function placeOf({ partition, offset, headers }: StoredRecord): Place {
  const [from, at] = (headers[HEADER_PLACE] ?? '').split('/');
  return at === undefined ? { partition, offset } : { partition: Number(from), offset: Number(at) };
}
