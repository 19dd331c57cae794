/**
 * The topics in Kafka: made as they must be, and compared with that when they are there.
 *
 * How many partitions keys are spread over is decided once, by the first collector, and kept in the topic `meta` (one
 * partition, its first record counts). Partitions that are added later get nothing: a key, and the state beside its
 * data, stay where they are. Moved, everything would be asked for and decoded again, and stored twice.
 */
import { messageOf } from '../../shared/errors.ts';
import { topicSettings, type AdminAccess } from './kafka-admin.ts';
import { MESSAGE_BYTES_MAX, TIMEOUT_MS, call, type Client } from './kafka-client.ts';
import type { TopicSpec } from './log.ts';
import type * as RdKafka from './rdkafka-types.ts';

/** Beside the topics of the stages; theirs are never called so. */
export const META = 'meta';
const ALREADY_EXISTS = 36;
/** Least that a topic has to take: a frame of a gateway, and a record that a stage makes of it. */
export const TOPIC_BYTES_MIN = 4 * 1024 * 1024;

export interface TopicsAccess {
  kafka: Client;
  settings: Record<string, unknown>;
  brokers: string;
  admin: AdminAccess;
  token: (() => string) | undefined;
  /** With the prefix. */
  name: (topic: string) => string;
  topics: readonly TopicSpec[];
}

export interface TopicsFound {
  /** Of the topics of the stages, by their name without prefix. */
  partitions: Map<string, number>;
  /** Largest record that a topic takes, bytes, where that could be asked. */
  bytesMax: Map<string, number>;
  warnings: string[];
  /** What of their settings is not as it must be. */
  settings: string[];
}

/** What a topic must be set to. */
export function settingsOf(
  { compacted, retentionMs }: TopicSpec,
  replicas: number,
): Record<string, string> {
  return {
    'max.message.bytes': String(MESSAGE_BYTES_MAX),
    ...(compacted
      ? {
          'cleanup.policy': 'compact',
          // Compaction leaves the newest segment alone: a small one, so that state stays quick to load.
          'segment.bytes': String(16 * 1024 * 1024),
          'segment.ms': '3600000',
          'min.cleanable.dirty.ratio': '0.1',
        }
      : { 'cleanup.policy': 'delete' }),
    // Nothing is thrown away: raw is the truth, and quarantine waits for a person.
    'retention.ms': String(retentionMs ?? -1),
    'retention.bytes': '-1',
    ...(replicas === 1 ? { 'flush.messages': '1' } : { 'min.insync.replicas': '2' }),
  };
}

/** Makes what is missing, and says what is not as it must be. Throws LOG_UNAVAILABLE. */
export async function ensureTopics(
  access: TopicsAccess,
  producer: RdKafka.Connection,
  partitions: { known: number | undefined; wanted: number },
): Promise<TopicsFound> {
  const { kafka, settings, name, topics, token } = access;
  const admin = kafka.AdminClient.create(settings, token?.());
  const metadata = async (): Promise<RdKafka.Metadata> =>
    await call<RdKafka.Metadata>('reading metadata', (done) =>
      producer.getMetadata({ timeout: TIMEOUT_MS }, done),
    );
  try {
    const before = await metadata();
    const replicas = before.brokers.length >= 3 ? 3 : 1;
    const existing = new Map(before.topics.map((topic) => [topic.name, topic.partitions.length]));
    const create = async (topic: TopicSpec, count: number): Promise<void> => {
      if (existing.has(name(topic.name))) return;
      const spec = {
        topic: name(topic.name),
        num_partitions: count,
        replication_factor: replicas,
        config: settingsOf(topic, replicas),
      };
      await call<void>(`creating topic ${spec.topic}`, (done) =>
        admin.createTopic(spec, TIMEOUT_MS, (error) =>
          // Another collector may have been first.
          done(error?.code === ALREADY_EXISTS ? undefined : error, undefined),
        ),
      );
      existing.set(spec.topic, count);
    };
    await create({ name: META, compacted: false }, 1);
    // What is there says how many partitions its keys are spread over, if nothing else does.
    const counts = topics.flatMap((topic) => existing.get(name(topic.name)) ?? []);
    const count =
      partitions.known ?? (counts.length === 0 ? partitions.wanted : Math.min(...counts));
    for (const topic of topics) await create(topic, count);
    for (const topic of topics) {
      if ((existing.get(name(topic.name)) ?? count) >= count) continue;
      await call<void>(`adding partitions to ${name(topic.name)}`, (done) =>
        admin.createPartitions(name(topic.name), count, TIMEOUT_MS, (error) =>
          done(error, undefined),
        ),
      );
      existing.set(name(topic.name), count);
    }
    const found = new Map(
      topics.map((topic) => [topic.name, existing.get(name(topic.name)) ?? count]),
    );
    const compared = await compare(access, replicas);
    return {
      partitions: found,
      bytesMax: compared.bytesMax,
      warnings: replicaWarnings(access, before, replicas),
      settings: compared.warnings,
    };
  } finally {
    admin.disconnect();
  }
}

