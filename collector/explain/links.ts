/**
 * What was made of a reading, and of what a result was made: windows, alerts and derived values by the rules in force, batch
 * results by the manifests of their runs. Rules that were taken away since are not known; a job's SQL may look at any row of
 * the days that it reads, so of batches it is told which runs read the day.
 */
import type { Reading } from '../../shared/model/reading.ts';
import { quote } from '../duckdb/database.ts';
import { between } from '../duckdb/points.ts';
import type { BatchRunner } from '../batch/runner.ts';
import { DAY_MS, dayMs } from '../batch/job.ts';
import type { Lake } from '../lake/lake.ts';
import { dateOf } from '../lake/layout.ts';
import { pathList } from '../lake/lake-sql.ts';
import { objectOf } from '../lake/scan.ts';
import type { Log } from '../log/log.ts';
import type { TimeSeriesStore } from '../store/store.ts';
import { waysOf } from '../stream/engine.ts';
import { numbersOf } from '../stream/match.ts';
import { BATCH, STREAM, groupHash } from '../stream/results.ts';
import { ALERTS, type Rule } from '../stream/rules.ts';
import { epochOf, windowsOf } from '../stream/windows.ts';
import { findRows, onFiles, rowsIn, type Row } from './rows.ts';
import type { ScanLimits } from './tail.ts';

const LISTED_MAX = 100;

export interface LinkSources {
  lake: Lake | undefined;
  log: Log;
  store: TimeSeriesStore | undefined;
  /** Undefined: streams run elsewhere. */
  rules: readonly Rule[] | undefined;
  /** Undefined: batches run elsewhere. */
  batches: BatchRunner | undefined;
}

export interface Result {
  kind: 'window' | 'alert' | 'derive' | 'function';
  rule: string;
  measurement: string;
  tags: Record<string, string>;
  /** Epoch milliseconds. Of a window its begin. */
  time: number;
  /** Of a window, exclusive. */
  to: number | null;
  /** Epoch milliseconds of when it was said; null: it was not said yet, or was taken back. */
  revision: number | null;
  fields: Row['fields'] | null;
}

export interface BatchRun {
  job: string;
  date: string;
  /** Epoch milliseconds. */
  ran: number;
  /** It ran after the reading had arrived, and read its day. */
  read: boolean;
  results: number;
}

export interface Forward {
  results: Result[];
  batches: BatchRun[];
}

/** Results of some epochs of a rule's groups, at these times, from lake or log. */
async function resultRow(
  { lake, log, store }: LinkSources,
  identity: { epoch: string; sequence: number; index: number },
  timeMs: number,
  limits: ScanLimits,
): Promise<Row | undefined> {
  const asked = { identity: { gateway: STREAM, ...identity }, timeMs };
  const [row] = await findRows({ lake, log, store }, asked, limits, []);
  return row?.isRemoved === true ? undefined : row;
}

/** Alerts of some groups from the reading's time on, the first few. */
async function alertsOf(
  lake: Lake | undefined,
  epochs: readonly string[],
  timeMs: number,
): Promise<Result[]> {
  if (lake === undefined || epochs.length === 0) return [];
  const date = dateOf(timeMs);
  const filesOf = (): ReturnType<Lake['files']> =>
    lake.files('results', { from: date, to: date, gateway: STREAM });
  return await onFiles(lake, filesOf, async (connection, paths) => {
    if (paths.length === 0) return [];
    const sql = `SELECT epoch, tags, time_ns // 1000000, fields, texts, bools, revision FROM read_parquet(${pathList(paths)}, union_by_name = true, hive_partitioning = false) WHERE epoch IN (${epochs.map(quote).join(',')}) AND measurement = ${quote(ALERTS)} AND ${between('time_ns', timeMs, timeMs + 1)} AND NOT removed LIMIT ${LISTED_MAX}`;
    return (await rowsIn(connection, sql)).map(
      ([epoch, tags, time, fields, texts, bools, revision]): Result => ({
        kind: 'alert',
        rule: String(epoch).split('/')[0] ?? '',
        measurement: ALERTS,
        tags: objectOf<string>(tags),
        time: Number(time),
        to: null,
        revision: Number(revision),
        fields: {
          ...objectOf<number>(fields),
          ...objectOf<string>(texts),
          ...objectOf<boolean>(bools),
        },
      }),
    );
  });
}

