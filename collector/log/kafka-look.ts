/** A look at Kafka for `headwater doctor`: no topic is made, and none is changed. */
import type { CollectorConfig } from '../config.ts';
import { brokersOf, kafkaAccess } from './kafka-access.ts';
import { checkAccess, reasonOf } from './kafka-admin.ts';
import { CLIENT_ID, TIMEOUT_MS, call, connect, loadClient } from './kafka-client.ts';
import { compare, replicaWarnings } from './kafka-topics.ts';
import type * as RdKafka from './rdkafka-types.ts';
import { topics } from './topics.ts';

/** What is not as it should be. Throws LOG_UNAVAILABLE, CONFIG_INVALID, ADAPTER_MISSING. */
export async function lookAtKafka(config: CollectorConfig): Promise<string[]> {
  const brokers = brokersOf(config.log);
  const { client, admin, token } = kafkaAccess(config);
  const kafka = loadClient();
  const settings = { ...client, 'metadata.broker.list': brokers, 'client.id': CLIENT_ID };
  await checkAccess(brokers, admin);
  const producer = new kafka.Producer(settings, {});
  if (token !== undefined) producer.setOauthBearerToken(token());
  await connect(producer, brokers, () => reasonOf(brokers, admin));
  try {
    // Of all topics: to ask for one by name would make it, where brokers do that.
    const found = await call<RdKafka.Metadata>('reading metadata', (done) =>
      producer.getMetadata({ timeout: TIMEOUT_MS }, done),
    );
    const name = (topic: string): string => `${config['kafka.topicPrefix']}${topic}`;
    const there = new Set(found.topics.map((topic) => topic.name));
    const specs = topics(config['log.readingsBytesMax']);
    const present = specs.filter((topic) => there.has(name(topic.name)));
    const replicas = found.brokers.length >= 3 ? 3 : 1;
    const access = { brokers, admin, name, topics: present };
    const { warnings } = await compare(access, replicas);
    const missing = specs.length - present.length;
    return [
      ...replicaWarnings(access, found, replicas),
      ...warnings,
      ...(missing === 0 ? [] : [`${missing} topics are not there yet: a collector makes them`]),
    ];
  } finally {
    producer.disconnect();
  }
}