export function replicaWarnings(
  { name, topics }: Pick<TopicsAccess, 'name' | 'topics'>,
  { topics: found }: RdKafka.Metadata,
  replicas: number,
): string[] {
  if (replicas === 1)
    return [
      'Kafka has fewer than three brokers: topics that Headwater creates get flush.messages=1, so that an ack is an fsync; one broker is still one disk',
    ];
  return topics.flatMap((topic) => {
    const there = found.find((each) => each.name === name(topic.name));
    const least = Math.min(...(there?.partitions.map(({ replicas }) => replicas.length) ?? [3]));
    return least >= 3
      ? []
      : [
          `topic ${name(topic.name)} has ${least} replicas: an acknowledged message can be lost with ${least} disks; use three and min.insync.replicas=2`,
        ];
  });
}

/** What a setting that differs means, and whether it matters. */
function finding(setting: string, is: string, must: string): string | undefined {
  const number = Number(is);
  switch (setting) {
    case 'cleanup.policy':
      if (is === must) return undefined;
      return must === 'compact'
        ? 'state that is older than its retention is lost'
        : 'records with the key of a later one are lost';
    case 'retention.ms':
    case 'retention.bytes':
      if (is === must || number === -1 || (Number(must) >= 0 && number >= Number(must)))
        return undefined;
      return 'records go before everybody may have read them';
    case 'max.message.bytes':
      if (number >= TOPIC_BYTES_MIN) return undefined;
      return 'records that are larger are refused: they are split where they can be, and else go to quarantine by reference';
    case 'flush.messages':
      return number > 1 ? 'with one broker an ack is no fsync: a power cut can lose it' : undefined;
    case 'min.insync.replicas':
      return number < 2 ? 'an ack may be of one disk alone' : undefined;
    default:
      return undefined;
  }
}

/** What an administrator types to mend a topic. */
export const mendCommand = (
  brokers: string,
  topic: string,
  setting: string,
  value: string | number,
): string =>
  `kafka-configs.sh --bootstrap-server ${brokers} --alter --entity-type topics --entity-name ${topic} --add-config ${setting}=${value}`;

/** One warning for each setting that matters, with the command that mends it. */
export async function compare(
  { brokers, admin, name, topics }: Pick<TopicsAccess, 'brokers' | 'admin' | 'name' | 'topics'>,
  replicas: number,
): Promise<{
  bytesMax: Map<string, number>;
  /** `min.insync.replicas` of each, by its name with prefix. */
  minInSync: Map<string, number>;
  warnings: string[];
}> {
  const bytesMax = new Map<string, number>();
  const minInSync = new Map<string, number>();
  const warnings: string[] = [];
  let found: Map<string, Map<string, string>>;
  try {
    found = await topicSettings(
      brokers,
      admin,
      topics.map((topic) => name(topic.name)),
    );
  } catch (error) {
    return {
      bytesMax,
      minInSync,
      warnings: [`the topics' settings could not be read: ${messageOf(error)}`],
    };
  }
  for (const topic of topics) {
    const settings = found.get(name(topic.name));
    if (settings === undefined) continue;
    const limit = Number(settings.get('max.message.bytes'));
    if (Number.isSafeInteger(limit)) bytesMax.set(topic.name, limit);
    minInSync.set(name(topic.name), Number(settings.get('min.insync.replicas') ?? 1));
    for (const [setting, must] of Object.entries(settingsOf(topic, replicas))) {
      const is = settings.get(setting);
      // A compacted topic keeps the last value, whatever its retention says.
      if (is === undefined || (topic.compacted && setting.startsWith('retention'))) continue;
      const means = finding(setting, is, must);
      if (means !== undefined)
        warnings.push(
          `topic ${name(topic.name)} has ${setting}=${is} instead of ${must}: ${means}; mend it: ${mendCommand(brokers, name(topic.name), setting, must)}`,
        );
    }
  }
  return { bytesMax, minInSync, warnings };
}
