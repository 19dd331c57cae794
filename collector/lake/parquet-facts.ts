/** What is to be known of a Parquet file, asked of DuckDB: its rows, its row groups, and which sequences it has. */
import { KIND_STATUS } from '../../shared/frame/frame.ts';
import { quote, type DuckDBConnection } from '../duckdb/database.ts';
import type { Zone } from './layout.ts';
import type { Spans } from './manifest.ts';
import type { Group } from './sums.ts';

export interface Facts {
  rows: number;
  groups: Group[];
  spans: Spans;
  /** Of raw: rows that no span is of. */
  bare?: number;
  /** Of these status reports of gateways. */
  reports?: number;
}

/** Status reports have no sequence of their own, and what is not a whole frame has none that can be believed. */
const NUMBERED = 'kind BETWEEN 0 AND 3';

/** First and last sequence of each record of the log, by what a span is of. Results have none: a window is no sequence. */
const RECORDS: Record<Zone, string> = {
  raw: `SELECT epoch, first_sequence AS a, first_sequence + greatest("count", 1) - 1 AS b FROM % WHERE ${NUMBERED}`,
  readings: `SELECT epoch, min(sequence) AS a, max(sequence) AS b FROM % GROUP BY epoch, log, log_partition, log_offset`,
  results: '',
};

/**
 * SQL of ranges without gaps between them, from records with `a` and `b`, apart by `keys`; `overlaps` where two records
 * say something of the same sequence.
 */
export function islands(records: string, keys: string): string {
  const window = `PARTITION BY ${keys} ORDER BY a, b ROWS`;
  return `WITH records AS (${records}),
    marked AS (SELECT *, max(b) OVER (${window} BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM records),
    numbered AS (SELECT *, sum(CASE WHEN before IS NULL OR a > before + 1 THEN 1 ELSE 0 END) OVER (${window} UNBOUNDED PRECEDING) AS island FROM marked)
    SELECT ${keys}, min(a) AS a, max(b) AS b, coalesce(bool_or(a <= before), false) AS overlaps FROM numbered GROUP BY ${keys}, island ORDER BY ${keys}, a`;
}

/** Row groups lie one after the other; each begins with its first column's dictionary or data. */
const GROUPS = `SELECT row_group_id, any_value(row_group_num_rows), min(start), max(start + total_compressed_size) FROM
  (SELECT *, CASE WHEN dictionary_page_offset > 0 THEN least(dictionary_page_offset, data_page_offset) ELSE data_page_offset END AS start FROM parquet_metadata(%))
  GROUP BY row_group_id ORDER BY row_group_id`;

export async function factsOf(
  connection: DuckDBConnection,
  zone: Zone,
  path: string,
): Promise<Facts> {
  const file = quote(path);
  const found = (await connection.runAndReadAll(GROUPS.replace('%', file))).getRows();
  const groups = found.map(([, rows, from, to]) => ({
    at: Number(from),
    bytes: Number(to) - Number(from),
    rows: Number(rows),
  }));
  const spans = zone === 'results' ? {} : await spansIn(connection, RECORDS[zone], path);
  const facts = { rows: groups.reduce((sum, { rows }) => sum + rows, 0), groups, spans };
  if (zone !== 'raw') return facts;
  const [[bare, reports] = [0, 0]] = (
    await connection.runAndReadAll(
      `SELECT count(*) FILTER (WHERE NOT ${NUMBERED}), count(*) FILTER (WHERE kind = ${KIND_STATUS}) FROM ${rowsOf(path)}`,
    )
  ).getRows();
  return { ...facts, bare: Number(bare), reports: Number(reports) };
}

const rowsOf = (path: string): string => `read_parquet(${quote(path)}, hive_partitioning = false)`;

async function spansIn(
  connection: DuckDBConnection,
  records: string,
  path: string,
): Promise<Spans> {
  const sql = islands(records.replace('%', rowsOf(path)), 'epoch');
  const spans: Spans = {};
  for (const [epoch, from, to] of (await connection.runAndReadAll(sql)).getRows())
    (spans[String(epoch)] ??= []).push([Number(from), Number(to)]);
  return spans;
}

/** The sequences that a file of readings has, and no others: a record's span has what other days' files have as well. */
export const sequencesIn = (connection: DuckDBConnection, path: string): Promise<Spans> =>
  spansIn(connection, 'SELECT DISTINCT epoch, sequence AS a, sequence AS b FROM %', path);
