/** What a rebuild makes again: a deleted bucket from the log, a deleted embedded store and log from the lake alone. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { startInflux2 } from '../services/servers.ts';
import { difference, pointsOf, processed, startUp } from '../support/lake.ts';
import { run, temporaryFolder, until, type Headwater } from '../support/process.ts';
import { fetchOnce, getJson } from '../support/reconcile.ts';
import { FULL } from '../support/seed.ts';
import { partOfWeek, startUpWith } from '../support/week.ts';

/** Of a day and a quarter of the week: two dates of the lake, three kinds of station, windows on both sides of midnight. */
const LAST = 24_000;
const EACH = FULL ? 1 : 4;
const MEASUREMENTS = ['SDS011', 'DHT22', 'BME280', 'hourly', 'alerts'];
const RULES = `rules:
  - { name: hourly, from: { measurement: '*', field: [P1, temperature] }, window: 1h, compute: [count, mean, min, max, p95] }
  - { name: warm, from: { measurement: '*', field: temperature }, alert: { above: 11, clear: 9 } }
`;

const opened: { stop: () => unknown }[] = [];
afterAll(async () => {
  for (const { stop } of opened.toReversed()) await stop();
});

const rules = join(temporaryFolder(), 'rules.yaml');
writeFileSync(rules, RULES);
const settings = { 'lake.flushSeconds': 1, 'stream.rules': rules };
const part = partOfWeek((_row, at) => at < LAST && at % EACH === 0);
const ROWS = part.rows.length;

const http = (server: Headwater): string => server.address['http'] ?? '';

async function withPart(more: string[] = [], environment = {}): Promise<[Headwater, string]> {
  const { up, folder } = await startUpWith(part, settings, more, environment);
  opened.push({ stop: () => up.kill() });
  return [up, folder];
}

async function all(server: Headwater): Promise<string[]> {
  const points = await Promise.all(MEASUREMENTS.map((name) => pointsOf(http(server), name)));
  for (const [at, found] of points.entries())
    expect(found.length, MEASUREMENTS[at]).toBeGreaterThan(0);
  return points.flat();
}

async function rebuilt(server: Headwater, says: RegExp): Promise<void> {
  const { code, output } = await run(['rebuild', '--http', http(server)]);
  expect(code, output).toBe(0);
  expect(output).toMatch(says);
  await processed([http(server)]);
}

/** No row of the lake is doubled by what was read again. */
async function expectLake(server: Headwater): Promise<void> {
  const { zones } = await getJson<{ zones: object[] }>(`http://${http(server)}/api/v1/lake`);
  expect(zones[1]).toMatchObject({ zone: 'readings', rows: ROWS });
}

describe('a rebuild', () => {
  it('a deleted bucket is there again, identical', async () => {
    const influx = await startInflux2();
    opened.push(influx);
    const [up] = await withPart(['--store', influx.store], {
      HEADWATER_INFLUXDB_TOKEN: influx.token,
    });
    const before = await all(up);
    const api = async (path: string, method: string, body?: object): Promise<unknown> => {
      const response = await fetchOnce(`http://${influx.address}${path}`, {
        method,
        headers: { authorization: `Token ${influx.token}` },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return response.status === 204 ? undefined : await response.json();
    };
    const { buckets } = (await api('/api/v2/buckets?name=bucket', 'GET')) as {
      buckets: { id: string; orgID: string }[];
    };
    const [bucket] = buckets;
    await api(`/api/v2/buckets/${bucket?.id}`, 'DELETE');
    await api('/api/v2/buckets', 'POST', { name: 'bucket', orgID: bucket?.orgID });
    expect(await pointsOf(http(up), 'SDS011')).toEqual([]);
    await rebuilt(up, new RegExp(`${ROWS} messages decoded to ${ROWS} readings, 0 in quarantine`));
    expect(difference(await all(up), before)).toBeUndefined();
    await expectLake(up);
  });

  it('a deleted embedded store and log are there again from the lake alone, identical', async () => {
    const [first, folder] = await withPart();
    const before = await all(first);
    await first.kill();
    // The gateway's buffer as well: what it still has it would send again by itself.
    for (const name of ['collector/store', 'collector/log', 'gateway'])
      rmSync(join(folder, name), { recursive: true, force: true });
    const up = await startUp(folder, settings);
    opened.push({ stop: () => up.kill() });
    // The sample is known to have been published: losing the log is no reason to publish it again.
    await until(
      'the page to be shown',
      () => up.stdout().includes('rows are here already') || undefined,
    );
    await rebuilt(
      up,
      new RegExp(`[1-9]\\d* frames put back into the log from the lake, ${ROWS} messages decoded`),
    );
    expect(difference(await all(up), before)).toBeUndefined();
    await expectLake(up);
  });
});
