/**
 * The log on LevelDB, for one process. One partition; a step is one synced batch, and what waits at the same time
 * shares an fsync (group commit), as in the gateway's buffer.
 *
 * Keys: 't' topic 0x00 offset (8 bytes) → record; 'c' topic 0x00 key → record of a compacted topic;
 * 'o' group 0x00 topic → next offset (8 bytes).
 * A record: CRC-32C of the rest (4), key length (2), headers length (2), key, headers as JSON, value. One that does not
 * match is handed on as it is, marked as damaged, for whoever reads it to set aside: it must not vanish unseen.
 *
 * A write error fails every waiting write, closes and reopens (F1); callers try again, and identities make that harmless.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { LevelDatabase } from '../../shared/kv/classic-level.ts';
import { after, type KvDatabase, type KvOp } from '../../shared/kv/kv.ts';
import { seal, unseal } from '../../shared/kv/sealed.ts';
import { openRecovering, type Recovery } from '../../shared/kv/recover.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import {
  COMPACTED,
  type ConsumerOptions,
  type GroupStats,
  type Log,
  type LogConsumer,
  type LogRecord,
  type Produced,
  type Step,
  type StoredRecord,
  type Watch,
} from './log.ts';

export interface EmbeddedLogOptions {
  folder: string;
  /** Recent records of a topic kept in memory for its readers, bytes. */
  cacheBytes: number;
  /** Topics that may be cut at the front once every group has read them, and how many bytes they keep. */
  trim: Record<string, number>;
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

function topicPrefix(topic: string): Buffer {
  return Buffer.concat([Buffer.from(`t${topic}`), Buffer.from([0])]);
}

function recordKey(topic: string, offset: number): Buffer {
  const number = Buffer.alloc(8);
  number.writeBigUInt64BE(BigInt(offset));
  return Buffer.concat([topicPrefix(topic), number]);
}

function stateKey(topic: string, key: string): Buffer {
  return Buffer.concat([Buffer.from(`c${topic}`), Buffer.from([0]), Buffer.from(key)]);
}

function offsetKey(group: string, topic: string): Buffer {
  return Buffer.concat([Buffer.from(`o${group}`), Buffer.from([0]), Buffer.from(topic)]);
}

function encode({ key, value, headers }: LogRecord): Buffer {
  const keyBytes = Buffer.from(key);
  const headerBytes = Buffer.from(JSON.stringify(headers));
  const head = Buffer.alloc(4);
  head.writeUInt16LE(keyBytes.length, 0);
  head.writeUInt16LE(headerBytes.length, 2);
  return seal(Buffer.concat([head, keyBytes, headerBytes, value]));
}

/** Header of a record whose checksum does not match; its value is what was found. */
const DAMAGED = 'damaged';

function decode(sealed: Buffer): LogRecord {
  const bytes = unseal(sealed);
  if (bytes === undefined) return { key: '', headers: { [DAMAGED]: 'true' }, value: sealed };
  const keyEnd = 4 + bytes.readUInt16LE(0);
  const headersEnd = keyEnd + bytes.readUInt16LE(2);
  return {
    key: bytes.toString('utf8', 4, keyEnd),
    headers: JSON.parse(bytes.toString('utf8', keyEnd, headersEnd)) as Record<string, string>,
    value: bytes.subarray(headersEnd),
  };
}

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
  private readonly trimmedTo = new Map<string, number>();
  private readonly watchers = new Set<{
    topic: string;
    onRecords: (records: LogRecord[]) => void;
  }>();

  constructor(options: EmbeddedLogOptions, notify: Notify) {
    this.options = options;
    this.notify = notify;
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
    await mkdir(folder, { recursive: true });
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
    const unknown = produce.filter(({ topic }) => !COMPACTED.has(topic) && !this.topics.has(topic));
    if (unknown.length > 0) await Promise.all(unknown.map(({ topic }) => this.topic(topic)));
    // No turn of the event loop between this and the queue: offsets are given by what is open now.
    while (this.reopening !== undefined || this.db === undefined) await this.ready();
    const ops: KvOp[] = [];
    const fresh: [Topic, StoredRecord][] = [];
    for (const record of produce) {
      const value = encode(record);
      if (COMPACTED.has(record.topic)) {
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
    const keep = this.options.trim[name];
    const topic = this.topics.get(name);
    if (keep === undefined || topic === undefined || this.db === undefined) return;
    const read = [...this.offsets.values()]
      .filter((each) => each.topic === name)
      .map(({ next }) => next);
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
    const records = entries.map(([key, value]) => ({
      ...decode(value),
      partition: 0,
      offset: Number(key.readBigUInt64BE(prefix.length)),
    }));
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
    await consumer.start();
    return consumer;
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

  warnings(): string[] {
    return [...this.said].map((text) => `lost from the embedded log: ${text}`);
  }

  async close(): Promise<void> {
    if (this.closed) return;
    while (this.writing || this.queue.length > 0)
      await new Promise((resolve) => setTimeout(resolve, 5));
    this.closed = true;
    for (const topic of this.topics.values()) for (const wake of topic.waiters) wake();
    await this.reopening;
    await this.db?.close();
    this.db = undefined;
  }
}

async function readState(db: KvDatabase, topic: string, keyPrefix: string): Promise<LogRecord[]> {
  const prefix = stateKey(topic, keyPrefix);
  const entries = await db.read({ gte: prefix, lt: after(prefix) }, Number.POSITIVE_INFINITY);
  return entries
    .map(([, value]) => decode(value))
    .filter(({ headers }) => headers[DAMAGED] === undefined);
}

class EmbeddedConsumer implements LogConsumer {
  private readonly log: EmbeddedLog;
  private readonly options: ConsumerOptions;
  private next = 0;
  /** A commit failed: where to go on, and the state that belongs to it, must be read again. */
  private stale = false;
  private atEnd = false;
  private closed = false;

  constructor(log: EmbeddedLog, options: ConsumerOptions) {
    this.log = log;
    this.options = options;
  }

  async start(): Promise<void> {
    const { topic, from } = this.options;
    const end = await this.log.end(topic);
    if (from === 'end') this.next = end;
    else await this.rewind();
  }

  private async rewind(): Promise<void> {
    const { group, topic, onAssign } = this.options;
    await this.log.ready();
    const committed = this.log.committed(group, topic);
    const own = await onAssign?.(0, committed);
    // Progress beyond the end belongs to a log that is no longer there: what this one has was not read.
    const valid = own !== undefined && own <= (await this.log.end(topic));
    this.next = valid ? own : (committed ?? 0);
    if (valid) this.log.noteProgress(group, topic, own);
  }

  async poll(waitMs: number): Promise<StoredRecord[]> {
    const { topic, bytesMax } = this.options;
    if (this.stale) {
      await this.rewind();
      this.stale = false;
    }
    let records = await this.log.read(topic, this.next, bytesMax);
    if (records.length === 0 && !this.closed) {
      await this.log.wait(topic, waitMs);
      if (!this.closed) records = await this.log.read(topic, this.next, bytesMax);
    }
    const last = records.at(-1);
    if (last !== undefined) this.next = last.offset + 1;
    this.atEnd = this.next >= (await this.log.end(topic));
    return records;
  }

  async commit(step: Step): Promise<void> {
    try {
      await this.log.commit(this.options.group, this.options.topic, step);
    } catch (error) {
      // Whether it is on disk after all is known when the log is open again: the next poll begins with that.
      this.stale = true;
      throw error;
    }
  }

  ended(): ReadonlySet<number> {
    return new Set(this.atEnd ? [0] : []);
  }

  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }
}
