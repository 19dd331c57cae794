/**
 * `npm run dashboards:beside`: every query of every dashboard of the store, of its variables, marks and alert rules, on what a
 * collector has made: the Aberdeen week with hourly results and alerts, and what is published live. The same log is stored in
 * InfluxDB 1.8, in InfluxDB 2 and in the embedded store, and each query is asked of all three: counts exactly, floats within
 * 1e-9. Ends with 1 when an answer differs, or a panel has no data that may not be empty.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SAMPLE_FIRST_MS, SAMPLE_LAST_MS, SAMPLE_ROWS } from '../../cli/sample.ts';
import { SPECS } from '../../dashboards/all.ts';
import { STORE_RULES } from '../../dashboards/grafana-alerts.ts';
import { bring, startInflux1, startInflux2, type Influx } from '../services/servers.ts';
import { difference, merged, type Result } from '../support/influxql.ts';
import { collectorSettings, ingest, processed, startUp } from '../support/lake.ts';
import { startCollector, temporaryFolder, until, type Headwater } from '../support/process.ts';
import { getJson } from '../support/reconcile.ts';
import { flagsOf } from '../../scripts/flags.mjs';

flagsOf(import.meta.url);
bring('influxdb1', 'influxdb2');

const RULES = `rules:
  - name: hourly
    from: { measurement: '*' }
    window: 1h
    compute: [count, mean, max]
    lateness: 10d
  - name: dusty
    from: { measurement: SDS011, field: P1 }
    alert: { above: 40, clear: 30 }
`;
const LIVE_MS = 20_000;
const WAIT_MS = 540_000;
const say = (text: string): void => void process.stderr.write(`dashboards: ${text}\n`);

type Ask = (q: string) => Promise<Result[]>;

const asker =
  (base: string, database: string, token: string): Ask =>
  async (q) => {
    const query = new URLSearchParams({ db: database, epoch: 'ns', q });
    const headers = token === '' ? {} : { authorization: `Token ${token}` };
    const response = await fetch(`http://${base}/query?${query}`, { headers });
    return ((await response.json()) as { results: Result[] }).results;
  };

/** The week, and some readings of now; gives when the last of them was there, epoch milliseconds. */
async function made(folder: string, settings: Record<string, string | number>): Promise<number> {
  const up = await startUp(folder, settings);
  const http = up.address['http'] ?? '';
  const embedded = asker(http, 'headwater', '');
  const has = async (q: string): Promise<true | undefined> =>
    ((await embedded(q))[0]?.series ?? []).length > 0 || undefined;
  const count = async (): Promise<true | undefined> => {
    const { stages } = await getJson<{ stages: { lagRecords: number | null }[] }>(
      `http://${http}/api/v1/status`,
    );
    return stages.every(({ lagRecords }) => lagRecords === 0) || undefined;
  };
  await until('the week', () => existsSync(join(folder, 'sample.json')) || undefined, WAIT_MS);
  for (const since = Date.now(), n = { at: 0 }; Date.now() - since < LIVE_MS; n.at++) {
    await ingest(up, 'hall/1/climate', {
      temperature: 20 + (n.at % 7) / 4,
      humidity: 40 + (n.at % 9),
    });
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  // The collector's first word on a gateway, and on what is measured in what, comes after a minute.
  for (const measurement of ['headwater_gateways', 'headwater_fields', 'hourly'])
    await until(measurement, () => has(`SELECT * FROM "${measurement}" LIMIT 1`), WAIT_MS, 500);
  await until('all of the week', async () => await weekIsThere(embedded), WAIT_MS, 1000);
  await until('all stages', count, WAIT_MS, 1000);
  const atMs = Date.now();
  await up.kill('SIGTERM');
  return atMs;
}

async function weekIsThere(ask: Ask): Promise<true | undefined> {
  const [result] = await ask('SELECT count("lat") FROM /.*/ WHERE time < now() - 300d');
  const rows = (result?.series ?? []).reduce(
    (sum, { values }) => sum + Number((values[0] as number[])[1]),
    0,
  );
  return rows >= SAMPLE_ROWS || undefined;
}

/** The collector on this log, until its store has everything. */
async function stored(more: string[], token: string): Promise<Headwater> {
  const collector = await startCollector(
    more,
    token === '' ? {} : { HEADWATER_INFLUXDB_TOKEN: token },
  );
  const http = collector.address['http'] ?? '';
  await until(
    'the store to be filled',
    async () => {
      const response = await fetch(`http://${http}/api/v1/latest?measurement=climate`);
      const { series, incomplete } = (await response.json()) as {
        series: unknown[];
        incomplete?: unknown;
      };
      return (response.ok && series.length > 0 && incomplete === undefined) || undefined;
    },
    WAIT_MS,
    500,
  );
  await processed([http], WAIT_MS);
  return collector;
}

interface Question {
  dashboard: string;
  panel: string;
  query: string;
  isQuiet: boolean;
}

function questions(): Question[] {
  return [
    ...Object.entries(SPECS).flatMap(([dashboard, { variables, annotations = [], panels }]) => [
      ...[...variables, ...annotations].map(({ query }) => ({
        dashboard,
        panel: '',
        query,
        isQuiet: true,
      })),
      ...panels.flatMap(({ title, queries, units }) => [
        ...queries.map(({ query, quiet }) => ({
          dashboard,
          panel: title,
          query,
          isQuiet: quiet === true,
        })),
        ...(units === undefined ? [] : [{ dashboard, panel: title, query: units, isQuiet: true }]),
      ]),
    ]),
    ...STORE_RULES.map(({ query }) => ({
      dashboard: 'alert rules',
      panel: '',
      query,
      isQuiet: true,
    })),
  ];
}

const WEEK = {
  from: SAMPLE_FIRST_MS,
  to: SAMPLE_LAST_MS,
  __interval: '1h',
  measurement: 'SDS011',
  field: 'P1',
  result: 'hourly',
  result_field: 'P1_mean',
};

const filled = (query: string, { from, to, ...names }: typeof WEEK): string =>
  query.replaceAll(/\$(\w+)/g, (whole, name: string) => {
    const all: Record<string, string> = {
      ...names,
      gateway: '.*',
      timeFilter: `time >= ${from}ms AND time <= ${to}ms`,
    };
    return all[name] ?? whole;
  });

/** Rows of one time have no order in InfluxDB, so of those at a LIMIT's end it may give any. */
function sorted(results: Result[], q: string): Result[] {
  const limit = Number(/ LIMIT (\d+)/.exec(q)?.[1] ?? 0);
  return results.map(({ series = [], ...rest }) => ({
    ...rest,
    series: series.map((each) => {
      const rows = each.values as unknown[][];
      const last = rows.length === limit ? rows.at(-1)?.[0] : undefined;
      const texts = rows.map((row) => JSON.stringify(row[0] === last ? [last] : row));
      // Within a time only: those stay as they came.
      const order = new Map([...new Set(rows.map(([time]) => time))].map((time, at) => [time, at]));
      const values = rows
        .map((row, at): [number, string] => [order.get(row[0]) ?? 0, texts[at] ?? ''])
        .sort(([a, x], [b, y]) => a - b || (x < y ? -1 : 1))
        .map(([, text]) => JSON.parse(text) as unknown);
      return { ...each, values };
    }),
  }));
}

async function compared(asks: Record<string, Ask>, atMs: number): Promise<string[]> {
  const live = {
    from: atMs - 3_600_000,
    to: atMs,
    __interval: '10s',
    measurement: 'climate',
    field: 'temperature',
    result: 'hourly',
    result_field: 'temperature_mean',
  };
  const wrong: string[] = [];
  const panels = new Map<string, boolean>();
  let asked = 0;
  for (const { dashboard, panel, query, isQuiet } of questions()) {
    let hasData = false;
    for (const names of [WEEK, live, { ...live, from: WEEK.from, __interval: '1d' }]) {
      const q = filled(query, names);
      const answers = await Promise.all(Object.values(asks).map((ask) => ask(q)));
      const [first = [], ...others] = answers.map((results) => merged(sorted(results, q)));
      for (const [at, other] of others.entries()) {
        const found = difference(first, other);
        if (found !== undefined)
          wrong.push(`${dashboard}: ${q}\n  ${Object.keys(asks)[at + 1]}: ${found}`);
      }
      asked++;
      hasData ||= answers.every(([result]) => (result?.series ?? []).length > 0);
    }
    const name = `${dashboard}: '${panel}'`;
    if (panel !== '') panels.set(name, panels.get(name) === true || hasData || isQuiet);
  }
  for (const [name, has] of panels) if (!has) wrong.push(`${name} has no data`);
  process.stdout.write(
    `${asked} queries of ${Object.keys(SPECS).length} dashboards and the alert rules, ${panels.size} panels, asked of ${Object.keys(asks).join(', ')}: ${wrong.length} wrong\n`,
  );
  return wrong;
}

const folder = temporaryFolder();
const rules = join(folder, 'rules.yaml');
writeFileSync(rules, RULES);
const settings = { 'stream.rules': rules, 'lake.flushSeconds': 2 };
const atMs = await made(join(folder, 'data'), settings);
say('the week and what is live are there');
const data = ['--data', join(folder, 'data', 'collector'), '--config', collectorSettings(settings)];
const peers: Record<string, Influx> = {
  'InfluxDB 1.8': await startInflux1(),
  'InfluxDB 2': await startInflux2(),
};
const asks: Record<string, Ask> = {};
for (const [name, { store, token, address }] of Object.entries(peers)) {
  await (await stored([...data, '--store', store], token)).kill('SIGTERM');
  asks[name] = asker(address, store.split('/').at(-1) ?? '', token);
  say(`${name} has it`);
}
const collector = await stored(data, '');
const wrong = await compared(
  { embedded: asker(collector.address['http'] ?? '', 'headwater', ''), ...asks },
  atMs,
);
for (const text of wrong) process.stdout.write(`${text}\n`);
await collector.kill('SIGTERM');
for (const { stop } of Object.values(peers)) await stop();
process.exitCode = wrong.length === 0 ? 0 : 1;
