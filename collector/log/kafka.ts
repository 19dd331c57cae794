/**
 * The log on Apache Kafka by node-rdkafka: the only file that imports it, and lazily, since it compiles natively and
 * lives in an installation of its own (`npm run install:kafka`).
 *
 * - Appending: idempotent producer, acks=all (KIP-98). Kafka's ack is not an fsync: topics are created with
 *   `flush.messages=1` where there is one broker, else with three replicas and `min.insync.replicas=2`; a topic that
 *   was made otherwise is named in `warnings()`.
 * - A step: a transaction that produces and commits the group's offsets (KIP-98, KIP-447 fences a consumer that lost
 *   its partitions). Consumers read committed records only.
 * - Raw has no retention by age or size, until the lake takes over.
 */
import { createRequire } from 'node:module';
import { fileOfPackage } from '../../shared/config/root.ts';
import { HeadwaterError, assert, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type * as RdKafka from './rdkafka-types.ts';
import {
  COMPACTED,
  TOPIC_LEDGER,
  TOPIC_QUARANTINE,
  TOPIC_RAW,
  TOPIC_READINGS,
  type ConsumerOptions,
  type GroupStats,
  type Log,
  type LogConsumer,
  type LogRecord,
  type Produced,
  type Step,
  type StoredRecord,
} from './log.ts';

export interface KafkaOptions {
  /** HOST:PORT, several with commas. */
  brokers: string;
  topicPrefix: string;
  partitions: number;
}

type Client = RdKafka.KafkaClient;

const TOPICS = [TOPIC_RAW, TOPIC_READINGS, TOPIC_QUARANTINE, TOPIC_LEDGER];
const TIMEOUT_MS = 15_000;
const MESSAGE_BYTES_MAX = 8 * 1024 * 1024;
const POLL_RECORDS_MAX = 500;
const LAG_EVERY_MS = 2000;
/** librdkafka's logical offsets: RD_KAFKA_OFFSET_END and RD_KAFKA_OFFSET_STORED (what the group has committed). */
const OFFSET_END = -1;
const OFFSET_COMMITTED = -1000;

function loadClient(): Client {
  try {
    const folder = fileOfPackage('collector/kafka-client/package.json');
    return createRequire(folder)('node-rdkafka') as Client;
  } catch (error) {
    throw new HeadwaterError(
      'ADAPTER_MISSING',
      "--log kafka:// needs node-rdkafka, which is compiled apart from the rest: run 'npm run install:kafka' (about 3 minutes, needs a C++ compiler)",
      { cause: error },
    );
  }
}

function unavailable(what: string, error: unknown): HeadwaterError {
  const fenced =
    /fenced|_STATE|UNKNOWN_MEMBER_ID|ILLEGAL_GENERATION|INVALID_PRODUCER_EPOCH|CONCURRENT|REBALANCE/i.test(
      `${messageOf(error)} ${(error as { code?: number } | undefined)?.code ?? ''}`,
    );
  return new HeadwaterError(
    fenced ? 'LOG_FENCED' : 'LOG_UNAVAILABLE',
    `Kafka: ${what}: ${messageOf(error)}`,
    { cause: error },
  );
}

/** Node-style callbacks of the library as promises. */
function call<T>(
  what: string,
  work: (done: (error: unknown, value: T) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    try {
      work((error, value) => {
        if (error === null || error === undefined) resolve(value);
        else reject(unavailable(what, error));
      });
    } catch (error) {
      reject(unavailable(what, error));
    }
  });
}

function headersOut(headers: Record<string, string>): RdKafka.Header[] {
  return Object.entries(headers).map(([key, value]) => ({ [key]: value }));
}

function headersIn(headers: RdKafka.Header[] | undefined): Record<string, string> {
  const result: Record<string, string> = {};
  for (const header of headers ?? []) {
    for (const [key, value] of Object.entries(header))
      result[key] = Buffer.isBuffer(value) ? value.toString('utf8') : String(value);
  }
  return result;
}

