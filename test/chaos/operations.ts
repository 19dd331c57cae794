/**
 * Faults of operation: what an administrator, a clock, a copied card or a device does. Nothing is lost or doubled, and each
 * is named by the log, `/api/v1/status`, `headwater doctor` and the metrics within 10 seconds.
 */
import { randomBytes } from 'node:crypto';
import { cpSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { topics } from '../../collector/log/topics.ts';
import { startKafka } from '../services/servers.ts';
import { makeTopic, raisePartitions, setTopic } from '../support/kafka-admin.ts';
import { encodePublish } from '../support/load.ts';
import { startGateway, temporaryFolder, until } from '../support/process.ts';
import { connected } from '../support/raw-mqtt.ts';
import { reconcile } from '../support/reconcile.ts';
import { fakedClock, reconcileTimes } from './clocks.ts';
import { named } from './named.ts';
import { Site, type Chance, type Result } from './site.ts';

/** A gateway's folder is copied to a second card, and both run. */
export async function clonedGateway(chance: Chance): Promise<Result> {
  const site = new Site();
  let clone: Awaited<ReturnType<typeof startGateway>> | undefined;
  try {
    await site.start();
    await site.load(200);
    await site.gateway?.kill(chance() < 0.5 ? 'SIGKILL' : 'SIGTERM');
    const copy = join(temporaryFolder(), 'copy');
    cpSync(site.gatewayFolder, copy, { recursive: true });
    await site.startGateway();
    const more = ['--data', copy, '--id', 'gw-chaos'];
    clone = await startGateway(site.collector?.address['uplink'], more);
    const { port } = clone;
    const both = [site.load(400), site.load(400, 100, 0, port('mqtt'))];
    await named('cloned gateway', site, {
      log: /two gateways call themselves gw-chaos/,
      status: /two gateways call themselves gw-chaos/,
      metric: /^headwater_ingest_doubled_gateways 1$/m,
    });
    await Promise.all(both);
    const own = site.gateway;
    const result = await site.reconcile(true);
    site.gateway = clone;
    const whole = await site.reconcile(true);
    site.gateway = own;
    return { ...whole, lost: Math.max(whole.lost, result.lost) };
  } finally {
    await clone?.kill('SIGKILL');
    await site.stop();
  }
}

/** A collector that wakes 400 days ago, with a gateway whose clock is right, and is set while it runs. */
export async function collectorClock(): Promise<Result> {
  const stamp = join(temporaryFolder(), 'time');
  writeFileSync(stamp, '-400d\n');
  const site = new Site([], temporaryFolder(), {}, { environment: fakedClock(stamp) });
  try {
    await site.start();
    const before = Date.now();
    const load = site.load(400);
    await named('collector clock', site, {
      log: /clock says .*before this version was made/,
      status: /clock says .*before this version was made/,
      metric: /^headwater_clock_doubted 1$/m,
    });
    await load;
    writeFileSync(stamp, '+0\n');
    await site.load(400);
    return await reconcileTimes(site, before, Date.now());
  } finally {
    await site.stop();
  }
}

/** The collector's data folder is moved away under it, and comes back. */
export async function vanishedFolder(chance: Chance): Promise<Result> {
  const site = new Site();
  const away = `${site.collectorFolder}-away`;
  try {
    await site.start();
    await site.load(Math.ceil(chance() * 400));
    renameSync(site.collectorFolder, away);
    const meanwhile = site.load(400);
    await named('vanished folder', site, {
      log: /is not there any more/,
      status: /is not there any more/,
      metric: /^headwater_log_up 0$|^headwater_disk_free_bytes NaN$/m,
    });
    await meanwhile;
    renameSync(away, site.collectorFolder);
    await site.load(200);
    return await site.reconcile(true);
  } finally {
    await site.stop();
  }
}

/** What each stage cannot take, between readings that it can. */
const POISON: readonly [topic: string, payload: string][] = [
  ['chaos/p/broken', '{"n":'],
  ['chaos/p/nothing', '\0\u0001\u0002\u00ff'],
  ['chaos/p/deep', '['.repeat(20_000)],
  ['chaos/p/huge', '{"n":1e999}'],
  ['chaos/p/twice', '{"n":1,"n":2}'],
  ['chaos/p/late', '{"n":1,"time":"9999-12-31T00:00:00Z"}'],
  ['homeassistant/sensor/x/config', JSON.stringify({ state_topic: 'x'.repeat(70_000) })],
  [`chaos/${'x'.repeat(60_000)}`, '1'],
];

export async function poison(): Promise<Result> {
  const site = new Site();
  try {
    await site.start();
    await site.load(200);
    const client = await connected(site.gateway?.port('mqtt') ?? 0, 'poison');
    for (const [topic, payload] of POISON) {
      const from = client.received().length;
      client.send(encodePublish(topic, payload, 1, 1));
      await client.bytes(from + 4);
    }
    client.socket.destroy();
    await site.load(200);
    await named('poison', site, {
      log: /quarantine: in quarantine/,
      status: /messages? (?:is|are) in quarantine/,
      metric: /^headwater_quarantine_open_messages [1-9]/m,
    });
    return await site.reconcile(true);
  } finally {
    await site.stop();
  }
}

const stored = async (site: Site, http: string): Promise<{ missing: number }> => {
  const { acknowledged, sent, measurement } = site;
  return await reconcile(http, measurement, 'n', acknowledged, sent);
};

/** Every topic was made by an administrator who gave it 40 kB, and messages that need more come among others. */
export async function smallTopics(): Promise<Result> {
  const kafka = await startKafka();
  const site = new Site([], temporaryFolder(), {}, { more: ['--log', `kafka://${kafka.address}`] });
  try {
    for (const { name, compacted } of topics(1))
      await makeTopic(kafka.address, `headwater.${name}`, 4, {
        'max.message.bytes': '40000',
        'cleanup.policy': compacted ? 'compact' : 'delete',
      });
    await site.start();
    await named('topics too small', site, {
      log: /topic headwater\.raw has max\.message\.bytes=40000/,
      status: /topic headwater\.raw has max\.message\.bytes=40000/,
      metric: /^headwater_warnings [1-9]/m,
    });
    // Frames of many messages, and readings of many frames.
    await site.load(400, 100, 20_000);
    // Two that fit nowhere: the reading of one, which a topic does not take uncompressed, and the message of the other.
    const client = await connected(site.gateway?.port('mqtt') ?? 0, 'large');
    const wide = (bytes: number): string => `{"x":"${randomBytes(bytes / 2).toString('hex')}"}`;
    client.send(encodePublish('chaos/wide/reading', wide(60_000), 1, 1));
    client.send(encodePublish('chaos/wide/message', wide(200_000), 1, 2));
    await site.load(2000);
    const began = performance.now();
    await named('message too large', site, {
      log: /ingest_too_large: gateway gw-chaos keeps a message/,
      status: /gateway gw-chaos keeps a message of up to \d+ bytes/,
      metric: /^headwater_ingest_too_large_messages 1$/m,
    });
    await named('reading too large', site, {
      log: /quarantine: in quarantine/,
      status: /messages? (?:is|are) in quarantine/,
      metric: /^headwater_quarantine_open_messages 1$/m,
    });
    const http = site.collector?.address['http'] ?? '';
    await until('all others to be stored', async () => {
      const { missing } = await stored(site, http);
      return missing === 0 || undefined;
    });
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    setTopic(kafka.address, 'headwater.raw', 'max.message.bytes', 1_000_000);
    client.socket.destroy();
    const result = await site.reconcile(true);
    return { ...result, note: `${result.note ?? ''} all others stored after ${seconds} s` };
  } finally {
    await site.stop();
    await kafka.stop();
  }
}

/** Partitions of all topics are raised between two runs. */
export async function raisedPartitions(): Promise<Result> {
  const kafka = await startKafka();
  const site = new Site([], temporaryFolder(), {}, { more: ['--log', `kafka://${kafka.address}`] });
  try {
    await site.start();
    await site.load(2000);
    await site.collector?.kill('SIGKILL');
    for (const topic of ['raw', 'readings', 'results', 'state', 'ledger'])
      await raisePartitions(kafka.address, `headwater.${topic}`, 8);
    await site.startCollector();
    await named('partitions raised', site, {
      log: /has 8 partitions.*and 4 are used/,
      status: /has 8 partitions.*and 4 are used/,
      metric: /^headwater_warnings [1-9]/m,
    });
    await site.load(2000);
    return await site.reconcile(true);
  } finally {
    await site.stop();
    await kafka.stop();
  }
}
