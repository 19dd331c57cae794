/**
 * Over how many partitions keys are spread: decided once, by the first collector, and kept in the topic `meta`. The topics
 * are made and compared on the way.
 */
import { call, TIMEOUT_MS } from './kafka-client.ts';
import { readToEnd, type Reading } from './kafka-read.ts';
import { META, ensureTopics, type TopicsAccess } from './kafka-topics.ts';
import type * as RdKafka from './rdkafka-types.ts';

export interface PartitionsAccess {
  topics: TopicsAccess;
  reading: Reading;
  producer: RdKafka.Producer;
  /** Keeps the count that this collector would decide on. */
  propose: (count: number) => Promise<void>;
}

export interface Prepared {
  count: number;
  warnings: string[];
  /** What of the topics' settings is not as it must be. */
  settings: string[];
  /** Largest record that a topic takes, where Kafka has said so. */
  bytesMax: ReadonlyMap<string, number>;
}

/** `known`: where it is decided. `wanted` counts for topics that are made, when none is there that says otherwise. */
export async function preparePartitions(
  access: PartitionsAccess,
  known: number | undefined,
  wanted: number,
): Promise<Prepared> {
  const { topics, producer, propose } = access;
  const decided = known ?? (await readDecided(access));
  let found = await ensureTopics(topics, producer, { known: decided, wanted });
  let count = decided ?? Math.min(...found.partitions.values());
  if ((await readDecided(access)) === undefined) {
    // The first record counts: of two collectors that begin at once, one decides.
    await propose(count);
    const first = await readDecided(access);
    if (first !== undefined && first !== count) {
      count = first;
      found = await ensureTopics(topics, producer, { known: count, wanted: count });
    }
  }
  const warnings = [...found.warnings];
  const more = [...found.partitions].filter(([, partitions]) => partitions > count);
  if (more.length > 0)
    warnings.push(
      `${more.map(([topic, partitions]) => `topic ${topics.name(topic)} has ${partitions} partitions`).join(', ')}, and ${count} are used: keys stay where their state is, so partitions that were added get nothing; to spread over more, begin with another kafka.topicPrefix and rebuild from the lake`,
    );
  else if (wanted !== count)
    warnings.push(
      `kafka.partitions is ${wanted}, and the topics were made with ${count}: it counts for a new log only, keys stay where their state is`,
    );
  return { count, warnings, settings: found.settings, bytesMax: found.bytesMax };
}

async function readDecided({
  topics: { name },
  reading,
  producer,
}: PartitionsAccess): Promise<number | undefined> {
  const { topics } = await call<RdKafka.Metadata>('reading metadata', (done) =>
    producer.getMetadata({ timeout: TIMEOUT_MS }, done),
  );
  if (!topics.some((topic) => topic.name === name(META))) return undefined;
  let first: number | undefined;
  await readToEnd(reading, name(META), 0, ({ key, value }) => {
    const count = Number(value.toString());
    if (key === 'partitions' && Number.isSafeInteger(count) && count > 0) first ??= count;
  });
  return first;
}
