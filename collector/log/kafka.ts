/**
 * The log on Apache Kafka by node-rdkafka (`kafka-client.ts` loads it, `npm run install:kafka` installs it).
 *
 * - Appending: idempotent producer, acks=all (KIP-98). Kafka's ack is not an fsync: topics are created with
 *   `flush.messages=1` where there is one broker, else with three replicas and `min.insync.replicas=2`; a topic that
 *   was made otherwise is named in `warnings()`.
 * - A step: a transaction that produces and commits the group's offsets (KIP-98, KIP-447 fences a consumer that lost
 *   its partitions). Consumers read committed records only.
 * - Raw has no retention by age or size, until the lake takes over.
 */

import { randomBytes } from 'node:crypto';
import { partitionOf } from '../../contracts/partition.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { KafkaAccess } from './kafka-access.ts';
import { deleteGroup, reasonOf } from './kafka-admin.ts';
import {
  MESSAGE_BYTES_MAX,
  TIMEOUT_MS,
  call,
  committedOf,
  connect,
  headersOut,
  loadClient,
  unavailable,
  type Client,
} from './kafka-client.ts';
import { Follower } from './follow.ts';
import { KafkaConsumer } from './kafka-consumer.ts';
import { readToEnd, type Reading } from './kafka-read.ts';
import { META, ensureTopics, mendCommand, type TopicsAccess } from './kafka-topics.ts';
import type {
  ConsumerOptions,
  GroupStats,
  Health,
  Log,
  LogConsumer,
  LogRecord,
  LogSupports,
  TopicSpec,
  Watch,
} from './log.ts';
import type * as RdKafka from './rdkafka-types.ts';

export interface KafkaOptions {
  /** HOST:PORT, several with commas. */
  brokers: string;
  topicPrefix: string;
  /** Of topics that are made, when none is there that says otherwise. */
  partitions: number;
  topics: readonly TopicSpec[];
  /** TLS, SASL, and settings that are passed through. */
  access?: KafkaAccess;
  now: () => number;
}

export const KAFKA_SUPPORTS: LogSupports = {
  atomicStep: true,
  partitions: true,
  processes: true,
  recordBytesMax: MESSAGE_BYTES_MAX,
};

const TELL_EVERY_MS = 60_000;
/** What Kafka adds to a record and its batch, bytes. */
const RECORD_OVERHEAD_BYTES = 128;
const LOOK_EVERY_MS = 3000;
const LOOK_MS_MAX = 2000;
const ALL_BROKERS_DOWN = -187;
/** librdkafka's producer has lost its place for good, and another one takes over. */
const FATAL = -150;

export class KafkaLog implements Log {
  readonly kind = 'kafka';
  readonly kafka: Client;
  readonly options: KafkaOptions;
  readonly notify: Notify;
  private partitionCount: number;
  private readonly compacted: ReadonlySet<string>;
  private producer: RdKafka.Producer | undefined;
  private said: string[] = [];
  /** Largest record that a topic takes, where Kafka has said so. */
  private bytesMax: ReadonlyMap<string, number> = new Map();
  private readonly consumers = new Set<KafkaConsumer>();
  /** Watches, caught up or not. */
  private readonly followers = new Set<Follower>();
  /** Resolves when the log is closed, for whoever waits for something of it. */
  private readonly ended: Promise<void>;
  private end: () => void = () => undefined;
  private readonly toldTooLarge = new Map<string, number>();
  private readonly waiting = new Map<number, (error: unknown) => void>();
  private nextToken = 1;
  private present: Health;
  private looking: NodeJS.Timeout | undefined;
  private isLooking: Promise<void> | undefined;
  /** What librdkafka said last of its connections. */
  private trouble = '';
  private isClosed = false;
  private token = '';

  private constructor(kafka: Client, options: KafkaOptions, notify: Notify) {
    this.kafka = kafka;
    this.options = options;
    this.notify = notify;
    this.partitionCount = options.partitions;
    this.compacted = new Set(
      options.topics.filter(({ compacted }) => compacted).map(({ name }) => name),
    );
    this.present = { up: false, sinceMs: options.now(), reason: 'not open yet' };
    this.ended = new Promise((resolve) => {
      this.end = resolve;
    });
  }

  /** Throws ADAPTER_MISSING. */
  static create(options: KafkaOptions, notify: Notify): Promise<KafkaLog> {
    return Promise.resolve(new KafkaLog(loadClient(), options, notify));
  }

  get partitions(): number {
    return this.partitionCount;
  }

  isCompacted(topic: string): boolean {
    return this.compacted.has(topic);
  }

