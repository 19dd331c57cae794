/** One step as a transaction of Kafka: its records and its group's offsets, or none of it (KIP-98, KIP-447). */
import { messageOf } from '../../shared/errors.ts';
import { TIMEOUT_MS, call, headersOut } from './kafka-client.ts';
import type { Produced } from './log.ts';
import type * as RdKafka from './rdkafka-types.ts';

/** Where records go. */
export interface SentTo {
  /** A topic as Kafka knows it. */
  name(topic: string): string;
  isCompacted(topic: string): boolean;
  partitionOf(key: string): number;
}

const QUEUE_FULL_MS = 5;

export async function transact(
  to: SentTo,
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
  to: SentTo,
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
