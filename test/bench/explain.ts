/**
 * `npm run explain:try`: every point of the Aberdeen week explained, by its series and time and by its identity, back to its bytes
 * and forward to its window; how long each answer took. Then answers of a site that are asked again as of then, after late
 * data, clock repairs and replays. `--every N`: each Nth reading, `--from K`: from the Kth on,
 * so that all are asked in N runs; `--answers N`: so many recorded answers. Ends with 1 when
 * anything differs.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Explained } from '../../collector/explain/explain.ts';
import { SAMPLE_ROWS } from '../../cli/sample.ts';
import { differing, recordedSite } from '../support/as-of.ts';
import { processed, startUp } from '../support/lake.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { getJson } from '../support/reconcile.ts';
import { costOf, quantile, waitedForCore } from './measure.ts';
import { flagsOf } from '../../scripts/flags.mjs';

const RULES = `rules:
  - name: hourly
    from: { measurement: '*' }
    window: 1h
    compute: [count, mean]
    lateness: 10d
`;
const AT_ONCE = 2;

interface Listed {
  gateway: string;
  epoch: string;
  sequence: number;
  index: number;
  measurement: string;
  tags: Record<string, string>;
  time: number;
  fields: Record<string, number>;
}

async function listed(http: string, every: number, from: number): Promise<Listed[]> {
  const sql = `SELECT gateway, epoch, sequence, "index", measurement, tags, time_ns // 1000000, fields FROM readings WHERE sequence % ${every} = ${from}`;
  const body = JSON.stringify({ sql });
  const response = await fetch(`http://${http}/api/v1/sql`, { method: 'POST', body });
  const lines = (await response.text()).trim().split('\n');
  const names = ['gateway', 'epoch', 'sequence', 'index', 'measurement', 'tags', 'time', 'fields'];
  return lines
    .map((line) => JSON.parse(line) as unknown)
    .filter((line) => Array.isArray(line))
    .map((line) => Object.fromEntries(names.map((name, at) => [name, line[at] as unknown])))
    .map((line) => line as unknown as Listed); // As the SQL says.
}

/** Why an answer is not what it has to be. */
function wrong(reading: Listed, points: Explained[]): string | undefined {
  const { gateway, epoch, sequence, index, fields } = reading;
  const point = points.find(
    ({ identity: id }) =>
      id.gateway === gateway &&
      id.epoch === epoch &&
      id.sequence === sequence &&
      id.index === index,
  );
  if (point === undefined) return 'not found';
  const { message, frame, mapping, forward, state, clock } = point;
  if (state !== 'present') return `it is said to be ${state}`;
  if (message?.payload == null || frame === null) return 'no bytes';
  const sent = JSON.parse(message.payload) as Record<string, unknown>;
  for (const [name, value] of Object.entries(fields))
    if (Number(sent[name]) !== value) return `${name} is not in its bytes`;
  if (mapping?.gives !== true) return 'no mapping';
  if (clock?.gave !== 'device') return `its time is said to be of the ${clock?.gave ?? 'nobody'}`;
  if (Object.keys(fields).length === 0) return undefined;
  const [window] = forward?.results ?? [];
  const isIn =
    window !== undefined && window.time <= reading.time && reading.time < Number(window.to);
  return isIn && window.fields !== null ? undefined : 'not in its window';
}

async function explainAll(http: string, pid: number, readings: readonly Listed[]): Promise<number> {
  const [cpu, waited] = [costOf(pid).cpuSeconds, waitedForCore(pid)];
  const took: number[] = [];
  const wrongs = new Map<string, number>();
  let next = 0;
  const one = async (reading: Listed, query: URLSearchParams): Promise<void> => {
    const since = performance.now();
    const { points } = await getJson<{ points: Explained[] }>(
      `http://${http}/api/v1/explain?${query.toString()}`,
    );
    took.push(performance.now() - since);
    const why = wrong(reading, points);
    if (why !== undefined) wrongs.set(why, (wrongs.get(why) ?? 0) + 1);
  };
  const worker = async (): Promise<void> => {
    for (let reading = readings[next++]; reading !== undefined; reading = readings[next++]) {
      const { gateway, epoch, sequence, index, measurement, tags, time } = reading;
      const series = new URLSearchParams({ measurement, time: String(time) });
      for (const [name, value] of Object.entries(tags)) series.append(`tag.${name}`, value);
      await one(reading, series);
      const identity = { gateway, epoch, sequence: String(sequence), index: String(index) };
      await one(reading, new URLSearchParams(identity));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  const sorted = Float64Array.from(took).sort();
  const [p50, p99, max] = [0.5, 0.99, 1].map((q) => quantile(sorted, q).toFixed(1));
  process.stdout.write(
    `explained ${readings.length} readings both ways, ${took.length} answers, ${AT_ONCE} at once: p50 ${p50} ms, p99 ${p99} ms, longest ${max} ms\n`,
  );
  const each = (seconds: number): string => `${((seconds * 1000) / took.length).toFixed(1)} ms`;
  process.stdout.write(
    `an answer took the collector ${each(costOf(pid).cpuSeconds - cpu)} of CPU, and waited ${each(waitedForCore(pid) - waited)} for a core\n`,
  );
  for (const [why, count] of wrongs) process.stdout.write(`WRONG ${count}: ${why}\n`);
  return wrongs.size;
}

async function aberdeen(every: number, from: number): Promise<number> {
  const folder = temporaryFolder();
  const rules = join(folder, 'rules.yaml');
  writeFileSync(rules, RULES);
  const settings = { 'stream.rules': rules, 'lake.flushSeconds': 5 };
  const up = await startUp(join(folder, 'data'), settings);
  const http = up.address['http'] ?? '';
  try {
    await until(
      'the week',
      async () => {
        const { zones } = await getJson<{ zones: { zone: string; rows: number }[] }>(
          `http://${http}/api/v1/lake`,
        );
        const rows = zones.find(({ zone }) => zone === 'readings')?.rows ?? 0;
        return rows >= SAMPLE_ROWS ? true : undefined;
      },
      600_000,
    );
    await processed([http], 600_000);
    return await explainAll(http, up.pid, await listed(http, every, from));
  } finally {
    await up.kill('SIGTERM');
  }
}

const { values } = flagsOf(import.meta.url, {
  options: {
    every: { type: 'integer', default: 1, min: 1, about: 'each so many readings one' },
    from: { type: 'integer', default: 0, about: 'the first of them' },
    answers: { type: 'integer', default: 1000 },
  },
});
const failures = await aberdeen(values.every, values.from);
const { recorded, site } = await recordedSite(temporaryFolder(), values.answers);
const { differ, doubts, p50, p99 } = await differing(site, recorded);
await site.close();
process.stdout.write(
  `asked ${recorded.length} recorded answers again as of then: ${differ} differ, ${doubts} with doubts; p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms\n`,
);
process.exitCode = failures + differ + doubts > 0 ? 1 : 0;
