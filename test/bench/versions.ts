/**
 * MQTT 5 beside our own 3.1.1 and beside Mosquitto 2.1.2 on both, in the same rounds: ingress (QoS 1), one publisher to many
 * subscribers, many to one, and what thousands of clients cost that say nothing. Mosquitto keeps nothing on disk.
 */
import type { Socket } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { startMosquitto } from '../services/servers.ts';
import { subscribePacket } from '../support/hostile.ts';
import { encodeConnect, encodePublish, runLoad } from '../support/load.ts';
import { temporaryFolder, until, type Headwater } from '../support/process.ts';
import { rawClient } from '../support/raw-mqtt.ts';
import { subscribe5 } from '../support/raw-mqtt5.ts';
import { costOf, median } from './measure.ts';

type Version = 4 | 5;
interface Side {
  name: 'Headwater' | 'Mosquitto';
  port: number;
  pid: number;
}
interface Figure {
  what: string;
  /** Medians, a second. */
  perSecond: Record<string, number>;
  /** Medians of the rounds' ratios. */
  ours5ToOurs4: number;
  toMosquitto5: number;
  toMosquitto4: number;
}
export interface VersionFigures {
  figures: Figure[];
  /** Bytes of memory for each client that says nothing, and QoS 1 a second beside them to without them. */
  idle: { clients: number; bytesEach: Record<string, number>; rateToAlone: Record<string, number> };
}

const CASES: [side: Side['name'], version: Version][] = [
  ['Headwater', 4],
  ['Headwater', 5],
  ['Mosquitto', 5],
  ['Mosquitto', 4],
];
const label = (side: string, version: Version): string =>
  `${side} ${version === 5 ? '5' : '3.1.1'}`;
let names = 0;

async function subscriber(port: number, version: Version, filter: string): Promise<Socket> {
  const client = await rawClient(port);
  client.send(encodeConnect(`s${++names}`, version));
  await client.bytes(4);
  const from = client.received().length;
  const bytes = version === 5 ? subscribe5(1, [[filter, 0]]) : subscribePacket(1, filter);
  // At QoS 0: what is measured is delivery, not acknowledgement.
  bytes[bytes.length - 1] = 0;
  client.send(bytes);
  await client.bytes(from + 5);
  client.socket.removeAllListeners('data');
  return client.socket;
}

/** Messages a second that reach their subscribers; throws when one is missing. */
async function fan(
  { port }: Side,
  version: Version,
  [publishers, subscribers]: [number, number],
  messages: number,
  payload: (index: number) => string,
): Promise<number> {
  const topic = `fan/${++names}`;
  // QoS 0 as it arrives, of payloads of one size.
  const text = payload(1);
  const size = encodePublish(topic, text, 0, 0, 0, version).length;
  const sockets = await Promise.all(
    Array.from({ length: subscribers }, () => subscriber(port, version, topic)),
  );
  let bytes = 0;
  for (const socket of sockets) socket.on('data', (chunk: Buffer) => (bytes += chunk.length));
  const began = performance.now();
  await runLoad({
    host: '127.0.0.1',
    port,
    connections: publishers,
    messages,
    window: Math.max(64, Math.floor(1000 / publishers)),
    payload: () => text,
    topic: () => topic,
    version,
    clientPrefix: `p${names}`,
  });
  const expected = messages * subscribers * size;
  // Polled: the last of them is what counts, within a few milliseconds of seconds.
  await until(`${expected} bytes, ${bytes} are here`, () => bytes >= expected || undefined, 60_000);
  const seconds = (performance.now() - began) / 1000;
  for (const socket of sockets) socket.destroy();
  return (messages * subscribers) / seconds;
}

/** QoS 1 acknowledged a second, of ten devices. */
async function ingress(
  { port }: Side,
  version: Version,
  messages: number,
  payload: (index: number) => string,
): Promise<number> {
  const { acknowledged, seconds } = await runLoad({
    host: '127.0.0.1',
    port,
    connections: 10,
    messages,
    window: 1000,
    payload,
    topic: (connection) => `site/device${connection}/climate`,
    version,
  });
  if (acknowledged !== messages) throw new Error(`${acknowledged} of ${messages} acknowledged`);
  return acknowledged / seconds;
}

