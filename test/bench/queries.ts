/**
 * Queries on the embedded store with 10 million readings of 10,000 series, beside InfluxDB 1.8 with the same; what other
 * requests wait meanwhile; and an export of all of it, in memory that does not grow, cut and gone on with.
 */
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { BLOCK_POINTS, putInOrder } from '../../collector/store/duckdb-order.ts';
import { openDuckDb } from '../../collector/duckdb/database.ts';
import { startInflux1 } from '../services/servers.ts';
import { startCollector, temporaryFolder, type Headwater } from '../support/process.ts';
import { messageOf } from '../../shared/errors.ts';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { costOf, quantile } from './measure.ts';

const T0 = 1_700_000_000_000;
const PER_GATEWAY = 100;
const STEP_MS = 10_000;

interface Size {
  readings: number;
  series: number;
}

const quiet = (): void => undefined;
const tagsOf = (series: number): Record<string, string> => ({
  device: `d${series}`,
  gateway: `gw${Math.floor(series / PER_GATEWAY)}`,
});
/** Reading n is of series n % series, in step n / series. */
const valueOf = (reading: number): number => ((reading * 7919) % 3000) / 100;

/** The store's own file, filled by SQL: what stages would have written, in the order in which the store puts it. */
async function fillStore(folder: string, { readings, series }: Size): Promise<void> {
  const store = new DuckDbStore(
    { folder, memoryBytes: 512 * 1024 * 1024, now: () => Date.now() },
    quiet,
  );
  await store.open();
  // Makes every series, with a point of its own first step.
  await store.apply(
    Array.from({ length: series }, (_, at) => ({
      identity: { gateway: tagsOf(at)['gateway'] ?? '', epoch: 'e', sequence: at, index: 0 },
      put: {
        measurement: 'climate',
        tags: tagsOf(at),
        fields: { temperature: valueOf(at) },
        sequence: at,
        index: 0,
        timeMs: T0,
        ns: 0,
      },
    })),
    new Map(),
  );
  await store.close();
  const file = await openDuckDb(join(folder, 'store', 'readings.duckdb'), {
    memoryBytes: 1024 * 1024 * 1024,
    files: false,
  });
  const connection = await file.connect();
  for (let from = series; from < readings; from += BLOCK_POINTS) {
    const to = Math.min(from + BLOCK_POINTS, readings);
    await connection.run(
      `INSERT INTO points SELECT n % ${series}, (${T0} + (n // ${series}) * ${STEP_MS}) * 1000000, ((n * 7919) % 3000) / 100.0, NULL, (n % ${series}) // ${PER_GATEWAY}, n, 0 FROM range(${from}, ${to}) AS t(n)`,
    );
    // The last of them are as they came.
    if (to - from === BLOCK_POINTS) await putInOrder(connection, BLOCK_POINTS);
  }
  await connection.run('CHECKPOINT');
  connection.closeSync();
  file.closeSync();
}

async function fillInflux(address: string, { readings, series }: Size): Promise<void> {
  await fetch(`http://${address}/query?q=${encodeURIComponent('CREATE DATABASE headwater')}`, {
    method: 'POST',
  });
  for (let from = 0; from < readings; from += 50_000) {
    const lines: string[] = [];
    for (let at = from; at < Math.min(from + 50_000, readings); at++) {
      const { device, gateway } = tagsOf(at % series);
      lines.push(
        `climate,device=${device},gateway=${gateway} temperature=${valueOf(at)} ${T0 + Math.floor(at / series) * STEP_MS}`,
      );
    }
    const response = await fetch(`http://${address}/write?db=headwater&precision=ms`, {
      method: 'POST',
      body: lines.join('\n'),
    });
    if (response.status !== 204) throw new Error(`InfluxDB: ${await response.text()}`);
  }
}

function queries({ readings, series }: Size): Record<string, string> {
  const end = T0 + Math.floor(readings / series) * STEP_MS;
  const all = `time >= ${T0}ms AND time <= ${end}ms`;
  return {
    'one series, an hour by minutes': `SELECT mean("temperature") FROM "climate" WHERE "device" = 'd7' AND time >= ${end - 3_600_000}ms AND time <= ${end}ms GROUP BY time(1m) fill(none)`,
    'a gateway of 100 series, all time by 10 minutes': `SELECT mean("temperature") FROM "climate" WHERE "gateway" = 'gw3' AND ${all} GROUP BY time(10m), "device" fill(none)`,
    'the newest of a gateway': `SELECT last("temperature") FROM "climate" WHERE "gateway" = 'gw3' GROUP BY "device"`,
    'count of all': `SELECT count("temperature") FROM "climate"`,
    'p95 of all, by hours': `SELECT percentile("temperature", 95) FROM "climate" WHERE ${all} GROUP BY time(1h)`,
    'raw points of a series': `SELECT "temperature" FROM "climate" WHERE "device" = 'd7'`,
    'values of a tag': `SHOW TAG VALUES WITH KEY = "gateway"`,
  };
}

