/**
 * All rules over one partition. The engine is a function of the readings that it is given, and of the clock where rules
 * ask for it; its state and its results go into one step of the log.
 */
import type { Reading, ReadingBatch } from '../../shared/model/reading.ts';
import { Remembered } from '../../shared/model/remembered.ts';
import { SeriesTexts } from '../lake/rows.ts';
import { TOPIC_STATE, type LogRecord, type Produced } from '../log/log.ts';
import { partitionOfHash } from './partition.ts';
import type { Lake } from '../lake/lake.ts';
import {
  Corrections,
  CORRECTION_PREFIX,
  type LakeProgress,
  type Owned,
  type Places,
} from './corrections.ts';
import { Results, Revisions, STREAM, groupHash } from './results.ts';
import type { Place } from './place.ts';
import { groupTags, isFrom, numbersOf } from './match.ts';
import type { DeriveRule, Rule, Source } from './rules.ts';
import { TRACK_PREFIX, Tracks, type Silence } from './tracks.ts';
import { WINDOW_PREFIX, Windows, windowsOf } from './windows.ts';

export const RULE_PREFIX = 'rule/';
/** Of the newest results: partition → revision. */
export const REVISION_PREFIX = 'stream-revision/';

/** Series whose rules are remembered. */
const WAYS_MAX = 200_000;

export interface EngineOptions {
  rules: readonly Rule[];
  partition: number;
  /** Of the topic that it reads. */
  partitions: number;
  stateBytesMax: number;
  /** Results have higher revisions than this one. */
  revision: number;
  /** Where it goes on, in each partition of `readings`: what comes from there on it is given. */
  from: Places;
  wallMs: () => number;
  monotonicMs: () => number;
  explain: (gateway: string, sinceMs: number) => Silence;
  onTrouble: (text: string) => void;
}

/** What a rule does with the readings of one series. */
interface Way {
  rule: Rule;
  source: Source;
  input: string | undefined;
  hash: string;
  tags: Record<string, string>;
}

export class Engine {
  private readonly options: EngineOptions;
  readonly windows = new Map<string, Windows>();
  readonly tracks = new Map<string, Tracks>();
  readonly corrections: Corrections;
  /** By the text of a series. */
  private readonly ways = new Remembered<Way[]>(WAYS_MAX);
  private results = new Results(STREAM);
  private readonly revisions: Revisions;
  private readonly stale: Produced[] = [];
  private readonly startedMs: number;
  /** Partition of `readings` → the newest record that it was given. */
  private readonly reached = new Map<number, number>();
  processedReadings = 0;

  /** `records` are what the state topic has of the partition; `isFirst`: nothing has been read of it yet. */
  constructor(options: EngineOptions, records: readonly LogRecord[], isFirst: boolean) {
    this.options = options;
    this.startedMs = options.wallMs();
    this.corrections = new Corrections(options.partition, options.from);
    for (const [partition, next] of options.from) this.reached.set(partition, next - 1);
    this.revisions = new Revisions(options.revision);
    const known = new Map(records.map(({ key, value }) => [key, value]));
    const prefixes = new Map<string, (key: string, value: Buffer) => void>();
    const blocks = new Map<string, number[]>();
    for (const rule of options.rules) {
      const name = `${rule.name}@${rule.hash}`;
      const mark = known.get(`${RULE_PREFIX}${name}`);
      const isYoung = mark === undefined ? !isFirst : mark.toString('utf8') === 'young';
      if (mark === undefined) {
        this.stale.push(this.record(`${RULE_PREFIX}${name}`, isYoung ? 'young' : 'whole'));
        // What was there before the rule was: from the lake.
        if (isYoung && rule.kind === 'window') this.corrections.backfill(rule);
      }
      if (rule.kind === 'window') {
        const windows = new Windows(rule, options.partition, isYoung);
        this.windows.set(rule.name, windows);
        prefixes.set(Windows.prefix(rule), (key, value) => windows.load(key, value, blocks));
      } else if (rule.kind !== 'derive') {
        const tracks = new Tracks(rule, options.partition, options.onTrouble);
        this.tracks.set(rule.name, tracks);
        prefixes.set(Tracks.prefix(rule), (key, value) => tracks.load(key, value));
      }
    }
    const names = new Set(options.rules.map(({ name, hash }) => `${RULE_PREFIX}${name}@${hash}`));
    for (const [key, value] of known) {
      // If it comes back, it has missed what came meanwhile.
      if (key.startsWith(RULE_PREFIX) && !names.has(key)) this.stale.push(this.record(key, ''));
      if (key.startsWith(CORRECTION_PREFIX)) this.corrections.load(key, value, options.rules);
      if (!key.startsWith(WINDOW_PREFIX) && !key.startsWith(TRACK_PREFIX)) continue;
      const end = key.indexOf('/', key.indexOf('/') + 1) + 1;
      const load = prefixes.get(key.slice(0, end));
      // Of a rule that is gone, or says something else now.
      if (load === undefined) this.stale.push(this.record(key, ''));
      else load(key, value);
    }
    for (const windows of this.windows.values()) windows.loaded(blocks);
  }