const plainOf = (row: Row | undefined): Pick<Result, 'revision' | 'fields'> => ({
  revision: row?.revision ?? row?.arrivedMs ?? null,
  fields: row?.fields ?? null,
});

async function streamed(sources: LinkSources, row: Row, limits: ScanLimits): Promise<Result[]> {
  const results: Result[] = [];
  const { identity, timeMs, measurement, tags, fields } = row;
  const alertEpochs: string[] = [];
  const seen = new Set<string>();
  for (const { rule, source, hash, tags: group } of waysOf(sources.rules ?? [], {
    measurement,
    tags,
  })) {
    if (rule.kind === 'alert')
      for (const [field] of numbersOf(source, fields))
        alertEpochs.push(epochOf(rule, groupHash({ ...group, field })));
    if (rule.kind === 'silence' || rule.kind === 'alert') continue;
    if (rule.kind !== 'function' && numbersOf(source, fields).length === 0) continue;
    const own = { kind: rule.kind, rule: rule.name, measurement: rule.measurement };
    if (rule.kind === 'window')
      for (const window of windowsOf(rule, timeMs)) {
        const name = `${rule.name}/${hash}/${window}`;
        if (seen.has(name) || results.length >= LISTED_MAX) continue;
        seen.add(name);
        const time = window * rule.everyMs;
        const of = { epoch: epochOf(rule, hash), sequence: window, index: 0 };
        const found = await resultRow(sources, of, time, limits);
        results.push({ ...own, tags: group, time, to: time + rule.sizeMs, ...plainOf(found) });
      }
    else {
      const of =
        rule.kind === 'derive'
          ? {
              epoch: `${rule.name}/${identity.gateway}/${identity.epoch}`,
              sequence: identity.sequence,
              index: identity.index,
            }
          : { epoch: epochOf(rule, hash), sequence: Math.max(0, timeMs), index: row.ns };
      const found = await resultRow(sources, of, timeMs, limits);
      results.push({ ...own, tags: group, time: timeMs, to: null, ...plainOf(found) });
    }
  }
  return [...results, ...(await alertsOf(sources.lake, alertEpochs, timeMs))];
}

async function batched({ batches }: LinkSources, row: Row): Promise<BatchRun[]> {
  const runs: BatchRun[] = [];
  const day = dayMs(dateOf(row.timeMs));
  for (const job of batches?.options.jobs ?? [])
    for (let at = 0; at < job.inputDays && runs.length < LISTED_MAX; at++) {
      const date = dateOf(day + at * DAY_MS);
      const manifest = await batches?.manifest(job, date);
      if (manifest === undefined) continue;
      const read = manifest.ranMs >= (row.saidMs ?? row.arrivedMs ?? 0);
      runs.push({ job: job.name, date, ran: manifest.ranMs, read, results: manifest.rows.length });
    }
  return runs;
}

/** Of a reading. */
export async function forwardOf(
  sources: LinkSources,
  row: Row,
  limits: ScanLimits,
): Promise<Forward> {
  return {
    results: await streamed(sources, row, limits),
    batches: await batched(sources, row),
  };
}

export interface Backward {
  kind: 'window' | 'alert' | 'derive' | 'function' | 'silence' | 'batch' | 'unknown';
  /** Rule or job. */
  name: string;
  /** Of what it is made, epoch milliseconds. */
  from: number | null;
  /** Exclusive. */
  to: number | null;
  /** How many readings that are; null: not known. */
  readings: number | null;
  /** The first of them. */
  inputs: { gateway: string; epoch: string; sequence: number; index: number; time: number }[];
}

