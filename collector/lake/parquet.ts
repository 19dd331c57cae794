/** Writes, rewrites and merges the lake's Parquet files with DuckDB, in memory that is bounded and on disk beyond it. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, HeadwaterError } from '../../shared/errors.ts';
import {
  openDuckDb,
  quote,
  type DuckDBConnection,
  type DuckDBInstance,
} from '../duckdb/database.ts';
import { COLUMNS, ORDER, type Zone } from './layout.ts';
import type { RawRow, ReadingRow, RecordFacts } from './rows.ts';

/** A reading's place in the lake: what is written to it later replaces it. */
export interface Address {
  epoch: string;
  sequence: number;
  index: number;
  timeNs: bigint;
}

const FORMAT = 'FORMAT parquet, COMPRESSION zstd';

export const pathList = (paths: readonly string[]): string => `[${paths.map(quote).join(', ')}]`;

export const timeNs = (timeMs: number, ns: number): bigint =>
  BigInt(timeMs) * 1_000_000n + BigInt(ns);

const micros = (ms: number): bigint => BigInt(Math.round(ms * 1000));

type Appender = Awaited<ReturnType<DuckDBConnection['createAppender']>>;

function appendOrigin(appender: Appender, row: { log: string; partition: number; offset: number }) {
  appender.appendVarchar(row.log);
  appender.appendInteger(row.partition);
  appender.appendBigInt(BigInt(row.offset));
}

function appendRaw(appender: Appender, row: RawRow): void {
  appender.appendVarchar(row.gateway);
  appender.appendVarchar(row.epoch);
  appender.appendInteger(row.kind);
  appender.appendBigInt(BigInt(row.firstSequence));
  appender.appendBigInt(BigInt(row.count));
  appender.appendBigInt(micros(row.arrivedMs));
  appender.appendBlob(row.frame);
  appender.appendVarchar(JSON.stringify(row.headers));
  appendOrigin(appender, row);
  appender.endRow();
}

/** Fields by type, as JSON; undefined for a type that has none. A number that is none cannot be in a reading. */
function byType(fields: Record<string, unknown>): (string | undefined)[] {
  const parts: (Record<string, unknown> | undefined)[] = [undefined, undefined, undefined];
  for (const name in fields) {
    const value = fields[name];
    const at = typeof value === 'number' ? 0 : typeof value === 'string' ? 1 : 2;
    (parts[at] ??= {})[name] = value;
  }
  return parts.map((part) => (part === undefined ? undefined : JSON.stringify(part)));
}

/**
 * Rows are staged narrow, since each value costs a call: what records and series share stands once, in tables of its own,
 * and is joined to them as the file is written.
 */
const STAGED = [
  'CREATE OR REPLACE TEMP TABLE records (record INTEGER, gateway VARCHAR, epoch VARCHAR, arrived BIGINT, log VARCHAR, log_partition INTEGER, log_offset BIGINT, revision BIGINT)',
  'CREATE OR REPLACE TEMP TABLE named (name INTEGER, measurement VARCHAR, series VARCHAR, tags VARCHAR)',
  'CREATE OR REPLACE TEMP TABLE rows (record INTEGER, name INTEGER, sequence BIGINT, "index" INTEGER, time_ns BIGINT, late BOOLEAN, removed BOOLEAN, fields VARCHAR, texts VARCHAR, bools VARCHAR)',
];

const mapOf = (name: string, value: string): string =>
  `from_json(coalesce(${name}, '{}'), '"MAP(VARCHAR,${value})"') AS ${name}`;
const instantOf = (sql: string, name: string): string =>
  `CAST(make_timestamp(${sql}) AS TIMESTAMPTZ) AS ${name}`;

