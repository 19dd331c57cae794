/**
 * Runs batch jobs by day, and makes results of their rows. A run that is done again gives the same identities: what it
 * writes replaces what was there, and rows that it no longer gives are taken back. The lake keeps a manifest of each
 * (`batch/JOB/DATE.json`): what it read, and what it gave.
 */
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BatchEngine } from '../../contracts/batch-engine.ts';
import { hasCode, HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { FieldValue, Reading } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { Lake } from '../lake/lake.ts';
import { dateOf, type FileFilter } from '../lake/layout.ts';
import { decodeManifest, encodeManifest } from '../lake/manifest.ts';
import { objectOf } from '../lake/scan.ts';
import { TOPIC_RESULTS, type Log } from '../log/log.ts';
import { BATCH, FLEET, Results, Revisions, groupHash } from '../stream/results.ts';
import {
  runOnDuckDb,
  runOnSpark,
  type EngineName,
  type SparkOptions,
  type Table,
} from './engines.ts';
import { DAY_MS, dayMs, sqlOf, type Job } from './job.ts';
import { runOnPackage } from './package-engine.ts';

export interface BatchOptions {
  log: Log;
  lake: Lake;
  jobs: readonly Job[];
  engine: EngineName;
  spark: SparkOptions;
  /** What `batch.engine` names, where that is a package. */
  packaged: BatchEngine | undefined;
  folder: string;
  /** Of one job's run for one day. */
  timeoutMs: number;
  wallMs: () => number;
  notify: Notify;
}

interface Manifest {
  job: string;
  date: string;
  /** Of the job and its input; '': of a run that has not come to its end. */
  fingerprint: string;
  engine: string;
  ranMs: number;
  /** Of its results; left out by earlier versions. */
  revision?: number;
  /** Results that it gave: tags and time identify them. */
  rows: { tags: Record<string, string>; time: number }[];
}

export interface RunOutcome {
  job: string;
  date: string;
  rows: number;
  removed: number;
  /** Nothing had changed since it ran last. */
  unchanged: boolean;
  seconds: number;
}

export interface Task {
  id: string;
  job: string;
  engine: EngineName;
  dates: string[];
  done: RunOutcome[];
  finished: boolean;
  /** Why it ended early. */
  failure?: string;
}

const TASKS_MAX = 100;
const TEXT = /_text$/;

/** Exact decimals of DuckDB: value is an integer, in units of the last digit. */
interface Decimal {
  value: bigint;
  scale: number;
}

const isDecimal = (value: unknown): value is Decimal =>
  typeof value === 'object' && value !== null && 'scale' in value;

function valueOf(value: unknown): FieldValue | undefined {
  if (typeof value === 'boolean') return value;
  const number = isDecimal(value)
    ? Number(`${value.value}e-${value.scale}`)
    : typeof value === 'bigint' || typeof value === 'number'
      ? Number(value)
      : Number.NaN;
  return Number.isFinite(number) ? number : undefined;
}

interface TimeValue {
  micros: bigint;
}

const isTime = (value: unknown): value is TimeValue =>
  typeof value === 'object' && value !== null && 'micros' in value;

/** Text columns and the map `tags` are tags, `…_text` are texts, the rest numbers and truth; `time` is the day's begin when left out. */
function readingOf(
  columns: readonly string[],
  row: readonly unknown[],
  job: Job,
  date: string,
): Reading {
  const tags: Record<string, string> = {};
  const fields: Record<string, FieldValue> = {};
  let timeMs = dayMs(date);
  for (const [at, name] of columns.entries()) {
    const value = row[at];
    if (value === null || value === undefined) continue;
    if (name === 'time' && isTime(value)) timeMs = Number(value.micros / 1000n);
    else if (name === 'tags') Object.assign(tags, objectOf<string>(value));
    else if (typeof value === 'string') {
      if (TEXT.test(name)) fields[name] = value;
      else tags[name] = value;
    } else {
      const own = valueOf(value);
      if (own !== undefined) fields[typeof own === 'boolean' ? `${name}_bool` : name] = own;
    }
  }
  if (timeMs < 0)
    throw new HeadwaterError('BATCH_INVALID', `${job.file}: it gives a time before 1970`);
  return { measurement: job.measurement, tags, fields, sequence: timeMs, index: 0, timeMs, ns: 0 };
}

export class BatchRunner {
  readonly options: BatchOptions;
  runs = 0;
  failures = 0;
  resultRows = 0;
  private readonly tasks: Task[] = [];
  private turn: Promise<unknown> = Promise.resolve();
  private stopped = false;
  private counter = 0;
  private revisions: Revisions | undefined;

  constructor(options: BatchOptions) {
    this.options = options;
  }

  /** Throws BATCH_INVALID. */
  job(name: string): Job {
    const job = this.options.jobs.find((each) => each.name === name);
    if (job !== undefined) return job;
    const names = this.options.jobs.map((each) => each.name).join(', ');
    throw new HeadwaterError('BATCH_INVALID', `there is no job '${name}'; there are ${names}`);
  }

  /** Begins to run a job for these dates; `isForced`: also where nothing has changed. */
  begin(name: string, dates: readonly string[], engine: EngineName, isForced: boolean): Task {
    const job = this.job(name);
    for (const date of dates) dayMs(date);
    this.counter++;
    const id = `${this.counter}-${Math.floor(this.options.wallMs()).toString(36)}`;
    const task: Task = { id, job: name, engine, dates: [...dates], done: [], finished: false };
    this.tasks.push(task);
    if (this.tasks.length > TASKS_MAX) this.tasks.shift();
    this.turn = this.turn.then(async () => {
      try {
        for (const date of dates) {
          if (this.stopped) return;
          task.done.push(await this.run(job, date, engine, isForced));
        }
      } catch (error) {
        this.failures++;
        task.failure = messageOf(error);
      }
      task.finished = true;
    });
    return task;
  }

  task(id: string): Task | undefined {
    return this.tasks.find((task) => task.id === id);
  }

  private manifestKey(job: string, date: string): string {
    return `batch/${job}/${date}.json`;
  }

  async manifest(job: Job, date: string): Promise<Manifest | undefined> {
    const key = this.manifestKey(job.name, date);
    let bytes: Buffer;
    try {
      bytes = await this.options.lake.store.get(key);
    } catch (error) {
      if (hasCode(error, 'NOT_FOUND')) return undefined;
      throw error;
    }
    // As versions before 0.2 wrote it, it has no checksum.
    const found = decodeManifest(bytes) ?? withoutChecksum(bytes);
    if (found !== undefined) return found as Manifest; // As its name says.
    this.options.notify({
      level: 'warn',
      event: 'batch_manifest',
      text: `the lake: ${key} is damaged: ${job.name} is run again for ${date}`,
    });
    return await this.remade(job, date);
  }

  /** What a run gave, from the results themselves. */
  private async remade(job: Job, date: string): Promise<Manifest> {
    const rows: Manifest['rows'] = [];
    const filter = { from: date, to: date, gateway: BATCH };
    await this.options.lake.read('results', filter, async (reader, paths) => {
      rows.length = 0;
      for await (const { epoch, reading } of reader.results(paths))
        if (epoch.startsWith(`${job.name}/`))
          rows.push({ tags: reading.tags, time: reading.timeMs });
    });
    return { job: job.name, date, fingerprint: '', engine: 'duckdb', ranMs: 0, rows };
  }

  /** Of the job and of what it would read now. */
  private async fingerprint(job: Job, from: string, to: string): Promise<string> {
    const hash = createHash('sha256').update(job.hash);
    // What batches gave, and what is said of gateways, is not what they read, unless a job asks for it.
    for (const zone of ['readings', 'results'] as const)
      for (const { key, version, gateway } of await this.options.lake.files(zone, { from, to }))
        if (![BATCH, FLEET].includes(gateway) || /\bresults\b/.test(job.sql))
          hash.update(`${key} ${version}\n`);
    return hash.digest('hex').slice(0, 32);
  }

  private async run(
    job: Job,
    date: string,
    engine: EngineName,
    isForced: boolean,
  ): Promise<RunOutcome> {
    const begin = performance.now();
    const from = dateOf(dayMs(date) - (job.inputDays - 1) * DAY_MS);
    const filter = { from, to: date };
    const fingerprint = await this.fingerprint(job, from, date);
    const before = await this.manifest(job, date);
    const outcome = { job: job.name, date, rows: 0, removed: 0, unchanged: true, seconds: 0 };
    if (!isForced && before?.fingerprint === fingerprint)
      return { ...outcome, rows: before.rows.length };
    let table: Table;
    try {
      const sql = sqlOf(job, date);
      table = await this.tableOf(engine, filter, sql);
    } catch (error) {
      if (!hasCode(error, 'BATCH_INVALID')) throw error;
      throw new HeadwaterError('BATCH_INVALID', `${job.file}, ${date}: ${messageOf(error)}`, {
        cause: error,
      });
    }
    const readings = table.rows.map((row) => readingOf(table.columns, row, job, date));
    const rows = readings.map(({ tags, timeMs }) => ({ tags, time: timeMs }));
    const given = distinct(job, date, rows);
    const revision = await this.revisionAfter(before);
    const ranMs = Math.round(this.options.wallMs());
    const manifest = { job: job.name, date, fingerprint, engine, ranMs, revision, rows };
    const more = before?.rows.filter((row) => !given.has(rowName(row))) ?? [];
    // Noted before it is said: what a process that was killed in between has said would be taken back by nobody.
    await this.keep({ ...manifest, fingerprint: '', rows: [...rows, ...more] });
    const removed = await this.publish(job, readings, more, revision);
    await this.keep(manifest);
    this.runs++;
    this.resultRows += readings.length;
    const seconds = (performance.now() - begin) / 1000;
    return { ...outcome, rows: readings.length, removed, unchanged: false, seconds };
  }

  private async tableOf(engine: EngineName, filter: FileFilter, sql: string): Promise<Table> {
    const { lake, spark, packaged, timeoutMs } = this.options;
    if (engine === 'spark') return await runOnSpark(lake, filter, sql, spark);
    if (engine === 'duckdb' || packaged === undefined)
      return await runOnDuckDb(lake, filter, sql, timeoutMs);
    return await runOnPackage(packaged, lake, filter, sql, timeoutMs);
  }

  /** The lake may not have the results of the run before yet, and the clock may have been set back since. */
  private async revisionAfter(before: Manifest | undefined): Promise<number> {
    const { lake, wallMs } = this.options;
    this.revisions ??= new Revisions(await lake.newestRevision(BATCH));
    return this.revisions.next(Math.max(Math.floor(wallMs()), (before?.revision ?? 0) + 2));
  }

  /** To the log, from where stores and lake take them; gives how many of an earlier run were taken back. */
  private async publish(
    job: Job,
    readings: readonly Reading[],
    gone: Manifest['rows'],
    revision: number,
  ): Promise<number> {
    const results = new Results(BATCH);
    for (const reading of readings)
      if (Object.keys(reading.fields).length > 0)
        results.add(`${job.name}/${groupHash(reading.tags)}`, reading);
    for (const { tags, time } of gone)
      results.remove(`${job.name}/${groupHash(tags)}`, {
        measurement: job.measurement,
        tags,
        fields: {},
        sequence: time,
        index: 0,
        timeMs: time,
        ns: 0,
      });
    if (results.isEmpty) return gone.length;
    const { log, wallMs } = this.options;
    const records = results.records(revision, Math.floor(wallMs()));
    await log.append(
      TOPIC_RESULTS,
      records.map(({ key, headers, value }) => ({ key, headers, value })),
    );
    return gone.length;
  }

  private async keep(manifest: Manifest): Promise<void> {
    const { folder, lake } = this.options;
    const { job, date } = manifest;
    await mkdir(folder, { recursive: true });
    const file = join(folder, `${job}-${date}.json`);
    await writeFile(file, encodeManifest(manifest));
    await lake.put(this.manifestKey(job, date), file);
  }

  /** Every date that the lake has readings of. */
  async dates(): Promise<string[]> {
    return [...new Set((await this.options.lake.files('readings')).map(({ date }) => date))].sort();
  }

  async close(): Promise<void> {
    this.stopped = true;
    await this.turn;
    await this.options.packaged?.close();
  }
}

/** Which result a row is. */
const rowName = ({ tags, time }: Manifest['rows'][number]): string => `${groupHash(tags)}/${time}`;

/** Of a run's rows. Throws BATCH_INVALID. */
function distinct(job: Job, date: string, rows: Manifest['rows']): Set<string> {
  const given = new Set<string>();
  for (const row of rows)
    if (given.size === given.add(rowName(row)).size)
      throw new HeadwaterError(
        'BATCH_INVALID',
        `${job.file}, ${date}: two rows have the same tags (${JSON.stringify(row.tags)}) and time: one would replace the other`,
      );
  return given;
}

function withoutChecksum(bytes: Buffer): unknown {
  try {
    const found = JSON.parse(bytes.toString('utf8')) as object;
    return 'job' in found && 'rows' in found ? found : undefined;
  } catch {
    return undefined; // Damaged.
  }
}
