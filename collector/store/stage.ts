/**
 * The store stage: readings and results → store. A step is applied, then committed; a store that keeps its place in its
 * own transaction decides where to go on. The store's identity names the group: another bucket, server or file is
 * another store, and is filled from the beginning.
 *
 * What a step says is applied in order. Where a log that is not the one read before stands under the same name (its last
 * record is another one) all of it is read again: identities make that harmless (law 3).
 */
import { monotonicMs, processTime, wallMs, type Time } from '../../shared/env/env.ts';
import { HeadwaterError, codeOf, messageOf } from '../../shared/errors.ts';
import { decodeReadings } from '../../shared/model/readings-record.ts';
import type { ReadingBatch } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { CounterBy } from '../../shared/telemetry/metrics.ts';
import {
  HEADER_AGAIN,
  TOPIC_QUARANTINE,
  TOPIC_READINGS,
  TOPIC_RESULTS,
  type Log,
  type Produced,
  type StoredRecord,
} from '../log/log.ts';
import { HEADER_HEALED } from '../log/topics.ts';
import type { Offsets } from '../stage/membership.ts';
import { seenOf, type Seen } from '../stage/own-place.ts';
import type { Stage } from '../stage/options.ts';
import { runStage } from '../stage/stage.ts';
import { changesOf } from './changes.ts';
import { Corrected } from './corrected.ts';
import { Fill } from './fill.ts';
import type { Place } from './place.ts';
import { Places } from './places.ts';
import { refusedRecords, unreadableRecord } from './refusals.ts';
import { isThere, sampleOf, type Sample } from './sample.ts';
import type { Change, Refused, TimeSeriesStore } from './store.ts';

const SOURCES = [
  { topic: TOPIC_READINGS, name: 'store' },
  { topic: TOPIC_RESULTS, name: 'store_results' },
] as const;

/** After so long without a step an older copy may stand in the store's place. */
const QUIET_MS = 5000;

export interface StoreStageOptions {
  log: Log;
  store: TimeSeriesStore;
  notify: Notify;
  time?: Time;
  /** From the lake, most readings a second. */
  fillRate: number;
}

export class StoreStage {
  readonly refusedBy = new CounterBy('reason');
  storedReadings = 0;
  movedReadings = 0;
  /** Points that a replay took away, since the mapping now in force puts them elsewhere. */
  removedReadings = 0;
  readonly fill: Fill;
  /** Called when this is not the log that the store was filled from, or an older copy of it. */
  onOther: () => void = () => undefined;

  private readonly log: Log;
  private readonly store: TimeSeriesStore;
  private readonly notify: Notify;
  private readonly time: Time;
  private readonly places: Places;
  private corrected = new Corrected();
  private stages: Stage[] = [];
  private turn: Promise<unknown> = Promise.resolve();
  /** Topic → the store that it is read for. */
  private readonly joined = new Map<string, string>();
  /** Topic/partition → the record that this store read last, until the log has shown it again. */
  private readonly expected = new Map<string, Seen>();
  /** Partitions whose place changed without a record. */
  private readonly dirty = new Map<string, Set<number>>();
  /** Topic → when the store last took something of it, monotonic milliseconds. */
  private readonly takenAt = new Map<string, number>();

  constructor({ log, store, notify, time = processTime, fillRate }: StoreStageOptions) {
    this.time = time;
    this.log = log;
    this.store = store;
    this.notify = notify;
    this.places = new Places(log, store, notify, () => Math.round(wallMs(time)));
    this.places.onOther = () => this.onOther();
    this.fill = new Fill({
      log,
      places: this.places,
      notify,
      time,
      rate: fillRate,
      isCaughtUp: (topic) =>
        log
          .groups()
          .some(({ group, lagRecords }) => group === this.group(topic) && lagRecords === 0),
      write: (topic, partition, changes, place) => this.fillIn(topic, partition, changes, place),
    });
  }

  start(): void {
    this.stages = SOURCES.map(({ topic, name }) => this.follow(topic, name));
  }

  group(topic: string): string {
    return this.places.group(topic);
  }

  private follow(topic: string, name: string): Stage {
    const { log } = this;
    const groupOf = (): string => this.group(topic);
    return runStage({
      name,
      touches: 'elsewhere',
      log: {
        groups: () => log.groups(),
        // Whom it joins for is known once the store says who it is.
        consumer: async (options) => {
          await this.identify(topic);
          return await log.consumer({ ...options, group: groupOf() });
        },
      },
      notify: this.notify,
      time: this.time,
      consumer: {
        get group() {
          return groupOf();
        },
        topic,
        from: 'start',
        bytesMax: 2 * 1024 * 1024,
        onAssign: (partition) => this.assigned(topic, partition),
        onRevoke: (partition) => this.places.forget(topic, partition),
      },
      step: (records, offsets) => this.inTurn(() => this.step(topic, records, offsets)),
      idle: () => Promise.resolve(this.changedPlaces(topic)),
    });
  }

