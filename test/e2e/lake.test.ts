/**
 * The end of the Aberdeen week through `up`, or with HEADWATER_FULL=1 the whole: what the lake, both stores, DuckDB, pandas
 * and Spark say of it. That `up` shows the whole week, exactly, is in up.test.ts.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDuckDb } from '../../collector/duckdb/database.ts';
import { LAKE_PYTHON, startInflux2, type Influx } from '../services/servers.ts';
import { difference, pointsOf, processed, startUp } from '../support/lake.ts';
import { ROOT, run, temporaryFolder, type Headwater } from '../support/process.ts';
import { getJson, type Points } from '../support/reconcile.ts';
import { FULL } from '../support/seed.ts';
import { partOfWeek, startUpWith } from '../support/week.ts';

/** An evening and the day after it, in which every other sensor is silent for two hours: a day that is whole, one that is not, and gaps. */
const week = partOfWeek(({ timestamp = '', sensor_id: sensor }) => {
  const isSilent = /^2019-03-16T0[89]/.test(timestamp) && Number(sensor) % 2 === 0;
  return FULL || (timestamp >= '2019-03-15T18' && !isSilent);
});
const dateOf = ({ timestamp = '' }: { timestamp?: string }): string => timestamp.slice(0, 10);
const ROWS = week.rows.length;
const OF_P1 = week.rows.filter(({ P1 }) => P1 !== '');
const JOBS = ['daily_summary', 'data_quality', 'correlation', 'hour_of_week'];
/** Each begins a JVM of its own: the one with the most kinds of results, and all with HEADWATER_FULL=1. */
const ON_SPARK = FULL ? JOBS : ['data_quality'];
/** Engines of others on the files as they lie there. */
const ON_FILES = FULL ? ['pandas', 'spark'] : ['pandas'];
const RULES = `rules:
  - { name: hourly, from: { measurement: '*', field: [P1, temperature] }, window: 1h, compute: [count, mean, min, max, p95] }
  - { name: warm, from: { measurement: '*', field: temperature }, alert: { above: 8, clear: 7 } }
`;

type Row = [
  series: string,
  date: string,
  count: number,
  sum: number,
  mean: number,
  min: number,
  max: number,
];

let embedded: Headwater;
let onInflux: Headwater;
let influx: Influx;
let folder: string;
const rules = join(temporaryFolder(), 'rules.yaml');
const settings = { 'lake.flushSeconds': 2, 'stream.rules': rules };
const http = (server: Headwater): string => server.address['http'] ?? '';

beforeAll(async () => {
  writeFileSync(rules, RULES);
  influx = await startInflux2();
  const environment = { HEADWATER_INFLUXDB_TOKEN: influx.token };
  const [first, second] = await Promise.all([
    startUpWith(week, settings),
    startUpWith(week, settings, ['--store', influx.store], environment),
  ]);
  ({ up: embedded, folder } = first);
  onInflux = second.up;
});
afterAll(async () => {
  await embedded.kill();
  await onInflux.kill();
  await influx.stop();
});

/** By series and day, as the API gives it. */
async function byApi(server: Headwater): Promise<Map<string, number[]>> {
  const rows = new Map<string, number[]>();
  for (const fn of ['count', 'sum', 'mean', 'min', 'max']) {
    const { series } = await getJson<Points>(
      `http://${http(server)}/api/v1/query?measurement=SDS011&field=P1&every=1d&fn=${fn}`,
    );
    for (const { tags, points } of series)
      for (const [time, value] of points) {
        const key = `${tags['sensor_id']} ${new Date(time).toISOString().slice(0, 10)}`;
        rows.set(key, [...(rows.get(key) ?? []), value as number]);
      }
  }
  return rows;
}

const byRows = (rows: Row[]): Map<string, number[]> =>
  new Map(
    rows.map(([series, date, ...values]) => [
      `${/sensor_id=(\d+)/.exec(series)?.[1]} ${date}`,
      values.map(Number),
    ]),
  );

const byPython = async (engine: string): Promise<Map<string, number[]>> => {
  const script = join(ROOT, 'test/services/lake-python/aggregate.py');
  const lake = join(folder, 'collector/lake');
  const { stdout } = await promisify(execFile)(LAKE_PYTHON, [script, lake, 'P1', engine], {
    maxBuffer: 64 << 20,
    env: { ...process.env, SPARK_LOCAL_IP: '127.0.0.1' },
  });
  return byRows(JSON.parse(/^RESULT (.*)$/m.exec(stdout)?.[1] ?? '') as Row[]);
};

async function byDuckDb(): Promise<Map<string, number[]>> {
  const instance = await openDuckDb(':memory:', { memoryBytes: 256 << 20, files: true });
  const connection = await instance.connect();
  const files = join(folder, 'collector/lake/readings/**/*.parquet');
  const result = await connection.runAndReadAll(
    `SELECT series, CAST(date AS VARCHAR), count(v), sum(v), avg(v), min(v), max(v) FROM (SELECT series, date, fields['P1'] AS v FROM read_parquet('${files}', hive_partitioning = true)) WHERE v IS NOT NULL GROUP BY series, date`,
  );
  connection.closeSync();
  instance.closeSync();
  return byRows(result.getRows() as unknown as Row[]);
}

