/**
 * How far a store has come in each partition of its sources, and where that is kept: by a store that supports progress,
 * in the transaction of its changes; for any other, in the log's topic `state`, with the step.
 *
 * A store that keeps its own place names the log that it is of: one that was filled from another log, put here by a restore or
 * by mistake, has nothing of this one, whatever its offsets seem to say.
 */
import { randomBytes } from 'node:crypto';
import { messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import {
  TOPIC_READINGS,
  TOPIC_RESULTS,
  TOPIC_STATE,
  type Log,
  type Produced,
  type StoredRecord,
} from '../log/log.ts';
import { seenOf } from '../stage/own-place.ts';
import { parsePlace, placeAt, placeName, withGap, type Place } from './place.ts';
import type { TimeSeriesStore } from './store.ts';

/** Before the identity of a store that keeps no progress, in the topic `state`. */
export const STORE_PREFIX = 'store/';
/** A log's own name, for each topic and partition, in the topic `state`. */
const LOG_NAME = `${STORE_PREFIX}log/`;
/** Which store has taken over the place of the group that older versions had for every store of its kind. */
const ADOPTED = `${STORE_PREFIX}adopted/`;

/** The groups that older versions had. */
export const oldGroup = (topic: string, kind: string): string =>
  topic === 'readings' ? `headwater-store-${kind}` : `headwater-store-${topic}-${kind}`;

export class Places {
  private readonly log: Log;
  private readonly store: TimeSeriesStore;
  private readonly notify: Notify;
  private readonly nowMs: () => number;
  private readonly places = new Map<string, { topic: string; partition: number; place: Place }>();
  private readonly adopted = new Set<string>();
  /** Read from the beginning when they are loaded next. */
  private readonly restarts = new Set<string>();
  /** Of a store that has nothing, given a log from its beginning: what a lake beside it has, nobody has looked for. */
  readonly fresh = new Set<string>();
  private strange: Promise<boolean> | undefined;
  /** Called for a place with `other`. */
  onOther: () => void = () => undefined;
  /** Key of the topic `state` → a log's name that is not kept there yet. */
  private readonly unnamed = new Map<string, string>();
  identity = '';

  constructor(log: Log, store: TimeSeriesStore, notify: Notify, nowMs: () => number) {
    this.log = log;
    this.store = store;
    this.notify = notify;
    this.nowMs = nowMs;
  }

  list(): { topic: string; partition: number; place: Place }[] {
    return [...this.places.values()];
  }

  get(topic: string, partition: number): Place | undefined {
    return this.places.get(placeName(topic, partition))?.place;
  }

  set(topic: string, partition: number, place: Place): void {
    this.places.set(placeName(topic, partition), { topic, partition, place });
  }

  /** After a step: the place is kept. */
  settled(topic: string, partition: number, place: Place): void {
    this.restarts.delete(placeName(topic, partition));
    this.set(topic, partition, place);
  }

  forget(topic: string, partition: number): void {
    this.fresh.delete(placeName(topic, partition));
    this.places.delete(placeName(topic, partition));
  }

  restart(topic: string, partition: number): void {
    this.restarts.add(placeName(topic, partition));
  }

  /** The store's identity names it: another store is another group. */
  group(topic: string): string {
    const of = topic === TOPIC_READINGS ? '' : `${topic}-`;
    return `headwater-store-${of}${this.identity}`;
  }

  /** Of another store: nothing is known of it. */
  begin(identity: string): void {
    this.identity = identity;
    this.strange = undefined;
    this.fresh.clear();
    this.places.clear();
  }

  /** The group that older versions had, once its place is kept elsewhere. */
  private async forgetOld(topic: string): Promise<void> {
    const old = oldGroup(topic, this.store.kind);
    if (this.log.groups().some(({ group }) => group === old)) await this.log.forget(old);
  }

  /** Where to go on in a partition. Throws STORE_UNAVAILABLE, LOG_UNAVAILABLE. */
  async load(topic: string, partition: number): Promise<Place> {
    const kept = this.restarts.has(placeName(topic, partition))
      ? undefined
      : await this.kept(topic, partition);
    if (kept !== undefined || this.store.supports.progress) await this.forgetOld(topic);
    const log = this.store.supports.progress ? await this.logName(topic, partition) : undefined;
    const isOther = kept?.log !== undefined && kept.log !== log;
    const known = isOther ? undefined : (kept ?? (await this.inherited(topic, partition)));
    if (isOther) this.tellOther(topic);
    const first = (await this.log.first?.(topic, partition)) ?? 0;
    const end = (await this.log.next?.(topic, partition)) ?? Number.POSITIVE_INFINITY;
    if (known !== undefined && known.next > end) return this.older(topic, partition, known, first);
    const place = withGap(known, first, this.nowMs());
    if (log !== undefined) place.log = log;
    await this.noteBehind(topic, partition, place, known === undefined ? end : undefined);
    // The record that was read last is another one, or points are there and nothing says of which log.
    const isStrange = this.restarts.has(placeName(topic, partition)) || (await this.isStrange());
    if (isOther || (kept === undefined && isStrange)) place.other = 'other';
    if (place.other !== undefined) this.onOther();
    const name = placeName(topic, partition);
    // A store that was filled from another log may be anybody's: what the lake has is compared with it.
    if (known === undefined && place.gap === undefined) this.fresh.add(name);
    else this.fresh.delete(name);
    if (place.gap !== undefined && known?.gap === undefined)
      this.tell(topic, place.gap.from, first);
    this.set(topic, partition, place);
    return place;
  }

  /** A store that is new (`end`: of the log), or an older copy: the log has said of it that it had read more. */
  private async noteBehind(
    topic: string,
    partition: number,
    place: Place,
    end: number | undefined,
  ): Promise<void> {
    if (place.behind !== undefined) return;
    const upTo =
      end ?? (await this.log.committedBy?.(this.group(topic), topic))?.get(partition) ?? 0;
    if (!Number.isFinite(upTo) || upTo <= place.next) return;
    place.behind = { upTo, since: this.nowMs() };
    this.notify({
      // That a store is new is no trouble: what was wrong with the one before it was told.
      level: end === undefined ? 'warn' : 'info',
      event: 'store_incomplete',
      text: `the store has less of ${topic} than the log has said: it reads from offset ${place.next} to ${upTo - 1}, and answers say that they are incomplete until then`,
    });
  }

  /** Whether the store had points, and no place, when it was looked at first. */
  private async isStrange(): Promise<boolean> {
    if (!this.store.supports.progress) return false;
    this.strange ??= (async () =>
      (await this.store.marks('place/')).size === 0 && (await this.store.series()).length > 0)();
    try {
      return await this.strange;
    } catch (error) {
      this.strange = undefined;
      throw error;
    }
  }

  /** The log is an older copy than the store: what it has the store has had, and what it is given from now on it has not. */
  private older(topic: string, partition: number, known: Place, first: number): Place {
    this.notify({
      level: 'warn',
      event: 'store_other_log',
      text: `the topic ${topic} ends before what the store has read of it: the log is an older copy; all of it is read again, and what the store has already stays as it is`,
    });
    const { last: _, ...rest } = known;
    const place: Place = { ...rest, next: first, other: 'older' };
    this.set(topic, partition, place);
    this.onOther();
    return place;
  }

  /** The log is new, and so is the store or it is of another log, and the lake has what they had. */
  beside(topic: string, partition: number): void {
    const place = this.get(topic, partition);
    this.fresh.delete(placeName(topic, partition));
    if (place === undefined || place.gap !== undefined) return;
    this.notify({
      level: 'warn',
      event: 'store_incomplete',
      text: `the log is new beside a lake that has ${topic}, and nothing says that the store has it all: it is filled from the lake, but for days that it has as the lake has them, and answers say that they are incomplete until then`,
    });
    const gap = { from: 0, to: 0, since: this.nowMs(), filled: 0 };
    this.set(topic, partition, { ...place, gap });
  }

  private tell(topic: string, from: number, first: number): void {
    this.notify({
      level: 'warn',
      event: 'store_incomplete',
      text: `the store lacks ${topic} from offset ${from} to ${first - 1}, which the log no longer has: it is filled from the lake, and answers say that they are incomplete until then`,
    });
  }

  /** What the store had acknowledged is not there any more. */
  tellLess(topic: string): void {
    this.notify({
      level: 'error',
      event: 'store_less',
      text: `the store (${this.store.kind}) has not kept what it had acknowledged of ${topic}: it was put back to an older copy, emptied, or has lost some; it is filled again from the log, and from the lake what the log no longer has, and answers say that they are incomplete until then`,
    });
  }

  tellOther(topic: string): void {
    this.notify({
      level: 'warn',
      event: 'store_other_log',
      text: `the topic ${topic} is not the one that the store has read before: the log was restored or made anew, or the store is another one; all of it is read again, and what the store has already stays as it is`,
    });
  }

  /** The name that the log has, or is given with the next step. */
  private async logName(topic: string, partition: number): Promise<string> {
    const key = `${LOG_NAME}${topic}/${partition}`;
    const records = await this.log.state(TOPIC_STATE, partition, key);
    const kept = records.find((record) => record.key === key)?.value.toString('utf8');
    this.unnamed.delete(key);
    if (kept !== undefined) return kept;
    const name = randomBytes(8).toString('hex');
    this.unnamed.set(key, name);
    return name;
  }

  private stateKey(topic: string, partition: number): string {
    return `${STORE_PREFIX}${this.identity}/${placeName(topic, partition)}`;
  }

  private async kept(topic: string, partition: number): Promise<Place | undefined> {
    const name = placeName(topic, partition);
    if (this.store.supports.progress) return parsePlace((await this.store.marks(name)).get(name));
    const key = this.stateKey(topic, partition);
    const records = await this.log.state(TOPIC_STATE, partition, key);
    return parsePlace(records.find((record) => record.key === key)?.value.toString('utf8'));
  }

  /**
   * The place of the group that older versions had for every store of its kind: the first store after an upgrade takes it
   * over, if there is anything in it. Another one begins at the beginning.
   */
  private async inherited(topic: string, partition: number): Promise<Place | undefined> {
    if (this.store.supports.progress || this.log.committedBy === undefined) return undefined;
    const key = `${ADOPTED}${topic}/${partition}`;
    if ((await this.log.state(TOPIC_STATE, partition, key)).some((record) => record.key === key))
      return undefined;
    const committed = await this.log.committedBy(oldGroup(topic, this.store.kind), topic);
    const next = committed.get(partition);
    if (next === undefined || (await this.store.series()).length === 0) return undefined;
    this.adopted.add(key);
    return { next };
  }

  /** Places after a step over these records. */
  after(
    topic: string,
    records: readonly StoredRecord[],
    offsets: ReadonlyMap<number, number>,
  ): Map<number, Place> {
    const last = new Map<number, StoredRecord>();
    for (const record of records) last.set(record.partition, record);
    const places = new Map<number, Place>();
    for (const [partition, next] of offsets) {
      const place = placeAt(this.get(topic, partition) ?? { next }, next);
      const record = last.get(partition);
      if (record !== undefined) place.last = seenOf(record);
      places.set(partition, place);
    }
    return places;
  }

  /** For the store's own transaction; empty for one that keeps none, and before the log has the name that a place says. */
  marksOf(topic: string, places: ReadonlyMap<number, Place>): Map<string, string> {
    if (!this.store.supports.progress) return new Map();
    return new Map(
      [...places]
        .filter(([partition]) => !this.unnamed.has(`${LOG_NAME}${topic}/${partition}`))
        .map(([partition, place]) => [placeName(topic, partition), JSON.stringify(place)]),
    );
  }

  /** For the log, with the step: places, but for a store that keeps them, and the log's name. */
  recordsOf(topic: string, places: ReadonlyMap<number, Place>): Produced[] {
    return [...places].flatMap(([partition, place]) => {
      const record = (key: string, text: string): Produced => ({
        topic: TOPIC_STATE,
        partition,
        key,
        headers: {},
        value: Buffer.from(text),
      });
      if (this.store.supports.progress) {
        const key = `${LOG_NAME}${topic}/${partition}`;
        const name = this.unnamed.get(key);
        // Where that fails the partition is loaded again.
        this.unnamed.delete(key);
        return name === undefined ? [] : [record(key, name)];
      }
      const records = [record(this.stateKey(topic, partition), JSON.stringify(place))];
      const adopted = `${ADOPTED}${topic}/${partition}`;
      if (this.adopted.delete(adopted)) records.push(record(adopted, this.identity));
      return records;
    });
  }

  /** Groups of stores that are no longer configured hold up nobody. */
  async forgetOthers(groups: ReadonlySet<string>): Promise<void> {
    const known = this.log.groups().map(({ group }) => group);
    // A log on a server has also those of stores that no process of ours has joined for.
    const there = (await this.log.groupNames?.().catch(() => [])) ?? [];
    const olds = [TOPIC_READINGS, TOPIC_RESULTS].map((topic) => oldGroup(topic, this.store.kind));
    for (const group of new Set([...known, ...there])) {
      if (!group.startsWith('headwater-store-') || groups.has(group)) continue;
      if (olds.includes(group)) continue;
      try {
        await this.log.forget(group);
      } catch (error) {
        // Another collector reads for it now.
        if (/has members/.test(messageOf(error))) continue;
        this.notify({ level: 'warn', event: 'store_group', text: messageOf(error) });
      }
    }
  }
}