  private record(key: string, value: string): Produced {
    const { partition } = this.options;
    return { topic: TOPIC_STATE, partition, key, headers: {}, value: Buffer.from(value) };
  }

  /** Which of the rules' groups a series is of, as far as they belong to this partition. */
  private waysOf(reading: Reading, text: string): Way[] {
    let ways = this.ways.get(text);
    if (ways !== undefined) return ways;
    const { rules, partition, partitions } = this.options;
    ways = waysOf(rules, reading).filter(
      ({ hash }) => partitionOfHash(hash, partitions) === partition,
    );
    // Bounded; what is asked for again is found again.
    this.ways.set(text, ways);
    return ways;
  }

  /** `isAgain`: these readings have been here before, and may have been different. */
  take(batch: ReadingBatch, isAgain: boolean, place: Place): void {
    const texts = new SeriesTexts();
    const nowMs = this.options.monotonicMs();
    const { removed = [], readings } = batch;
    const { partition, offset } = place;
    this.reached.set(partition, Math.max(offset, this.reached.get(partition) ?? -1));
    for (const reading of removed)
      for (const way of this.waysOf(reading, texts.of(reading.measurement, reading.tags)))
        this.takeBack(way, batch, reading, place);
    for (const reading of readings) {
      const ways = this.waysOf(reading, texts.of(reading.measurement, reading.tags));
      if (ways.length === 0) continue;
      this.processedReadings++;
      const { was } = reading;
      for (const way of ways) {
        if (way.rule.kind === 'window' && (isAgain || was !== undefined)) {
          if (was !== undefined) this.takeBack(way, batch, { ...reading, ...was }, place);
          this.takeBack(way, batch, reading, place);
        } else this.give(way, batch, reading, isAgain, nowMs, place);
      }
    }
  }

  private give(
    way: Way,
    batch: ReadingBatch,
    reading: Reading,
    isAgain: boolean,
    nowMs: number,
    place: Place,
  ): void {
    const { rule, hash, tags, source } = way;
    const { gateway, epoch, arrivedMs } = batch;
    const { timeMs, ns, sequence, index } = reading;
    if (rule.kind === 'derive') {
      this.derive(rule, batch, reading, isAgain);
      return;
    }
    if (rule.kind === 'window') {
      const id = `${gateway}/${epoch}/${sequence}/${index}`;
      const windows = this.windows.get(rule.name) as Windows; // Made with the rule.
      for (const [name, value] of numbersOf(source, reading.fields)) {
        const edge = { timeMs, ns, id, value };
        const field = way.input ?? name;
        const gone = windows.add({ hash, tags, field, edge }, nowMs);
        for (const window of gone) this.corrections.add(rule, hash, tags, window, place);
      }
      return;
    }
    // What a track has seen, it has said: nothing is judged twice.
    if (isAgain) return;
    const tracks = this.tracks.get(rule.name) as Tracks; // Made with the rule.
    const observation = { hash, tags, gateway, reading, arrivedMs };
    if (rule.kind !== 'alert') {
      tracks.observe({ ...observation, field: '', value: 0 }, this.results);
      return;
    }
    for (const [field, value] of numbersOf(source, reading.fields)) {
      const own = { ...tags, field };
      tracks.observe(
        { ...observation, hash: groupHash(own), tags: own, field, value },
        this.results,
      );
    }
  }

