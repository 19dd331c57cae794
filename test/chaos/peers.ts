/**
 * The same kill at other tools, so that anyone can repeat the comparison: what had been acknowledged when the process
 * was killed, and what is there afterwards. Their configuration is in this file.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect, type MqttClient } from 'mqtt';
import { freePort } from '../support/free-port.ts';
import { runLoad } from '../support/load.ts';
import { start, temporaryFolder, until, type Child } from '../support/process.ts';
import { startInflux2, startTelegraf, type Influx } from '../services/servers.ts';
import { wait, type Chance, type Result } from './site.ts';

const MESSAGES = 60_000;

export const PEERS = {
  /** Persistent session of a subscriber that is away, autosave as often as it goes: Mosquitto's most durable setting. */
  mosquitto: (port: number, folder: string): string =>
    `listener ${port} 127.0.0.1
allow_anonymous true
user root
persistence true
persistence_location ${folder}/
autosave_interval 1
autosave_on_changes true
max_queued_messages 0
max_inflight_messages 0
`,
  telegraf: (port: number, folder: string): string =>
    `listener ${port} 127.0.0.1
allow_anonymous true
user root
persistence true
persistence_location ${folder}/
max_queued_messages 0
max_inflight_messages 0
`,
};

const load = (port: number, acknowledged: Set<number>, sent: Set<number>) =>
  runLoad({
    host: '127.0.0.1',
    port,
    connections: 4,
    messages: MESSAGES,
    window: 200,
    topic: (connection) => `chaos/${connection}/peer`,
    // A time of its own for each: InfluxDB would put two of one series and time into one point.
    payload: (index) => `{"n":${index},"ts":${1_700_000_000_000 + index}}`,
    onSend: (index) => sent.add(index),
    onAck: (index) => acknowledged.add(index),
  });

function verdict(acknowledged: Set<number>, counts: Map<number, number>, fired: boolean): Result {
  let lost = 0;
  for (const value of acknowledged) if (!counts.has(value)) lost++;
  let extra = 0;
  for (const count of counts.values()) extra += count - 1;
  return { fired, acknowledged: acknowledged.size, lost, extra, differing: 0 };
}

async function mosquitto(chance: Chance): Promise<Result> {
  const folder = temporaryFolder();
  const port = await freePort();
  const configuration = join(folder, 'mosquitto.conf');
  writeFileSync(configuration, PEERS.mosquitto(port, folder));
  const launch = (): Child => start('mosquitto', ['-c', configuration]);
  /** Listens before it connects: what waits for the session comes right behind the CONNACK. */
  const subscribe = async (onValue: (n: number) => void): Promise<MqttClient> => {
    const client = connect(`mqtt://127.0.0.1:${port}`, {
      clientId: 'forwarder',
      clean: false,
      reconnectPeriod: 0,
    });
    client.on('message', (_topic, payload) =>
      onValue((JSON.parse(payload.toString()) as { n: number }).n),
    );
    await new Promise<void>((resolve, reject) => {
      client.once('connect', () => resolve());
      client.once('error', reject);
      client.once('close', () => reject(new Error('closed')));
    });
    return client;
  };
  let broker = launch();
  try {
    const first = await until(
      'mosquitto',
      () => subscribe(() => undefined).catch(() => undefined),
      10_000,
    );
    await first.subscribeAsync('chaos/#', { qos: 1 });
    await first.endAsync();
    const [acknowledged, sent] = [new Set<number>(), new Set<number>()];
    const running = load(port, acknowledged, sent);
    await wait(100 + chance() * 400);
    await broker.kill('SIGKILL');
    const { broken } = await running;
    broker = launch();
    const counts = new Map<number, number>();
    const again = await until(
      'mosquitto again',
      () => subscribe((n) => counts.set(n, (counts.get(n) ?? 0) + 1)).catch(() => undefined),
      10_000,
    );
    await wait(3000);
    await again.endAsync(true);
    return verdict(acknowledged, counts, broken > 0);
  } finally {
    await broker.kill('SIGKILL');
  }
}

async function valuesIn(influx: Influx): Promise<number[]> {
  const response = await fetch(
    `http://${influx.address}/query?db=bucket&q=${encodeURIComponent('SELECT n FROM telegraf')}`,
    {
      headers: { authorization: `Token ${influx.token}` },
    },
  );
  const { results } = (await response.json()) as {
    results: { series?: { values: [string, number][] }[] }[];
  };
  return (results[0]?.series ?? []).flatMap(({ values }) => values.map(([, value]) => value));
}

/** Mosquitto and Telegraf into InfluxDB; Telegraf is killed. */
async function telegraf(chance: Chance): Promise<Result> {
  const folder = temporaryFolder();
  const port = await freePort();
  const configuration = join(folder, 'mosquitto.conf');
  writeFileSync(configuration, PEERS.telegraf(port, folder));
  const broker = start('mosquitto', ['-c', configuration]);
  const influx = await startInflux2();
  let agent = startTelegraf(`127.0.0.1:${port}`, influx, 'chaos/#', true);
  await wait(3000);
  try {
    const [acknowledged, sent] = [new Set<number>(), new Set<number>()];
    const running = load(port, acknowledged, sent);
    await wait(200 + chance() * 600);
    await agent.kill('SIGKILL');
    await running;
    agent = startTelegraf(`127.0.0.1:${port}`, influx, 'chaos/#', true);
    await wait(15_000);
    const counts = new Map<number, number>();
    for (const value of await valuesIn(influx)) counts.set(value, (counts.get(value) ?? 0) + 1);
    return verdict(acknowledged, counts, true);
  } finally {
    await agent.kill('SIGKILL');
    await broker.kill('SIGKILL');
    await influx.stop();
  }
}

export const peerTrial = (name: string, chance: Chance): Promise<Result> =>
  name === 'mosquitto' ? mosquitto(chance) : telegraf(chance);