async function idleClients(side: Side, version: Version, count: number): Promise<() => void> {
  const sockets: Socket[] = [];
  for (let at = 0; at < count; at += 100)
    sockets.push(
      ...(await Promise.all(
        Array.from({ length: Math.min(100, count - at) }, () =>
          subscriber(side.port, version, `idle/${++names}`),
        ),
      )),
    );
  return () => {
    for (const socket of sockets) socket.destroy();
  };
}

async function startSide(
  name: Side['name'],
  startGateway: (folder: string) => Promise<Headwater>,
): Promise<{ side: Side; stop: () => Promise<unknown> }> {
  if (name === 'Headwater') {
    const gateway = await startGateway(temporaryFolder());
    const side = { name, port: gateway.port('mqtt'), pid: gateway.pid };
    return { side, stop: () => gateway.kill() };
  }
  const cache = process.env['HEADWATER_CACHE'] ?? join(homedir(), '.cache', 'headwater');
  const { port, pid, stop } = await startMosquitto(
    '',
    join(cache, 'mosquitto2-2.1.2/bin/mosquitto'),
  );
  return { side: { name, port, pid: pid ?? 0 }, stop };
}

export async function benchVersions(
  startGateway: (folder: string) => Promise<Headwater>,
  payload: (index: number) => string,
  smoke: boolean,
): Promise<VersionFigures> {
  process.env['HEADWATER_LIMITS_CONNECTS_PER_MINUTE'] = '1000000';
  const started = {
    Headwater: await startSide('Headwater', startGateway),
    Mosquitto: await startSide('Mosquitto', startGateway),
  };
  const size = smoke ? 0.02 : 1;
  const kinds: [what: string, run: (side: Side, version: Version) => Promise<number>][] = [
    ['QoS 1 acknowledged', (side, version) => ingress(side, version, 300_000 * size, payload)],
    ['1 to 100', (side, version) => fan(side, version, [1, 100], 2000 * size, payload)],
    ['100 to 1', (side, version) => fan(side, version, [100, 1], 30_000 * size, payload)],
  ];
  const figures: Figure[] = [];
  for (const [what, run] of kinds) {
    const rates = new Map<string, number[]>();
    // The first round warms up.
    for (let round = 0; round <= (smoke ? 1 : 3); round++)
      for (const [side, version] of CASES) {
        const rate = await run(started[side].side, version);
        if (round === 0) continue;
        const name = label(side, version);
        rates.set(name, [...(rates.get(name) ?? []), rate]);
      }
    const of = (side: Side['name'], version: Version): number[] =>
      rates.get(label(side, version)) ?? [];
    const ratio = (a: number[], b: number[]): number =>
      median(a.map((value, i) => value / (b[i] ?? Number.NaN)));
    figures.push({
      what,
      perSecond: Object.fromEntries(
        [...rates].map(([name, all]) => [name, Math.round(median(all))]),
      ),
      ours5ToOurs4: ratio(of('Headwater', 5), of('Headwater', 4)),
      toMosquitto5: ratio(of('Headwater', 5), of('Mosquitto', 5)),
      toMosquitto4: ratio(of('Headwater', 4), of('Mosquitto', 4)),
    });
  }
  for (const { stop } of Object.values(started)) await stop();
  return { figures, idle: await benchIdle(startGateway, payload, size) };
}

/**
 * A server of its own for each case: what a client that says nothing costs is little beside what the load of a case before
 * has left in a heap. One step of an old heap's collection is as long as a short load, so each rate is the median of three.
 */
async function benchIdle(
  startGateway: (folder: string) => Promise<Headwater>,
  payload: (index: number) => string,
  size: number,
): Promise<VersionFigures['idle']> {
  const clients = 5000 * size;
  const idle: VersionFigures['idle'] = { clients, bytesEach: {}, rateToAlone: {} };
  for (const [name, version] of CASES) {
    const { side, stop } = await startSide(name, startGateway);
    const rate = async (): Promise<number> => {
      const rates: number[] = [];
      for (let round = 0; round < 3; round++)
        rates.push(await ingress(side, version, 400_000 * size, payload));
      return median(rates);
    };
    const before = costOf(side.pid).anonymousBytes;
    const end = await idleClients(side, version, clients);
    const bytes = costOf(side.pid).anonymousBytes - before;
    idle.bytesEach[label(name, version)] = Math.round(bytes / clients);
    const beside = await rate();
    end();
    idle.rateToAlone[label(name, version)] = beside / (await rate());
    await stop();
  }
  return idle;
}