  private async identify(topic: string): Promise<void> {
    const identity = await this.store.identity();
    if (identity !== this.places.identity) this.places.begin(identity);
    this.joined.set(topic, identity);
    await this.places.forgetOthers(new Set(SOURCES.map((source) => this.group(source.topic))));
  }

  /** Whether this topic is read for the store that is there now. */
  private isJoined(topic: string): boolean {
    return this.places.identity !== '' && this.joined.get(topic) === this.places.identity;
  }

  /** The record before the place is read once more: it shows whether this is the log that was read. */
  private async assigned(topic: string, partition: number): Promise<number> {
    let place = await this.places.load(topic, partition);
    if (place.sample !== undefined && !(await isThere(this.store, place.sample))) {
      this.places.tellLess(topic);
      this.places.restart(topic, partition);
      place = await this.places.load(topic, partition);
    }
    this.fill.look();
    const key = `${topic}/${partition}`;
    const { last } = place;
    this.expected.delete(key);
    if (last === undefined || last[0] < ((await this.log.first?.(topic, partition)) ?? 0))
      return place.next;
    this.expected.set(key, last);
    return last[0];
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const run = this.turn.then(work);
    this.turn = run.catch(() => undefined); // The caller sees it; the next one takes its turn.
    return run;
  }

  // ---- a step ----

  private async step(
    topic: string,
    given: StoredRecord[],
    offsets: Offsets,
  ): Promise<Produced[] | undefined> {
    if (!this.isJoined(topic))
      throw new HeadwaterError('STORE_RESET', 'the store is another one than this was read for');
    await this.verify(topic);
    const records = given.filter((record) => this.isFresh(topic, record));
    const changes: Change[] = [];
    const produced: Produced[] = [];
    for (const record of records) {
      // Earlier revisions are among them, and the store goes by their order.
      if (record.headers[HEADER_HEALED] !== undefined) continue;
      try {
        const batch = decodeReadings(record.value);
        const said = changesOf([batch]);
        this.noteCorrected(topic, record, said);
        this.count(batch);
        for (const change of said) changes.push(change);
      } catch (error) {
        // Somebody else may write to this topic too: what is not a readings record is set aside, not stumbled over.
        this.refusedBy.add('not a readings record');
        produced.push(unreadableRecord(record, messageOf(error)));
      }
    }
    const places = this.places.after(topic, records, offsets);
    // The place moves in the store's own transaction only when nothing else has to be committed with it.
    const marks =
      produced.length === 0 ? this.places.marksOf(topic, places) : new Map<string, string>();
    const refused = await this.apply(changes, marks);
    this.sample(topic, places, sampleOf(changes, refused));
    produced.push(...this.quarantined(refused), ...this.places.recordsOf(topic, places));
    for (const [partition, place] of places) this.places.settled(topic, partition, place);
    return produced;
  }

  /** Behind a store that was away, or of which nothing was asked for a while, there may be an older copy of it by now. */
  private async verify(topic: string): Promise<void> {
    const now = monotonicMs(this.time);
    if (this.store.supports.progress || now - (this.takenAt.get(topic) ?? now) < QUIET_MS) return;
    // One that was dropped has no points to ask for: it is made anew by this, and is another one.
    if ((await this.store.identity()) !== this.places.identity)
      throw new HeadwaterError('STORE_RESET', 'the store was made anew: it is filled again');
    for (const { topic: of, place } of this.places.list()) {
      if (of !== topic || place.sample === undefined) continue;
      if (await isThere(this.store, place.sample)) continue;
      this.places.tellLess(topic);
      for (const each of this.places.list())
        if (each.topic === topic) this.places.restart(topic, each.partition);
      this.takenAt.delete(topic);
      throw new HeadwaterError('STORE_RESET', 'the store has less than it had');
    }
  }

  private sample(
    topic: string,
    places: ReadonlyMap<number, Place>,
    sample: Sample | 'none' | undefined,
  ): void {
    if (this.store.supports.progress) return;
    this.takenAt.set(topic, monotonicMs(this.time));
    for (const place of places.values()) {
      if (sample === 'none') delete place.sample;
      else if (sample !== undefined) place.sample = sample;
    }
  }