interface Timed {
  p50Ms: number;
  p99Ms: number;
  /** Of the server, a question. */
  cpuMs: number;
  bytes: number;
  /** Answers that this was measured of. */
  runs: number;
}

/** One answer at most; a question that takes longer is said to, and the next one is asked. */
const ANSWER_MS = 100_000;
/** All runs of a question; there is one at least. */
const RUNS_MS = 60_000;

const answerOf = async (url: string): Promise<string> =>
  await (await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS) })).text();

/** What went wrong instead, in words. */
async function timed(url: string, pid: number, most: number): Promise<Timed | string> {
  const times: number[] = [];
  let bytes = 0;
  const before = costOf(pid).cpuSeconds;
  const until = performance.now() + RUNS_MS;
  try {
    while (times.length < most && (times.length === 0 || performance.now() < until)) {
      const began = performance.now();
      const text = await answerOf(url);
      times.push(performance.now() - began);
      bytes = text.length;
      if (text.includes('"error"')) return text.slice(0, 500);
    }
  } catch (error) {
    return `no answer within ${ANSWER_MS / 1000} s: ${messageOf(error)}`;
  }
  const runs = times.length;
  const cpuMs = ((costOf(pid).cpuSeconds - before) * 1000) / runs;
  times.sort((a, b) => a - b);
  return { p50Ms: quantile(times, 0.5), p99Ms: quantile(times, 0.99), cpuMs, bytes, runs };
}

/** The first answers are of no account: a server that has run for a while is asked. */
async function warmed(url: string, ms: number): Promise<void> {
  try {
    for (const until = performance.now() + ms; performance.now() < until; ) await answerOf(url);
  } catch {
    // Said where it is measured.
  }
}

const figures = (timed: Timed | string): string =>
  typeof timed === 'string'
    ? timed
    : `p50 ${timed.p50Ms.toFixed(1)}, CPU ${timed.cpuMs.toFixed(2)} ms`;

/** Asks again and again until `done`: what each took. */
async function meanwhile(
  ask: () => Promise<Response>,
  done: () => boolean,
): Promise<{ count: number; p50Ms: number; p99Ms: number; mostMs: number }> {
  const times: number[] = [];
  while (!done()) {
    const began = performance.now();
    await (await ask()).arrayBuffer();
    times.push(performance.now() - began);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  times.sort((a, b) => a - b);
  return {
    count: times.length,
    p50Ms: quantile(times, 0.5),
    p99Ms: quantile(times, 0.99),
    mostMs: times.at(-1) ?? Number.NaN,
  };
}

interface Exported {
  /** Up to the last cursor or the end: what is sure. */
  rows: number;
  /** The sum of the rows' checksums: the same whatever their parts. */
  sum: bigint;
  cursor: string | undefined;
  ended: boolean;
}

/** All points as JSON lines, as docs/api.md says that they are read; `cutAfter`: the reader leaves then. */
async function exported(
  base: string,
  cursor: string | undefined,
  cutAfter = Number.POSITIVE_INFINITY,
): Promise<Exported> {
  const response = await fetch(
    `${base}/api/v1/export?format=jsonl${cursor === undefined ? '' : `&cursor=${cursor}`}`,
  );
  const found: Exported = { rows: 0, sum: 0n, cursor, ended: false };
  let [rows, sum] = [0, 0];
  let rest = '';
  const decoder = new TextDecoder();
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    const text = rest + decoder.decode(chunk, { stream: true });
    let from = 0;
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', from)) {
      const line = text.slice(from, at);
      from = at + 1;
      if (!line.startsWith('{"cursor"') && !line.startsWith('{"end"')) {
        rows++;
        sum += crc32(line);
        continue;
      }
      found.rows += rows;
      found.sum += BigInt(sum);
      [rows, sum] = [0, 0];
      const told = JSON.parse(line) as { cursor?: string; end?: boolean };
      found.cursor = told.cursor ?? found.cursor;
      found.ended = told.end === true;
    }
    rest = text.slice(from);
    if (found.rows + rows >= cutAfter) break;
  }
  return found;
}

