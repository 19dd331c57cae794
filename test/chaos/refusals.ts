/** What a store, a log, a lake or a certificate does to a collector that runs: each is named, and nothing is lost by it. */
import { execFileSync } from 'node:child_process';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { startInflux2, startKafka } from '../services/servers.ts';
import { Authority } from '../support/certificates.ts';
import { freePort } from '../support/free-port.ts';
import { httpFront } from '../support/http-front.ts';
import { kafkaTool, setTopic } from '../support/kafka-admin.ts';
import { collectorSettings } from '../support/lake.ts';
import { startCollector, startGateway, temporaryFolder, until } from '../support/process.ts';
import { getJson } from '../support/reconcile.ts';
import { mount } from './disks.ts';
import { named, type Named } from './named.ts';
import { Site, type Chance, type Result } from './site.ts';

type Instead = (request: IncomingMessage, response: ServerResponse) => boolean;

const HTML = '<html><head><title>Sign in</title></head></html>';
const isWrite = ({ url = '' }: IncomingMessage): boolean => url.startsWith('/api/v2/write');
/** Answers in InfluxDB's place: to writes, or to everything. */
const saying =
  (
    status: number,
    body: string,
    headers: Record<string, string> = {},
    onlyWrites = true,
  ): Instead =>
  (request, response) => {
    if (onlyWrites && !isWrite(request)) return false;
    response.writeHead(status, headers).end(body);
    return true;
  };
const json = (code: string, message: string): string => JSON.stringify({ code, message });

/** What stands in InfluxDB's place, and what has to be said of it. */
const ANSWERS: readonly [fault: string, instead: Instead, says: RegExp][] = [
  ['InfluxDB: 401', saying(401, json('unauthorized', 'unauthorized access')), /refuses the token/],
  [
    'InfluxDB: 403',
    saying(403, json('forbidden', 'insufficient permissions')),
    /give the token read and write/,
  ],
  [
    'InfluxDB: 404',
    saying(404, json('not found', 'bucket not found')),
    /look whether 'bucket' is there/,
  ],
  [
    'InfluxDB: 429',
    saying(429, json('too many requests', 'slow down'), { 'retry-after': '1' }),
    /asks for less|left alone/,
  ],
  [
    'InfluxDB: read-only',
    saying(500, json('internal error', 'read-only file system')),
    /500 read-only file system/,
  ],
  ['InfluxDB: 200 and a web page', saying(200, HTML), /that is no answer of InfluxDB/],
  ['InfluxDB: 204 to everything', saying(204, '', {}, false), /that is no answer of InfluxDB/],
  ['InfluxDB: 302', saying(302, HTML, { location: '/login' }), /sends this elsewhere/],
  ['InfluxDB: 413', saying(413, HTML), /413 a web page/],
  ['InfluxDB: 422 of a proxy', saying(422, HTML), /may be a proxy/],
  [
    'InfluxDB: drips',
    (_request, response) => {
      response.writeHead(200);
      const timer = setInterval(() => response.write(' '), 500);
      response.on('close', () => clearInterval(timer));
      return true;
    },
    /no answer for 8 s|nothing whole/,
  ],
  [
    'InfluxDB: cut midway',
    (_request, response) => {
      response.writeHead(200, { 'content-length': '100' });
      response.write('{');
      setTimeout(() => response.destroy(), 20);
      return true;
    },
    /does not answer/,
  ],
];

export const OF_STORE = (says: RegExp): Named => ({
  log: new RegExp(`store\\w*_waits: .*(${says.source})`),
  status: says,
  metric: /^headwater_store_up 0$/m,
});
export const OF_LOG = (says: RegExp): Named => ({
  log: new RegExp(`log_down: .*(${says.source})`),
  status: says,
  metric: /^headwater_log_up 0$/m,
});

/** Nothing whose name begins so waits. */
const isWell = async (site: Site, of = ''): Promise<boolean> => {
  const { waiting } = await getJson<{ waiting: { name: string }[] }>(
    `http://${site.collector?.address['http']}/api/v1/status`,
  );
  return !waiting.some(({ name }) => name.startsWith(of));
};

