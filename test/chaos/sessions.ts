/**
 * `node --import tsx test/chaos/sessions.ts [--sessions 1000] [--kills 20] [--seed S]`: sessions of both versions with queued
 * messages, and kill -9 of the gateway under load, while some of them are being read. Then everybody comes back. What was
 * acknowledged to the publisher is all there and in order for each topic, QoS 2 once, a session that expired gets nothing.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { connectPacket, rssBytes, subscribePacket } from '../support/hostile.ts';
import { startGateway, temporaryFolder, type Headwater } from '../support/process.ts';
import { rawClient } from '../support/raw-mqtt.ts';
import { P, connect5, publish5, subscribe5 } from '../support/raw-mqtt5.ts';
import { rng, seeded } from '../support/seed.ts';
import { Reader, TOPICS, type Plan } from './session-reader.ts';
import { flagsOf } from '../../scripts/flags.mjs';

export interface Sizes {
  sessions: number;
  kills: number;
  seed: number;
  /** Messages sent a round, at most. */
  perRound: number;
}

export interface Outcome {
  /** Sentences; none: everything held. */
  broken: string[];
  acknowledged: number;
  delivered: number;
  expired: number;
  rssMax: number;
  diskMax: number;
  startMsMax: number;
}

const MIB = 1024 * 1024;
/** Each may hold what all rounds can queue. */
export const LIMITS = {
  HEADWATER_LIMITS_OFFLINE_MESSAGES_MAX: '100000',
  HEADWATER_LIMITS_OFFLINE_BYTES_MAX: String(512 * MIB),
};
const EXPIRY_S = 1;
const BURST = 20;
/** Messages that are not acknowledged, at most, beside the last burst. */
const WINDOW = 80;

const bytesBelow = (folder: string): number =>
  readdirSync(folder, { recursive: true, withFileTypes: true }).reduce((sum, entry) => {
    try {
      return sum + (entry.isFile() ? statSync(join(entry.parentPath, entry.name)).size : 0);
    } catch {
      return sum; // LevelDB has removed it meanwhile.
    }
  }, 0);

export async function sessionTrial({ sessions, kills, seed, perRound }: Sizes): Promise<Outcome> {
  const random = rng(seed);
  const data = temporaryFolder();
  const outcome: Outcome = {
    broken: [],
    acknowledged: 0,
    delivered: 0,
    expired: 0,
    rssMax: 0,
    diskMax: 0,
    startMsMax: 0,
  };
  const begin = async (): Promise<Headwater> => {
    const from = performance.now();
    const gateway = await startGateway(undefined, ['--data', data], LIMITS);
    outcome.startMsMax = Math.max(outcome.startMsMax, performance.now() - from);
    return gateway;
  };
  let gateway = await begin();
  const port = (): number => gateway.port('mqtt');
  const readers = Array.from({ length: sessions }, (_, i) => new Reader(planOf(i)));
  for (let at = 0; at < sessions; at += 50)
    await Promise.all(readers.slice(at, at + 50).map((each) => subscribeAndGo(each, port())));
  const sent: string[][] = TOPICS.map(() => []);
  const acknowledged = TOPICS.map(() => new Set<string>());
  for (let round = 0, number = 0; round < kills; round++) {
    // Some are read, and cut in the middle of it.
    const reading = Array.from({ length: 4 }, () => readers[Math.floor(random() * sessions)]);
    const lasting = [...new Set(reading)].filter((each) => each?.plan.expires === false);
    const cuts = await Promise.all(lasting.map(async (each) => await each?.open(port())));
    const from = await rawClient(port());
    from.send(connect5('from'));
    const connackBytes = (await from.bytes(5)).length;
    const ids = new Map<number, [topic: number, payload: string]>();
    // In bursts; the kill comes at once after one of them, so among its acknowledgements or before.
    const last = Math.floor((0.2 + random() * 0.8) * perRound);
    for (let id = 1; id <= last; id++) {
      const topic = number % TOPICS.length;
      // Both QoS on each topic, by turns.
      const qos = 1 + (Math.floor(number / TOPICS.length) % 2);
      const payload = `m${number++}`;
      ids.set(id, [topic, payload]);
      sent[topic]?.push(payload);
      from.send(publish5(TOPICS[topic] ?? '', payload, { qos, id }));
      if (id % BURST !== 0) continue;
      const enough = connackBytes + 4 * (id - WINDOW);
      do await new Promise((resolve) => setTimeout(resolve, random() * 4));
      while (from.received().length < enough);
    }
    outcome.rssMax = Math.max(outcome.rssMax, rssBytes(gateway.pid));
    await gateway.kill('SIGKILL');
    for (const id of acknowledgedIds(from.received())) {
      const [topic, payload] = ids.get(id) ?? [0, ''];
      acknowledged[topic]?.add(payload);
      outcome.acknowledged++;
    }
    for (const cut of cuts) cut?.();
    outcome.diskMax = Math.max(outcome.diskMax, bytesBelow(data));
    gateway = await begin();
    outcome.rssMax = Math.max(outcome.rssMax, rssBytes(gateway.pid));
  }
  await new Promise((resolve) => setTimeout(resolve, (EXPIRY_S + 2) * 1000));
  for (let at = 0; at < sessions; at += 20)
    await Promise.all(
      readers.slice(at, at + 20).map(async (each) => {
        const wanted = acknowledged[each.plan.topic] ?? new Set();
        const all = sent[each.plan.topic] ?? [];
        outcome.broken.push(...(await each.finish(port(), all, wanted)));
        if (each.plan.expires) outcome.expired++;
        outcome.delivered += each.got.length;
      }),
    );
  outcome.rssMax = Math.max(outcome.rssMax, rssBytes(gateway.pid));
  await gateway.kill();
  return outcome;
}

