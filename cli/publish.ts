/** `headwater publish`: one message, acknowledged. */
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { HeadwaterError, messageOf } from '../shared/errors.ts';
import { MQTT_FLAGS, MQTT_NOTE, checkTopic, connectWith } from './client.ts';

const FLAGS: Flags = {
  ...MQTT_FLAGS,
  qos: { value: 'N', about: 'Quality of service 0, 1 or 2.', default: '1' },
  retain: { about: 'Retain the message.' },
  wait: { value: 'SECONDS', about: 'How long to wait for the acknowledgement.', default: '30' },
};

export const PUBLISH_HELP = helpText(
  'publish TOPIC PAYLOAD [flags]',
  'Publishes one message and ends when it is acknowledged, which means that it is on stable storage.',
  FLAGS,
  `${MQTT_NOTE}\n\nExample: headwater publish home/kitchen/climate '{"temperature":21.5}'`,
);

/** Rejects with why there was no acknowledgement: the gateway closed, or it takes longer than asked for. */
async function acknowledged(work: Promise<unknown>, closed: Promise<never>, waitMs: number) {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () =>
        reject(
          new Error(
            `none within ${waitMs / 1000} s: its buffer may be full, which withholds acknowledgements (see its page or /api/v1/buffer)`,
          ),
        ),
      waitMs,
    );
  });
  try {
    await Promise.race([work, closed, late]);
  } finally {
    clearTimeout(timer);
  }
}

export async function publish(args: string[]): Promise<void> {
  const { values, positionals, help } = parseFlags('publish', args, FLAGS, 2);
  if (help) {
    process.stdout.write(PUBLISH_HELP);
    return;
  }
  const [topic, payload] = positionals;
  if (topic === undefined || payload === undefined) {
    throw new HeadwaterError(
      'USAGE',
      'give a topic and a payload: headwater publish TOPIC PAYLOAD',
    );
  }
  checkTopic(topic);
  const qos = Number(values['qos'] ?? '1');
  if (qos !== 0 && qos !== 1 && qos !== 2) throw new HeadwaterError('USAGE', '--qos is 0, 1 or 2');
  const waitMs = Number(values['wait'] ?? '30') * 1000;
  if (!(waitMs > 0 && waitMs <= 86_400_000))
    throw new HeadwaterError('USAGE', '--wait is a number of seconds above 0, at most 86400');
  const client = await connectWith(values, `headwater-publish-${process.pid}`);
  const closed = new Promise<never>((_resolve, reject) => {
    client.once('close', () =>
      reject(
        new Error(
          'the gateway closed the connection: this user may not publish there, or the message is larger than it takes; its log says which',
        ),
      ),
    );
  });
  closed.catch(() => undefined); // Asked for below; after that a close is the usual end.
  try {
    await acknowledged(
      client.publishAsync(topic, payload, { qos, retain: values['retain'] === true }),
      closed,
      waitMs,
    );
  } catch (error) {
    throw new HeadwaterError(
      'NOT_ACKNOWLEDGED',
      `the message was not acknowledged: ${messageOf(error)}`,
      { cause: error },
    );
  } finally {
    client.end(true);
  }
  process.stdout.write(qos === 0 ? 'sent\n' : 'acknowledged\n');
}
