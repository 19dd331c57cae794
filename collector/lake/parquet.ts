/** Writes, rewrites and merges the lake's Parquet files with DuckDB, in memory that is bounded and on disk beyond it. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { operatingError } from '../../contracts/errors.ts';
import { messageOf, HeadwaterError } from '../../shared/errors.ts';
import {
  openDuckDb,
  quote,
  type DuckDBConnection,
  type DuckDBInstance,
} from '../duckdb/database.ts';
import { COLUMNS, ORDER, type Zone } from './layout.ts';
import { takeApart, type PlainRecords } from './parquet-plain.ts';
import {
  DATE,
  JOINED,
  READING_COLUMNS,
  STAGED,
  appendRaw,
  stageRows,
  type Address,
} from './parquet-rows.ts';
import type { RawRow, ReadingRow } from './rows.ts';

const FORMAT = 'FORMAT parquet, COMPRESSION zstd';

export const pathList = (paths: readonly string[]): string => `[${paths.map(quote).join(', ')}]`;

export interface WrittenFile {
  /** YYYY-MM-DD. */
  date: string;
  gateway: string;
  rows: number;
  path: string;
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
        if (operatingError(error) !== undefined) throw error;
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

  /**
   * Files of readings or results, one for each date and gateway. `plain` are records of the log that DuckDB can take apart
   * by itself, off this thread: see `isPlain`. Undefined: one of them is not what it seemed, and all have to come as rows.
   */
  writeReadings(
    zone: 'readings' | 'results',
    rows: readonly ReadingRow[],
    plain: PlainRecords | undefined,
  ): Promise<WrittenFile[] | undefined> {
    return this.inTurn('writing files', async (connection) => {
      try {
        return await this.writeStep(connection, zone, rows, plain);
      } finally {
        // Their memory is wanted by nobody until the next step.
        for (const name of ['records', 'named', 'rows', 'wide', 'given', 'parsed', 'series_of'])
          await connection.run(`DROP TABLE IF EXISTS ${name}`);
      }
    });
  }

  private async writeStep(
    connection: DuckDBConnection,
    zone: 'readings' | 'results',
    rows: readonly ReadingRow[],
    plain: PlainRecords | undefined,
  ): Promise<WrittenFile[] | undefined> {
    for (const statement of STAGED) await connection.run(statement);
    await stageRows(connection, rows);
    const columns = READING_COLUMNS.join(', ');
    await connection.run(
      `CREATE OR REPLACE TEMP TABLE wide AS SELECT ${columns}, revision, removed, ${DATE}, true AS possible FROM ${JOINED}`,
    );
    if (plain !== undefined && !(await takeApart(connection, plain))) return undefined;
    const found = await connection.runAndReadAll(
      'SELECT date, gateway, count(*) FROM wide GROUP BY ALL ORDER BY ALL',
    );
    const list = COLUMNS[zone].map(({ name }) => `"${name}"`).join(', ');
    const files: WrittenFile[] = [];
    try {
      for (const [date, gateway, count] of found.getRows()) {
        const where = `date = ${quote(String(date))} AND gateway = ${quote(String(gateway))}`;
        const path = await this.copy(connection, `SELECT ${list} FROM wide WHERE ${where}`, zone);
        files.push({ date: String(date), gateway: String(gateway), rows: Number(count), path });
      }
    } catch (error) {
      for (const { path } of files) await rm(path, { force: true });
      throw error;
    }
    return files;
  }

  private async copy(connection: DuckDBConnection, select: string, zone: Zone): Promise<string> {
    const path = this.path();
    try {
      await connection.run(
        `COPY (${select} ORDER BY ${ORDER[zone]}) TO ${quote(path)} (${FORMAT})`,
      );
    } catch (error) {
      // What there is of it would stay, one with each attempt.
      await rm(path, { force: true });
      throw error;
    }
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
        const from = `FROM read_parquet(${quote(path)}, hive_partitioning = false) ANTI JOIN dead ${using}`;
        const rewritten = await this.copy(connection, `SELECT * ${from}`, 'readings');
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
    const from = `read_parquet(${pathList(paths)}, hive_partitioning = false, union_by_name = true)`;
    return this.inTurn('merging files', (connection) =>
      this.copy(connection, `SELECT * FROM ${from}`, zone),
    );
  }

  async close(): Promise<void> {
    await this.turn;
    this.connection?.closeSync();
    this.instance?.closeSync();
    this.connection = undefined;
    this.instance = undefined;
  }
}
