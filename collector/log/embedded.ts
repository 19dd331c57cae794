/**
 * The log on LevelDB, for one process. One partition; a step is one synced batch, and what waits at the same time
 * shares an fsync (group commit), as in the gateway's buffer. Its layout on disk is in `embedded-records.ts`.
 *
 * A write error fails every waiting write, closes and reopens (F1); callers try again, and identities make that harmless.
 */
import { join } from 'node:path';
import { makeFolder } from '../../shared/config/folder.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { LevelDatabase } from '../../shared/kv/classic-level.ts';
import { after, type KvDatabase, type KvOp } from '../../shared/kv/kv.ts';
import { seal, unseal } from '../../shared/kv/sealed.ts';
import { EmbeddedConsumer } from './embedded-consumer.ts';
import {
  DAMAGED,
  decode,
  encode,
  offsetKey,
  readState,
  recordKey,
  stateKey,
  topicPrefix,
} from './embedded-records.ts';
import { openRecovering, type Recovery } from '../../shared/kv/recover.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type {
  ConsumerOptions,
  GroupStats,
  Health,
  Log,
  LogConsumer,
  LogRecord,
  LogSupports,
  Produced,
  Step,
  StoredRecord,
  TopicSpec,
  Watch,
} from './log.ts';

export const EMBEDDED_SUPPORTS: LogSupports = {
  atomicStep: true,
  partitions: false,
  processes: false,
  recordBytesMax: 256 * 1024 * 1024,
};

export interface EmbeddedLogOptions {
  folder: string;
  /** Recent records of a topic kept in memory for its readers, bytes. */
  cacheBytes: number;
  topics: readonly TopicSpec[];
  /** Groups that read no more: what they have not read may be cut. */
  retired?: readonly string[];
  now: () => number;
  createDatabase?: (folder: string) => KvDatabase;
  /** Opens the database in another way than from `folder`: for a simulated disk. */
  openDatabase?: (stamp: string) => Promise<Recovery>;
  /** Between attempts to open again after a failed write, milliseconds. */
  reopenMs?: number;
}

interface Topic {
  end: number;
  cache: StoredRecord[];
  cachedBytes: number;
  waiters: Set<() => void>;
}

interface Pending {
  ops: KvOp[];
  done: () => void;
  failed: (error: unknown) => void;
}

const BATCH_BYTES_MAX = 4 * 1024 * 1024;
const REOPEN_MS = 500;
/** Read at once to be deleted, bytes. */
const TRIM_BYTES_MAX = 16 * 1024 * 1024;

export class EmbeddedLog implements Log {
  readonly kind = 'embedded';
  readonly partitions = 1;
  private readonly options: EmbeddedLogOptions;
  private readonly notify: Notify;
  private db: KvDatabase | undefined;
  private readonly topics = new Map<string, Topic>();
  private readonly loading = new Map<string, Promise<Topic>>();
  private readonly offsets = new Map<string, { group: string; topic: string; next: number }>();
  /** Progress that consumers keep elsewhere, which may be ahead of what is on disk here. */
  private readonly noted = new Map<string, { group: string; topic: string; next: number }>();
  /** What was found missing, for people. */
  private readonly said = new Set<string>();
  private queue: Pending[] = [];
  private writing = false;
  private reopening: Promise<void> | undefined;
  private closed = false;
  private readonly compacted: ReadonlySet<string>;
  /** Consumers of a group and topic, in the order in which they came. */
  private readonly members = new Map<string, LogConsumer[]>();
  private present: Health = { up: false, sinceMs: 0, reason: 'not open yet' };
  private readonly trimmedTo = new Map<string, number>();
  private readonly watchers = new Set<{
    topic: string;
    onRecords: (records: LogRecord[]) => void;
  }>();

  constructor(options: EmbeddedLogOptions, notify: Notify) {
    this.options = options;
    this.notify = notify;
    this.compacted = new Set(
      options.topics.filter(({ compacted }) => compacted).map(({ name }) => name),
    );
  }

