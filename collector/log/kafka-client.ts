/**
 * node-rdkafka, loaded lazily, since it compiles natively and lives in an installation of its own; and what its users
 * share: callbacks as promises, errors with our codes, records in our form.
 */
import { createRequire } from 'node:module';
import { fileOfPackage } from '../../shared/config/root.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { StoredRecord } from './log.ts';
import type * as RdKafka from './rdkafka-types.ts';

export type Client = RdKafka.KafkaClient;

/** librdkafka's logical offsets: RD_KAFKA_OFFSET_END and _BEGINNING. */
export const OFFSET_END = -1;
export const OFFSET_BEGINNING = -2;

/** By which Headwater's members of a group are known. */
export const CLIENT_ID = 'headwater';
export const TIMEOUT_MS = 10_000;
export const MESSAGE_BYTES_MAX = 8 * 1024 * 1024;
/** Records that one call to the library returns. */
export const POLL_RECORDS_MAX = 500;

/** Throws ADAPTER_MISSING, naming the command that installs it. */
export function loadClient(): Client {
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

/** The broker's and the library's code for a record that is too large. */
const TOO_LARGE = 10;

/** Rights that brokers miss, by the code of their refusal: what an administrator grants. */
const RIGHTS: Readonly<Record<number, string>> = {
  29: 'on the topic: --operation Read --operation Write --operation Describe --topic NAME',
  30: 'on its consumer groups: --operation Read --group PREFIX --resource-pattern-type prefixed',
  31: 'on the cluster: --operation IdempotentWrite --cluster',
  53: 'on its transactional ids: --operation Write --operation Describe --transactional-id PREFIX --resource-pattern-type prefixed',
};

/** What a refusal for want of a right means; '' for any other error. */
function rightOf(error: unknown): string {
  const right = RIGHTS[(error as { code?: number } | undefined)?.code ?? 0];
  return right === undefined
    ? ''
    : `; this user lacks a right ${right} (kafka-acls.sh --add --allow-principal User:NAME …)`;
}

/** LOG_FENCED when the partitions went to somebody else, LOG_TOO_LARGE for a record, else LOG_UNAVAILABLE. */
export function unavailable(what: string, error: unknown): HeadwaterError {
  if ((error as { code?: unknown } | undefined)?.code === TOO_LARGE)
    return new HeadwaterError('LOG_TOO_LARGE', `Kafka: ${what}: ${messageOf(error)}`, {
      cause: error,
    });
  const fenced =
    /fenced|_STATE|UNKNOWN_MEMBER_ID|ILLEGAL_GENERATION|INVALID_PRODUCER_EPOCH|CONCURRENT|REBALANCE/i.test(
      `${messageOf(error)} ${(error as { code?: number } | undefined)?.code ?? ''}`,
    );
  return new HeadwaterError(
    fenced ? 'LOG_FENCED' : 'LOG_UNAVAILABLE',
    `Kafka: ${what}: ${messageOf(error)}${rightOf(error)}`,
    { cause: error },
  );
}

/** Node-style callbacks of the library as promises. */
export function call<T>(
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

export function headersOut(headers: Record<string, string>): RdKafka.Header[] {
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

export function stored(message: RdKafka.Message): StoredRecord {
  return {
    key: message.key === null || message.key === undefined ? '' : message.key.toString(),
    value: message.value ?? Buffer.alloc(0),
    headers: headersIn(message.headers),
    partition: message.partition,
    offset: message.offset,
  };
}

/** `reason` is asked when it fails. Throws LOG_UNAVAILABLE. */
export async function connect(
  client: RdKafka.Connection,
  brokers: string,
  reason: () => Promise<string>,
): Promise<void> {
  try {
    await call<unknown>('connecting', (done) => client.connect({ timeout: TIMEOUT_MS }, done));
  } catch (error) {
    try {
      client.disconnect();
    } catch {
      // It never was connected: there is nothing to take down.
    }
    const why = await reason();
    throw new HeadwaterError(
      'LOG_UNAVAILABLE',
      `no Kafka broker answers at ${brokers}${why === '' ? '' : `: ${why}`}`,
      { cause: error },
    );
  }
}

/** What the consumer's group has committed, by partition. */
export async function committedOf(
  consumer: RdKafka.KafkaConsumer,
  partitions: readonly RdKafka.TopicPartition[],
): Promise<Map<number, number>> {
  const found = await call<RdKafka.TopicPartitionOffset[]>('reading committed offsets', (done) =>
    consumer.committed(
      partitions.map(({ topic, partition }) => ({ topic, partition })),
      TIMEOUT_MS,
      done,
    ),
  );
  return new Map(
    found.flatMap(({ partition, offset }) =>
      typeof offset === 'number' && offset >= 0 ? [[partition, offset]] : [],
    ),
  );
}

/** The same of all partitions of a topic, by a consumer that is for this question alone: it is closed afterwards. */
export async function committedOnce(
  consumer: RdKafka.KafkaConsumer,
  topic: string,
  partitions: number,
): Promise<Map<number, number>> {
  consumer.on('event.error', () => undefined); // What it is asked says so itself.
  try {
    const all = Array.from({ length: partitions }, (_, partition) => ({ topic, partition }));
    return await committedOf(consumer, all);
  } finally {
    await new Promise<void>((resolve) => consumer.disconnect(() => resolve()));
  }
}
