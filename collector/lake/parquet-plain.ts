/**
 * Records of the log that hold numbers alone, taken apart by DuckDB itself, off this thread. What turns out not to be
 * such a record is left to whoever looks at each one.
 */
import { setImmediate } from 'node:timers/promises';
import { quote, type DuckDBConnection } from '../duckdb/database.ts';
import { DATE, instantOf } from './parquet-rows.ts';

/** Given to DuckDB in one turn of the event loop. */
const BYTES_AT_ONCE = 256 * 1024;

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

/** Whether a record has numbers alone, and replaces nothing: texts are in `…_text`, booleans in `…_bool`. */
export const isPlain = (value: Buffer): boolean =>
  !['_text":', '_bool":', '"was":', '"removed":'].some((mark) => value.includes(mark));

export async function takeApart(
  connection: DuckDBConnection,
  { log, partition, records }: PlainRecords,
): Promise<boolean> {
  await connection.run('CREATE OR REPLACE TEMP TABLE given (log_offset BIGINT, value VARCHAR)');
  const appender = await connection.createAppender('given');
  let bytes = 0;
  for (const { offset, value } of records) {
    appender.appendBigInt(BigInt(offset));
    appender.appendVarchar(value.toString('utf8'));
    appender.endRow();
    bytes += value.length;
    if (bytes < BYTES_AT_ONCE) continue;
    bytes = 0;
    await setImmediate();
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