const READING_COLUMNS = [
  'gateway',
  'epoch',
  'sequence',
  '"index"',
  instantOf('time_ns // 1000', 'time'),
  'time_ns',
  instantOf('arrived', 'arrived'),
  'late',
  'measurement',
  'series',
  'tags',
  mapOf('fields', 'DOUBLE'),
  mapOf('texts', 'VARCHAR'),
  mapOf('bools', 'BOOLEAN'),
  'log',
  'log_partition',
  'log_offset',
];

const JOINED = `rows JOIN records USING (record) JOIN (SELECT name, measurement, series, ${mapOf('tags', 'VARCHAR')} FROM named) USING (name)`;

export class ParquetEngine {
  private readonly folder: string;
  private readonly memoryBytes: number;
  private instance: DuckDBInstance | undefined;
  private connection: DuckDBConnection | undefined;
  private files = 0;
  private turn: Promise<unknown> = Promise.resolve();

  /** `folder` is its own: what is in it is thrown away. */
  constructor(folder: string, memoryBytes: number) {
    this.folder = folder;
    this.memoryBytes = memoryBytes;
  }

  async open(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
    await mkdir(this.folder, { recursive: true });
  }

  /** One at a time: the connection's tables are theirs in turn. What fails for want of disk or memory may be tried again. */
  private inTurn<T>(doing: string, work: (connection: DuckDBConnection) => Promise<T>): Promise<T> {
    const run = this.turn.then(async () => {
      try {
        this.instance ??= await openDuckDb(':memory:', {
          memoryBytes: this.memoryBytes,
          files: true,
          spill: join(this.folder, 'spill'),
        });
        this.connection ??= await this.instance.connect();
        return await work(this.connection);
      } catch (error) {
        if (error instanceof HeadwaterError) throw error;
        throw new HeadwaterError(
          'LAKE_UNAVAILABLE',
          `the lake: ${doing}: ${messageOf(error).split('\n')[0] ?? ''}`,
          { cause: error },
        );
      }
    });
    this.turn = run.catch(() => undefined); // The caller sees it; the next one takes its turn.
    return run;
  }

  private path(): string {
    return join(this.folder, `${this.files++}.parquet`);
  }

  /** Path of a file with these frames, to be given to the store. */
  writeRaw(rows: readonly RawRow[]): Promise<string> {
    return this.inTurn('writing a file', async (connection) => {
      const columns = COLUMNS.raw;
      const staged = columns.map(({ name, type, staged: own }) => `"${name}" ${own?.[0] ?? type}`);
      await connection.run(`CREATE OR REPLACE TEMP TABLE frames (${staged.join(', ')})`);
      const appender = await connection.createAppender('frames');
      for (const row of rows) appendRaw(appender, row);
      appender.closeSync();
      const list = columns.map(({ name, staged: own }) =>
        own === undefined ? `"${name}"` : `${own[1]} AS "${name}"`,
      );
      const path = await this.copy(connection, `SELECT ${list.join(', ')} FROM frames`, 'raw');
      await connection.run('DROP TABLE frames');
      return path;
    });
  }

  /** The same of readings or results. */
  writeReadings(zone: 'readings' | 'results', rows: readonly ReadingRow[]): Promise<string> {
    return this.inTurn('writing a file', async (connection) => {
      for (const statement of STAGED) await connection.run(statement);
      await this.stage(connection, rows);
      const columns =
        zone === 'results' ? [...READING_COLUMNS, 'revision', 'removed'] : READING_COLUMNS;
      return await this.copy(connection, `SELECT ${columns.join(', ')} FROM ${JOINED}`, zone);
    });
  }

