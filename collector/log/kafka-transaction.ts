/** One step as a transaction of Kafka: its records and its group's offsets, or none of it (KIP-98, KIP-447). */
import { messageOf } from '../../shared/errors.ts';
import { MESSAGE_BYTES_MAX, TIMEOUT_MS, call, headersOut, type Client } from './kafka-client.ts';
import type { Produced } from './log.ts';
import type * as RdKafka from './rdkafka-types.ts';

/** What steps need of their log. */
export interface TransactedLog {
  readonly kafka: Client;
  /** Settings that every client has. */
  readonly common: Record<string, unknown>;
  /** `batch.size` of a producer. */
  readonly batchBytes: number;
  /** A topic as Kafka knows it. */
  name(topic: string): string;
  isCompacted(topic: string): boolean;
  partitionOf(key: string): number;
  /** Throws LOG_UNAVAILABLE. */
  connect(client: RdKafka.Connection): Promise<void>;
  /** Records that their topics take. Throws LOG_TOO_LARGE. */
  fit(records: readonly Produced[]): readonly Produced[];
  /** What is to be thrown for a failure of sending these. */
  judged(error: unknown, records: readonly Produced[]): Promise<unknown>;
}

const QUEUE_FULL_MS = 5;
/**
 * A step that takes longer is tried again. A collector that is killed in the middle of one leaves it open for so long, and
 * nobody reads on behind it: so not longer than a slow broker needs.
 */
const TRANSACTION_MS = 20_000;
/** Tells the transactional ids of one process apart. */
let counter = 0;

const disconnected = (producer: RdKafka.Producer): Promise<void> =>
  new Promise((resolve) => producer.disconnect(() => resolve()));

/** Of one consumer. */
export class Transactions {
  private readonly log: TransactedLog;
  private readonly group: string;
  private producer: RdKafka.Producer | undefined;
  private batchBytes = 0;

  /** `group`: as Kafka knows it. */
  constructor(log: TransactedLog, group: string) {
    this.log = log;
    this.group = group;
  }

  /** Throws LOG_FENCED, LOG_UNAVAILABLE: `abort` then. */
  async commit(
    consumer: RdKafka.KafkaConsumer,
    produce: readonly Produced[],
    positions: RdKafka.TopicPartitionOffset[],
  ): Promise<void> {
    try {
      await transact(this.log, await this.connected(), consumer, produce, positions);
    } catch (error) {
      throw await this.log.judged(error, produce);
    }
  }

  /** The transactional producer; its id fences an earlier life of it (KIP-98). */
  private async connected(): Promise<RdKafka.Producer> {
    const { log, group } = this;
    if (this.producer !== undefined && log.batchBytes >= this.batchBytes) return this.producer;
    await this.close();
    this.batchBytes = log.batchBytes;
    const producer = new log.kafka.Producer(
      {
        ...log.common,
        'enable.idempotence': true,
        // Fencing is by the group's generation (KIP-447), so the id only has to be this process's own.
        'transactional.id': `${group}-${process.pid}-${Math.floor(performance.timeOrigin)}-${counter++}`,
        'transaction.timeout.ms': TRANSACTION_MS,
        'linger.ms': 0,
        'message.max.bytes': MESSAGE_BYTES_MAX,
        'batch.size': this.batchBytes,
      },
      {},
    );
    producer.on('event.error', () => undefined); // The transaction's calls say what matters.
    await log.connect(producer);
    try {
      await call<void>('preparing transactions', (done) =>
        producer.initTransactions(TIMEOUT_MS, (error) => done(error, undefined)),
      );
    } catch (error) {
      await disconnected(producer);
      throw error;
    }
    this.producer = producer;
    return producer;
  }

  renewToken(token: string): void {
    this.producer?.setOauthBearerToken(token);
  }

  async abort(): Promise<void> {
    const { producer } = this;
    if (producer === undefined) return;
    await call<void>('aborting', (done) =>
      producer.abortTransaction(TIMEOUT_MS, (error) => done(error, undefined)),
    ).catch(() => undefined); // A new producer's epoch aborts it for good.
    await this.close();
  }

  async close(): Promise<void> {
    const { producer } = this;
    this.producer = undefined;
    if (producer !== undefined) await disconnected(producer);
  }
}

async function transact(
  to: Pick<TransactedLog, 'name' | 'isCompacted' | 'partitionOf'>,
  producer: RdKafka.Producer,
  consumer: RdKafka.KafkaConsumer,
  produce: readonly Produced[],
  positions: RdKafka.TopicPartitionOffset[],
): Promise<void> {
  await call<void>('beginning a transaction', (done) =>
    producer.beginTransaction((error) => done(error, undefined)),
  );
  for (const record of produce) await send(to, producer, record);
  await call<void>('sending offsets', (done) =>
    producer.sendOffsetsToTransaction(positions, consumer, TIMEOUT_MS, (error) =>
      done(error, undefined),
    ),
  );
  await call<void>('committing a transaction', (done) =>
    producer.commitTransaction(TIMEOUT_MS * 2, (error) => done(error, undefined)),
  );
}

/** Waits while the library's queue is full. */
async function send(
  to: Pick<TransactedLog, 'name' | 'isCompacted' | 'partitionOf'>,
  producer: RdKafka.Producer,
  { topic, partition, key, value, headers }: Produced,
): Promise<void> {
  const at = partition ?? to.partitionOf(key);
  // Kafka removes the key of a compacted topic where it has no value at all.
  const body = to.isCompacted(topic) && value.length === 0 ? null : value;
  for (;;) {
    try {
      producer.produce(to.name(topic), at, body, key, null, undefined, headersOut(headers));
      return;
    } catch (error) {
      if (!/queue full/i.test(messageOf(error))) throw error;
      producer.poll();
      await new Promise((resolve) => setTimeout(resolve, QUEUE_FULL_MS));
    }
  }
}
