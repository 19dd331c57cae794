/** Writes, rewrites and merges the lake's Parquet files with DuckDB, in memory that is bounded and on disk beyond it. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { operatingError } from '../../contracts/errors.ts';
import { makeWithin } from '../../shared/config/folder.ts';
import { messageOf, HeadwaterError } from '../../shared/errors.ts';
import {
  openDuckDb,
  quote,
  type DuckDBConnection,
  type DuckDBInstance,
} from '../duckdb/database.ts';
import { COLUMNS, ORDER, type Zone } from './layout.ts';
import { factsOf, islands, sequencesIn, type Facts } from './parquet-facts.ts';
import type { FileEngine, MadeFile, Rewritten, Step, StoredFrame, WrittenFile } from './engine.ts';
import type { RowRange } from './groups.ts';
import { pathList } from './lake-sql.ts';
import type { Spans } from './manifest.ts';
import { PAST_SELECT, PAST_TABLES, stageReplacing, type Replacing } from './parquet-past.ts';
import { takeApart, type PlainRecords } from './parquet-plain.ts';
import {
  DATE,
  JOINED,
  READING_COLUMNS,
  STAGED,
  appendRaw,
  stageRows,
  aliveOf,
  deadOf,
  stageDead,
  type Dead,
} from './parquet-rows.ts';
import type { RawRow, ReadingRow } from './rows.ts';
import { objectOf } from './scan.ts';

const FORMAT = 'FORMAT parquet, COMPRESSION zstd';

/** Tables of a step. */
const TABLES = ['records', 'named', 'rows', 'wide', 'given', 'parsed', 'series_of', 'said'];

/** What makes a row the same as another one. */
const IDENTITY: Record<Zone, string> = {
  raw: 'gateway, epoch, kind, first_sequence, "count", frame',
  readings: 'gateway, epoch, sequence, "index"',
  results: 'gateway, epoch, sequence, "index", revision, removed',
};

export class ParquetEngine implements FileEngine {
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
    await makeWithin(this.folder, 1);
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

