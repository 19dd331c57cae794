/** SQL of the lake's zones over the local paths of their files. */
import { quote } from '../duckdb/database.ts';
import { COLUMNS, type Zone } from './layout.ts';

/**
 * Only the newest revision of each result, and not those that were taken back. Earlier versions gave a result that
 * moved and its old place one revision: then what is there counts.
 */
const NEWEST =
  'QUALIFY row_number() OVER (PARTITION BY gateway, epoch, sequence, "index" ORDER BY revision DESC, log_offset DESC, removed) = 1';

export const pathList = (paths: readonly string[]): string => `[${paths.map(quote).join(', ')}]`;

/** SQL of a zone's rows in these files; the same columns when there are none. */
export function select(zone: Zone, paths: readonly string[]): string {
  if (paths.length === 0) {
    const none = COLUMNS[zone].map(({ name, type }) => `CAST(NULL AS ${type}) AS "${name}"`);
    return `SELECT ${none.join(', ')} WHERE false`;
  }
  return `SELECT * FROM read_parquet(${pathList(paths)}, union_by_name = true, hive_partitioning = false)`;
}

/** Results as they are now: their newest revisions. */
export const newest = (from: string): string =>
  `SELECT * FROM (${from} ${NEWEST}) WHERE NOT removed`;

const numbers = (view: string): string =>
  `SELECT time, time_ns, measurement, series, tags, unnest(map_keys(fields)) AS field, unnest(map_values(fields)) AS value, gateway, epoch, sequence, "index" FROM ${view}`;

/** One number a row, the long form that most SQL wants. */
export const POINTS = numbers('readings');
