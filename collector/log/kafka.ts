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
import { HeadwaterError } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import {
  MESSAGE_BYTES_MAX,
  POLL_RECORDS_MAX,
  TIMEOUT_MS,
  call,
  connect,
  headersOut,
  loadClient,
  stored,
  unavailable,
  type Client,
} from './kafka-client.ts';
import { Follower } from './follow.ts';
import { KafkaConsumer } from './kafka-consumer.ts';
import {
  COMPACTED,
  TOPIC_COMMANDS,
  TOPIC_LEDGER,
  TOPIC_QUARANTINE,
  TOPIC_RAW,
  TOPIC_READINGS,
  TOPIC_RESULTS,
  TOPIC_STATE,
  TOPIC_STREAM,
  type ConsumerOptions,
  type GroupStats,
  type Log,
  type LogConsumer,
  type LogRecord,
  type Watch,
} from './log.ts';
import type * as RdKafka from './rdkafka-types.ts';

export interface KafkaOptions {
  /** HOST:PORT, several with commas. */
  brokers: string;
  topicPrefix: string;
  partitions: number;
}

const TOPICS = [
  TOPIC_RAW,
  TOPIC_READINGS,
  TOPIC_QUARANTINE,
  TOPIC_LEDGER,
  TOPIC_COMMANDS,
  TOPIC_RESULTS,
  TOPIC_STREAM,
  TOPIC_STATE,
];
/** What is on its way from one stage to the next, and nobody's only copy. */
const STREAM_RETENTION_MS = 30 * 86_400_000;

export class KafkaLog implements Log {
  readonly kind = 'kafka';
  readonly kafka: Client;
  readonly options: KafkaOptions;
  readonly notify: Notify;
  private partitionCount: number;
  private producer: RdKafka.Producer | undefined;
  private readonly said: string[] = [];
  private readonly consumers = new Set<KafkaConsumer>();
  private readonly waiting = new Map<number, (error: unknown) => void>();
  private nextToken = 1;

  private constructor(kafka: Client, options: KafkaOptions, notify: Notify) {
    this.kafka = kafka;
    this.options = options;
    this.notify = notify;
    this.partitionCount = options.partitions;
  }

  /** Throws ADAPTER_MISSING. */
  static create(options: KafkaOptions, notify: Notify): Promise<KafkaLog> {
    return Promise.resolve(new KafkaLog(loadClient(), options, notify));
  }

  get partitions(): number {
    return this.partitionCount;
  }

  name(topic: string): string {
    return `${this.options.topicPrefix}${topic}`;
  }

  get common(): Record<string, unknown> {
    return {
      'metadata.broker.list': this.options.brokers,
      'client.id': 'headwater',
      'socket.keepalive.enable': true,
      'reconnect.backoff.max.ms': 2000,
      'topic.metadata.refresh.interval.ms': 30_000,
    };
  }

  async open(): Promise<void> {
    const producer = new this.kafka.Producer(
      {
        ...this.common,
        'enable.idempotence': true,
        acks: -1,
        'linger.ms': 0,
        'message.max.bytes': MESSAGE_BYTES_MAX,
        'queue.buffering.max.kbytes': 128 * 1024,
        // Not acknowledged for so long: the caller decides, and the gateway still has it.
        'delivery.timeout.ms': 30_000,
        dr_cb: true,
      },
      {},
    );
    producer.setPollInterval(5);
    producer.on('event.error', () => undefined); // Lost brokers come back; deliveries tell what matters.
    producer.on('delivery-report', (error, report) => {
      const token = report.opaque as number;
      const done = this.waiting.get(token);
      this.waiting.delete(token);
      done?.(error);
    });
    await connect(producer, this.options.brokers);
    this.producer = producer;
    await this.createTopics(producer);
  }

  private async createTopics(producer: RdKafka.Producer): Promise<void> {
    const metadata = await call<RdKafka.Metadata>('reading metadata', (done) =>
      producer.getMetadata({ timeout: TIMEOUT_MS }, done),
    );
    const replicas = metadata.brokers.length >= 3 ? 3 : 1;
    const existing = new Map(
      metadata.topics.map(({ name, partitions }) => [name, partitions.length]),
    );
    const admin = this.kafka.AdminClient.create({
      'metadata.broker.list': this.options.brokers,
      'client.id': 'headwater',
    });
    try {
      for (const topic of TOPICS) {
        if (existing.has(this.name(topic))) continue;
        const config: Record<string, string> = {
          'max.message.bytes': String(MESSAGE_BYTES_MAX),
          ...(COMPACTED.has(topic)
            ? {
                'cleanup.policy': 'compact',
                // Compaction leaves the newest segment alone: a small one, so that state stays quick to load.
                'segment.bytes': String(16 * 1024 * 1024),
                'segment.ms': '3600000',
                'min.cleanable.dirty.ratio': '0.1',
              }
            : { 'cleanup.policy': 'delete' }),
          // Nothing is thrown away: raw is the truth, and quarantine waits for a person.
          'retention.ms': topic === TOPIC_STREAM ? String(STREAM_RETENTION_MS) : '-1',
          'retention.bytes': '-1',
          ...(replicas === 1 ? { 'flush.messages': '1' } : { 'min.insync.replicas': '2' }),
        };
        await call<void>(`creating topic ${this.name(topic)}`, (done) =>
          admin.createTopic(
            {
              topic: this.name(topic),
              num_partitions: this.options.partitions,
              replication_factor: replicas,
              config,
            },
            TIMEOUT_MS,
            (error) =>
              done(
                error !== undefined &&
                  error !== null &&
                  error.code !== 36 /* exists: another collector was first */
                  ? error
                  : undefined,
                undefined,
              ),
          ),
        );
      }
      this.partitionCount = existing.get(this.name(TOPIC_RAW)) ?? this.options.partitions;
      const counts = TOPICS.map(
        (topic) => existing.get(this.name(topic)) ?? this.options.partitions,
      );
      if (new Set(counts).size > 1) {
        this.said.push(
          `the topics ${TOPICS.map((topic) => this.name(topic)).join(', ')} have different numbers of partitions (${counts.join(', ')}): state cannot stay beside its data; create them alike`,
        );
      }
    } finally {
      admin.disconnect();
    }
    if (replicas === 1) {
      this.said.push(
        'Kafka has fewer than three brokers: topics that Headwater creates get flush.messages=1, so that an ack is an fsync; one broker is still one disk',
      );
    }
    for (const { name, partitions } of metadata.topics) {
      if (!TOPICS.some((topic) => this.name(topic) === name) || replicas === 1) continue;
      const least = Math.min(...partitions.map(({ replicas }) => replicas.length));
      if (least < 3)
        this.said.push(
          `topic ${name} has ${least} replicas: an acknowledged message can be lost with ${least} disks; use three and min.insync.replicas=2`,
        );
    }
  }