  private async withFacts(
    connection: DuckDBConnection,
    zone: Zone,
    path: string,
  ): Promise<MadeFile> {
    try {
      return { path, facts: await factsOf(connection, zone, path) };
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
  }

  /** What is to be known of a file that is there. */
  facts(zone: Zone, path: string): Promise<Facts> {
    return this.inTurn('reading a file', (connection) => factsOf(connection, zone, path));
  }

  sequences(path: string): Promise<Spans> {
    return this.inTurn('reading a file', (connection) => sequencesIn(connection, path));
  }

  /** A file with these frames, to be given to the store. */
  writeRaw(rows: readonly RawRow[]): Promise<MadeFile> {
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
      return await this.withFacts(connection, 'raw', path);
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
  ): Promise<Step | undefined> {
    return this.inTurn('writing files', async (connection) => {
      try {
        return await this.writeStep(connection, zone, rows, plain);
      } finally {
        // Their memory is wanted by nobody until the next step.
        for (const name of TABLES) await connection.run(`DROP TABLE IF EXISTS ${name}`);
      }
    });
  }

  private async writeStep(
    connection: DuckDBConnection,
    zone: 'readings' | 'results',
    rows: readonly ReadingRow[],
    plain: PlainRecords | undefined,
  ): Promise<Step | undefined> {
    for (const statement of STAGED) await connection.run(statement);
    await stageRows(connection, rows);
    const columns = READING_COLUMNS.join(', ');
    await connection.run(
      `CREATE OR REPLACE TEMP TABLE wide AS SELECT ${columns}, revision, removed, ${DATE}, true AS possible FROM ${JOINED}`,
    );
    if (plain !== undefined && !(await takeApart(connection, plain))) return undefined;
    await connection.run(
      'CREATE OR REPLACE TEMP TABLE said AS SELECT date, gateway, epoch, log_offset, min(sequence) AS a, max(sequence) AS b FROM wide GROUP BY ALL',
    );
    const spans = new Map<string, Spans>();
    let overlaps = false;
    const whole =
      'SELECT gateway, epoch, min(a) AS a, max(b) AS b FROM said GROUP BY gateway, epoch, log_offset';
    const ranges = await connection.runAndReadAll(islands(whole, 'gateway, epoch'));
    for (const [gateway, epoch, from, to, isTwice] of ranges.getRows()) {
      let own = spans.get(String(gateway));
      if (own === undefined) spans.set(String(gateway), (own = {}));
      (own[String(epoch)] ??= []).push([Number(from), Number(to)]);
      overlaps ||= isTwice === true;
    }
    const found = await connection.runAndReadAll(
      'SELECT DISTINCT date, gateway FROM said ORDER BY ALL',
    );
    const list = COLUMNS[zone].map(({ name }) => `"${name}"`).join(', ');
    const files: WrittenFile[] = [];
    try {
      for (const [date, gateway] of found.getRows()) {
        const where = `date = ${quote(String(date))} AND gateway = ${quote(String(gateway))}`;
        const path = await this.copy(connection, `SELECT ${list} FROM wide WHERE ${where}`, zone);
        const made = await this.withFacts(connection, zone, path);
        files.push({ date: String(date), gateway: String(gateway), ...made });
      }
    } catch (error) {
      for (const { path } of files) await rm(path, { force: true });
      throw error;
    }
    return { files, spans, overlaps };
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

  /** Of these files, each that has rows of those that are dead, without them. */
  without(paths: readonly string[], dead: readonly Dead[]): Promise<Rewritten[]> {
    return this.inTurn('rewriting files', async (connection) => {
      await stageDead(connection, dead);
      const files = `read_parquet(${pathList(paths)}, filename = true, hive_partitioning = false, union_by_name = true)`;
      const found = await connection.runAndReadAll(
        `SELECT DISTINCT filename FROM ${deadOf(files)}`,
      );
      const done: Rewritten[] = [];
      for (const [name] of found.getRows()) {
        const path = String(name);
        const file = `read_parquet(${quote(path)}, hive_partitioning = false)`;
        const rewritten = await this.copy(connection, `SELECT * FROM ${aliveOf(file)}`, 'readings');
        const { facts } = await this.withFacts(connection, 'readings', rewritten);
        done.push({ path, rewritten, facts });
      }
      await connection.run('DROP TABLE dead');
      return done;
    });
  }

  /** What a step replaces, as a file of the past, and until when the last of it was so; undefined: nothing changes. */
  past(what: Replacing): Promise<{ path: string; untilMs: number } | undefined> {
    return this.inTurn('keeping what was', async (connection) => {
      try {
        const untilMs = await stageReplacing(connection, what);
        if (untilMs === undefined) return undefined;
        const path = this.path();
        await connection.run(`COPY (${PAST_SELECT}) TO ${quote(path)} (${FORMAT})`);
        return { path, untilMs };
      } finally {
        for (const name of PAST_TABLES) await connection.run(`DROP TABLE IF EXISTS ${name}`);
      }
    });
  }

  /** A file with the rows of all of these files of the past. Throws LAKE_UNAVAILABLE when it has not as many. */
  mergePast(paths: readonly string[]): Promise<string> {
    return this.inTurn('merging what was', async (connection) => {
      const path = this.path();
      const of = (list: readonly string[]): string =>
        `read_parquet(${pathList(list)}, hive_partitioning = false, union_by_name = true)`;
      const count = async (from: string): Promise<number> =>
        Number((await connection.runAndReadAll(`SELECT count(*) FROM ${from}`)).getRows()[0]?.[0]);
      await connection.run(
        `COPY (SELECT * FROM ${of(paths)} ORDER BY gateway, epoch, sequence, "index") TO ${quote(path)} (${FORMAT})`,
      );
      const [made, were] = [await count(of([path])), await count(of(paths))];
      if (made === were) return path;
      await rm(path, { force: true });
      throw new HeadwaterError(
        'LAKE_UNAVAILABLE',
        `${made} rows of ${were}; they stay as they are`,
      );
    });
  }

  /** Which of these frames are in these files, byte for byte: their places in the list. */
  known(paths: readonly string[], rows: readonly RawRow[]): Promise<Set<number>> {
    return this.inTurn('looking for frames', async (connection) => {
      await connection.run(
        'CREATE OR REPLACE TEMP TABLE asked (place INTEGER, epoch VARCHAR, kind INTEGER, first_sequence BIGINT, frame BLOB)',
      );
      const appender = await connection.createAppender('asked');
      for (const [place, { epoch, kind, firstSequence, frame }] of rows.entries()) {
        appender.appendInteger(place);
        appender.appendVarchar(epoch);
        appender.appendInteger(kind);
        appender.appendBigInt(BigInt(firstSequence));
        appender.appendBlob(frame);
        appender.endRow();
      }
      appender.closeSync();
      const found = await connection.runAndReadAll(
        `SELECT place FROM asked SEMI JOIN read_parquet(${pathList(paths)}, hive_partitioning = false, union_by_name = true) AS file USING (epoch, kind, first_sequence, frame)`,
      );
      await connection.run('DROP TABLE asked');
      return new Set(found.getRows().map(([place]) => Number(place)));
    });
  }

  /** What can be read of the frames of a file that is damaged. Throws when nothing can. */
  frames(path: string): Promise<StoredFrame[]> {
    return this.inTurn('reading frames', async (connection) => {
      const found = await connection.runAndReadAll(
        `SELECT frame, headers, kind, epoch, first_sequence FROM read_parquet(${quote(path)}, hive_partitioning = false)`,
      );
      return found.getRows().map(([frame, headers, kind, epoch, first]) => ({
        frame: Buffer.from((frame as { bytes: Uint8Array }).bytes),
        headers: objectOf<string>(headers),
        kind: Number(kind),
        epoch: String(epoch),
        firstSequence: Number(first),
      }));
    });
  }

  /** These rows of a file, as they lie in it: of other row groups nothing is read. */
  part(zone: Zone, path: string, rows: readonly RowRange[]): Promise<MadeFile> {
    const where = rows
      .map(([from, to]) => `(file_row_number >= ${from} AND file_row_number < ${to})`)
      .join(' OR ');
    const from = `read_parquet(${quote(path)}, hive_partitioning = false, file_row_number = true)`;
    return this.inTurn('reading a damaged file', async (connection) => {
      const select = `SELECT * EXCLUDE (file_row_number) FROM ${from} WHERE ${where}`;
      return await this.withFacts(connection, zone, await this.copy(connection, select, zone));
    });
  }

  /** The rows of a file that none of the others has, as a file. */
  apart(zone: Zone, path: string, others: readonly string[]): Promise<Rewritten> {
    return this.inTurn('comparing files', async (connection) => {
      const read = (paths: readonly string[]): string =>
        `read_parquet(${pathList(paths)}, hive_partitioning = false, union_by_name = true)`;
      const own = `FROM ${read([path])} AS file ANTI JOIN ${read(others)} AS other USING (${IDENTITY[zone]})`;
      const rewritten = await this.copy(connection, `SELECT * ${own}`, zone);
      const { facts } = await this.withFacts(connection, zone, rewritten);
      return { path, rewritten, facts };
    });
  }

  /** A file with the rows of all of them. */
  merge(zone: Zone, paths: readonly string[]): Promise<MadeFile> {
    const from = `read_parquet(${pathList(paths)}, hive_partitioning = false, union_by_name = true)`;
    return this.inTurn('merging files', async (connection) => {
      const path = await this.copy(connection, `SELECT * FROM ${from}`, zone);
      return await this.withFacts(connection, zone, path);
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