/** What the process takes meanwhile, in bytes. */
async function watched<T>(
  pid: number,
  work: Promise<T>,
): Promise<{ given: T; seconds: number; memory: object }> {
  const before = costOf(pid).anonymousBytes;
  let most = 0;
  const watch = setInterval(() => (most = Math.max(most, costOf(pid).anonymousBytes)), 100);
  const began = performance.now();
  try {
    const given = await work;
    const memory = { memoryBeforeBytes: before, memoryMostBytes: most };
    return { given, seconds: (performance.now() - began) / 1000, memory };
  } finally {
    clearInterval(watch);
  }
}

/** A reader leaves in the middle, and goes on with the last cursor. `isWhole`: the parts are what `whole` is, each row once. */
async function cutOf(base: string, size: Size, whole: Exported): Promise<object> {
  const first = await exported(base, undefined, size.readings / 2);
  const second = await exported(base, first.cursor);
  const [rows, sum] = [first.rows + second.rows, first.sum + second.sum];
  const isWhole = rows === whole.rows && sum === whole.sum;
  return { rowsBeforeCut: first.rows, rowsAfterCursor: second.rows, ended: second.ended, isWhole };
}

/** The same points from an InfluxDB, by a collector whose store it is. */
async function exportingInflux(address: string, size: Size): Promise<object> {
  const args = ['--data', temporaryFolder(), '--lake', 'none', '--store', address];
  const theirs = await startCollector(args);
  const base = `http://${theirs.address['http']}`;
  const { given, seconds, memory } = await watched(theirs.pid, exported(base, undefined));
  const cut = await cutOf(base, size, given);
  await theirs.kill();
  const { rows, ended } = given;
  return { rows, ended, rowsPerSecond: Math.round(rows / seconds), ...memory, cut };
}

async function exporting(ours: Headwater, size: Size): Promise<object> {
  const base = `http://${ours.address['http']}`;
  let isDone = false;
  const work = watched(ours.pid, exported(base, undefined)).finally(() => (isDone = true));
  const post = (): Promise<Response> =>
    fetch(`${base}/api/v1/ingest?topic=bench/lone`, { method: 'POST', body: '{"temperature":1}' });
  const [whole, health, acknowledgement, other] = await Promise.all([
    work,
    meanwhile(
      () => fetch(`${base}/healthz`),
      () => isDone,
    ),
    meanwhile(post, () => isDone),
    meanwhile(
      () => fetch(`${base}/query?q=${encodeURIComponent('SHOW TAG VALUES WITH KEY = "gateway"')}`),
      () => isDone,
    ),
  ]);
  const { given, seconds, memory } = whole;
  return {
    rows: given.rows,
    ended: given.ended,
    rowsPerSecond: Math.round(given.rows / seconds),
    ...memory,
    meanwhile: { health, acknowledgement, other },
    // The whole once more: what was posted meanwhile is in it.
    cut: await cutOf(base, size, await exported(base, undefined)),
  };
}

export async function benchQueries(smoke: boolean, say: (text: string) => void): Promise<object> {
  const size = smoke ? { readings: 20_000, series: 200 } : { readings: 10_000_000, series: 10_000 };
  const runs = smoke ? 3 : 50;
  say(`queries: ${size.readings} readings of ${size.series} series, beside InfluxDB 1.8`);
  const folder = temporaryFolder();
  await fillStore(folder, size);
  const ours = await startCollector(['--data', folder, '--lake', 'none']);
  const influx = await startInflux1();
  await fillInflux(influx.address, size);
  const answers: Record<string, object> = {};
  for (const [name, q] of Object.entries(queries(size))) {
    const query = `/query?epoch=ms&db=headwater&q=${encodeURIComponent(q)}`;
    const [own, peer] = [ours.address['http'], influx.address].map((at) => `http://${at}${query}`);
    for (const url of [own, peer]) await warmed(url ?? '', smoke ? 0 : 3000);
    const headwater = await timed(own ?? '', ours.pid, runs);
    const influxdb = await timed(peer ?? '', influx.pid ?? 0, runs);
    answers[name] = { headwater, influxdb };
    say(`    ${name}: ${figures(headwater)}; InfluxDB ${figures(influxdb)}`);
  }
  const exportOfInfluxDb = await exportingInflux(influx.store, size);
  await influx.stop();
  const exportFigures = await exporting(ours, size);
  await ours.kill();
  return { ...size, answers, export: exportFigures, exportOfInfluxDb };
}
