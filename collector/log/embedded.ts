/**
 * The log on LevelDB, for one process. One partition; a step is one synced batch, and what waits at the same time
 * shares an fsync (group commit), as in the gateway's buffer. Its layout on disk is in `embedded-records.ts`.
 *
 * A write error fails every waiting write, closes and reopens (F1); callers try again, and identities make that harmless.
 */
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { after, type KvDatabase, type KvOp } from '../../shared/kv/kv.ts';
import { seal } from '../../shared/kv/sealed.ts';
import { Commits, type Pending } from './embedded-commits.ts';
import { lostNote, openLog, type EmbeddedLogOptions } from './embedded-open.ts';
import { EmbeddedConsumer } from './embedded-consumer.ts';
import {
  decode,
  encode,
  offsetKey,
  readState,
  recordKey,
  stateKey,
  topicPrefix,
} from './embedded-records.ts';
import { Groups } from './embedded-groups.ts';
import { Losses } from './embedded-losses.ts';
import { Watchers } from './embedded-watchers.ts';
import { Topic, firstOf } from './embedded-topic.ts';
import { TopicSize } from './embedded-size.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type {
  ConsumerOptions,
  GroupStats,
  Health,
  Log,
  LogConsumer,
  LogRecord,
  LogSupports,
  LosesIt,
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

const REOPEN_MS = 500;
/** Cut at once, or a portion more: what remains follows with the next commits. */
const TRIM_RECORDS = 4096;

export class EmbeddedLog implements Log {
  readonly kind = 'embedded';
  readonly partitions = 1;
  private readonly options: EmbeddedLogOptions;
  private readonly notify: Notify;
  private db: KvDatabase | undefined;
  private readonly topics = new Map<string, Topic>();
  private readonly loading = new Map<string, Promise<Topic>>();
  private readonly progress: Groups;
  private readonly losses: Losses;
  private readonly commits: Commits;
  private reopening: Promise<void> | undefined;
  private closed = false;
  private readonly compacted: ReadonlySet<string>;
  private present: Health = { up: false, sinceMs: 0, reason: 'not open yet' };
  private readonly watchers = new Watchers();
  readonly hasLost = (of: LosesIt) => this.losses.has(of);
  readonly madeUp = (of: LosesIt) => this.losses.madeUp(of);

  constructor(options: EmbeddedLogOptions, notify: Notify) {
    this.options = options;
    this.notify = notify;
    this.losses = new Losses(notify, lostNote(options));
    this.progress = new Groups(options.retired ?? []);
    this.commits = new Commits(
      async (ops) => (await this.ready()).write(ops, { sync: true }),
      (waiting, error) => this.fail(waiting, error),
    );
    this.compacted = new Set(
      options.topics.filter(({ compacted }) => compacted).map(({ name }) => name),
    );
  }

  async open(): Promise<void> {
    const stamp = new Date(this.options.now()).toISOString().replaceAll(':', '-');
    await this.losses.load();
    const recovery = await openLog(this.options, stamp, () => this.losses.begin());
    const { db } = recovery;
    try {
      // One synced write before anything is served (F4).
      const note: KvOp = { type: 'put', key: Buffer.from('mopen'), value: Buffer.from(stamp) };
      await db.write([note], { sync: true });
      await this.takeUp(db);
    } catch (error) {
      await db.close().catch(() => undefined); // The error that matters is thrown below.
      throw error;
    }
    this.losses.found(recovery);
    this.db = db;
    this.present = { up: true, sinceMs: this.options.now(), reason: '' };
    this.commits.resume();
  }

  /** Offsets, ends of topics and what is watched, as they are on disk. */
  private async takeUp(db: KvDatabase): Promise<void> {
    await this.progress.takeUp(db);
    // Also those that nobody has asked for yet: of them a group's lag would be said to be nothing.
    const names = [...this.topics.keys(), ...this.progress.all().map(({ topic }) => topic)];
    for (const name of new Set(names)) await this.load(name, db);
    await this.watchers.takeUp(db);
  }