function expectSame(found: Map<string, number[]>, expected: Map<string, number[]>): void {
  expect([...found.keys()].sort()).toEqual([...expected.keys()].sort());
  for (const [key, values] of expected) {
    const other = found.get(key) ?? [];
    expect(other[0], key).toBe(values[0]);
    for (const [at, value] of values.entries())
      expect(Math.abs((other[at] ?? Number.NaN) - value), `${key} ${at}`).toBeLessThanOrEqual(
        1e-9 * Math.max(1, Math.abs(value)),
      );
  }
}

describe('the Aberdeen week, or its end', () => {
  it('lake rows, readings and rows of the file are as many', async () => {
    const { stdout, code } = await run(['lake', '--http', http(embedded), '--json']);
    expect(code).toBe(0);
    const { zones } = JSON.parse(stdout) as {
      zones: { zone: string; rows: number; from: string; to: string }[];
    };
    expect(zones).toMatchObject([
      { zone: 'raw' },
      { zone: 'readings', rows: ROWS, from: dateOf(week.rows[0] ?? {}), to: '2019-03-16' },
      { zone: 'results' },
    ]);
    const text = await run(['lake', '--http', http(embedded)]);
    expect(text.stdout).toContain(`readings  ${ROWS} rows`);
  });

  it(`embedded store, InfluxDB, DuckDB and ${ON_FILES.join(' and ')} on the files give the same numbers`, async () => {
    const expected = await byApi(embedded);
    const stations = new Set(OF_P1.map((row) => `${row['sensor_id']} ${dateOf(row)}`));
    expect(expected.size).toBe(stations.size);
    const found = await Promise.all([byApi(onInflux), byDuckDb(), ...ON_FILES.map(byPython)]);
    for (const each of found) expectSame(each, expected);
  });

  it('windows are the same on both stores, and hold every reading once', async () => {
    const [a, b] = [
      await pointsOf(http(embedded), 'hourly'),
      await pointsOf(http(onInflux), 'hourly'),
    ];
    expect(difference(a, b)).toBeUndefined();
    const { series } = await getJson<Points>(
      `http://${http(embedded)}/api/v1/query?measurement=hourly&field=P1_count&fn=sum`,
    );
    const counted = series.reduce((sum, { points }) => sum + (points[0]?.[1] as number), 0);
    expect(counted).toBe(OF_P1.length);
    expect((await pointsOf(http(embedded), 'alerts')).length).toBeGreaterThan(0);
  });

  it('batch jobs give the same on DuckDB and Spark, once however often they run, and stand in store and lake', async () => {
    const job = async (...args: string[]): Promise<string> => {
      const { code, stdout, output } = await run(['batch', ...args, '--http', http(embedded)]);
      expect(code, output).toBe(0);
      return stdout;
    };
    const first = new Map<string, string[]>();
    for (const name of JOBS) {
      expect(await job('run', name, '--from', '2019-03-16')).toMatch(/2019-03-16: \d+ results in/);
      expect(await job('run', name, '--from', '2019-03-16')).toContain('unchanged');
    }
    await processed([http(embedded)]);
    for (const name of JOBS) first.set(name, await pointsOf(http(embedded), name));
    await embedded.kill();
    embedded = await startUp(folder, {
      ...settings,
      'batch.engine': 'spark',
      'batch.python': LAKE_PYTHON,
    });
    for (const name of ON_SPARK)
      expect(await job('run', name, '--from', '2019-03-16', '--force')).toMatch(
        /2019-03-16: \d+ results in/,
      );
    await processed([http(embedded)]);
    const close = (text: string): [name: string, value: unknown] => {
      const cut = text.lastIndexOf(' ');
      return [text.slice(0, cut), JSON.parse(text.slice(cut + 1))];
    };
    for (const name of JOBS) {
      const again = (await pointsOf(http(embedded), name)).map(close);
      const before = (first.get(name) ?? []).map(close);
      expect(again.map(([key]) => key)).toEqual(before.map(([key]) => key));
      for (const [index, [key, value]] of before.entries()) {
        const other = again[index]?.[1];
        if (typeof value === 'number') expect(other, key).toBeCloseTo(value, 9);
        else expect(other, key).toBe(value);
      }
    }
    // What is odd in this data is found: gaps, and humidity that stands at 99.90.
    await job('backfill', 'data_quality', '--engine', 'duckdb', '--force');
    await processed([http(embedded)]);
    const quality = await pointsOf(http(embedded), 'data_quality');
    const found = (field: string, value: string): number =>
      quality.filter((text) => text.startsWith(`${field} `) && text.endsWith(` ${value}`)).length;
    expect(found('gaps', '2') + found('gaps', '1')).toBeGreaterThan(10);
    expect(found('stuck_bool', 'true')).toBeGreaterThan(10);
    expect(found('saturated_bool', 'true')).toBeGreaterThan(5);
    expect(found('top', '99.9')).toBeGreaterThan(5);
  }, 400_000);
});
