/** The Log contract on a real Kafka. */
import { KAFKA_SUPPORTS, KafkaLog } from '../../collector/log/kafka.ts';
import { startKafka } from '../services/servers.ts';
import { logContract } from '../contract/log.ts';

logContract('Kafka by node-rdkafka', async () => {
  const kafka = await startKafka();
  return {
    supports: KAFKA_SUPPORTS,
    create: ({ namespace, topics, partitions }) =>
      KafkaLog.create(
        {
          brokers: kafka.address,
          topicPrefix: `${namespace}.`,
          partitions,
          topics,
          now: () => Date.now(),
        },
        () => undefined,
      ),
    crash: async () => {
      await kafka.kill();
      await kafka.restart();
    },
    stop: () => kafka.stop(),
  };
});