function stored(message: RdKafka.Message): StoredRecord {
  return {
    key: message.key === null || message.key === undefined ? '' : message.key.toString(),
    value: message.value ?? Buffer.alloc(0),
    headers: headersIn(message.headers),
    partition: message.partition,
    offset: message.offset,
  };
}

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
          'cleanup.policy': COMPACTED.has(topic) ? 'compact' : 'delete',
          // Nothing is thrown away: raw is the truth, and quarantine waits for a person.
          'retention.ms': '-1',
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

async function connect(client: RdKafka.Connection, brokers: string): Promise<void> {
  try {
    await call<unknown>('connecting', (done) => client.connect({ timeout: TIMEOUT_MS }, done));
  } catch (error) {
    try {
      client.disconnect();
    } catch {
      // It never was connected: there is nothing to take down.
    }
    throw new HeadwaterError('LOG_UNAVAILABLE', `no Kafka broker answers at ${brokers}`, {
      cause: error,
    });
  }
}

class KafkaConsumer implements LogConsumer {
  private readonly log: KafkaLog;
  private readonly options: ConsumerOptions;
  private readonly onClose: () => void;
  private consumer: RdKafka.KafkaConsumer | undefined;
  private producer: RdKafka.Producer | undefined;
  private assigned = new Set<number>();
  /** Partition → offset of the next record that `poll` has not returned. */
  private readonly positions = new Map<number, number>();
  private rebalancing: Promise<void> = Promise.resolve();
  private failure: HeadwaterError | undefined;
  private lagRecords = 0;
  private lagTimer: NodeJS.Timeout | undefined;
  private closing = false;

  constructor(log: KafkaLog, options: ConsumerOptions, onClose: () => void) {
    this.log = log;
    this.options = options;
    this.onClose = onClose;
  }

  private get topic(): string {
    return this.log.name(this.options.topic);
  }

  async start(): Promise<void> {
    const { log, options } = this;
    const consumer: RdKafka.KafkaConsumer = new log.kafka.KafkaConsumer(
      {
        ...log.common,
        'group.id': options.group,
        'enable.auto.commit': false,
        'isolation.level': 'read_committed',
        'enable.partition.eof': true,
        'partition.assignment.strategy': 'range',
        'session.timeout.ms': 10_000,
        'max.poll.interval.ms': 300_000,
        'fetch.wait.max.ms': 20,
        'fetch.message.max.bytes': MESSAGE_BYTES_MAX,
        'queued.max.messages.kbytes': 16 * 1024,
        rebalance_cb: (error: RdKafka.KafkaError, assignment: RdKafka.TopicPartition[]) =>
          this.rebalance(consumer, error, assignment),
      },
      { 'auto.offset.reset': options.from === 'start' ? 'earliest' : 'latest' },
    );
    consumer.on('event.error', () => undefined); // A lost broker comes back; a failed poll says so itself.
    // The end of a partition lies behind the markers of transactions, which are no records: without it a lag would stay.
    consumer.on('partition.eof', ({ partition, offset }) => this.positions.set(partition, offset));
    await connect(consumer, log.options.brokers);
    this.consumer = consumer;
    consumer.setDefaultConsumeTimeout(50);
    if (options.from === 'end') {
      // A watcher sees every partition and commits nothing: no group, no waiting for one.
      const all = Array.from({ length: log.partitions }, (_, partition) => partition);
      consumer.assign(
        all.map((partition) => ({ topic: this.topic, partition, offset: OFFSET_END })),
      );
      this.assigned = new Set(all);
      return;
    }
    consumer.subscribe([this.topic]);
    this.lagTimer = setInterval(() => this.measureLag(), LAG_EVERY_MS);
    this.lagTimer.unref();
  }