/** A fault while readings come in: it is named, then it is taken away, and all is well again. */
export async function under(
  site: Site,
  fault: string,
  says: Named,
  off: () => Promise<void> | void,
  of = '',
  padBytes = 0,
): Promise<void> {
  const from = site.collector?.output().length ?? 0;
  const load = site.load(40, 100, padBytes);
  await named(fault, site, says, from);
  await off();
  await load;
  await until(`${fault}: it to be well`, async () => (await isWell(site, of)) || undefined, 90_000);
}

/** Everything that InfluxDB, or a proxy, may answer, while readings come in; then it is well, and all is there once. */
export async function storeAnswers(): Promise<Result> {
  const influx = await startInflux2();
  const front = await httpFront(influx);
  const store = `influxdb://127.0.0.1:${front.port}/org/bucket`;
  const environment = { HEADWATER_INFLUXDB_TOKEN: influx.token };
  const site = new Site([], temporaryFolder(), {}, { more: ['--store', store], environment });
  try {
    await site.start();
    await site.load(40);
    await until('it to be stored', async () => (await isWell(site, 'store')) || undefined);
    for (const [fault, instead, says] of ANSWERS) {
      front.instead = instead;
      const off = (): void => void (front.instead = () => false);
      await under(site, fault, OF_STORE(says), off, 'store');
    }
    await influx.kill();
    const dead = OF_STORE(/does not answer|502/);
    await under(site, 'InfluxDB: dead', dead, () => influx.restart(), 'store');
    return await site.reconcile(true);
  } finally {
    await site.stop();
    await front.close();
    await influx.stop();
  }
}

/** Kafka ends, asks for replicas that it has not, and takes rights away. */
export async function logRefuses(): Promise<Result> {
  const kafka = await startKafka(
    undefined,
    'authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\nallow.everyone.if.no.acl.found=true\n',
  );
  const { address } = kafka;
  const site = new Site([], temporaryFolder(), {}, { more: ['--log', `kafka://${address}`] });
  const raw = 'headwater.raw';
  const acl = (...args: string[]): string =>
    kafkaTool('org.apache.kafka.tools.AclCommand', address, [...args, '--topic', raw, '--force']);
  try {
    await site.start();
    await site.load(200);
    setTopic(address, raw, 'min.insync.replicas', 2);
    const few = OF_LOG(/takes nothing: 1 of its replicas/);
    await under(site, 'Kafka: too few in sync', few, () =>
      setTopic(address, raw, 'min.insync.replicas', 1),
    );
    acl('--add', '--allow-principal', 'User:*', '--operation', 'All');
    for (const right of ['Write', 'Read', 'Describe']) {
      const denied = ['--deny-principal', 'User:*', '--operation', right];
      acl('--add', ...denied);
      const may = OF_LOG(/this user (may not [a-z, ]+ topic|lacks a right)/);
      const off = (): void => void acl('--remove', ...denied);
      await under(site, `Kafka: may not ${right.toLowerCase()}`, may, off);
    }
    await kafka.kill();
    await under(site, 'Kafka: dead', OF_LOG(/Kafka does not answer|the log: /), () =>
      kafka.restart(),
    );
    return await site.reconcile(true);
  } finally {
    await site.stop();
    await kafka.stop();
  }
}

/** The certificate that gateways are shown ends while the collector runs. */
export async function expiredCertificate(): Promise<Result> {
  const authority = new Authority(join(temporaryFolder(), 'ca'));
  const stamp = (ms: number): string =>
    `${new Date(ms).toISOString().slice(0, 19).replaceAll(/[-:T]/g, '')}Z`;
  const pair = authority.issue({
    ...{ name: 'collector', hosts: ['127.0.0.1'] },
    from: stamp(Date.now() - 86_400_000),
    to: stamp(Date.now() + 4000),
  });
  const more = ['--uplinks', '127.0.0.1:0', '--tls-cert', pair.cert, '--tls-key', pair.key];
  const site = new Site([], temporaryFolder(), {}, { more });
  try {
    await site.start();
    await site.load(200);
    await named('certificate expired', site, {
      log: /certificate_expired: /,
      status: /has expired on .*: renew it/,
      metric: /^headwater_tls_certificate_expiry_time_seconds 1\d{9}$/m,
    });
    return await site.reconcile(true);
  } finally {
    await site.stop();
  }
}

