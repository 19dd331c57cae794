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

const DATE = 'CAST(CAST(make_timestamp(time_ns // 1000) AS DATE) AS VARCHAR) AS date';

const RECORD = `{"gateway":"VARCHAR","epoch":"VARCHAR","arrived":"DOUBLE","series":[{"measurement":"VARCHAR","tags":"MAP(VARCHAR,VARCHAR)"}],"readings":[{"series":"INTEGER","sequence":"DOUBLE","index":"INTEGER","time":"DOUBLE","ns":"DOUBLE","late":"BOOLEAN","fields":"MAP(VARCHAR,DOUBLE)"}]}`;

/** As `seriesText` has it. */
const escaped = (sql: string): string => `regexp_replace(${sql}, '([,= \\\\])', '\\\\\\1', 'g')`;
const SERIES = `${escaped('s.measurement')} || coalesce(list_aggregate(list_transform(list_sort(map_keys(s.tags)), k -> ',' || ${escaped('k')} || '=' || ${escaped('s.tags[k]')}), 'string_agg', ''), '')`;

const TAKEN_APART = [
  `CREATE OR REPLACE TEMP TABLE parsed AS SELECT log_offset, from_json(value, '${RECORD}') AS r FROM given`,
  `CREATE OR REPLACE TEMP TABLE series_of AS SELECT log_offset, n, s.measurement AS measurement, s.tags AS tags, ${SERIES} AS series FROM (SELECT log_offset, unnest(r.series) AS s, unnest(range(len(r.series))) AS n FROM parsed)`,
];

const TAKEN = `SELECT g.gateway, g.epoch, g.arrived, g.x.sequence AS sequence, coalesce(g.x."index", 0) AS "index", g.x.time AS time_ms, g.x.ns AS ns, CAST(g.x.time AS BIGINT) * 1000000 + CAST(g.x.ns AS BIGINT) AS time_ns, coalesce(g.x.late, false) AS late, measurement, series, tags, g.x.fields AS fields, g.log_offset FROM (SELECT log_offset, r.gateway, r.epoch, r.arrived, unnest(r.readings) AS x FROM parsed) AS g LEFT JOIN series_of ON series_of.log_offset = g.log_offset AND series_of.n = g.x.series`;

/** Not what `decodeReadings` refuses, nor values that are no numbers after all. */
const POSSIBLE = `coalesce(measurement IS NOT NULL AND time_ms = floor(time_ms) AND time_ms BETWEEN -62135596800000 AND 253402300799999 AND ns = floor(ns) AND ns BETWEEN 0 AND 999999 AND sequence = floor(sequence) AND sequence BETWEEN 0 AND 9007199254740991 AND "index" >= 0 AND len(list_filter(map_values(fields), v -> v IS NULL)) = 0, false)`;

const PLAIN_COLUMNS = [
  'gateway',
  'epoch',
  'CAST(sequence AS BIGINT)',
  '"index"',
  instantOf('time_ns // 1000', 'time'),
  'time_ns',
  instantOf('CAST(arrived * 1000 AS BIGINT)', 'arrived'),
  'late',
  'measurement',
  'series',
  'tags',
  'fields',
  'MAP {}',
  'MAP {}',
];

export interface PlainRecords {
  log: string;
  partition: number;
  records: readonly { offset: number; value: Buffer }[];
}

export interface WrittenFile {
  /** YYYY-MM-DD. */
  date: string;
  gateway: string;
  rows: number;
  path: string;
}

/** Whether a record has numbers alone, and replaces nothing: texts are in `…_text`, booleans in `…_bool`. */
export const isPlain = (value: Buffer): boolean =>
  !['_text":', '_bool":', '"was":', '"removed":'].some((mark) => value.includes(mark));

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
    await this.stage(connection, rows);
    const columns = READING_COLUMNS.join(', ');
    await connection.run(
      `CREATE OR REPLACE TEMP TABLE wide AS SELECT ${columns}, revision, removed, ${DATE}, true AS possible FROM ${JOINED}`,
    );
    if (plain !== undefined && !(await this.takeApart(connection, plain))) return undefined;
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

  private async takeApart(
    connection: DuckDBConnection,
    { log, partition, records }: PlainRecords,
  ): Promise<boolean> {
    await connection.run('CREATE OR REPLACE TEMP TABLE given (log_offset BIGINT, value VARCHAR)');
    const appender = await connection.createAppender('given');
    for (const { offset, value } of records) {
      appender.appendBigInt(BigInt(offset));
      appender.appendVarchar(value.toString('utf8'));
      appender.endRow();
    }
    appender.closeSync();
    const columns = PLAIN_COLUMNS.join(', ');
    try {
      for (const statement of TAKEN_APART) await connection.run(statement);
      // At once: rows with their texts and maps are written one time less.
      await connection.run(
        `INSERT INTO wide SELECT ${columns}, ${quote(log)}, ${partition}, log_offset, 0, false, ${DATE}, ${POSSIBLE} FROM (${TAKEN})`,
      );
    } catch {
      return false; // Not JSON, or of another shape: whoever looks at each record tells which.
    }
    const wrong = await connection.runAndReadAll('SELECT count(*) FROM wide WHERE NOT possible');
    return Number(wrong.getRows()[0]?.[0]) === 0;
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
