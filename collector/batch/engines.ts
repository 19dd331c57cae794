/** What runs the SQL of batch jobs: DuckDB in this process, or Spark beside it, over the same files and views. */
import { spawn } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { operatingError } from '../../contracts/errors.ts';
import { fileOfPackage } from '../../shared/config/root.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { quote, type DuckDBConnection } from '../duckdb/database.ts';
import { checkSql } from '../duckdb/sealed.ts';
import { Lake } from '../lake/lake.ts';
import { COLUMNS, ZONES, type FileFilter } from '../lake/layout.ts';

export const ENGINES = ['duckdb', 'spark'] as const;
/** One of ENGINES, or what `batch.engine` names of a package. */
export type EngineName = string;

export interface Table {
  columns: string[];
  rows: unknown[][];
}

export interface SparkOptions {
  python: string;
  /** URL of the lake as Spark reaches it; '': files as this process has them. */
  lakeUrl: string;
  /** For what it writes. */
  folder: string;
}

/** Of one run of a job for one day. */
const ROWS_MAX = 1_000_000;

/** Throws BATCH_INVALID. */
export function checkSize(rows: number, textBytes: number): void {
  if (textBytes > RESULT_BYTES_MAX)
    throw new HeadwaterError(
      'BATCH_INVALID',
      `its rows have more than ${RESULT_BYTES_MAX} bytes of text for one day`,
    );
  if (rows > ROWS_MAX)
    throw new HeadwaterError('BATCH_INVALID', `it gives more than ${ROWS_MAX} rows for one day`);
}

async function read(connection: DuckDBConnection, sql: string): Promise<Table> {
  const result = await connection.stream(sql);
  const columns = result.columnNames();
  const rows: unknown[][] = [];
  let bytes = 0;
  for (;;) {
    const chunk = await result.fetchChunk();
    if (chunk === null || chunk.rowCount === 0) return { columns, rows };
    for (const row of chunk.getRows()) {
      for (const value of row) if (typeof value === 'string') bytes += value.length;
      rows.push(row);
    }
    checkSize(rows.length, bytes);
  }
}

const firstLines = (text: string): string => text.split('\n').slice(0, 2).join(' ').slice(0, 500);

const MISTAKES =
  /(Parser|Binder|Catalog|Conversion|Invalid Input|Out of Range|Not implemented|Permission) Error/;

/** Of one run: temporary space, and what its rows may hold in memory. */
const SPILL_BYTES_MAX = 8 * 1024 ** 3;
const RESULT_BYTES_MAX = 256 * 1024 ** 2;

export async function runOnDuckDb(
  lake: Lake,
  filter: FileFilter,
  sql: string,
  timeoutMs: number,
): Promise<Table> {
  const limits = { timeoutMs, spillBytesMax: SPILL_BYTES_MAX };
  return await lake.sealed(filter, limits, async (connection) => {
    await checkSql(connection, sql, VIEW_NAMES);
    try {
      return await read(connection, sql);
    } catch (error) {
      if (operatingError(error) !== undefined) throw error;
      const text = messageOf(error);
      // What is wrong with the SQL; trouble with files is for the lake to try again.
      if (MISTAKES.test(text))
        throw new HeadwaterError('BATCH_INVALID', firstLines(text), { cause: error });
      throw error;
    }
  });
}

const VIEW_NAMES = [...ZONES, 'points'];

const SPARK_TYPES: Record<string, string> = {
  VARCHAR: 'string',
  BIGINT: 'bigint',
  INTEGER: 'int',
  BOOLEAN: 'boolean',
  BLOB: 'binary',
  'TIMESTAMP WITH TIME ZONE': 'timestamp',
  'MAP(VARCHAR, VARCHAR)': 'map<string,string>',
  'MAP(VARCHAR, DOUBLE)': 'map<string,double>',
  'MAP(VARCHAR, BOOLEAN)': 'map<string,boolean>',
};

const VIEWS = {
  results:
    'SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY gateway, epoch, sequence, index ORDER BY revision DESC, log_offset DESC, removed) AS newest FROM results_all) WHERE newest = 1 AND NOT removed',
  points:
    'SELECT time, time_ns, measurement, series, tags, each.field AS field, each.value AS value, gateway, epoch, sequence, index FROM readings LATERAL VIEW explode(fields) each AS field, value',
};

export async function runOnSpark(
  lake: Lake,
  filter: FileFilter,
  sql: string,
  { python, lakeUrl, folder }: SparkOptions,
): Promise<Table> {
  const output = join(folder, 'spark-output');
  await rm(output, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const files: Record<string, string[]> = {};
  for (const zone of ZONES) {
    const list: string[] = [];
    for (const file of await lake.files(zone, filter))
      list.push(
        lakeUrl === ''
          ? `file://${await lake.fetch(file)}`
          : `${lakeUrl.replace(/\/$/, '')}/${file.key}`,
      );
    files[zone] = list;
  }
  const schemas = Object.fromEntries(
    ZONES.map((zone) => [
      zone,
      COLUMNS[zone]
        .map(({ name, type }) => `\`${name}\` ${SPARK_TYPES[type] ?? 'string'}`)
        .join(', '),
    ]),
  );
  await submit(python, { files, schemas, views: VIEWS, sql, output: `file://${output}` });
  return await lake.query(
    { zones: [] },
    async (connection) =>
      await read(connection, `SELECT * FROM read_parquet(${quote(join(output, '*.parquet'))})`),
  );
}

async function submit(python: string, work: object): Promise<void> {
  const script = fileOfPackage('collector/batch/spark_job.py');
  const child = spawn(python, [script], {
    stdio: ['pipe', 'ignore', 'pipe'],
    env: { SPARK_LOCAL_IP: '127.0.0.1', PYSPARK_PYTHON: python, ...process.env },
  });
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString('utf8')).slice(-20_000);
  });
  // A process that did not start has no input: its exit says why.
  child.stdin.on('error', () => undefined);
  child.stdin.end(JSON.stringify(work));
  const code = await new Promise<number | Error>((resolve) => {
    child.on('error', resolve);
    child.on('close', (status) => resolve(status ?? 1));
  });
  if (code instanceof Error)
    throw new HeadwaterError(
      'ADAPTER_MISSING',
      `Spark needs Python with PySpark: '${python}' does not start (${code.message}); see batch.python`,
      { cause: code },
    );
  if (code === 0) return;
  if (/No module named 'pyspark'/.test(errors))
    throw new HeadwaterError(
      'ADAPTER_MISSING',
      `Spark needs PySpark: '${python}' has none (pip install pyspark); see batch.python`,
    );
  const lines = errors.split('\n').map((line) => line.trim());
  const said =
    lines.find((line) => /AnalysisException|ParseException|SparkException|Error:/.test(line)) ??
    lines.findLast((line) => line !== '') ??
    `exit ${code}`;
  throw new HeadwaterError('BATCH_INVALID', `Spark: ${said.slice(0, 500)}`);
}