/** A lake on S3 that nobody answers for. */
export async function lakeAway(): Promise<Result> {
  const endpoint = `http://127.0.0.1:${await freePort()}`;
  const settings = collectorSettings({ 'lake.s3Endpoint': endpoint, 'lake.flushSeconds': 1 });
  const environment = { AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test' };
  const more = ['--config', settings, '--lake', 's3://lake/x'];
  const site = new Site([], temporaryFolder(), {}, { more, environment });
  try {
    await site.start();
    await site.load(200);
    await named('S3 away', site, {
      log: /lake_raw_waits: /,
      status: /lake_raw: .*s3:\/\/lake/,
      metric: /^headwater_stage_stalled_seconds\{stage="lake_raw"\} [1-9]/m,
    });
    return await site.reconcile(true);
  } finally {
    await site.stop();
  }
}

/** The collector's disk is nearly full: nothing is acknowledged to gateways until it is not. */
export async function fullCentre(chance: Chance): Promise<Result> {
  const { folder, free } = mount('size=256m');
  const settings = collectorSettings({ 'disk.freeBytesMin': 64 * 1024 * 1024 });
  const site = new Site(
    [],
    temporaryFolder(),
    {},
    { more: ['--config', settings, '--data', folder] },
  );
  try {
    await site.start();
    await site.load(Math.ceil(chance() * 400));
    execFileSync('bash', ['-c', `head -c 220000000 /dev/zero > ${folder}/filler || true`]);
    const meanwhile = site.load(400);
    await named('disk full', site, {
      log: /disk_full: /,
      status: /bytes free, \d+ are needed/,
      metric: /^headwater_ingest_blocked 1$/m,
    });
    await meanwhile;
    execFileSync('rm', [`${folder}/filler`]);
    return await site.reconcile(true);
  } finally {
    await site.stop();
    free();
  }
}

/** A card that was copied: one goes to this collector, the other to another one on the same log. */
export async function clonedApart(): Promise<Result> {
  const kafka = await startKafka();
  const log = ['--log', `kafka://${kafka.address}`];
  const site = new Site([], temporaryFolder(), {}, { more: log });
  const others: { kill(signal?: NodeJS.Signals): Promise<unknown> }[] = [];
  try {
    await site.start();
    await site.load(200);
    const second = await startCollector([...log, '--roles', 'ingest']);
    const copy = join(temporaryFolder(), 'copy');
    await site.gateway?.kill('SIGKILL');
    execFileSync('cp', ['-a', site.gatewayFolder, copy]);
    await site.startGateway();
    const clone = await startGateway(second.address['uplink'], [
      '--data',
      copy,
      '--id',
      'gw-chaos',
    ]);
    others.push(clone, second);
    let isOver = false;
    const both = (async () => {
      while (!isOver) {
        await site.load(20, 5);
        await site.load(20, 5, 0, clone.port('mqtt'));
      }
    })();
    await named('cloned gateway, two collectors', site, {
      log: /two gateways call themselves gw-chaos, from .* at collector/,
      status: /two gateways call themselves gw-chaos/,
      metric: /^headwater_ingest_doubled_gateways 1$/m,
    });
    isOver = true;
    await both;
    const result = await site.reconcile(true);
    const own = site.gateway;
    site.gateway = clone;
    const whole = await site.reconcile(true);
    site.gateway = own;
    return { ...whole, lost: Math.max(whole.lost, result.lost) };
  } finally {
    for (const each of others) await each.kill('SIGKILL');
    await site.stop();
    await kafka.stop();
  }
}
