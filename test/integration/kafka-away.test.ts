/**
 * A Kafka that is away when a collector starts: it serves all the same, says what it waits for, and goes on when it comes. What
 * cannot be answered says so; gateways keep what they have meanwhile.
 */
import { createServer, type Server as NetServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startKafka, type Server } from '../services/servers.ts';
import { freePort } from '../support/free-port.ts';
import { collectorSettings } from '../support/lake.ts';
import {
  crowding,
  run,
  startCollector,
  startGateway,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { fetchOnce, getJson, type Points } from '../support/reconcile.ts';

/** It serves, and everybody is told, within so long. */
const TOLD_MS = 10_000;

interface Problem {
  code: string;
  message: string;
}

const started: Headwater[] = [];
const begin = async (log: string, more: string[] = []): Promise<Headwater> => {
  const began = performance.now();
  const collector = await startCollector(['--log', log, ...more]);
  started.push(collector);
  expect(performance.now() - began).toBeLessThan(TOLD_MS * crowding());
  return collector;
};
afterAll(async () => {
  for (const each of started) await each.kill('SIGKILL');
});

const urlOf = ({ address }: Headwater, path: string): string => `http://${address['http']}${path}`;
const textOf = async (collector: Headwater, path: string): Promise<string> =>
  await (await fetchOnce(urlOf(collector, path))).text();

/** Log, status, metrics, /readyz and doctor name it; the page and what needs no log are there. */
async function isNamed(collector: Headwater, why: RegExp): Promise<void> {
  expect(collector.output()).toMatch(new RegExp(`log_down: the log at .*${why.source}`));
  const { blocked, waiting, stages } = await getJson<{
    blocked: string;
    waiting: { name: string }[];
    stages: unknown[];
  }>(urlOf(collector, '/api/v1/status'));
  expect(blocked).toMatch(why);
  expect(waiting.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['log', 'decode', 'store', 'lake_raw', 'lake_readings']),
  );
  expect(stages).toEqual([]);
  const metrics = await textOf(collector, '/metrics');
  expect(metrics).toMatch(/^headwater_log_up 0$/m);
  expect(metrics).toMatch(/^headwater_ledger_missing_messages NaN$/m);
  expect(metrics).toMatch(/^headwater_quarantine_open_messages NaN$/m);
  expect(metrics).toMatch(/^headwater_stage_waiting_records\{stage="decode"\} NaN$/m);
  expect(metrics).toMatch(/^headwater_stage_stalled_seconds\{stage="decode"\} \d/m);
  const ready = await fetchOnce(urlOf(collector, '/readyz'));
  expect([ready.status, await ready.text()]).toEqual([503, expect.stringMatching(why)]);
  for (const path of ['/healthz', '/', '/api/v1/latest', '/api/v1/lake', '/openapi.json'])
    expect((await fetchOnce(urlOf(collector, path))).status, path).toBe(200);
  const overview = await getJson(urlOf(collector, '/api/v1/overview'));
  expect(overview).toMatchObject({ missing: null, quarantined: null });
  for (const path of ['ledger', 'gateways', 'quarantine', 'replay', 'config', 'messages']) {
    const answer = await fetchOnce(urlOf(collector, `/api/v1/${path}`));
    expect(answer.status, path).toBe(503);
    expect((await answer.json()) as Problem, path).toMatchObject({
      code: 'log_unavailable',
      message: expect.stringMatching(why) as string,
    });
  }
  const { code, output } = await run(['doctor', '--http', collector.address['http'] ?? '']);
  expect(code).toBe(1);
  expect(output).toMatch(why);
}

