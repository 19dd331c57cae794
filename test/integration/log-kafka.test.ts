import { KafkaLog } from '../../collector/log/kafka.ts';
import { startKafka } from '../services/servers.ts';
import { logContract } from '../contract/log.ts';

logContract('Kafka by node-rdkafka', async () => {
  const kafka = await startKafka();
  return {
    create: () =>
      KafkaLog.create(
        { brokers: kafka.address, topicPrefix: 'test.', partitions: 1 },
        () => undefined,
      ),
    stop: () => kafka.stop(),
  };
});