/** Readings of a group in a range of time. */
async function inputsOf(
  lake: Lake,
  from: number,
  to: number,
  isOf: (reading: Pick<Reading, 'measurement' | 'tags'>) => boolean,
  maySee: (gateway: string) => boolean,
): Promise<Pick<Backward, 'readings' | 'inputs'>> {
  const filesOf = (): ReturnType<Lake['files']> =>
    lake.files('readings', { from: dateOf(from), to: dateOf(to - 1) });
  return await onFiles(lake, filesOf, async (connection, paths) => {
    if (paths.length === 0) return { readings: 0, inputs: [] };
    const rows = `read_parquet(${pathList(paths)}, union_by_name = true, hive_partitioning = false) WHERE ${between('time_ns', from, to)}`;
    const list = `SELECT series, any_value(measurement), any_value(tags), any_value(gateway), count(*) FROM ${rows} GROUP BY series`;
    const wanted: string[] = [];
    let readings = 0;
    for (const [series, measurement, tags, gateway, count] of await rowsIn(connection, list)) {
      const named = { measurement: String(measurement), tags: objectOf<string>(tags) };
      if (!isOf(named)) continue;
      readings += Number(count);
      if (maySee(String(gateway))) wanted.push(String(series));
    }
    if (wanted.length === 0) return { readings, inputs: [] };
    const first = `SELECT gateway, epoch, sequence, "index", time_ns // 1000000 FROM ${rows} AND series IN (${wanted.map(quote).join(',')}) ORDER BY time_ns LIMIT ${LISTED_MAX}`;
    const inputs = (await rowsIn(connection, first)).map(
      ([gateway, epoch, sequence, index, time]) => ({
        gateway: String(gateway),
        epoch: String(epoch),
        sequence: Number(sequence),
        index: Number(index),
        time: Number(time),
      }),
    );
    return { readings, inputs };
  });
}

/** Of a result; undefined for what is none. */
export async function backwardOf(
  { lake, rules, batches }: LinkSources,
  { identity, timeMs }: Row,
  maySee: (gateway: string) => boolean,
): Promise<Backward | undefined> {
  const { gateway, epoch, sequence, index } = identity;
  const [name = '', hash = '', ...rest] = epoch.split('/');
  const none = { name, from: null, to: null, readings: null, inputs: [] };
  if (gateway === BATCH) {
    const job = batches?.options.jobs.find((each) => each.name === name);
    if (job === undefined) return { kind: 'batch', ...none };
    const day = dayMs(dateOf(timeMs));
    const from = day - (job.inputDays - 1) * DAY_MS;
    return { kind: 'batch', ...none, from, to: day + DAY_MS };
  }
  if (gateway !== STREAM) return undefined;
  const rule = rules?.find((each) => each.name === name);
  if (rule === undefined) return { kind: 'unknown', ...none };
  if (rule.kind === 'derive') {
    const input = { gateway: hash, epoch: rest.join('/'), sequence, index, time: timeMs };
    const inputs = maySee(hash) ? [input] : [];
    return { kind: 'derive', name, from: timeMs, to: timeMs + 1, readings: 1, inputs };
  }
  if (lake === undefined || rule.kind === 'silence') return { kind: rule.kind, ...none };
  const [from, to] =
    rule.kind === 'window'
      ? [sequence * rule.everyMs, sequence * rule.everyMs + rule.sizeMs]
      : [timeMs, timeMs + 1];
  const isOf = (reading: Pick<Reading, 'measurement' | 'tags'>): boolean =>
    waysOf([rule], reading).some((way) => rule.kind === 'alert' || way.hash === hash);
  return { kind: rule.kind, name, from, to, ...(await inputsOf(lake, from, to, isOf, maySee)) };
}