describe('a Kafka that is away at a start', () => {
  let kafka: Server;
  beforeAll(async () => {
    kafka = await startKafka();
  });
  afterAll(async () => await kafka.stop());

  it('a restarted collector serves what it has, gateways keep their readings, and all goes on by itself when it comes', async () => {
    const [data, gatewayData] = [temporaryFolder(), temporaryFolder()];
    const more = [
      '--data',
      data,
      '--uplink',
      `127.0.0.1:${await freePort()}`,
      '--config',
      collectorSettings({ 'lake.flushSeconds': 1 }),
    ];
    const log = `kafka://${kafka.address}`;
    const before = await begin(log, more);
    const gateway = await startGateway(before.address['uplink'], ['--data', gatewayData]);
    started.push(gateway);
    const publish = async (value: number): Promise<void> => {
      const args = [
        'publish',
        'hall/away',
        `{"n":${value}}`,
        '--mqtt',
        gateway.address['mqtt'] ?? '',
      ];
      expect((await run(args)).code).toBe(0);
    };
    const valuesAt = async (collector: Headwater): Promise<unknown[]> => {
      const query = '/api/v1/query?measurement=away&field=n';
      const { series } = await getJson<Points>(urlOf(collector, query));
      return series.flatMap(({ points }) => points.map(([, value]) => value));
    };
    await publish(1);
    await until(
      'the first reading',
      async () => (await valuesAt(before)).length === 1 || undefined,
    );
    expect(await before.kill('SIGTERM')).toBe(0);
    await kafka.kill();

    const after = await begin(log, more);
    await isNamed(after, /no Kafka broker answers at .*nothing listens there \(ECONNREFUSED\)/);
    expect(await valuesAt(after)).toEqual([1]);
    await publish(2);
    await until(
      'the gateway to be connected',
      async () =>
        /^headwater_ingest_gateways 1$/m.test(await textOf(after, '/metrics')) || undefined,
    );
    // It has sent it, and has no acknowledgement.
    const { waitingMessages } = await getJson<{ waitingMessages: number }>(
      urlOf(gateway, '/api/v1/buffer'),
    );
    expect(waitingMessages).toBe(1);
    expect(await valuesAt(after)).toEqual([1]);

    await kafka.restart();
    await until(
      'the second reading',
      async () => (await valuesAt(after)).length === 2 || undefined,
      90_000,
    );
    expect((await valuesAt(after)).toSorted()).toEqual([1, 2]);
    expect(after.output()).toMatch(/log_up: the log at kafka:.* answers, after \d+ s/);
    await until('all to be well', async () => {
      const ready = await fetchOnce(urlOf(after, '/readyz'));
      const { waiting } = await getJson<{ waiting: unknown[] }>(urlOf(after, '/api/v1/status'));
      return (ready.status === 200 && waiting.length === 0) || undefined;
    });
    const ledger = await getJson<{ missing: boolean; gateways: unknown[] }>(
      urlOf(after, '/api/v1/ledger'),
    );
    expect(ledger).toMatchObject({ missing: false });
    expect(ledger.gateways).toHaveLength(1);
    const gateways = await getJson<{ gateways: { connected: boolean }[] }>(
      urlOf(after, '/api/v1/gateways'),
    );
    expect(gateways.gateways).toMatchObject([{ connected: true }]);
    const { code, output } = await run(['doctor', '--http', after.address['http'] ?? '']);
    expect(output).not.toMatch(/^fail/m);
    expect(code).toBe(0);
    expect(await after.kill('SIGTERM')).toBe(0);
  });
});

describe('an address where no Kafka is', () => {
  const listeners: NetServer[] = [];
  const listenWith = async (answer: string): Promise<string> => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      if (answer !== '') socket.once('data', () => socket.end(answer));
    });
    listeners.push(server);
    const port = await freePort();
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    return `kafka://127.0.0.1:${port}`;
  };
  afterAll(() => {
    for (const each of listeners) each.close();
  });

  it.each([
    [
      'a port that nothing listens on',
      async () => await Promise.resolve('kafka://127.0.0.1:9'),
      /nothing listens there \(ECONNREFUSED\): start Kafka, or mend the address/,
    ],
    [
      'a name that nobody knows',
      async () => await Promise.resolve('kafka://no-such-host.invalid:9092'),
      /no machine is known here by that name|name cannot be looked up now/,
    ],
    ['a server that gives no answer', async () => await listenWith(''), /no answer/],
    [
      'a web server',
      async () => await listenWith('HTTP/1.1 400 Bad Request\r\n\r\n'),
      /it speaks HTTP, and not as Kafka does/,
    ],
    [
      'a server that wants TLS',
      async () => await listenWith('\u0015\u0003\u0001\u0000\u0002\u0002\u0046'),
      /it speaks TLS: set kafka\.tls/,
    ],
  ])('%s is named with what to do, and the collector serves and stops at once', async (_name, of, why) => {
    const collector = await begin(await of());
    await until('the reason', () => why.test(collector.output()) || undefined, 15_000);
    await isNamed(collector, why);
    const began = performance.now();
    expect(await collector.kill('SIGTERM')).toBe(0);
    expect(performance.now() - began).toBeLessThan(5000 * crowding());
  });
});
