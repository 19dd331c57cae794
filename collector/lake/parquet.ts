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
import type { RawRow, ReadingRow } from './rows.ts';

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

/** Fields by type; a number that is none cannot be in a reading (codecs refuse it). */
function byType(fields: Record<string, unknown>): [numbers: string, texts: string, bools: string] {
  const parts: [Record<string, unknown>, Record<string, unknown>, Record<string, unknown>] = [
    {},
    {},
    {},
  ];
  for (const [name, value] of Object.entries(fields))
    parts[typeof value === 'number' ? 0 : typeof value === 'string' ? 1 : 2][name] = value;
  return [JSON.stringify(parts[0]), JSON.stringify(parts[1]), JSON.stringify(parts[2])];
}

function appendReading(appender: Appender, row: ReadingRow, zone: Zone): void {
  const { reading } = row;
  const { measurement, tags, fields, sequence, index, timeMs, ns, late } = reading;
  appender.appendVarchar(row.gateway);
  appender.appendVarchar(row.epoch);
  appender.appendBigInt(BigInt(sequence));
  appender.appendInteger(index);
  appender.appendBigInt(timeNs(timeMs, ns) / 1000n);
  appender.appendBigInt(timeNs(timeMs, ns));
  appender.appendBigInt(micros(row.arrivedMs));
  appender.appendBoolean(late === true);
  appender.appendVarchar(measurement);
  appender.appendVarchar(row.series);
  appender.appendVarchar(JSON.stringify(tags));
  for (const part of byType(fields)) appender.appendVarchar(part);
  appendOrigin(appender, row);
  if (zone === 'results') {
    appender.appendBigInt(BigInt(row.revision));
    appender.appendBoolean(row.removed);
  }
  appender.endRow();
}

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

  /** Path of a file with these rows, to be given to the store. */
  write(zone: 'raw', rows: readonly RawRow[]): Promise<string>;
  write(zone: 'readings' | 'results', rows: readonly ReadingRow[]): Promise<string>;
  write(zone: Zone, rows: readonly (RawRow | ReadingRow)[]): Promise<string> {
    return this.inTurn('writing a file', async (connection) => {
      const columns = COLUMNS[zone];
      const staged = columns.map(({ name, type, staged: own }) => `"${name}" ${own?.[0] ?? type}`);
      await connection.run(`CREATE OR REPLACE TEMP TABLE rows (${staged.join(', ')})`);
      const appender = await connection.createAppender('rows');
      for (const row of rows) {
        // The overloads above pair zones with their rows.
        if (zone === 'raw') appendRaw(appender, row as RawRow);
        else appendReading(appender, row as ReadingRow, zone);
      }
      appender.closeSync();
      const list = columns.map(({ name, staged: own }) =>
        own === undefined ? `"${name}"` : `${own[1]} AS "${name}"`,
      );
      const path = this.path();
      await connection.run(
        `COPY (SELECT ${list.join(', ')} FROM rows ORDER BY ${ORDER[zone]}) TO ${quote(path)} (${FORMAT})`,
      );
      await connection.run('DROP TABLE rows');
      return path;
    });
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