  async open(): Promise<void> {
    const stamp = new Date(this.options.now()).toISOString().replaceAll(':', '-');
    const open = this.options.openDatabase ?? ((at: string) => this.openFolder(at));
    const { db, damaged, setAside, carried, copies } = await open(stamp);
    try {
      // One synced write before anything is served (F4).
      const note: KvOp = { type: 'put', key: Buffer.from('mopen'), value: Buffer.from(stamp) };
      await db.write([note], { sync: true });
      await this.takeUp(db);
    } catch (error) {
      await db.close().catch(() => undefined); // The error that matters is thrown below.
      throw error;
    }
    this.db = db;
    this.present = { up: true, sinceMs: this.options.now(), reason: '' };
    for (const { file, offset, bytes, kind } of damaged.flatMap(({ damages }) => damages)) {
      if (kind === 'corrupt') {
        this.notify({
          level: 'error',
          event: 'log_damaged',
          text: `log/${file}: ${bytes} bytes at offset ${offset} do not match their checksum; a copy is in ${copies ?? 'damaged/'}`,
        });
      }
    }
    if (setAside !== undefined) {
      this.notify({
        level: 'error',
        event: 'log_set_aside',
        text: `the log was damaged and set aside to ${setAside}; ${carried} whole entries of it were carried over, and gateways send again what they still hold of the rest`,
      });
    }
  }

  /** Offsets, ends of topics and what is watched, as they are on disk. */
  private async takeUp(db: KvDatabase): Promise<void> {
    this.offsets.clear();
    for (const [key, value] of await db.read(
      { gte: Buffer.from('o'), lt: Buffer.from('p') },
      Number.POSITIVE_INFINITY,
    )) {
      const [group = '', topic = ''] = key.toString('utf8', 1).split('\0');
      const offset = unseal(value);
      // A damaged one is as good as none: the group reads again, and identities make that harmless.
      if (offset?.length !== 8 || this.options.retired?.includes(group) === true) continue;
      const next = Number(offset.readBigUInt64BE(0));
      this.offsets.set(`${group}\0${topic}`, { group, topic, next });
    }
    for (const [name, progress] of this.noted)
      if (progress.next > (this.offsets.get(name)?.next ?? 0)) this.offsets.set(name, progress);
    for (const name of [...this.topics.keys()]) await this.load(name, db);
    for (const watcher of this.watchers) watcher.onRecords(await readState(db, watcher.topic, ''));
  }

  private async openFolder(stamp: string): Promise<Recovery> {
    const folder = join(this.options.folder, 'log');
    await makeFolder(folder);
    const create =
      this.options.createDatabase ??
      ((path: string) => new LevelDatabase(path, { cacheBytes: 4 * 1024 * 1024 }));
    return await openRecovering(folder, stamp, create);
  }

  private async load(name: string, db: KvDatabase): Promise<Topic> {
    const prefix = topicPrefix(name);
    const [last] = await db.read({ gte: prefix, lt: after(prefix), reverse: true, limit: 1 }, 1);
    // What was trimmed away still counts: offsets are never given twice.
    const committed = [...this.offsets.values()]
      .filter(({ topic }) => topic === name)
      .map(({ next }) => next);
    const end = Math.max(
      last === undefined ? 0 : Number(last[0].readBigUInt64BE(prefix.length)) + 1,
      ...committed,
    );
    const before = this.topics.get(name);
    const topic: Topic = { end, cache: [], cachedBytes: 0, waiters: before?.waiters ?? new Set() };
    this.topics.set(name, topic);
    return topic;
  }

  /** One load at a time: a second one would count from before what the first has let in, and give offsets twice. */
  private async topic(name: string): Promise<Topic> {
    const known = this.topics.get(name);
    if (known !== undefined) return known;
    let loading = this.loading.get(name);
    if (loading === undefined) {
      loading = this.acrossReopening((db) => this.load(name, db)).finally(() =>
        this.loading.delete(name),
      );
      this.loading.set(name, loading);
    }
    return await loading;
  }

  async append(topic: string, records: LogRecord[]): Promise<void> {
    await this.submit(
      records.map((record) => ({ ...record, topic })),
      [],
    );
  }