  name(topic: string): string {
    return `${this.options.topicPrefix}${topic}`;
  }

  get common(): Record<string, unknown> {
    return {
      'socket.keepalive.enable': true,
      'reconnect.backoff.max.ms': 2000,
      'topic.metadata.refresh.interval.ms': 30_000,
      ...this.options.access?.client,
      'metadata.broker.list': this.options.brokers,
      'client.id': 'headwater',
    };
  }

  async open(): Promise<void> {
    this.producer = await this.connectProducer();
    await this.prepare(undefined);
    this.mark('');
    this.looking = setInterval(() => {
      this.isLooking ??= this.look().finally(() => {
        this.isLooking = undefined;
      });
    }, LOOK_EVERY_MS);
    this.looking.unref();
  }

  private async connectProducer(): Promise<RdKafka.Producer> {
    const producer = this.producerOf({
      ...this.common,
      'enable.idempotence': true,
      acks: -1,
      'linger.ms': 0,
      'message.max.bytes': MESSAGE_BYTES_MAX,
      'queue.buffering.max.kbytes': 128 * 1024,
      // Not acknowledged for so long: the caller decides, and the gateway still has it.
      'delivery.timeout.ms': 30_000,
      dr_cb: true,
    });
    producer.setPollInterval(5);
    producer.on('event.error', (error) => this.note(producer, error));
    producer.on('delivery-report', (error, report) => {
      const token = report.opaque as number;
      const done = this.waiting.get(token);
      this.waiting.delete(token);
      done?.(error);
    });
    await this.connect(producer);
    return producer;
  }

