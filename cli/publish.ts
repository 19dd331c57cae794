/** `headwater publish`: one message, acknowledged. */
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { HeadwaterError, messageOf } from '../shared/errors.ts';
import { connectTo } from './client.ts';

const FLAGS: Flags = {
  mqtt: { value: 'HOST:PORT', about: 'The gateway.', default: '127.0.0.1:1883' },
  qos: { value: 'N', about: 'Quality of service 0, 1 or 2.', default: '1' },
  retain: { about: 'Retain the message.' },
};

export const PUBLISH_HELP = helpText(
  'publish TOPIC PAYLOAD [flags]',
  'Publishes one message and ends when it is acknowledged, which means that it is on stable storage.',
  FLAGS,
  'User name and password come from HEADWATER_MQTT_USER and HEADWATER_MQTT_PASSWORD.',
);

export async function publish(args: string[]): Promise<void> {
  const { values, positionals, help } = parseFlags('publish', args, FLAGS, 2);
  if (help) {
    process.stdout.write(PUBLISH_HELP);
    return;
  }
  const [topic, payload] = positionals;
  if (topic === undefined || payload === undefined) {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      'give a topic and a payload: headwater publish TOPIC PAYLOAD',
    );
  }
  const qos = Number(values['qos'] ?? '1');
  if (qos !== 0 && qos !== 1 && qos !== 2)
    throw new HeadwaterError('CONFIG_INVALID', '--qos is 0, 1 or 2');
  const client = await connectTo(
    String(values['mqtt'] ?? '127.0.0.1:1883'),
    `headwater-publish-${process.pid}`,
  );
  try {
    await client.publishAsync(topic, payload, { qos, retain: values['retain'] === true });
  } catch (error) {
    throw new HeadwaterError(
      'NOT_ACKNOWLEDGED',
      `the message was not acknowledged: ${messageOf(error)}`,
      { cause: error },
    );
  } finally {
    await client.endAsync();
  }
  process.stdout.write(qos === 0 ? 'sent\n' : 'acknowledged\n');
}