  /** Queues produced records and further operations as one atomic unit. */
  async submit(produce: Produced[], more: KvOp[]): Promise<void> {
    // Waiting only when a topic is new keeps concurrent appends in the order of their calls.
    const unknown = produce.filter(
      ({ topic }) => !this.compacted.has(topic) && !this.topics.has(topic),
    );
    if (unknown.length > 0) await Promise.all(unknown.map(({ topic }) => this.topic(topic)));
    // No turn of the event loop between this and the queue: offsets are given by what is open now.
    while (this.reopening !== undefined || this.db === undefined) await this.ready();
    const ops: KvOp[] = [];
    const fresh: [Topic, StoredRecord][] = [];
    for (const record of produce) {
      const value = encode(record);
      if (this.compacted.has(record.topic)) {
        const key = stateKey(record.topic, record.key);
        ops.push(record.value.length === 0 ? { type: 'del', key } : { type: 'put', key, value });
        continue;
      }
      const topic = this.topics.get(record.topic) as Topic; // Loaded above.
      const offset = topic.end++;
      ops.push({ type: 'put', key: recordKey(record.topic, offset), value });
      fresh.push([
        topic,
        { key: record.key, value: record.value, headers: record.headers, partition: 0, offset },
      ]);
    }
    ops.push(...more);
    await new Promise<void>((resolve, reject) => {
      const done = (): void => {
        for (const [topic, record] of fresh) this.remember(topic, record);
        for (const { topic, onRecords } of this.watchers) {
          const changed = produce.filter((record) => record.topic === topic);
          if (changed.length > 0) onRecords(changed);
        }
        for (const [topic] of fresh) for (const wake of topic.waiters) wake();
        resolve();
      };
      this.queue.push({ ops, done, failed: reject });
      if (!this.writing) void this.drain();
    });
  }

  private remember(topic: Topic, record: StoredRecord): void {
    topic.cache.push(record);
    topic.cachedBytes += record.value.length;
    let drop = 0;
    while (topic.cachedBytes > this.options.cacheBytes && drop < topic.cache.length - 1) {
      topic.cachedBytes -= topic.cache[drop++]?.value.length ?? 0;
    }
    if (drop > 0) topic.cache.splice(0, drop);
  }

  private async drain(): Promise<void> {
    this.writing = true;
    while (this.queue.length > 0 && this.db !== undefined) {
      const group: Pending[] = [];
      for (let bytes = 0; bytes < BATCH_BYTES_MAX; ) {
        const next = this.queue.shift();
        if (next === undefined) break;
        group.push(next);
        for (const op of next.ops) bytes += op.type === 'put' ? op.value.length : 0;
      }
      try {
        await this.db.write(
          group.flatMap(({ ops }) => ops),
          { sync: true },
        );
        for (const { done } of group) done();
      } catch (error) {
        this.fail([...group, ...this.queue.splice(0)], error);
        break;
      }
    }
    this.writing = false;
  }

  private fail(group: Pending[], error: unknown): void {
    const text = `the embedded log cannot be written: ${messageOf(error)}; the uplink is not acknowledged meanwhile`;
    this.notify({ level: 'error', event: 'log_write', text });
    // At once: a write after a failed one seems to succeed and is gone with the next open (F1).
    const { db } = this;
    this.db = undefined;
    this.present = { up: false, sinceMs: this.options.now(), reason: text };
    this.reopening ??= this.reopen(db).finally(() => {
      this.reopening = undefined;
    });
    for (const { failed } of group)
      failed(new HeadwaterError('LOG_UNAVAILABLE', text, { cause: error }));
  }

  private async reopen(failed: KvDatabase | undefined): Promise<void> {
    await failed?.close().catch(() => undefined); // It has failed; the reopen decides.
    while (!this.closed) {
      await new Promise((resolve) => setTimeout(resolve, this.options.reopenMs ?? REOPEN_MS));
      try {
        await this.open();
        this.notify({
          level: 'info',
          event: 'log_open',
          text: 'the embedded log can be written again',
        });
        return;
      } catch (error) {
        this.notify({ level: 'warn', event: 'log_reopen', text: messageOf(error) });
      }
    }
  }

  /** Resolves when the database is open. Throws LOG_UNAVAILABLE when it stays closed. */
  async ready(): Promise<KvDatabase> {
    await this.reopening;
    if (this.db === undefined || this.closed)
      throw new HeadwaterError('LOG_UNAVAILABLE', 'the embedded log is closed');
    return this.db;
  }

