/**
 * The log on Redis Streams: a stream for each topic's partition, a hash for each partition of state, and scripts for what
 * has to happen as one. An acknowledged record is on disk where Redis runs with `appendfsync always`; where it does not,
 * `warnings()` says so.
 */
import {
  AdapterError,
  partitionOf,
  type ConsumerOptions,
  type GroupStats,
  type Health,
  type Log,
  type LogConsumer,
  type LogContext,
  type LogRecord,
  type Produced,
  type Step,
  type Watch,
} from '@headwater/contracts';
import { Connection, texts } from './connection.ts';
import { RedisConsumer } from './consumer.ts';
import { WRITE } from './scripts.ts';
import { watchState } from './watch.ts';

const KEPT_AT_LEAST = 256;

export interface RedisOptions {
  user: string;
  password: string;
  leaseMs: number;
}

export class RedisLog implements Log {
  readonly kind = 'redis';
  readonly connection: Connection;
  readonly leaseMs: number;
  readonly context: Pick<
    LogContext,
    'address' | 'namespace' | 'topics' | 'partitions' | 'retired' | 'nowMs'
  >;
  partitions: number;
  private readonly compacted: ReadonlySet<string>;
  private readonly consumers = new Set<RedisConsumer>();
  private said: string[] = [];

  constructor(context: RedisLog['context'] & { options: RedisOptions }) {
    const { address, nowMs, options, partitions, topics } = context;
    this.context = context;
    this.leaseMs = options.leaseMs;
    this.connection = new Connection({ address, nowMs, ...options });
    this.partitions = partitions;
    this.compacted = new Set(topics.filter(({ compacted }) => compacted).map(({ name }) => name));
  }

  key(...parts: (string | number)[]): string {
    return [this.context.namespace, ...parts].join(':');
  }

  async open(): Promise<void> {
    const { connection, context } = this;
    await connection.open();
    // The first one decides: keys, and state beside them, stay where they are.
    await connection.call('SET', this.key('partitions'), context.partitions, 'NX');
    this.partitions = Number(await connection.call('GET', this.key('partitions')));
    const settings = new Map<string, string>();
    for (const name of ['appendonly', 'appendfsync', 'maxmemory-policy'])
      settings.set(name, texts(await connection.call('CONFIG', 'GET', name))[1] ?? '');
    this.said = [];
    if (settings.get('appendonly') !== 'yes' || settings.get('appendfsync') !== 'always')
      this.said.push(
        'Redis does not write to disk before it answers: a power cut can lose what was acknowledged; set appendonly yes and appendfsync always',
      );
    if (settings.get('maxmemory-policy') !== 'noeviction')
      this.said.push('Redis may evict what the log holds: set maxmemory-policy noeviction');
  }

  async append(topic: string, records: LogRecord[]): Promise<void> {
    await this.write(
      records.map((record) => ({ ...record, topic })),
      { token: '', group: '', topic: '', offsets: new Map() },
    );
  }

  async write(
    produce: readonly Produced[],
    from: { token: string; group: string; topic: string; offsets: Step['offsets'] },
  ): Promise<void> {
    const words: (string | number | Buffer)[] = ['EVAL', WRITE, 0, this.context.namespace];
    words.push(from.token, from.group, from.topic, from.offsets.size);
    for (const [partition, next] of from.offsets) words.push(partition, next);
    words.push(produce.length);
    for (const { topic, partition, key, headers, value } of produce) {
      words.push(topic, partition ?? partitionOf(key, this.partitions));
      words.push(this.compacted.has(topic) ? 'c' : 's', key, JSON.stringify(headers), value);
    }
    await this.connection.call(...words);
  }

  async consumer(options: ConsumerOptions): Promise<LogConsumer> {
    const consumer = new RedisConsumer(this, options, () => this.consumers.delete(consumer));
    this.consumers.add(consumer);
    try {
      await consumer.start();
    } catch (error) {
      await consumer.close();
      throw error;
    }
    return consumer;
  }

  async state(topic: string, partition: number, keyPrefix: string): Promise<LogRecord[]> {
    const name = this.key('state', topic, partition);
    const values = (await this.connection.call('HGETALL', name)) as Buffer[];
    const headers = (await this.connection.call('HGETALL', `${name}:headers`)) as Buffer[];
    const headersOf = new Map<string, Record<string, string>>();
    for (let at = 0; at < headers.length; at += 2)
      headersOf.set(
        String(headers[at]),
        JSON.parse(String(headers[at + 1])) as Record<string, string>,
      );
    const records: LogRecord[] = [];
    for (let at = 0; at < values.length; at += 2) {
      const key = String(values[at]);
      if (!key.startsWith(keyPrefix)) continue;
      records.push({ key, value: values[at + 1] as Buffer, headers: headersOf.get(key) ?? {} });
    }
    return records;
  }

  watch(topic: string, onRecords: (records: LogRecord[]) => void): Promise<Watch> {
    return watchState(this, topic, onRecords);
  }

  /** Cuts a stream at the front: what every group has read, but for what the topic keeps. */
  async trim(topic: string, partition: number, bytesPerRecord: number): Promise<void> {
    const keep = this.context.topics.find(({ name }) => name === topic)?.trimBytes;
    if (keep === undefined || !Number.isFinite(keep)) return;
    const stream = this.key('stream', topic, partition);
    let to = Number(await this.connection.call('GET', `${stream}:end`));
    to -= Math.max(KEPT_AT_LEAST, Math.ceil(keep / Math.max(1, bytesPerRecord)));
    for (const group of texts(await this.connection.call('SMEMBERS', this.key('groups', topic)))) {
      if (this.context.retired.includes(group)) continue;
      const next: unknown = await this.connection.call(
        'HGET',
        this.key('offsets', group),
        `${topic}/${partition}`,
      );
      to = Math.min(to, next === null ? 0 : Number(next));
    }
    if (to > 0) await this.connection.call('XTRIM', stream, 'MINID', `${to}-0`);
  }

  groups(): GroupStats[] {
    return [...this.consumers].flatMap((consumer) => consumer.stats() ?? []);
  }

  async forget(group: string): Promise<void> {
    const topics = this.context.topics.map(({ name }) => name);
    await this.connection.call('DEL', this.key('offsets', group));
    for (const topic of topics)
      await this.connection.call('SREM', this.key('groups', topic), group);
  }

  health(): Health {
    return this.connection.health;
  }

  warnings(): string[] {
    return this.said;
  }

  async close(): Promise<void> {
    for (const consumer of [...this.consumers]) await consumer.close();
    this.connection.close();
  }

  unavailable(text: string): AdapterError {
    return new AdapterError('LOG_UNAVAILABLE', `Redis: ${text}`);
  }
}