  private rebalance(
    consumer: RdKafka.KafkaConsumer,
    error: RdKafka.KafkaError,
    assignment: RdKafka.TopicPartition[],
  ): void {
    const { ERRORS } = this.log.kafka.CODES;
    if (error.code === ERRORS.ERR__ASSIGN_PARTITIONS) {
      this.rebalancing = this.take(consumer, assignment).catch((cause: unknown) => {
        this.failure =
          cause instanceof HeadwaterError ? cause : unavailable('taking over partitions', cause);
      });
    } else {
      for (const { partition } of assignment) {
        this.assigned.delete(partition);
        this.positions.delete(partition);
        this.options.onRevoke?.(partition);
      }
      // Also while it closes: a revocation that is not answered would hold up `disconnect` for good.
      consumer.unassign();
    }
  }

  /** Loads the state of assigned partitions before any record of them is read. */
  private async take(
    consumer: RdKafka.KafkaConsumer,
    assignment: RdKafka.TopicPartition[],
  ): Promise<void> {
    const placed: RdKafka.TopicPartitionOffset[] = [];
    for (const { topic, partition } of assignment) {
      const own = await this.options.onAssign?.(partition);
      placed.push({ topic, partition, offset: own ?? OFFSET_COMMITTED });
    }
    if (consumer !== this.consumer) {
      consumer.unassign();
      return;
    }
    consumer.assign(placed);
    for (const { partition } of assignment) this.assigned.add(partition);
  }

  async poll(waitMs: number): Promise<StoredRecord[]> {
    await this.rebalancing;
    const { consumer, failure } = this;
    if (failure !== undefined) {
      this.failure = undefined;
      await this.restart();
      throw failure;
    }
    if (consumer === undefined)
      throw new HeadwaterError('LOG_UNAVAILABLE', 'Kafka: the consumer is closed');
    const deadline = performance.now() + waitMs;
    for (;;) {
      const messages = await call<RdKafka.Message[]>(`reading ${this.topic}`, (done) =>
        consumer.consume(POLL_RECORDS_MAX, done),
      );
      await this.rebalancing;
      const records = messages.filter(({ partition }) => this.assigned.has(partition)).map(stored);
      for (const { partition, offset } of records) {
        this.positions.set(partition, Math.max(offset + 1, this.positions.get(partition) ?? 0));
      }
      if (records.length > 0 || performance.now() >= deadline || this.closing) return records;
    }
  }

  /** The transactional producer of this consumer; its id fences an earlier life of it (KIP-98). */
  private async transactional(): Promise<RdKafka.Producer> {
    if (this.producer !== undefined) return this.producer;
    const { log, options } = this;
    const producer = new log.kafka.Producer(
      {
        ...log.common,
        'enable.idempotence': true,
        // Fencing is by the group's generation (KIP-447), so the id only has to be this process's own.
        'transactional.id': `${log.options.topicPrefix}${options.group}-${process.pid}-${Math.floor(performance.timeOrigin)}-${counter++}`,
        'transaction.timeout.ms': 60_000,
        'linger.ms': 0,
        'message.max.bytes': MESSAGE_BYTES_MAX,
      },
      {},
    );
    producer.on('event.error', () => undefined); // The transaction's calls say what matters.
    await connect(producer, log.options.brokers);
    try {
      await call<void>('preparing transactions', (done) =>
        producer.initTransactions(TIMEOUT_MS, (error) => done(error, undefined)),
      );
    } catch (error) {
      await new Promise<void>((resolve) => producer.disconnect(() => resolve()));
      throw error;
    }
    this.producer = producer;
    return producer;
  }

  async commit({ produce, offsets }: Step): Promise<void> {
    const { consumer } = this;
    if (consumer === undefined)
      throw new HeadwaterError('LOG_UNAVAILABLE', 'Kafka: the consumer is closed');
    const positions = [...offsets].map(([partition, offset]) => ({
      topic: this.topic,
      partition,
      offset,
    }));
    try {
      for (const partition of offsets.keys()) {
        if (!this.assigned.has(partition))
          throw new HeadwaterError(
            'LOG_FENCED',
            `Kafka: partition ${partition} of ${this.topic} belongs to another collector now`,
          );
      }
      if (produce.length === 0) {
        await this.commitOffsets(consumer, positions);
        return;
      }
      await this.transaction(await this.transactional(), consumer, produce, positions);
    } catch (error) {
      await this.abandon();
      throw error instanceof HeadwaterError ? error : unavailable('committing', error);
    }
  }

