/**
 * Whether everything that a collector makes of its readings is right: store, windows, derived readings, lake (raw, readings),
 * and what audit, lake check and ledger say.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KIND_RECORDS } from '../../shared/frame/frame.ts';
import { collectorSettings, processed } from '../support/lake.ts';
import { run, until, type Headwater } from '../support/process.ts';
import { fetchOnce, getJson, type Points } from '../support/reconcile.ts';

const RULES = `rules:
  - { name: seconds, from: { measurement: M, field: n }, window: 1s, compute: [count, sum] }
  - { name: twice, from: { measurement: M }, derive: { twice: "n * 2" } }
`;

/** Settings of a collector that can be asked. `folder`: where its rules are put. */
export function settingsFor(measurement: string, folder: string): string {
  const rules = join(folder, 'rules.yaml');
  writeFileSync(rules, RULES.replaceAll('M', measurement));
  return collectorSettings({ 'lake.flushSeconds': 1, 'stream.rules': rules });
}

/** Of one value's points: how many, and their sum. */
async function sums(http: string, measurement: string, field: string): Promise<[number, number]> {
  const query = new URLSearchParams({ measurement, field }).toString();
  const { series } = await getJson<Points>(`http://${http}/api/v1/query?${query}`);
  const values = series.flatMap(({ points }) => points.map(([, value]) => Number(value)));
  return [values.length, values.reduce((sum, value) => sum + value, 0)];
}

/** What a SELECT over the lake gives. */
async function numberOf(http: string, sql: string): Promise<number> {
  const body = JSON.stringify({ sql });
  const headers = { 'content-type': 'application/json' };
  const response = await fetchOnce(`http://${http}/api/v1/sql`, { method: 'POST', headers, body });
  const [, row = '[]'] = (await response.text()).split('\n');
  const [value] = JSON.parse(row) as unknown[]; // The one of the one row.
  return Number(value);
}

/** What store, windows, lake and audit say otherwise than the readings that are there. */
export async function differences(collector: Headwater, measurement: string): Promise<string[]> {
  const http = collector.address['http'] ?? '';
  await processed([http]);
  const said: string[] = [];
  const [count, sum] = await sums(http, measurement, 'n');
  const compare = (what: string, is: number, expected: number): void => {
    if (is !== expected) said.push(`${what}: ${is} instead of ${expected}`);
  };
  const [windows, counted] = await sums(http, 'seconds', 'n_count');
  compare('counted by windows', counted, count);
  compare('summed by windows', (await sums(http, 'seconds', 'n_sum'))[1], sum);
  const [derived, derivedSum] = await sums(http, 'twice', 'twice');
  compare('derived', derived, count);
  compare('sum of what was derived', derivedSum, 2 * sum);
  const messages = `SELECT coalesce(sum("count"), 0) FROM raw WHERE kind = ${KIND_RECORDS}`;
  const rowsOf = (zone: string, name: string): string =>
    `SELECT count(*) FROM ${zone} WHERE measurement = '${name}'`;
  const zones: [string, string, number][] = [
    ['raw', messages, count],
    ['readings', rowsOf('readings', measurement), count],
    ['results, derived', rowsOf('results', 'twice'), derived],
    ['results, windows', rowsOf('results', 'seconds'), windows],
  ];
  for (const [zone, sql, expected] of zones) {
    const has = async (): Promise<boolean> => (await numberOf(http, sql)) === expected;
    // It waits for others for a second.
    await until(zone, async () => (await has()) || undefined, 15_000).catch(() => undefined);
    compare(`lake, ${zone}`, await numberOf(http, sql), expected);
  }
  for (const command of [['audit', '--full'], ['lake', 'check'], ['ledger']]) {
    const { code, output } = await run([...command, '--http', http]);
    if (code !== 0) said.push(`headwater ${command.join(' ')}: ${output.slice(0, 4000)}`);
  }
  return said;
}
