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

import { partitionOf } from '../../contracts/partition.ts';
import { isRetryable } from '../../contracts/errors.ts';
import { messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { KafkaAccess } from './kafka-access.ts';
import { checkAccess, deleteGroup, reasonOf } from './kafka-admin.ts';
import {
  CLIENT_ID,
  MESSAGE_BYTES_MAX,
  TIMEOUT_MS,
  call,
  committedOnce,
  connect,
  loadClient,
  type Client,
} from './kafka-client.ts';
import { KafkaConsumer } from './kafka-consumer.ts';
import { KafkaGroups } from './kafka-groups.ts';
import { KafkaHealth } from './kafka-health.ts';
import { KafkaLooks } from './kafka-looks.ts';
import { preparePartitions } from './kafka-partitions.ts';
import { readToEnd, type Reading } from './kafka-read.ts';
import { KafkaSettings } from './kafka-settings.ts';
import { RecordSize } from './kafka-size.ts';
import { META, type TopicsAccess } from './kafka-topics.ts';
import { Watches } from './kafka-watches.ts';
import { KafkaWriter } from './kafka-writer.ts';
import type {
  ConsumerOptions,
  GroupStats,
  Health,
  Log,
  LogConsumer,
  LogRecord,
  LogSupports,
  Produced,
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

export class KafkaLog implements Log {
  readonly kind = 'kafka';
  readonly kafka: Client;
  readonly options: KafkaOptions;
  readonly notify: Notify;
  private partitionCount: number;
  private readonly compacted: ReadonlySet<string>;
  private readonly writer: KafkaWriter;
  private readonly size: RecordSize;
  private readonly settings: KafkaSettings;
  private readonly members: KafkaGroups;
  private readonly looks: KafkaLooks;
  private readonly answering: KafkaHealth;
  private said: string[] = [];
  private readonly consumers = new Set<KafkaConsumer>();
  private readonly watches: Watches;
  private readonly gone = new Set<Promise<void>>();
  private token = '';

  private constructor(kafka: Client, options: KafkaOptions, notify: Notify) {
    this.kafka = kafka;
    this.options = options;
    this.notify = notify;
    this.partitionCount = options.partitions;
    this.compacted = new Set(
      options.topics.filter(({ compacted }) => compacted).map(({ name }) => name),
    );
    const admin = options.access?.admin ?? {};
    this.members = new KafkaGroups(admin, notify);
    this.size = new RecordSize({
      ...{ brokers: options.brokers, topics: options.topics, now: options.now, notify },
      name: (topic) => this.name(topic),
      partitionOf: (key) => this.partitionOf(key),
    });
    const health = (this.answering = new KafkaHealth(
      options.now,
      () => reasonOf(options.brokers, admin),
      notify,
      options.brokers,
    ));
    this.writer = new KafkaWriter({
      ...{ kafka, health, notify },
      settings: () => this.common,
      connect: (client) => this.connect(client),
      batchBytes: () => this.size.batchBytes,
    });
    this.settings = new KafkaSettings({
      ...{ size: this.size, access: () => this.access, notify },
      replicas: () => (this.looks.brokers.length >= 3 ? 3 : 1),
      onChange: () => this.writer.fitBatch(),
    });
    this.looks = new KafkaLooks({
      ...{ brokers: options.brokers, admin, notify, consumers: this.consumers },
      ...{ health: this.answering, settings: this.settings, members: this.members },
      topics: options.topics.map(({ name }) => this.name(name)),
      meta: this.name(META),
      producer: () => this.writer.producer,
      renewToken: () => this.renewToken(),
      makeTopics: () => this.prepare(this.partitionCount),
    });
    this.watches = new Watches(this, notify);
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
      'client.id': CLIENT_ID,
    };
  }

  async open(): Promise<void> {
    const { brokers, access } = this.options;
    this.writer.check();
    await checkAccess(brokers, access?.admin ?? {});
    await this.writer.open();
    await this.prepare(undefined);
    this.answering.mark('');
    this.looks.start();
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
    this.writer.producer?.setOauthBearerToken(token);
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
    const { producer } = this.writer;
    if (producer === undefined) return;
    const { access: topics, reading } = this;
    const propose = (count: number): Promise<void> =>
      this.send({
        ...{ topic: META, key: 'partitions', headers: {}, partition: 0 },
        value: Buffer.from(String(count)),
      });
    const prepared = await preparePartitions(
      { topics, reading, producer, propose },
      known,
      this.options.partitions,
    );
    this.partitionCount = prepared.count;
    this.said = prepared.warnings;
    await this.settings.take(prepared.bytesMax, prepared.settings);
  }

  get batchBytes(): number {
    return this.size.batchBytes;
  }

  fit(records: readonly Produced[]): readonly Produced[] {
    return this.size.fit(records);
  }

  async judged(error: unknown, records: readonly Produced[]): Promise<unknown> {
    return await this.settings.judged(error, records);
  }

  async append(topic: string, records: LogRecord[]): Promise<void> {
    const fitted = this.fit(records.map((record) => ({ ...record, topic })));
    try {
      await Promise.all(fitted.map((record) => this.send(record)));
      this.answering.wrote('');
    } catch (error) {
      const judged = await this.judged(error, fitted);
      if (isRetryable(judged)) this.answering.wrote(messageOf(judged));
      throw judged;
    }
  }

  private async send(record: Produced): Promise<void> {
    const { topic, key, value, headers, partition = this.partitionOf(key) } = record;
    // Kafka removes the key of a compacted topic where it has no value at all.
    const isRemoval = this.compacted.has(topic) && value.length === 0;
    await this.writer.send({
      topic: this.name(topic),
      partition,
      key,
      value: isRemoval ? null : value,
      headers,
    });
  }

  partitionOf(key: string): number {
    return partitionOf(key, this.partitionCount);
  }

  leaving(gone: Promise<void>): void {
    this.gone.add(gone);
    void gone.then(() => this.gone.delete(gone));
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
    const join = this.size.parts.joiner(topic);
    await readToEnd(this.reading, this.name(topic), partition, (each) => {
      const record = join(each);
      if (record?.key.startsWith(keyPrefix) !== true) return;
      if (record.value.length === 0) last.delete(record.key);
      else last.set(record.key, record);
    });
    return [...last.values()];
  }

  private async watermarks(topic: string, partition: number): Promise<RdKafka.Watermarks> {
    const producer = this.writer.present;
    return await call<RdKafka.Watermarks>('reading where a topic begins and ends', (done) =>
      producer.queryWatermarkOffsets(this.name(topic), partition, TIMEOUT_MS, done),
    );
  }

  async first(topic: string, partition: number): Promise<number> {
    return (await this.watermarks(topic, partition)).lowOffset;
  }

  async next(topic: string, partition: number): Promise<number> {
    return (await this.watermarks(topic, partition)).highOffset;
  }

  async committedBy(group: string, topic: string): Promise<Map<number, number>> {
    const consumer = new this.kafka.KafkaConsumer({ ...this.common, 'group.id': group }, {});
    await this.connect(consumer);
    return await committedOnce(consumer, this.name(topic), this.partitionCount);
  }

  async watch(topic: string, onRecords: (records: LogRecord[]) => void): Promise<Watch> {
    return await this.watches.watch(topic, this.size.parts.joiner(topic), onRecords);
  }

  async forget(group: string): Promise<void> {
    const { brokers, access } = this.options;
    await deleteGroup(brokers, access?.admin ?? {}, this.group(group));
  }

  /** Also those of stages that are configured no more. Throws LOG_UNAVAILABLE. */
  async groupNames(): Promise<string[]> {
    const { brokers, topicPrefix } = this.options;
    const at = this.looks.brokers.length > 0 ? this.looks.brokers : [brokers];
    const names = await this.members.names(at, topicPrefix);
    return names.map((name) => name.slice(topicPrefix.length));
  }

  /** Groups have the prefix of their topics: two installations on one Kafka share none. */
  group(group: string): string {
    return `${this.options.topicPrefix}${group}`;
  }

  health(): Health {
    return this.answering.present;
  }

  groups(): GroupStats[] {
    return [...this.consumers].flatMap((consumer) => consumer.lag() ?? []);
  }

  warnings(): string[] {
    return [...this.said, ...this.settings.warnings, ...this.members.warnings()];
  }

  async close(): Promise<void> {
    this.looks.stop();
    await this.watches.close();
    await this.looks.settled();
    this.answering.closed();
    await Promise.all([...this.consumers].map((consumer) => consumer.close()));
    await Promise.all(this.gone);
    await this.writer.close();
  }
}
