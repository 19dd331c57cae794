import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SPECS, dashboards } from '../../dashboards/all.ts';
import { decodeReadings } from '../../shared/model/readings-record.ts';
import { startInflux2, type Influx } from '../services/servers.ts';
import { sharedKafka, type SharedKafka } from '../services/shared.ts';
import {
  startCollector,
  startGateway,
  run,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { pointsOf } from '../support/lake.ts';
import { runLoad } from '../support/load.ts';
import { getJson, reconciled } from '../support/reconcile.ts';

/** Every reading is above it. */
const RULES =
  "rules: [{ name: noticed, from: { measurement: '*', field: v }, alert: { above: 0 } }]\n";

interface Latest {
  series: { measurement: string; value: unknown; time: number }[];
}

/** From mosquitto_pub's return to the reading on the API, polled. */
async function publishAndSee(
  gateway: Headwater,
  http: string,
  measurement: string,
): Promise<number> {
  execFileSync('mosquitto_pub', [
    '-p',
    String(gateway.port('mqtt')),
    '-q',
    '1',
    '-t',
    `hall/1/${measurement}`,
    '-m',
    '{"v":1}',
  ]);
  const began = performance.now();
  await until(`${measurement} on the API`, async () => {
    const { series } = await getJson<Latest>(
      `http://${http}/api/v1/latest?measurement=${measurement}`,
    );
    return series.length === 1 || undefined;
  });
  return performance.now() - began;
}

describe('with real Kafka and InfluxDB', () => {
  let kafka: SharedKafka;
  let influx: Influx;
  const collectors: Headwater[] = [];
  let environment: Record<string, string>;
  beforeAll(async () => {
    [kafka, influx] = [await sharedKafka(), await startInflux2()];
    environment = { HEADWATER_INFLUXDB_TOKEN: influx.token, ...kafka.environment };
  });
  afterAll(async () => {
    for (const each of collectors) await each.kill('SIGKILL');
    await influx.stop();
  });
  const collector = async (...more: string[]): Promise<Headwater> => {
    const server = await startCollector(
      ['--log', kafka.log, '--store', influx.store, ...more],
      environment,
    );
    collectors.push(server);
    return server;
  };
  const gatewayTo = (uplink: string | undefined, id: string): Promise<Headwater> =>
    startGateway(uplink, ['--id', id]);

  it('a reading is on the API soon after mosquitto_pub, and kcat reads it as documented JSON', async () => {
    const rules = join(temporaryFolder(), 'rules.yaml');
    writeFileSync(rules, RULES);
    const all = await collector('--rules', rules);
    const gateway = await gatewayTo(all.address['uplink'], 'gw-real');
    await publishAndSee(gateway, all.address['http'] ?? '', 'warm');
    const times: number[] = [];
    for (let i = 0; i < 5; i++)
      times.push(await publishAndSee(gateway, all.address['http'] ?? '', `seen${i}`));
    process.stdout.write(
      `mosquitto_pub to /api/v1/latest over Kafka and InfluxDB: ${times.map((ms) => Math.round(ms)).join(', ')} ms\n`,
    );
    const out = execFileSync(
      'kcat',
      [
        '-b',
        kafka.address,
        '-C',
        '-t',
        `${kafka.topicPrefix}readings`,
        '-o',
        'beginning',
        '-e',
        '-q',
        '-X',
        'isolation.level=read_committed',
      ],
      { encoding: 'utf8' },
    );
    const records = out
      .trim()
      .split('\n')
      .map((line) => decodeReadings(Buffer.from(line)));
    const readings = records.flatMap((record) => record.readings);
    expect(readings.map(({ measurement }) => measurement)).toEqual([
      'warm',
      'seen0',
      'seen1',
      'seen2',
      'seen3',
      'seen4',
    ]);
    expect(readings[0]).toMatchObject({
      tags: { topic: 'hall/1/warm', gateway: 'gw-real' },
      fields: { v: 1 },
    });
    const doctor = await run(
      [
        'doctor',
        '--data',
        temporaryFolder(),
        '--log',
        kafka.log,
        '--store',
        influx.store,
        '--http',
        all.address['http'] ?? '',
      ],
      environment,
    );
    expect(doctor, doctor.output).toMatchObject({ code: 0 });
    expect(doctor.stdout).toMatch(/flush\.messages=1/);
    await until(
      'the alert',
      async () => (await pointsOf(all.address['http'] ?? '', 'alerts')).length > 0 || undefined,
    );
    await gateway.kill();
    await until(
      'the outage of the gateway, with its reason',
      async () =>
        (await pointsOf(all.address['http'] ?? '', 'headwater_gateways')).length > 0 || undefined,
      60_000,
    );
    await all.kill();
  });

  it('every query of the dashboards gives data, and their JSON keeps to the schema that types them', async () => {
    const ask = async (
      q: string,
    ): Promise<{ series?: { values: unknown[][] }[]; error?: string }> => {
      const response = await fetch(`http://${influx.address}/query`, {
        method: 'POST',
        headers: {
          authorization: `Token ${influx.token}`,
          'content-type': 'application/x-www-form-urlencoded',
        },
        body: new URLSearchParams({ db: 'bucket', q }).toString(),
      });
      const { results } = (await response.json()) as {
        results: { series?: { values: unknown[][] }[]; error?: string }[];
      };
      return results[0] ?? {};
    };
    const values: Record<string, string> = {
      measurement: 'warm',
      field: 'v',
      result: 'warm',
      result_field: 'v',
      gateway: '.*',
      timeFilter: "time > '2020-01-01T00:00:00Z'",
      __interval: '1d',
    };
    const fill = (query: string): string =>
      query.replaceAll(/\$(\w+)/g, (_, name: string) => values[name] ?? `$${name}`);
    for (const { panels, variables, annotations = [] } of Object.values(SPECS)) {
      for (const { query, quiet = false } of [
        ...variables.map((each) => ({ query: each.query, quiet: false })),
        ...annotations.map((each) => ({ query: each.query, quiet: true })),
        ...panels.flatMap(({ units }) =>
          units === undefined ? [] : [{ query: units, quiet: true }],
        ),
        ...panels.flatMap(({ queries }) => queries),
      ]) {
        const { series, error } = await ask(fill(query));
        expect(error, query).toBeUndefined();
        // Of one reading there is no gap, no alert was late, nothing was lost: test/integration/influxql.test.ts has all of it.
        if (!quiet) expect(series?.[0]?.values.length, query).toBeGreaterThan(0);
      }
    }
    expect(Object.values(dashboards()).map(({ uid }) => uid)).toEqual([
      'headwater-fleet',
      'headwater-explorer',
      'headwater-quality',
      'headwater-ledger',
      'headwater-results',
      'headwater-alerts',
      'headwater-operations',
      'headwater-gateway',
    ]);
  });

  it('roles apart, two of each that work in groups: all stored, each once', async () => {
    const ingest = await collector('--roles', 'ingest');
    for (let i = 0; i < 2; i++) {
      await collector('--roles', 'decode');
      await collector('--roles', 'store');
    }
    const query = await collector('--roles', 'query');
    const gateways = await Promise.all(
      ['gw-a', 'gw-b', 'gw-c'].map((id) => gatewayTo(ingest.address['uplink'], id)),
    );
    const acknowledged = new Set<number>();
    const sent = new Set<number>();
    await Promise.all(
      gateways.map((gateway, at) =>
        runLoad({
          host: '127.0.0.1',
          port: gateway.port('mqtt'),
          connections: 2,
          messages: 10_000,
          window: 200,
          topic: (connection) => `hall/${at}-${connection}/apart`,
          payload: (index) => `{"n":${at * 10_000 + index}}`,
          onAck: (index) => acknowledged.add(at * 10_000 + index),
          onSend: (index) => sent.add(at * 10_000 + index),
        }),
      ),
    );
    expect(await reconciled(query, 'apart', 'n', acknowledged, sent)).toEqual({
      missing: 0,
      extra: 0,
      foreign: 0,
      stored: 30_000,
    });
    // No gateway is connected to this one, and it answers for all.
    type Row = { gateway: string; connected: boolean; lastSeenMs: number };
    const fleet = async (): Promise<Row[]> =>
      (await getJson<{ gateways: Row[] }>(`http://${query.address['http']}/api/v1/gateways`))
        .gateways;
    const ours = async (): Promise<Row[]> =>
      (await fleet()).filter(({ gateway }) => ['gw-a', 'gw-b', 'gw-c'].includes(gateway));
    expect((await ours()).map(({ connected }) => connected)).toEqual([true, true, true]);
    for (const gateway of gateways) await gateway.kill();
    await until(
      'their leaving',
      async () => (await ours()).every(({ connected }) => !connected) || undefined,
    );
    for (const { lastSeenMs } of await ours())
      expect(Date.now() - lastSeenMs).toBeLessThan(120_000);
  });
});

describe('with the embedded defaults', () => {
  it('a reading is on the API soon after mosquitto_pub, and waits for nothing behind a poison one', async () => {
    const collector = await startCollector();
    const gateway = await startGateway(collector.address['uplink']);
    execFileSync('mosquitto_pub', [
      '-p',
      String(gateway.port('mqtt')),
      '-q',
      '1',
      '-t',
      'hall/1/poison',
      '-m',
      '{"v":',
    ]);
    const times: number[] = [];
    for (let i = 0; i < 5; i++)
      times.push(await publishAndSee(gateway, collector.address['http'] ?? '', `seen${i}`));
    process.stdout.write(
      `mosquitto_pub to /api/v1/latest, embedded: ${times.map((ms) => Math.round(ms)).join(', ')} ms\n`,
    );
    const { count, items } = await getJson<{ count: number; items: object[] }>(
      `http://${collector.address['http']}/api/v1/quarantine`,
    );
    expect(count).toBe(1);
    expect(items[0]).toMatchObject({ topic: 'hall/1/poison', payload: '{"v":', encoding: 'utf8' });
    expect(items[0]).toHaveProperty('reason', expect.stringMatching(/^not JSON/));
    const metrics = await (await fetch(`http://${collector.address['http']}/metrics`)).text();
    expect(metrics).toMatch(/headwater_decode_quarantined_total\{reason="not JSON[^"]*"\} 1/);
    await gateway.kill();
    await collector.kill();
  });
});