  private commitOffsets(
    consumer: RdKafka.KafkaConsumer,
    positions: RdKafka.TopicPartitionOffset[],
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      try {
        // Blocks for one round trip; a stage without output commits a few times a second.
        consumer.commitSync(positions);
        resolve();
      } catch (error) {
        reject(unavailable('committing offsets', error));
      }
    });
  }

  private async transaction(
    producer: RdKafka.Producer,
    consumer: RdKafka.KafkaConsumer,
    produce: Produced[],
    positions: RdKafka.TopicPartitionOffset[],
  ): Promise<void> {
    await call<void>('beginning a transaction', (done) =>
      producer.beginTransaction((error) => done(error, undefined)),
    );
    for (const { topic, partition, key, value, headers } of produce) {
      const at = partition ?? this.log.partitionOf(key);
      const body = COMPACTED.has(topic) && value.length === 0 ? null : value;
      for (;;) {
        try {
          producer.produce(
            this.log.name(topic),
            at,
            body,
            key,
            null,
            undefined,
            headersOut(headers),
          );
          break;
        } catch (error) {
          if (!/queue full/i.test(messageOf(error))) throw error;
          producer.poll();
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      }
    }
    await call<void>('sending offsets', (done) =>
      producer.sendOffsetsToTransaction(positions, consumer, TIMEOUT_MS, (error) =>
        done(error, undefined),
      ),
    );
    await call<void>('committing a transaction', (done) =>
      producer.commitTransaction(TIMEOUT_MS * 2, (error) => done(error, undefined)),
    );
  }

  /** After a failed step: abort, drop the producer, and read again from what is committed. */
  private async abandon(): Promise<void> {
    const { producer } = this;
    this.producer = undefined;
    if (producer !== undefined) {
      await call<void>('aborting', (done) =>
        producer.abortTransaction(TIMEOUT_MS, (error) => done(error, undefined)),
      ).catch(() => undefined); // A new producer's epoch aborts it for good.
      await new Promise<void>((resolve) => producer.disconnect(() => resolve()));
    }
    await this.restart();
  }

  /** Joins the group anew: assignment loads state and offsets as they are committed. */
  private async restart(): Promise<void> {
    clearInterval(this.lagTimer);
    const { consumer } = this;
    this.consumer = undefined;
    this.assigned.clear();
    this.positions.clear();
    if (consumer !== undefined)
      await new Promise<void>((resolve) => consumer.disconnect(() => resolve()));
    if (this.closing) return;
    for (;;) {
      try {
        await this.start();
        return;
      } catch (error) {
        if (this.closing) return;
        assert(error instanceof HeadwaterError, 'connecting fails with an operating error');
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
  }

  private measureLag(): void {
    const { consumer } = this;
    if (consumer === undefined || !consumer.isConnected()) return;
    let lag = 0;
    for (const partition of this.assigned) {
      try {
        const { highOffset } = consumer.getWatermarkOffsets(this.topic, partition);
        const position = this.positions.get(partition);
        if (position !== undefined && highOffset > 0) lag += Math.max(0, highOffset - position);
      } catch {
        // Not known before the first fetch of the partition.
      }
    }
    this.lagRecords = lag;
  }

  lag(): GroupStats | undefined {
    const { group, topic, from } = this.options;
    return from === 'end' ? undefined : { group, topic, lagRecords: this.lagRecords };
  }

  async close(): Promise<void> {
    if (this.closing) return;
    this.closing = true;
    this.onClose();
    clearInterval(this.lagTimer);
    await this.rebalancing;
    const { consumer, producer } = this;
    this.consumer = undefined;
    this.producer = undefined;
    if (consumer !== undefined)
      await new Promise<void>((resolve) => consumer.disconnect(() => resolve()));
    if (producer !== undefined)
      await new Promise<void>((resolve) => producer.disconnect(() => resolve()));
  }
}

let counter = 0;