  private async stage(connection: DuckDBConnection, rows: readonly ReadingRow[]): Promise<void> {
    const [records, named, appender] = [
      await connection.createAppender('records'),
      await connection.createAppender('named'),
      await connection.createAppender('rows'),
    ];
    const recordNumbers = new Map<RecordFacts, number>();
    const names = new Map<string, number>();
    for (const { record, reading, series, removed } of rows) {
      let number = recordNumbers.get(record);
      if (number === undefined) {
        recordNumbers.set(record, (number = recordNumbers.size));
        records.appendInteger(number);
        records.appendVarchar(record.gateway);
        records.appendVarchar(record.epoch);
        records.appendBigInt(micros(record.arrivedMs));
        appendOrigin(records, record);
        records.appendBigInt(BigInt(record.revision));
        records.endRow();
      }
      let name = names.get(series);
      if (name === undefined) {
        names.set(series, (name = names.size));
        named.appendInteger(name);
        named.appendVarchar(reading.measurement);
        named.appendVarchar(series);
        named.appendVarchar(JSON.stringify(reading.tags));
        named.endRow();
      }
      appender.appendInteger(number);
      appender.appendInteger(name);
      appender.appendBigInt(BigInt(reading.sequence));
      appender.appendInteger(reading.index);
      appender.appendBigInt(timeNs(reading.timeMs, reading.ns));
      appender.appendBoolean(reading.late === true);
      appender.appendBoolean(removed);
      for (const part of byType(reading.fields))
        if (part === undefined) appender.appendNull();
        else appender.appendVarchar(part);
      appender.endRow();
    }
    for (const each of [records, named, appender]) each.closeSync();
  }

  private async copy(connection: DuckDBConnection, select: string, zone: Zone): Promise<string> {
    const path = this.path();
    await connection.run(`COPY (${select} ORDER BY ${ORDER[zone]}) TO ${quote(path)} (${FORMAT})`);
    return path;
  }

  /** Of these files of one folder, each that has rows at one of the addresses, without those rows. */
  without(
    paths: readonly string[],
    addresses: readonly Address[],
  ): Promise<{ path: string; rewritten: string; rows: number }[]> {
    return this.inTurn('rewriting files', async (connection) => {
      await connection.run(
        'CREATE OR REPLACE TEMP TABLE dead (epoch VARCHAR, sequence BIGINT, "index" INTEGER, time_ns BIGINT)',
      );
      const appender = await connection.createAppender('dead');
      for (const { epoch, sequence, index, timeNs: at } of addresses) {
        appender.appendVarchar(epoch);
        appender.appendBigInt(BigInt(sequence));
        appender.appendInteger(index);
        appender.appendBigInt(at);
        appender.endRow();
      }
      appender.closeSync();
      const using = 'USING (epoch, sequence, "index", time_ns)';
      const found = await connection.runAndReadAll(
        `SELECT DISTINCT filename FROM read_parquet(${pathList(paths)}, filename = true, hive_partitioning = false) SEMI JOIN dead ${using}`,
      );
      const done: { path: string; rewritten: string; rows: number }[] = [];
      for (const [name] of found.getRows()) {
        const path = String(name);
        const rewritten = this.path();
        const from = `FROM read_parquet(${quote(path)}, hive_partitioning = false) ANTI JOIN dead ${using}`;
        await connection.run(
          `COPY (SELECT * ${from} ORDER BY ${ORDER.readings}) TO ${quote(rewritten)} (${FORMAT})`,
        );
        const counted = await connection.runAndReadAll(
          `SELECT count(*) FROM read_parquet(${quote(rewritten)})`,
        );
        done.push({ path, rewritten, rows: Number(counted.getRows()[0]?.[0]) });
      }
      await connection.run('DROP TABLE dead');
      return done;
    });
  }

  /** Path of a file with the rows of all of them. */
  merge(zone: Zone, paths: readonly string[]): Promise<string> {
    return this.inTurn('merging files', async (connection) => {
      const path = this.path();
      await connection.run(
        `COPY (SELECT * FROM read_parquet(${pathList(paths)}, hive_partitioning = false, union_by_name = true) ORDER BY ${ORDER[zone]}) TO ${quote(path)} (${FORMAT})`,
      );
      return path;
    });
  }

  async close(): Promise<void> {
    await this.turn;
    this.connection?.closeSync();
    this.instance?.closeSync();
    this.connection = undefined;
    this.instance = undefined;
  }
}
