/** `headwater simulate`: a fleet of made-up sensors, for whoever has no device yet, and to see how much a machine takes. */
import { once } from 'node:events';
import type { MqttClient } from 'mqtt';
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { HeadwaterError, messageOf } from '../shared/errors.ts';
import { parseDuration, parseTime } from '../shared/http/parameters.ts';
import { MQTT_FLAGS, MQTT_NOTE, checkTopic, connectWith } from './client.ts';
import { Progress } from './progress.ts';
import { KINDS, simulate, type Fleet, type Kind, type Made } from './simulation.ts';

const SENSORS_MAX = 100_000;
const CLIENTS_MAX = 1000;
const SLEEP_MS = 200;

const FLAGS: Flags = {
  sensors: { value: 'N', about: 'How many.', default: '10' },
  every: { value: 'DURATION', about: 'Between two messages of a sensor.', default: '5s' },
  kinds: { value: 'A,B', about: `Of ${KINDS.join(', ')}; in turn.`, default: KINDS.join(',') },
  topic: {
    value: 'TEMPLATE',
    about: '{kind} and {sensor} stand for those of a sensor.',
    default: 'sim/{sensor}/{kind}',
  },
  seed: { value: 'N', about: 'The same seed and --start make the same messages.', default: '1' },
  start: {
    value: 'TIME',
    about:
      'Time of the first message: RFC 3339, epoch milliseconds or now-1h. What is past is sent as fast as acknowledgements allow.',
    default: 'now',
  },
  for: { value: 'DURATION', about: 'Ends so long after --start. Without it: at Ctrl-C.' },
  count: { value: 'N', about: 'Ends after so many messages.' },
  outages: { value: 'SHARE', about: 'Of the time, that a sensor is silent.', default: '0' },
  'bad-clocks': {
    value: 'SHARE',
    about: 'Of the sensors: in 1970, hours ahead, or drifting.',
    default: '0',
  },
  clients: { value: 'N', about: 'Connections that share the sensors.', default: '1' },
  window: { value: 'N', about: 'Messages sent and not yet acknowledged.', default: '1000' },
  print: { about: 'Prints time, topic and payload at once, and publishes nothing.' },
  ...MQTT_FLAGS,
};

export const SIMULATE_HELP = helpText(
  'simulate [flags]',
  'Publishes the readings of made-up sensors: QoS 1, JSON with the time that the sensor believes. Ends with 1 unless every message was acknowledged.',
  FLAGS,
  `${MQTT_NOTE}

Examples:
  headwater simulate --sensors 50 --every 2s --outages 0.05 --bad-clocks 0.1
  headwater simulate --sensors 1000 --every 10s --start now-1h --for 1h
  headwater simulate --print --count 5 --start 2026-11-01T00:00:00Z`,
);

type Values = Record<string, string | boolean | undefined>;

/** Throws USAGE, naming flag and range. */
function numberOf(values: Values, name: string, usual: number, least: number, most: number) {
  const value = values[name] === undefined ? usual : Number(values[name]);
  if (!(value >= least && value <= most) || (Number.isInteger(least + most) && value % 1 !== 0))
    throw new HeadwaterError(
      'USAGE',
      `--${name} ${String(values[name])} is not a number from ${least} to ${most}`,
    );
  return value;
}

/** Throws USAGE. */
function spanOf<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new HeadwaterError('USAGE', `--${messageOf(error)}`, { cause: error });
  }
}

function shareOf(values: Values, name: string, most: number): number {
  const share = Number(values[name] ?? '0');
  if (!(share >= 0 && share <= most))
    throw new HeadwaterError(
      'USAGE',
      `--${name} ${String(values[name])} is not a share from 0 to ${most}`,
    );
  return share;
}

function fleetOf(values: Values): Fleet {
  const text = (name: string, usual: string): string => String(values[name] ?? usual);
  const kinds = text('kinds', KINDS.join(',')).split(',');
  for (const kind of kinds)
    if (!(KINDS as readonly string[]).includes(kind))
      throw new HeadwaterError('USAGE', `--kinds: '${kind}' is not one of ${KINDS.join(', ')}`);
  const topic = text('topic', 'sim/{sensor}/{kind}');
  checkTopic(topic);
  return {
    seed: numberOf(values, 'seed', 1, 0, 2 ** 31),
    sensors: numberOf(values, 'sensors', 10, 1, SENSORS_MAX),
    kinds: kinds as Kind[], // Checked above.
    everyMs: spanOf(() => parseDuration(text('every', '5s'), 'every')),
    outages: shareOf(values, 'outages', 0.9),
    badClocks: shareOf(values, 'bad-clocks', 1),
    startMs: Math.round(spanOf(() => parseTime(text('start', 'now'), 'start', Date.now()))),
    topic,
  };
}