  /** The first client that is made: librdkafka looks at its settings then. Throws CONFIG_INVALID. */
  private producerOf(settings: Record<string, unknown>): RdKafka.Producer {
    try {
      return new this.kafka.Producer(settings, {});
    } catch (error) {
      throw new HeadwaterError('CONFIG_INVALID', `kafka.client: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  /** Throws LOG_UNAVAILABLE. */
  async connect(client: RdKafka.Connection): Promise<void> {
    const { access, brokers } = this.options;
    if (access?.token !== undefined) client.setOauthBearerToken(access.token());
    await connect(client, brokers, () => reasonOf(brokers, access?.admin ?? {}));
  }

  /** A token that was renewed, for every connection. */
  private renewToken(): void {
    const token = this.options.access?.token?.();
    if (token === undefined || token === this.token) return;
    this.token = token;
    this.producer?.setOauthBearerToken(token);
    for (const consumer of this.consumers) consumer.renewToken(token);
  }

  private get reading(): Reading {
    const { kafka, common } = this;
    return { kafka, common, connect: (client) => this.connect(client) };
  }

  private get access(): TopicsAccess {
    const { kafka, common: settings, options } = this;
    const { brokers, topics, access } = options;
    const { admin = {}, token } = access ?? {};
    const name = (topic: string): string => this.name(topic);
    return { kafka, settings, brokers, admin, token, topics, name };
  }

  /** Topics as they must be; `known`: how many partitions keys are spread over, where that is decided. */
  private async prepare(known: number | undefined): Promise<void> {
    const { producer, options } = this;
    if (producer === undefined) return;
    const decided = known ?? (await this.readDecided(producer));
    let found = await ensureTopics(this.access, producer, {
      known: decided,
      wanted: options.partitions,
    });
    let count = decided ?? Math.min(...found.partitions.values());
    if ((await this.readDecided(producer)) === undefined) {
      // The first record counts: of two collectors that begin at once, one decides.
      await this.send(producer, META, record('partitions', String(count)), 0);
      const first = await this.readDecided(producer);
      if (first !== undefined && first !== count) {
        count = first;
        found = await ensureTopics(this.access, producer, { known: count, wanted: count });
      }
    }
    this.partitionCount = count;
    const more = [...found.partitions].filter(([, partitions]) => partitions > count);
    this.said = found.warnings;
    this.bytesMax = found.bytesMax;
    if (more.length > 0)
      this.said.push(
        `${more.map(([topic, partitions]) => `topic ${this.name(topic)} has ${partitions} partitions`).join(', ')}, and ${count} are used: keys stay where their state is, so partitions that were added get nothing; to spread over more, begin with another kafka.topicPrefix and rebuild from the lake`,
      );
    else if (options.partitions !== count)
      this.said.push(
        `kafka.partitions is ${options.partitions}, and the topics were made with ${count}: it counts for a new log only, keys stay where their state is`,
      );
  }

  private async readDecided(producer: RdKafka.Producer): Promise<number | undefined> {
    const { topics } = await call<RdKafka.Metadata>('reading metadata', (done) =>
      producer.getMetadata({ timeout: TIMEOUT_MS }, done),
    );
    if (!topics.some(({ name }) => name === this.name(META))) return undefined;
    let first: number | undefined;
    await readToEnd(this.reading, this.name(META), 0, ({ key, value }) => {
      const count = Number(value.toString());
      if (key === 'partitions' && Number.isSafeInteger(count) && count > 0) first ??= count;
    });
    return first;
  }

  /** librdkafka speaks of its connections. */
  private note(producer: RdKafka.Producer, error: RdKafka.KafkaError): void {
    if (error.code === ALL_BROKERS_DOWN) this.mark(this.trouble || error.message);
    else this.trouble = error.message;
    if (error.code === FATAL && producer === this.producer)
      void this.replaceProducer(error.message);
  }

  private async replaceProducer(why: string): Promise<void> {
    const before = this.producer;
    this.producer = undefined;
    this.notify({ level: 'warn', event: 'log_producer', text: `Kafka: ${why}: connecting anew` });
    before?.disconnect();
    while (!this.isClosed && this.producer === undefined) {
      try {
        const producer = await this.connectProducer();
        if (this.isClosed) producer.disconnect();
        else this.producer = producer;
      } catch (error) {
        this.mark(messageOf(error));
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
  }

  /** '' while it is up. Told when it changes. */
  private mark(reason: string): void {
    const up = reason === '';
    if (this.present.reason === reason && this.present.up === up) return;
    const wasOpen = this.present.reason !== 'not open yet';
    const sinceMs = this.present.up === up ? this.present.sinceMs : this.options.now();
    const change = this.present.up !== up;
    this.present = { up, sinceMs, reason };
    if (!wasOpen && up) return;
    if (up) this.notify({ level: 'info', event: 'log_up', text: 'Kafka answers again' });
    else if (change)
      this.notify({ level: 'warn', event: 'log_down', text: `Kafka does not answer: ${reason}` });
  }

  /** Whether Kafka answers, and has the topics: made again if somebody has deleted them. */
  private async look(): Promise<void> {
    const { producer } = this;
    if (producer === undefined) return;
    try {
      this.renewToken();
      const metadata = await call<RdKafka.Metadata>('reading metadata', (done) =>
        producer.getMetadata({ timeout: LOOK_MS_MAX }, done),
      );
      const names = new Set(metadata.topics.map(({ name }) => name));
      const missing = [META, ...this.options.topics.map(({ name }) => name)]
        .map((topic) => this.name(topic))
        .filter((name) => !names.has(name));
      if (missing.length > 0 && metadata.brokers.length > 0) {
        this.notify({
          level: 'warn',
          event: 'log_topics',
          text: `Kafka has lost the topics ${missing.join(', ')}: they are made again`,
        });
        await this.prepare(this.partitionCount);
      }
      this.mark('');
    } catch (error) {
      this.mark(this.trouble || messageOf(error));
    }
  }

  async append(topic: string, records: LogRecord[]): Promise<void> {
    const { producer } = this;
    if (producer === undefined)
      throw new HeadwaterError('LOG_UNAVAILABLE', 'Kafka is not connected');
    await Promise.all(records.map((record) => this.send(producer, topic, record)));
  }

  /** Before it is sent: a record that is refused in a transaction takes the transaction with it. Throws LOG_TOO_LARGE. */
  checkSize(topic: string, { key, value, headers }: LogRecord): void {
    const limit = this.bytesMax.get(topic) ?? MESSAGE_BYTES_MAX;
    if (value.length < limit / 2) return;
    const bytes =
      Buffer.byteLength(key) + value.length + Buffer.byteLength(JSON.stringify(headers));
    if (bytes + RECORD_OVERHEAD_BYTES <= limit) return;
    const name = this.name(topic);
    const text = `a record of ${bytes} bytes is larger than topic ${name} takes: its max.message.bytes is ${limit}`;
    const now = this.options.now();
    if (limit < MESSAGE_BYTES_MAX && now - (this.toldTooLarge.get(topic) ?? 0) >= TELL_EVERY_MS) {
      this.toldTooLarge.set(topic, now);
      const mend = mendCommand(this.options.brokers, name, 'max.message.bytes', MESSAGE_BYTES_MAX);
      this.notify({ level: 'warn', event: 'log_too_large', text: `${text}; mend it: ${mend}` });
    }
    throw new HeadwaterError('LOG_TOO_LARGE', text);
  }

  private send(
    producer: RdKafka.Producer,
    topic: string,
    { key, value, headers }: LogRecord,
    partition = this.partitionOf(key),
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      this.checkSize(topic, { key, value, headers });
      const token = this.nextToken++;
      this.waiting.set(token, (error) => {
        if (error === null || error === undefined) resolve();
        else reject(unavailable(`writing to ${this.name(topic)}`, error));
      });
      try {
        producer.produce(
          this.name(topic),
          partition,
          // Kafka removes the key of a compacted topic where it has no value at all.
          this.compacted.has(topic) && value.length === 0 ? null : value,
          key,
          null,
          token,
          headersOut(headers),
        );
      } catch (error) {
        this.waiting.delete(token);
        reject(unavailable(`writing to ${this.name(topic)}`, error));
      }
    });
  }

  partitionOf(key: string): number {
    return partitionOf(key, this.partitionCount);
  }

  async consumer(options: ConsumerOptions): Promise<LogConsumer> {
    const consumer = new KafkaConsumer(this, options, () => this.consumers.delete(consumer));
    await consumer.start();
    this.consumers.add(consumer);
    return consumer;
  }

  /** Reads a compacted partition to its end and keeps the last value of each key. */
  async state(topic: string, partition: number, keyPrefix: string): Promise<LogRecord[]> {
    const last = new Map<string, LogRecord>();
    await readToEnd(this.reading, this.name(topic), partition, (record) => {
      if (!record.key.startsWith(keyPrefix)) return;
      if (record.value.length === 0) last.delete(record.key);
      else last.set(record.key, record);
    });
    return [...last.values()];
  }

  async first(topic: string, partition: number): Promise<number> {
    const { producer } = this;
    if (producer === undefined)
      throw new HeadwaterError('LOG_UNAVAILABLE', 'Kafka is not connected');
    const { lowOffset } = await call<RdKafka.Watermarks>('reading where a topic begins', (done) =>
      producer.queryWatermarkOffsets(this.name(topic), partition, TIMEOUT_MS, done),
    );
    return lowOffset;
  }

  async committedBy(group: string, topic: string): Promise<Map<number, number>> {
    const consumer = new this.kafka.KafkaConsumer({ ...this.common, 'group.id': group }, {});
    consumer.on('event.error', () => undefined); // What it is asked says so itself.
    await this.connect(consumer);
    try {
      const all = Array.from({ length: this.partitionCount }, (_, partition) => ({
        topic: this.name(topic),
        partition,
      }));
      return await committedOf(consumer, all);
    } finally {
      await new Promise<void>((resolve) => consumer.disconnect(() => resolve()));
    }
  }

  async watch(topic: string, onRecords: (records: LogRecord[]) => void): Promise<Watch> {
    const follower = new Follower({
      log: this,
      notify: this.notify,
      event: 'log_watch',
      topic,
      from: 'start',
      group: `headwater-watch-${randomBytes(6).toString('hex')}`,
      onRecords,
    });
    this.followers.add(follower);
    await Promise.race([follower.caughtUp, this.ended]);
    if (this.isClosed)
      throw new HeadwaterError('LOG_UNAVAILABLE', `the log was closed before ${topic} was read`);
    return {
      close: async () => {
        this.followers.delete(follower);
        await follower.close();
      },
    };
  }

  async forget(group: string): Promise<void> {
    const { brokers, access } = this.options;
    await deleteGroup(brokers, access?.admin ?? {}, this.group(group));
  }

  /** Groups have the prefix of their topics: two installations on one Kafka share none. */
  group(group: string): string {
    return `${this.options.topicPrefix}${group}`;
  }

  health(): Health {
    return this.present;
  }

  groups(): GroupStats[] {
    return [...this.consumers].flatMap((consumer) => consumer.lag() ?? []);
  }

  warnings(): string[] {
    return [...this.said];
  }

  async close(): Promise<void> {
    this.isClosed = true;
    clearInterval(this.looking);
    this.end();
    for (const follower of this.followers) await follower.close();
    await this.isLooking;
    this.present = { up: false, sinceMs: this.options.now(), reason: 'it is closed' };
    for (const consumer of [...this.consumers]) await consumer.close();
    const { producer } = this;
    this.producer = undefined;
    if (producer === undefined) return;
    await new Promise<void>((resolve) => producer.flush(5000, () => resolve()));
    await new Promise<void>((resolve) => producer.disconnect(() => resolve()));
  }
}

const record = (key: string, value: string): LogRecord => ({
  key,
  value: Buffer.from(value),
  headers: {},
});
