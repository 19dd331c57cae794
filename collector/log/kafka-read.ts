/** Reads a partition of Kafka to its end, outside of every group: for state, and for what the log keeps of itself. */
import { HeadwaterError } from '../../shared/errors.ts';
import { MESSAGE_BYTES_MAX, POLL_RECORDS_MAX, call, stored, type Client } from './kafka-client.ts';
import type { StoredRecord } from './log.ts';
import type * as RdKafka from './rdkafka-types.ts';

/** What it needs of the log. */
export interface Reading {
  kafka: Client;
  common: Record<string, unknown>;
  connect: (client: RdKafka.Connection) => Promise<void>;
}

const READ_MS_MAX = 60_000;
const LOOK_MS = 100;

/** `topic` with its prefix. Throws LOG_UNAVAILABLE. */
export async function readToEnd(
  { kafka, common, connect }: Reading,
  topic: string,
  partition: number,
  onRecord: (record: StoredRecord) => void,
): Promise<void> {
  const consumer = new kafka.KafkaConsumer(
    {
      ...common,
      // A name that the library wants; what is assigned by hand joins no group.
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
  await connect(consumer);
  try {
    let ended = false;
    consumer.on('partition.eof', () => {
      ended = true;
    });
    consumer.assign([{ topic, partition, offset: 0 }]);
    consumer.setDefaultConsumeTimeout(LOOK_MS);
    const deadline = performance.now() + READ_MS_MAX;
    while (!ended) {
      if (performance.now() > deadline)
        throw new HeadwaterError(
          'LOG_UNAVAILABLE',
          `Kafka: the state in ${topic} could not be read within a minute`,
        );
      const messages = await call<RdKafka.Message[]>('reading state', (done) =>
        consumer.consume(POLL_RECORDS_MAX, done),
      );
      for (const message of messages) onRecord(stored(message));
    }
  } finally {
    await new Promise<void>((resolve) => consumer.disconnect(() => resolve()));
  }
}