  private async load(name: string, db: KvDatabase): Promise<Topic> {
    const prefix = topicPrefix(name);
    const [last] = await db.read({ gte: prefix, lt: after(prefix), reverse: true, limit: 1 }, 1);
    const stored = last === undefined ? 0 : Number(last[0].readBigUInt64BE(prefix.length)) + 1;
    // What was trimmed away still counts: offsets are never given twice.
    const end = Math.max(stored, this.progress.givenBefore(name));
    const bytesMax = this.specOf(name)?.trimBytes;
    const size = bytesMax === undefined ? undefined : await TopicSize.of(db, name, end, bytesMax);
    const topic = new Topic(end, size, this.options.cacheBytes, this.topics.get(name));
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
    if (this.specOf(topic)?.live === true) await this.trim(topic);
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
    const fresh: [topic: Topic, record: StoredRecord, bytes: number][] = [];
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
        value.length,
      ]);
    }
    ops.push(...more);
    await new Promise<void>((resolve, reject) => {
      const done = (): void => {
        for (const [topic, record, bytes] of fresh) {
          topic.size?.add(record.offset, bytes);
          topic.remember(record);
        }
        this.watchers.changed(produce);
        for (const [topic] of fresh) topic.wake();
        resolve();
      };
      this.commits.add({ ops, done, failed: reject });
    });
  }

  private specOf(name: string): TopicSpec | undefined {
    return this.options.topics.find((each) => each.name === name);
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
    const end = await this.next(topic);
    // What has its offset by now is on the disk after this.
    await this.submit([], []);
    return (await look()) ?? end;
  }

  committedBy(group: string, topic: string): Promise<Map<number, number>> {
    const next = this.committed(group, topic);
    return Promise.resolve(new Map(next === undefined ? [] : [[0, next]]));
  }

  committed(group: string, topic: string): number | undefined {
    return this.progress.committed(group, topic);
  }

  noteProgress(group: string, topic: string, next: number): void {
    this.progress.note(group, topic, next);
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
    if (next !== undefined) this.progress.came(group, topic, next);
    const names = step.produce.map((record) => record.topic);
    const live = names.filter((name) => this.specOf(name)?.live === true);
    for (const name of new Set([topic, ...live])) await this.trim(name);
  }

  /** Cuts the front of a topic that has a limit, never beyond what every group has read. */
  private async trim(name: string): Promise<void> {
    if (this.specOf(name)?.trimBytes === undefined) return;
    const { size } = await this.topic(name);
    if (size === undefined) return;
    const read = this.progress.readByAll(name);
    const ops: KvOp[] = [];
    for (let part = size.cut(read); part !== undefined; ) {
      for (let offset = part.from; offset < part.to; offset++)
        ops.push({ type: 'del', key: recordKey(name, offset) });
      part = ops.length < TRIM_RECORDS ? size.cut(read) : undefined;
    }
    if (ops.length > 0) await this.submit([], ops);
  }

  async read(name: string, from: number, bytesMax: number): Promise<StoredRecord[]> {
    const topic = await this.topic(name);
    const cached = topic.read(from, bytesMax);
    if (cached !== undefined) return cached;
    if (this.db === undefined)
      throw new HeadwaterError('LOG_UNAVAILABLE', 'the embedded log is being reopened');
    const prefix = topicPrefix(name);
    const entries = await this.db.read({ gte: recordKey(name, from), lt: after(prefix) }, bytesMax);
    const stored = entries.map(([key, value]) => ({
      ...decode(value),
      partition: 0,
      offset: Number(key.readBigUInt64BE(prefix.length)),
    }));
    const records = firstOf(stored, 0, bytesMax);
    if (this.specOf(name)?.live !== true) this.losses.lookFor(name, from, records);
    return records;
  }

  /** Resolves when something was appended, or after `waitMs`. */
  async wait(name: string, waitMs: number): Promise<void> {
    await (await this.topic(name)).wait(waitMs);
  }

  async next(name: string): Promise<number> {
    return (await this.topic(name)).end;
  }

  async openedAt(name: string): Promise<number> {
    return (await this.topic(name)).opened;
  }

  async consumer(options: ConsumerOptions): Promise<LogConsumer> {
    const consumer = new EmbeddedConsumer(this, options);
    if (options.from === 'start' && options.watches !== true) this.progress.join(consumer, options);
    try {
      await consumer.start();
    } catch (error) {
      this.leave(consumer, options);
      throw error;
    }
    return consumer;
  }

  holds(consumer: LogConsumer, options: ConsumerOptions): boolean {
    return this.progress.holds(consumer, options);
  }

  leave(consumer: LogConsumer, options: ConsumerOptions): void {
    this.progress.leave(consumer, options);
    this.topics.get(options.topic)?.wake(); // Its poll, if it waits.
  }

  async state(topic: string, _partition: number, keyPrefix: string): Promise<LogRecord[]> {
    return await this.acrossReopening((db) => readState(db, topic, keyPrefix));
  }

  async watch(topic: string, onRecords: (records: LogRecord[]) => void): Promise<Watch> {
    return await this.watchers.add(topic, onRecords, () => this.state(topic, 0, ''));
  }

  groups(): GroupStats[] {
    return this.progress.all().map(({ group, topic, next }) => ({
      group,
      topic,
      lagRecords: Math.max(0, (this.topics.get(topic)?.end ?? next) - next),
    }));
  }

  async forget(group: string): Promise<void> {
    const topics = this.progress.topicsOf(group);
    await this.submit(
      [],
      topics.map((topic) => ({ type: 'del', key: offsetKey(group, topic) })),
    );
    this.progress.forget(group, topics);
  }

  readonly health = (): Health => this.present;

  readonly warnings = (): string[] => this.losses.warnings();

  async close(): Promise<void> {
    if (this.closed) return;
    this.present = { up: false, sinceMs: this.options.now(), reason: 'it is closed' };
    await this.commits.quiet();
    this.closed = true;
    for (const topic of this.topics.values()) topic.wake();
    await this.reopening;
    await this.db?.close();
    this.db = undefined;
  }
}