  /** What a reopening cuts off is asked once more when that is done. */
  private async acrossReopening<T>(work: (db: KvDatabase) => Promise<T>): Promise<T> {
    for (;;) {
      const db = await this.ready();
      try {
        return await work(db);
      } catch (error) {
        if (db === this.db) throw error;
      }
    }
  }

  async first(topic: string, _partition: number): Promise<number> {
    const prefix = topicPrefix(topic);
    const look = async (): Promise<number | undefined> => {
      const [oldest] = await this.acrossReopening((db) =>
        db.read({ gte: prefix, lt: after(prefix), limit: 1 }, 1),
      );
      return oldest === undefined ? undefined : Number(oldest[0].readBigUInt64BE(prefix.length));
    };
    const known = await look();
    if (known !== undefined) return known;
    const end = await this.end(topic);
    // What has its offset by now is on the disk after this.
    await this.submit([], []);
    return (await look()) ?? end;
  }

  committedBy(group: string, topic: string): Promise<Map<number, number>> {
    const next = this.committed(group, topic);
    return Promise.resolve(new Map(next === undefined ? [] : [[0, next]]));
  }

  committed(group: string, topic: string): number | undefined {
    return this.offsets.get(`${group}\0${topic}`)?.next;
  }

  /** A consumer that keeps its progress elsewhere has come so far. */
  noteProgress(group: string, topic: string, next: number): void {
    const progress = { group, topic, next };
    this.noted.set(`${group}\0${topic}`, progress);
    this.offsets.set(`${group}\0${topic}`, progress);
  }

  async commit(group: string, topic: string, step: Step): Promise<void> {
    const next = step.offsets.get(0);
    const ops: KvOp[] = [];
    if (next !== undefined) {
      const value = Buffer.alloc(8);
      value.writeBigUInt64BE(BigInt(next));
      ops.push({ type: 'put', key: offsetKey(group, topic), value: seal(value) });
    }
    await this.submit(step.produce, ops);
    if (next !== undefined) this.offsets.set(`${group}\0${topic}`, { group, topic, next });
    await this.trim(topic);
  }

  /** Cuts the front of a topic that has a limit, never beyond what every group has read. */
  private async trim(name: string): Promise<void> {
    const keep = this.options.topics.find((each) => each.name === name)?.trimBytes;
    const topic = this.topics.get(name);
    if (keep === undefined || topic === undefined || this.db === undefined) return;
    const read = [...this.offsets.values()]
      .filter((each) => each.topic === name)
      .map(({ next }) => next);
    // Who has committed nothing yet, and is there, reads from the beginning.
    for (const member of this.members.keys())
      if (member.endsWith(`\0${name}`) && !this.offsets.has(member)) return;
    const average = topic.cachedBytes / Math.max(1, topic.cache.length);
    const keepRecords = Math.ceil(keep / Math.max(1, average));
    const to = Math.min(topic.end - keepRecords, ...read);
    const from = this.trimmedTo.get(name) ?? 0;
    if (to - from < 256) return;
    const old = await this.db.read(
      { gte: recordKey(name, from), lt: recordKey(name, to) },
      TRIM_BYTES_MAX,
    );
    const ops: KvOp[] = old.map(([key]) => ({ type: 'del', key }));
    if (ops.length > 0) await this.submit([], ops);
    // One read may not reach `to`: the next one goes on where this one ended.
    const last = old.at(-1)?.[0];
    this.trimmedTo.set(
      name,
      last === undefined ? to : Number(last.readBigUInt64BE(last.length - 8)) + 1,
    );
  }

  async read(name: string, from: number, bytesMax: number): Promise<StoredRecord[]> {
    const topic = await this.topic(name);
    const first = topic.cache[0];
    if (first !== undefined && first.offset <= from) {
      const records: StoredRecord[] = [];
      let bytes = 0;
      for (let index = from - first.offset; index < topic.cache.length; index++) {
        const record = topic.cache[index] as StoredRecord;
        bytes += record.value.length;
        if (records.length > 0 && bytes > bytesMax) break;
        records.push(record);
      }
      return records;
    }
    if (this.db === undefined)
      throw new HeadwaterError('LOG_UNAVAILABLE', 'the embedded log is being reopened');
    const prefix = topicPrefix(name);
    const entries = await this.db.read({ gte: recordKey(name, from), lt: after(prefix) }, bytesMax);
    const records: StoredRecord[] = [];
    let bytes = 0;
    for (const [key, value] of entries) {
      const record = decode(value);
      bytes += record.value.length;
      if (records.length > 0 && bytes > bytesMax) break;
      records.push({ ...record, partition: 0, offset: Number(key.readBigUInt64BE(prefix.length)) });
    }
    this.noteGaps(name, from, records);
    return records;
  }