/** Every second is of 3.1.1; of version 5 every tenth asks for a session that is over before it comes back. */
function planOf(i: number): Plan {
  const version = i % 2 === 0 ? 4 : 5;
  return {
    id: `s${i}`,
    version,
    topic: Math.floor(i / 4) % TOPICS.length,
    qos: (i >> 1) % 2 === 0 ? 1 : 2,
    expires: i % 10 === 1,
  };
}

async function subscribeAndGo({ plan }: Reader, port: number): Promise<void> {
  const { id, version, topic, qos, expires } = plan;
  const client = await rawClient(port);
  const filter = TOPICS[topic] ?? '';
  if (version === 5) {
    const properties = [P.sessionExpiry(expires ? EXPIRY_S : 3600)];
    client.send(connect5(id, { clean: false, properties }));
    await client.bytes(5);
    const from = client.received().length;
    client.send(subscribe5(1, [[filter, qos]]));
    await client.bytes(from + 6);
  } else {
    client.send(connectPacket({ id, clean: false }));
    await client.bytes(4);
    const bytes = subscribePacket(1, filter);
    bytes[bytes.length - 1] = qos;
    client.send(bytes);
    await client.bytes(9);
  }
  client.send([0xe0, 0]);
  await client.closed();
}

/** Ids of the PUBACKs and PUBRECs in what a client of version 5 got. */
function acknowledgedIds(bytes: Buffer): number[] {
  const ids: number[] = [];
  for (let at = 0; at + 4 <= bytes.length; at += 2 + (bytes[at + 1] ?? 0)) {
    const type = (bytes[at] ?? 0) >> 4;
    if (type === 4 || type === 5) ids.push(bytes.readUInt16BE(at + 2));
  }
  return ids;
}

if (process.argv[1]?.endsWith('sessions.ts') === true) {
  const { values } = flagsOf(import.meta.url, {
    options: {
      sessions: { type: 'integer', default: 1000, min: 1 },
      kills: { type: 'integer', default: 20 },
      seed: { type: 'integer', default: seeded().seed },
    },
  });
  const { sessions, kills, seed } = values;
  const outcome = await sessionTrial({ sessions, kills, seed, perRound: 400 });
  const { broken, rssMax, diskMax, startMsMax, ...counts } = outcome;
  for (const each of broken.slice(0, 20)) console.error(each);
  console.log(
    `sessions=${sessions} kills=${kills} seed=${seed} ${Object.entries(counts)
      .map(([name, value]) => `${name}=${value}`)
      .join(' ')} broken=${broken.length} rss_max=${Math.round(rssMax / MIB)}MiB ` +
      `disk_max=${Math.round(diskMax / MIB)}MiB start_max=${Math.round(startMsMax)}ms`,
  );
  process.exitCode = broken.length === 0 ? 0 : 1;
}
