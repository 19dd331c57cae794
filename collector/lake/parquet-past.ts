/** Rows of readings that were so until a step replaced them, as DuckDB finds them: see `past.ts`. */
import { isTurn, nextTurn } from '../../shared/env/turns.ts';
import { quote, type DuckDBConnection } from '../duckdb/database.ts';
import { JOINED, READING_COLUMNS, STAGED, stageRows, type Dead } from './parquet-rows.ts';
import type { ReadingRow } from './rows.ts';

/** What a step replaced. */
export interface Replacing {
  /** Local files that have rows of `dead`, as they are before it. */
  paths: readonly string[];
  dead: readonly (Dead & { gateway: string; endedMs: number })[];
  /** What the step says of the same identities. */
  fresh: readonly ReadingRow[];
  /** Were gathered in the same step and replaced in it: they were in no file. */
  more: readonly PastRow[];
  /** Of `fresh`, those that were found out later than they arrived, and nothing was known before. */
  late: readonly PastRow[];
}

export interface PastRow {
  row: ReadingRow;
  endedMs: number;
}

export const PAST_COLUMNS = READING_COLUMNS.map((sql) => sql.split(' AS ').at(-1) ?? sql);
const LIST = PAST_COLUMNS.join(', ');
const IDENTITY = 'gateway, epoch, sequence, "index"';
const UNTIL = 'CAST(make_timestamp(until_ms * 1000) AS TIMESTAMPTZ) AS until';
/** Maps are compared as texts. */
const CONTENT =
  'time_ns, series, CAST(fields AS VARCHAR) AS f, CAST(texts AS VARCHAR) AS t, CAST(bools AS VARCHAR) AS b';

const identityOf = (gateway: string, epoch: string, sequence: unknown, index: unknown): string =>
  `${gateway}/${epoch}/${String(sequence)}/${String(index)}`;

const identityOfRow = ({ gateway, record: { epoch }, reading }: ReadingRow): string =>
  identityOf(gateway, epoch, reading.sequence, reading.index);

/** The table `replaced`: which rows, until when they were so. */
export async function stageReplaced(
  connection: DuckDBConnection,
  dead: Replacing['dead'],
): Promise<void> {
  await connection.run(
    'CREATE OR REPLACE TEMP TABLE replaced (gateway VARCHAR, epoch VARCHAR, sequence BIGINT, "index" INTEGER, only_ns BIGINT, until_ms BIGINT)',
  );
  const appender = await connection.createAppender('replaced');
  for (const [at, { gateway, epoch, sequence, index, timeNs, endedMs }] of dead.entries()) {
    appender.appendVarchar(gateway);
    appender.appendVarchar(epoch);
    appender.appendBigInt(BigInt(sequence));
    appender.appendInteger(index);
    if (timeNs === undefined) appender.appendNull();
    else appender.appendBigInt(timeNs);
    appender.appendBigInt(BigInt(Math.round(endedMs)));
    appender.endRow();
    if (isTurn(at)) await nextTurn();
  }
  appender.closeSync();
}

/** As rows of `STAGED`: `revision` is when it ended, `removed` whether there was none. */
async function stagePast(connection: DuckDBConnection, rows: readonly ReadingRow[]): Promise<void> {
  for (const statement of STAGED) await connection.run(statement);
  await stageRows(connection, rows);
}

const asStaged = ({ row, endedMs }: PastRow, removed: boolean): ReadingRow => ({
  ...row,
  record: { ...row.record, revision: Math.round(endedMs) },
  removed,
});

/** Rows that were found out late, where nothing had been known of them: each until it was found out first. */
async function absentOf(
  connection: DuckDBConnection,
  more: readonly PastRow[],
  late: readonly PastRow[],
): Promise<PastRow[]> {
  if (late.length === 0) return [];
  const found = await connection.runAndReadAll(`SELECT DISTINCT ${IDENTITY} FROM gone`);
  const known = new Set(
    found
      .getRows()
      .map(([gateway, epoch, sequence, index]) =>
        identityOf(String(gateway), String(epoch), sequence, index),
      ),
  );
  const saidLate = new Set(late.map(({ row }) => row));
  for (const { row } of more) if (!saidLate.has(row)) known.add(identityOfRow(row));
  const first = new Map<string, PastRow>();
  for (const [at, each] of late.entries()) {
    if (isTurn(at)) await nextTurn();
    const name = identityOfRow(each.row);
    if (!known.has(name) && each.endedMs < (first.get(name)?.endedMs ?? Infinity))
      first.set(name, each);
  }
  return [...first.values()];
}

/** The table `past`: what there was before, and is not the same now. Gives the latest time until which any was so. */
export async function stageReplacing(
  connection: DuckDBConnection,
  { paths, dead, fresh, more, late }: Replacing,
): Promise<number | undefined> {
  const files =
    paths.length === 0
      ? undefined
      : `read_parquet([${paths.map(quote).join(', ')}], union_by_name = true, hive_partitioning = false)`;
  await stageReplaced(connection, dead);
  await stagePast(connection, fresh);
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE fresh AS SELECT ${IDENTITY}, ${CONTENT} FROM (SELECT ${READING_COLUMNS.join(', ')} FROM ${JOINED})`,
  );
  const where =
    'file.gateway = r.gateway AND file.epoch = r.epoch AND file.sequence = r.sequence AND file."index" = r."index" AND (r.only_ns IS NULL OR file.time_ns = r.only_ns)';
  if (files === undefined)
    await connection.run(
      `CREATE OR REPLACE TEMP TABLE gone AS SELECT ${READING_COLUMNS.join(', ')}, revision AS until_ms FROM ${JOINED} WHERE false`,
    );
  else
    await connection.run(
      `CREATE OR REPLACE TEMP TABLE gone AS SELECT ${PAST_COLUMNS.map((name) => `file.${name}`).join(', ')}, min(r.until_ms) AS until_ms FROM ${files} AS file JOIN replaced AS r ON ${where} GROUP BY ALL`,
    );
  const absent = await absentOf(connection, more, late);
  await stagePast(connection, [
    ...more.map((each) => asStaged(each, false)),
    ...absent.map((each) => asStaged(each, true)),
  ]);
  const same = `fresh.gateway = gone.gateway AND fresh.epoch = gone.epoch AND fresh.sequence = gone.sequence AND fresh."index" = gone."index" AND fresh.time_ns = gone.time_ns AND fresh.series = gone.series AND fresh.f = CAST(gone.fields AS VARCHAR) AND fresh.t = CAST(gone.texts AS VARCHAR) AND fresh.b = CAST(gone.bools AS VARCHAR)`;
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE past AS SELECT ${LIST}, until_ms, false AS absent FROM gone WHERE NOT EXISTS (SELECT 1 FROM fresh WHERE ${same}) UNION ALL SELECT ${READING_COLUMNS.join(', ')}, revision AS until_ms, removed AS absent FROM ${JOINED}`,
  );
  const [row] = (await connection.runAndReadAll('SELECT max(until_ms) FROM past')).getRows();
  return row?.[0] === null || row?.[0] === undefined ? undefined : Number(row[0]);
}

export const PAST_SELECT = `SELECT ${LIST}, ${UNTIL}, absent FROM past ORDER BY gateway, epoch, sequence, "index"`;

export const PAST_TABLES = ['replaced', 'fresh', 'gone', 'past', 'records', 'named', 'rows'];
