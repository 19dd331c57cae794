/** The SQL of a query on the embedded store, and what its rows say. */
import type { FieldValue } from '../../shared/model/reading.ts';
import { nanosOf } from '../duckdb/nanos.ts';
import { valueOf, type Series } from './duckdb-catalog.ts';
import type { Cursor } from './pages.ts';
import { seriesName, type AggregateFunction, type SeriesPoints, type StoreQuery } from './store.ts';

/** Rows in one part at most. */
const PART_ROWS = 5000;

const NUMBERS: Partial<Record<AggregateFunction, string>> = {
  mean: 'avg(num)',
  min: 'min(num)',
  max: 'max(num)',
  sum: 'sum(num)',
  median: 'median(num)',
};
/** In order of these a series has a first and a last point. */
const PLACE = '(time, origin, seq, idx)';

/** An aggregate that only numbers have. */
export const isOfNumbers = ({ everyMs, fn }: StoreQuery): boolean =>
  (everyMs !== undefined || fn !== undefined) && NUMBERS[fn ?? 'mean'] !== undefined;

/** `time // width` in SQL floors towards zero; times before 1970 do not occur (they are implausible). */
export function querySql(
  query: StoreQuery,
  wanted: readonly Series[],
  cursor: Cursor | undefined,
): string | undefined {
  const { fromMs, everyMs, fn } = query;
  const raw = everyMs === undefined && fn === undefined;
  const name = fn ?? 'mean';
  // Text and truth have no mean: only what is defined for them is answered.
  const some = isOfNumbers(query) ? wanted.filter(({ kind }) => kind === 'num') : wanted;
  if (some.length === 0) return undefined;
  const where = whereSql(query, some, raw, cursor);
  if (raw)
    return `SELECT series, time // 1000000, num, txt FROM points WHERE ${where} ORDER BY series, time, origin, seq, idx${limitSql(query, cursor)}`;
  const width = everyMs === undefined ? undefined : nanosOf(everyMs, 0);
  const bucket =
    width !== undefined
      ? `(time // ${width}) * ${everyMs}`
      : fromMs !== undefined
        ? `CAST(${Math.ceil(fromMs)} AS BIGINT)`
        : 'min(time) // 1000000';
  const group = width === undefined ? '' : `, time // ${width}`;
  return `SELECT series, ${bucket} AS bucket, ${valueSql(name)} FROM points WHERE ${where} GROUP BY series${group} ORDER BY series, bucket`;
}

/** What is not wanted is not sorted either, and stands in no memory until somebody clears up; those of the cursor's time come again. */
const limitSql = ({ limit }: StoreQuery, cursor: Cursor | undefined): string =>
  limit === undefined ? '' : ` LIMIT ${limit + (cursor?.given ?? 0)}`;

/** Of these series, in a range of times, behind a cursor. */
function whereSql(
  { fromMs, toMs }: StoreQuery,
  some: readonly Series[],
  raw: boolean,
  cursor: Cursor | undefined,
): string {
  const conditions = [`series IN (${some.map(({ id }) => id).join(',')})`];
  if (fromMs !== undefined) conditions.push(`time >= ${nanosOf(Math.ceil(fromMs), 0)}`);
  if (toMs !== undefined) conditions.push(`time < ${nanosOf(Math.ceil(toMs), 0)}`);
  const at = cursor && some.find((series) => seriesName(series) === cursor.series);
  if (at !== undefined && cursor !== undefined)
    conditions.push(
      raw
        ? `(series > ${at.id} OR (series = ${at.id} AND time >= ${nanosOf(cursor.timeMs, 0)}))`
        : `series >= ${at.id}`,
    );
  return conditions.join(' AND ');
}

/** Points that are sorted at once. */
const SLICE_POINTS = 500_000;

/**
 * Raw points are sorted one slice of series after the other, so that neither memory nor the first row waits for all of
 * them. Aggregates are one slice.
 */
export async function slicesOf(
  query: StoreQuery,
  wanted: readonly Series[],
  cursor: Cursor | undefined,
  rows: (sql: string) => Promise<unknown[][]>,
): Promise<Series[][]> {
  if (query.everyMs !== undefined || query.fn !== undefined || wanted.length <= 1)
    return [[...wanted]];
  const where = whereSql(query, wanted, true, cursor);
  const counts = await rows(`SELECT series, count(*) FROM points WHERE ${where} GROUP BY series`);
  const count = new Map(counts.map(([id, number]) => [Number(id), Number(number)]));
  const slices: Series[][] = [];
  let points = Infinity;
  for (const series of wanted) {
    const own = count.get(series.id) ?? 0;
    if (own === 0) continue;
    if (points + own > SLICE_POINTS) {
      slices.push([]);
      points = 0;
    }
    points += own;
    slices.at(-1)?.push(series);
  }
  return slices;
}

function valueSql(name: AggregateFunction): string {
  if (name === 'count') return 'CAST(count(*) AS DOUBLE), NULL';
  const numbers = NUMBERS[name];
  if (numbers !== undefined) return `${numbers}, NULL`;
  const which = name === 'first' ? 'arg_min' : 'arg_max';
  return `${which}(num, ${PLACE}), ${which}(txt, ${PLACE})`;
}

/** Rows as `querySql` has them, in parts of a series each. */
export async function* partsOf(
  { everyMs, fn }: StoreQuery,
  list: readonly Series[],
  chunks: AsyncIterable<unknown[][]>,
): AsyncGenerator<SeriesPoints> {
  // An aggregate is a number, whatever it is of; a first or a last is one of the points.
  const isValue = (fn === undefined && everyMs === undefined) || fn === 'first' || fn === 'last';
  let series: Series | undefined;
  let points: [number, FieldValue][] = [];
  const part = ({ measurement, field, tags }: Series): SeriesPoints => ({
    measurement,
    field,
    tags,
    points,
  });
  for await (const rows of chunks)
    for (const [id, at, num, txt] of rows) {
      const of = list[Number(id)] as Series; // From its own table.
      if (series !== undefined && (of !== series || points.length >= PART_ROWS)) {
        yield part(series);
        points = [];
      }
      series = of;
      points.push([Number(at), isValue ? valueOf(of.kind, num, txt) : Number(num)]);
    }
  if (series !== undefined) yield part(series);
}
