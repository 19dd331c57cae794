/** What an administrator does to a Kafka beside a collector, and what lies in its topics then. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { KafkaLog } from '../../collector/log/kafka.ts';
import { loadClient } from '../../collector/log/kafka-client.ts';
import type { StoredRecord } from '../../collector/log/log.ts';
import type * as RdKafka from '../../collector/log/rdkafka-types.ts';
import { CACHE } from './cache.ts';
import { temporaryFolder, until } from './process.ts';

export const ADMIN_MS = 10_000;

type Done = (error?: { message: string } | null) => void;
type Admin = RdKafka.AdminClient & {
  deleteTopic(topic: string, timeoutMs: number, done: Done): void;
};

/** `brokers`: HOST:PORT. Rejects with what Kafka says. */
export async function kafkaAdmin(
  brokers: string,
  work: (client: Required<Admin>, done: Done) => void,
): Promise<void> {
  const client = loadClient().AdminClient.create({ 'metadata.broker.list': brokers });
  try {
    await new Promise<void>((resolve, reject) =>
      work(client as Required<Admin>, (error) =>
        error ? reject(new Error(error.message)) : resolve(),
      ),
    );
  } finally {
    client.disconnect();
  }
}

/** A topic with settings of somebody else. */
export const makeTopic = (
  brokers: string,
  topic: string,
  partitions: number,
  config: Record<string, string>,
): Promise<void> =>
  kafkaAdmin(brokers, (client, done) =>
    client.createTopic(
      { topic, num_partitions: partitions, replication_factor: 1, config },
      ADMIN_MS,
      done,
    ),
  );

export const raisePartitions = (
  brokers: string,
  topic: string,
  partitions: number,
): Promise<void> =>
  kafkaAdmin(brokers, (client, done) => client.createPartitions(topic, partitions, ADMIN_MS, done));

/** One of Kafka's own tools, by its class: what it prints. */
export const kafkaTool = (name: string, brokers: string, args: readonly string[]): string =>
  execFileSync(
    'java',
    ['-cp', join(CACHE, 'kafka-4.1.0', 'libs', '*'), name, '--bootstrap-server', brokers, ...args],
    { stdio: 'pipe', encoding: 'utf8' },
  );

/** As `kafka-configs.sh` does it. */
export const setTopic = (
  brokers: string,
  topic: string,
  setting: string,
  value: number | string,
): void => {
  const what = ['--alter', '--entity-type', 'topics', '--entity-name', topic];
  const to = ['--add-config', `${setting}=${value}`];
  kafkaTool('kafka.admin.ConfigCommand', brokers, [...what, ...to]);
};

/** Of its first partition, those before an offset: what a retention does, at once. */
export function deleteRecords(brokers: string, topic: string, offset: number): void {
  const file = join(temporaryFolder(), 'records.json');
  const partitions = [{ topic, partition: 0, offset }];
  writeFileSync(file, JSON.stringify({ partitions, version: 1 }));
  const tool = 'org.apache.kafka.tools.DeleteRecordsCommand';
  kafkaTool(tool, brokers, ['--offset-json-file', file]);
}

/** Every record of a topic. */
export async function readAll(log: KafkaLog, topic: string): Promise<StoredRecord[]> {
  const consumer = await log.consumer({
    ...{ group: 'all', topic, from: 'start', watches: true, bytesMax: 1 << 20 },
  });
  const records: StoredRecord[] = [];
  await until('the end', async () => {
    records.push(...(await consumer.poll(100)));
    return consumer.ended().size >= log.partitions || undefined;
  });
  await consumer.close();
  return records;
}
