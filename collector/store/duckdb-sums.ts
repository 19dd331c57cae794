/** Sums of the embedded store's points, as `duckdb/points.ts` has them. */
import { isTurn, nextTurn } from '../../shared/env/turns.ts';
import type { DuckDBConnection } from '../duckdb/database.ts';
import {
  between,
  onlyAsked,
  stageAsked,
  sumsOf,
  sumsSql,
  type PointSum,
} from '../duckdb/points.ts';
import { seriesText } from '../lake/rows.ts';
import type { Catalog, Series } from './duckdb-catalog.ts';
import type { SumsAsked } from './sums.ts';

const texts = new WeakMap<Series, string>();
function textOf(series: Series): string {
  let text = texts.get(series);
  if (text === undefined) {
    text = seriesText(series.measurement, series.tags);
    texts.set(series, text);
  }
  return text;
}

/** What each series is called, as the lake calls it. */
async function stageNames(connection: DuckDBConnection, { list }: Catalog): Promise<void> {
  await connection.run(
    'CREATE OR REPLACE TEMP TABLE names (series INTEGER, name VARCHAR, field VARCHAR)',
  );
  const appender = await connection.createAppender('names');
  for (const [at, series] of list.entries()) {
    if (isTurn(at)) await nextTurn();
    appender.appendInteger(series.id);
    appender.appendVarchar(textOf(series));
    appender.appendVarchar(series.field);
    appender.endRow();
  }
  appender.closeSync();
}

export async function storedSums(
  connection: DuckDBConnection,
  catalog: Catalog,
  { level, range, only }: SumsAsked,
): Promise<PointSum[]> {
  await stageNames(connection, catalog);
  const where = range === undefined ? '' : ` WHERE ${between('time', ...range)}`;
  // A point whose series is nowhere is no less there.
  const points = `SELECT gateway, epoch, seq AS sequence, idx, time AS time_ns, coalesce(name, '') AS series, coalesce(field, '') AS field, num, txt FROM (SELECT * FROM points${where}) AS p JOIN origins ON origins.id = p.origin LEFT JOIN names ON names.series = p.series`;
  if (only === undefined) return await sumsOf(connection, sumsSql(points, level));
  await stageAsked(connection, only.asked);
  return await sumsOf(connection, sumsSql(onlyAsked(points, only.by), level));
}