  /** Offsets are given without gaps: one means that records are gone. The front may have been trimmed. */
  private noteGaps(name: string, from: number, records: StoredRecord[]): void {
    let next = from === 0 ? (records[0]?.offset ?? 0) : from;
    for (const { offset, headers } of records) {
      const gone = offset > next ? `records ${next} to ${offset - 1}` : undefined;
      const text = gone ?? (headers[DAMAGED] === undefined ? undefined : `record ${offset}`);
      if (text !== undefined && !this.said.has(`${name} ${text}`)) {
        this.said.add(`${name} ${text}`);
        this.notify({
          level: 'error',
          event: 'log_damaged',
          text: `the embedded log's topic ${name} has lost ${text}`,
        });
      }
      next = offset + 1;
    }
  }

  /** Resolves when something was appended, or after `waitMs`. */
  async wait(name: string, waitMs: number): Promise<void> {
    const topic = await this.topic(name);
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        topic.waiters.delete(done);
        resolve();
      };
      const timer = setTimeout(done, waitMs);
      topic.waiters.add(done);
    });
  }

  async end(name: string): Promise<number> {
    return (await this.topic(name)).end;
  }

  async consumer(options: ConsumerOptions): Promise<LogConsumer> {
    const consumer = new EmbeddedConsumer(this, options);
    if (options.from === 'start' && options.watches !== true) {
      const name = `${options.group}\0${options.topic}`;
      this.members.set(name, [...(this.members.get(name) ?? []), consumer]);
    }
    try {
      await consumer.start();
    } catch (error) {
      this.leave(consumer, options);
      throw error;
    }
    return consumer;
  }

  /** Whether it is the first of its group and topic. */
  holds(consumer: LogConsumer, { group, topic }: ConsumerOptions): boolean {
    return this.members.get(`${group}\0${topic}`)?.[0] === consumer;
  }

  leave(consumer: LogConsumer, { group, topic }: ConsumerOptions): void {
    const name = `${group}\0${topic}`;
    const rest = (this.members.get(name) ?? []).filter((each) => each !== consumer);
    if (rest.length === 0) this.members.delete(name);
    else this.members.set(name, rest);
  }

  async state(topic: string, _partition: number, keyPrefix: string): Promise<LogRecord[]> {
    return await this.acrossReopening((db) => readState(db, topic, keyPrefix));
  }

  async watch(topic: string, onRecords: (records: LogRecord[]) => void): Promise<Watch> {
    const watcher = { topic, onRecords };
    this.watchers.add(watcher);
    try {
      onRecords(await this.state(topic, 0, ''));
    } catch (error) {
      this.watchers.delete(watcher);
      throw error;
    }
    return {
      close: () => {
        this.watchers.delete(watcher);
        return Promise.resolve();
      },
    };
  }

  groups(): GroupStats[] {
    return [...this.offsets.values()].map(({ group, topic, next }) => ({
      group,
      topic,
      lagRecords: Math.max(0, (this.topics.get(topic)?.end ?? next) - next),
    }));
  }

  async forget(group: string): Promise<void> {
    const names = [...this.offsets].filter(([, each]) => each.group === group);
    await this.submit(
      [],
      names.map(([, { topic }]) => ({ type: 'del', key: offsetKey(group, topic) })),
    );
    for (const [name] of names) {
      this.offsets.delete(name);
      this.noted.delete(name);
    }
  }

  health(): Health {
    return this.present;
  }

  warnings(): string[] {
    return [...this.said].map((text) => `lost from the embedded log: ${text}`);
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.present = { up: false, sinceMs: this.options.now(), reason: 'it is closed' };
    while (this.writing || this.queue.length > 0)
      await new Promise((resolve) => setTimeout(resolve, 5));
    this.closed = true;
    for (const topic of this.topics.values()) for (const wake of topic.waiters) wake();
    await this.reopening;
    await this.db?.close();
    this.db = undefined;
  }
}