  async append(topic: string, records: LogRecord[]): Promise<void> {
    const { producer } = this;
    if (producer === undefined)
      throw new HeadwaterError('LOG_UNAVAILABLE', 'Kafka is not connected');
    await Promise.all(records.map((record) => this.send(producer, topic, record)));
  }

  private send(
    producer: RdKafka.Producer,
    topic: string,
    { key, value, headers }: LogRecord,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const token = this.nextToken++;
      this.waiting.set(token, (error) => {
        if (error === null || error === undefined) resolve();
        else reject(unavailable(`writing to ${this.name(topic)}`, error));
      });
      try {
        producer.produce(
          this.name(topic),
          this.partitionOf(key),
          value,
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

  /** The same partition for the same key in every topic, whatever client wrote it: FNV-1a. */
  partitionOf(key: string): number {
    let hash = 0x811c9dc5;
    for (const byte of Buffer.from(key)) hash = Math.imul(hash ^ byte, 0x01000193);
    return (hash >>> 0) % this.partitionCount;
  }

  async consumer(options: ConsumerOptions): Promise<LogConsumer> {
    const consumer = new KafkaConsumer(this, options, () => this.consumers.delete(consumer));
    await consumer.start();
    this.consumers.add(consumer);
    return consumer;
  }

  /** Reads a compacted partition to its end and keeps the last value of each key. */
  async state(topic: string, partition: number, keyPrefix: string): Promise<LogRecord[]> {
    const consumer = new this.kafka.KafkaConsumer(
      {
        ...this.common,
        'group.id': `headwater-state-${process.pid}`,
        'enable.auto.commit': false,
        'isolation.level': 'read_committed',
        'enable.partition.eof': true,
        'fetch.wait.max.ms': 20,
        'fetch.message.max.bytes': MESSAGE_BYTES_MAX,
      },
      { 'auto.offset.reset': 'earliest' },
    );
    consumer.on('event.error', () => undefined); // A consume that fails says so itself.
    await connect(consumer, this.options.brokers);
    try {
      let ended = false;
      consumer.on('partition.eof', () => {
        ended = true;
      });
      consumer.assign([{ topic: this.name(topic), partition, offset: 0 }]);
      consumer.setDefaultConsumeTimeout(100);
      const last = new Map<string, LogRecord>();
      const deadline = performance.now() + 60_000;
      while (!ended) {
        if (performance.now() > deadline)
          throw new HeadwaterError(
            'LOG_UNAVAILABLE',
            `Kafka: the state in ${this.name(topic)} could not be read within a minute`,
          );
        const messages = await call<RdKafka.Message[]>('reading state', (done) =>
          consumer.consume(POLL_RECORDS_MAX, done),
        );
        for (const message of messages) {
          const record = stored(message);
          if (!record.key.startsWith(keyPrefix)) continue;
          if (record.value.length === 0) last.delete(record.key);
          else last.set(record.key, record);
        }
      }
      return [...last.values()];
    } finally {
      await new Promise<void>((resolve) => consumer.disconnect(() => resolve()));
    }
  }

  watch(topic: string, onRecords: (records: LogRecord[]) => void): Promise<Watch> {
    const follower = new Follower({
      log: this,
      notify: this.notify,
      event: 'log_watch',
      topic,
      from: 'start',
      group: `headwater-watch-${randomBytes(6).toString('hex')}`,
      onRecords,
    });
    return Promise.resolve(follower);
  }

  groups(): GroupStats[] {
    return [...this.consumers].flatMap((consumer) => consumer.lag() ?? []);
  }

  warnings(): string[] {
    return [...this.said];
  }

  async close(): Promise<void> {
    for (const consumer of [...this.consumers]) await consumer.close();
    const { producer } = this;
    this.producer = undefined;
    if (producer === undefined) return;
    await new Promise<void>((resolve) => producer.flush(5000, () => resolve()));
    await new Promise<void>((resolve) => producer.disconnect(() => resolve()));
  }
}