  /** Not the record that was read before. */
  private isFresh(topic: string, record: StoredRecord): boolean {
    if (this.expected.size === 0) return true;
    const key = `${topic}/${record.partition}`;
    const seen = this.expected.get(key);
    if (seen === undefined) return true;
    this.expected.delete(key);
    if (record.offset !== seen[0]) return true;
    if (seenOf(record)[1] === seen[1]) return false;
    this.places.tellOther(topic);
    this.places.restart(topic, record.partition);
    throw new HeadwaterError('STORE_RESET', 'the log is read again from its beginning');
  }

  /** What the lake still has of these is older. */
  private noteCorrected(
    topic: string,
    { headers }: StoredRecord,
    changes: readonly Change[],
  ): void {
    if (!this.places.list().some((each) => each.topic === topic && each.place.gap !== undefined))
      return;
    this.corrected.note(changes, topic === TOPIC_RESULTS || headers[HEADER_AGAIN] !== undefined);
  }

  private count({ readings, removed = [] }: ReadingBatch): void {
    this.removedReadings += removed.length;
    this.storedReadings += readings.length;
    for (const { was } of readings) if (was !== undefined) this.movedReadings++;
  }

  private async apply(
    changes: readonly Change[],
    marks: ReadonlyMap<string, string>,
  ): Promise<Refused[]> {
    try {
      return await this.store.apply(changes, marks);
    } catch (error) {
      for (const { topic } of SOURCES) this.takenAt.set(topic, Number.NEGATIVE_INFINITY);
      // Nothing that is known of the store holds for the one that is there now.
      if (codeOf(error) === 'STORE_RESET') this.places.begin('');
      throw error;
    }
  }

  private quarantined(refused: readonly Refused[]): Produced[] {
    for (const { reason, changes } of refused) {
      this.storedReadings -= changes.length;
      this.refusedBy.add(
        reason.replaceAll(/'[^']*'|"[^"]*"|\d+/g, '…').slice(0, 80),
        changes.length,
      );
    }
    return refusedRecords(refused);
  }

  // ---- places, and being filled ----

  private changedPlaces(topic: string): Produced[] {
    const partitions = this.dirty.get(topic);
    if (partitions === undefined) return [];
    this.dirty.delete(topic);
    const places = new Map<number, Place>();
    for (const partition of partitions) {
      const place = this.places.get(topic, partition);
      if (place !== undefined) places.set(partition, place);
    }
    return this.places.recordsOf(topic, places);
  }

  private async fillIn(
    topic: string,
    partition: number,
    changes: readonly Change[],
    next: (place: Place) => Place,
  ): Promise<void> {
    await this.inTurn(async () => {
      const place = this.places.get(topic, partition);
      if (place === undefined || !this.isJoined(topic)) return;
      const after = next(place);
      const marks = this.places.marksOf(topic, new Map([[partition, after]]));
      const refused = await this.apply(this.corrected.without(changes), marks);
      const produced = this.quarantined(refused);
      if (produced.length > 0) await this.log.append(TOPIC_QUARANTINE, produced);
      this.places.set(topic, partition, after);
      if (!this.places.list().some((each) => each.place.gap !== undefined))
        this.corrected = new Corrected();
      if (this.store.supports.progress) return;
      const dirty = this.dirty.get(topic);
      if (dirty === undefined) this.dirty.set(topic, new Set([partition]));
      else dirty.add(partition);
    });
  }

  // ---- the audit ----

  /** Offset up to which the store has a partition; undefined: it is not this process's. */
  readTo(topic: string, partition: number): number | undefined {
    return this.isJoined(topic) ? this.places.get(topic, partition)?.next : undefined;
  }

  /** How this log is not the one that the store was filled from. */
  get other(): Place['other'] {
    const all = this.places.list().flatMap(({ place }) => place.other ?? []);
    return all.find((each) => each === 'other') ?? all[0];
  }

  /** What nothing but the store has was looked at. */
  async knowOther(): Promise<void> {
    for (const { topic, partition, place } of this.places.list())
      if (place.other !== undefined)
        await this.fillIn(topic, partition, [], ({ other: _, ...rest }) => rest);
  }

  /** Puts right what the store has wrong, in turn with what comes in: `make` looks at what it has then. Gives what it refuses. */
  async mend(make: () => Promise<readonly Change[]>): Promise<Refused[]> {
    // What it refuses now it has refused before: that is in quarantine.
    return await this.inTurn(async () => await this.apply(await make(), new Map()));
  }

  running(): readonly Stage[] {
    return this.stages;
  }

  async close(): Promise<void> {
    await this.fill.close();
    await Promise.all(this.stages.map((stage) => stage.close()));
  }
}