/** What the fleet publishes, up to the end that was asked for. */
function* messagesOf(fleet: Fleet, values: Values): Generator<Made> {
  const untilMs =
    typeof values['for'] === 'string'
      ? fleet.startMs + spanOf(() => parseDuration(String(values['for']), 'for'))
      : Infinity;
  let left =
    values['count'] === undefined
      ? Infinity
      : numberOf(values, 'count', 1, 1, Number.MAX_SAFE_INTEGER);
  for (const each of simulate(fleet)) {
    if (each.atMs >= untilMs || left-- <= 0) return;
    yield each;
  }
}

/** Publishes over its connections, with at most `window` unacknowledged; the first failure is kept and ends the waiting. */
class Sender {
  sent = 0;
  acknowledged = 0;
  failure: unknown;
  private readonly clients: MqttClient[];
  private readonly window: number;
  private wake: (() => void) | undefined;

  constructor(clients: MqttClient[], window: number) {
    this.clients = clients;
    this.window = window;
    for (const client of clients)
      client.on('close', () => this.fail(new Error('the gateway closed the connection')));
  }

  private fail(error: unknown): void {
    this.failure ??= error;
    this.wake?.();
  }

  /** Resolves when there is room for another one; `room` 1: when all are acknowledged. */
  async room(room = this.window): Promise<void> {
    while (this.failure === undefined && this.sent - this.acknowledged >= room)
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
  }

  publish({ topic, payload, sensor }: Made): void {
    this.sent++;
    // A sensor keeps its connection, and so its order.
    const client = this.clients[sensor % this.clients.length] as MqttClient;
    client.publish(topic, payload, { qos: 1 }, (error) => {
      if (error !== undefined && error !== null) this.fail(error);
      else this.acknowledged++;
      this.wake?.();
    });
  }
}

async function connectAll(values: Values, count: number): Promise<MqttClient[]> {
  const clients: MqttClient[] = [];
  try {
    for (let each = 0; each < count; each++)
      clients.push(await connectWith(values, `headwater-simulate-${process.pid}-${each}`));
  } catch (error) {
    for (const client of clients) client.end(true);
    throw error;
  }
  return clients;
}

async function publishAll(messages: Iterable<Made>, sender: Sender, stopped: () => boolean) {
  const progress = new Progress('simulate', undefined, 'messages');
  let behindMs = 0;
  for (const each of messages) {
    for (let wait = each.atMs - Date.now(); wait > 0 && !stopped(); wait = each.atMs - Date.now())
      await new Promise((resolve) => setTimeout(resolve, Math.min(SLEEP_MS, wait)));
    await sender.room();
    if (stopped() || sender.failure !== undefined) break;
    sender.publish(each);
    behindMs = Date.now() - each.atMs;
    progress.show(sender.acknowledged);
  }
  await sender.room(1);
  progress.show(sender.acknowledged, true);
  progress.end();
  return behindMs;
}

async function print(messages: Iterable<Made>): Promise<void> {
  for (const { atMs, topic, payload } of messages)
    if (!process.stdout.write(`${new Date(atMs).toISOString()} ${topic} ${payload}\n`))
      await once(process.stdout, 'drain');
}

export async function simulateCommand(args: string[]): Promise<void> {
  const { values, help } = parseFlags('simulate', args, FLAGS, 0);
  if (help) {
    process.stdout.write(SIMULATE_HELP);
    return;
  }
  const messages = messagesOf(fleetOf(values), values);
  if (values['print'] === true) {
    if (values['for'] === undefined && values['count'] === undefined)
      throw new HeadwaterError('USAGE', '--print has no end: give --count N or --for DURATION');
    await print(messages);
    return;
  }
  let isStopped = false;
  const stop = (): void => {
    isStopped = true;
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  const window = numberOf(values, 'window', 1000, 1, 60_000);
  const clients = await connectAll(values, numberOf(values, 'clients', 1, 1, CLIENTS_MAX));
  const sender = new Sender(clients, window);
  const startedMs = performance.now();
  const behindMs = await publishAll(messages, sender, () => isStopped);
  const seconds = (performance.now() - startedMs) / 1000;
  const { sent, acknowledged, failure } = sender;
  for (const client of clients) client.end(true);
  if (failure !== undefined)
    throw new HeadwaterError(
      'NOT_ACKNOWLEDGED',
      `${acknowledged} of ${sent} messages were acknowledged, then: ${messageOf(failure)}`,
      { cause: failure },
    );
  const behind = behindMs > 2000 ? `; the last one ${Math.round(behindMs / 1000)} s late` : '';
  process.stdout.write(
    `${acknowledged} messages acknowledged in ${seconds.toFixed(1)} s (${Math.round(acknowledged / Math.max(0.001, seconds))} a second)${behind}\n`,
  );
  process.exit(0);
}