  /** The same identity as the reading's, under the rule's name. */
  private derive(
    rule: DeriveRule,
    { gateway, epoch }: ReadingBatch,
    reading: Reading,
    isAgain: boolean,
  ): void {
    const values: Record<string, number> = {};
    for (const { field, expression } of rule.derive) {
      const value = expression.evaluate((name) => {
        const found = Object.hasOwn(reading.fields, name) ? reading.fields[name] : undefined;
        return typeof found === 'number' ? found : undefined;
      });
      if (value !== undefined) values[field] = value;
    }
    const { was, late: _late, ...rest } = reading;
    const own = `${rule.name}/${gateway}/${epoch}`;
    const { measurement } = rule;
    if (was !== undefined) this.results.remove(own, { ...rest, ...was, measurement, fields: {} });
    if (Object.keys(values).length > 0)
      this.results.add(own, { ...rest, measurement, fields: values });
    // It may have been different before.
    else if (isAgain) this.results.remove(own, { ...rest, measurement, fields: {} });
  }

  private takeBack(
    way: Way,
    { gateway, epoch }: ReadingBatch,
    reading: Reading,
    place: Place,
  ): void {
    const { rule, hash, tags } = way;
    if (rule.kind === 'derive') {
      const { measurement } = rule;
      this.results.remove(`${rule.name}/${gateway}/${epoch}`, {
        ...reading,
        measurement,
        fields: {},
      });
    }
    if (rule.kind !== 'window') return;
    for (const window of windowsOf(rule, reading.timeMs)) {
      this.windows.get(rule.name)?.drop(hash, tags, window);
      this.corrections.add(rule, hash, tags, window, place);
    }
  }

  /** What has come of it since it was asked last: results and state, for one step. */
  commit(): Produced[] {
    const { wallMs, monotonicMs, stateBytesMax, explain } = this.options;
    const wall = wallMs();
    for (const windows of this.windows.values()) {
      windows.say(this.results, wall, monotonicMs());
      windows.release();
      windows.shrink(stateBytesMax / Math.max(1, this.windows.size), this.results);
    }
    for (const tracks of this.tracks.values()) {
      tracks.run(this.results);
      tracks.silence(this.results, wall, this.startedMs, explain);
    }
    const produced = this.said(wall);
    for (const windows of this.windows.values()) produced.push(...windows.changes());
    for (const tracks of this.tracks.values()) produced.push(...tracks.changes());
    produced.push(...this.corrections.changes(), ...this.stale.splice(0));
    return produced;
  }

  private said(wall: number): Produced[] {
    const { results, revisions, options } = this;
    if (results.isEmpty) return [];
    this.results = new Results(STREAM);
    const produced = results.records(revisions.next(wall), Math.floor(wall));
    produced.push(this.record(`${REVISION_PREFIX}${options.partition}`, String(revisions.newest)));
    return produced;
  }

  /** Has the lake settle something that waits for it; gives how many windows it was. Throws what the lake throws. */
  async settle(lake: Lake, progress: LakeProgress): Promise<number> {
    const { partition, partitions } = this.options;
    const owned: Owned = {
      isMine: (hash) => partitionOfHash(hash, partitions) === partition,
      owns: (rule, hash, window) => this.windows.get(rule.name)?.owns(hash, window) ?? false,
      giveUp: (rule, hash, tags, window) => {
        this.windows.get(rule.name)?.drop(hash, tags, window);
        for (const [from, offset] of this.reached)
          this.corrections.add(rule, hash, tags, window, { partition: from, offset });
      },
    };
    return await this.corrections.settle(lake, progress, owned, this.results);
  }

  get stateBytes(): number {
    let bytes = 0;
    for (const windows of this.windows.values()) bytes += windows.bytes;
    return bytes;
  }

  get openWindows(): number {
    let count = 0;
    for (const windows of this.windows.values()) count += windows.windowCount;
    return count;
  }
}

/** The rules that a series is meant by, and its group in each. */
export function waysOf(
  rules: readonly Rule[],
  reading: Pick<Reading, 'measurement' | 'tags'>,
): Way[] {
  const ways: Way[] = [];
  for (const rule of rules) {
    const sources =
      rule.kind === 'window' ? rule.inputs : [{ name: undefined, source: rule.source }];
    for (const { name, source } of sources) {
      if (!isFrom(source, reading)) continue;
      const tags = groupTags(rule, reading);
      ways.push({ rule, source, input: name, tags, hash: groupHash(tags) });
    }
  }
  return ways;
}
