/** The SQL of a query on the embedded store, and what its rows say. */
import type { FieldValue } from '../../shared/model/reading.ts';
import { nanosOf } from '../duckdb/nanos.ts';
import { valueOf, type Series } from './duckdb-catalog.ts';
import type { Cursor } from './pages.ts';
import type { AggregateFunction, SeriesPoints, StoreQuery } from './store.ts';

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

/** The table `place`: where each of these series comes in an answer. Undefined: they come in order of their numbers. */
function placesSql(some: readonly Series[]): string | undefined {
  if (some.every(({ id }, at) => at === 0 || id > (some[at - 1]?.id ?? id))) return undefined;
  const ids = some.map(({ id }) => id).join(',');
  return `(SELECT unnest([${ids}]) AS placed, unnest(range(${some.length})) AS place)`;
}

/**
 * Of series in the order of `wanted`, from the cursor's on. `time // width` in SQL floors towards zero; times before 1970 do
 * not occur (they are implausible).
 */
export function querySql(
  query: StoreQuery,
  wanted: readonly Series[],
  cursor: Cursor | undefined,
): string | undefined {
  const { fromMs, everyMs, fn } = query;
  const raw = everyMs === undefined && fn === undefined;
  const name = fn ?? 'mean';
  // Text and truth have no mean: only what is defined for them is answered.
  const numbers = isOfNumbers(query) ? wanted.filter(({ kind }) => kind === 'num') : wanted;
  const some = from(numbers, cursor);
  if (some.length === 0) return undefined;
  const where = whereSql(query, some, raw, cursor);
  const places = placesSql(some);
  const placed = places === undefined ? '' : ` JOIN ${places} ON placed = series`;
  const order = places === undefined ? 'series' : 'place';
  if (raw)
    return `SELECT series, time // 1000000, num, txt FROM points${placed} WHERE ${where} ORDER BY ${order}, time, origin, seq, idx${limitSql(query, cursor)}`;
  const width = everyMs === undefined ? undefined : nanosOf(everyMs, 0);
  const bucket =
    width !== undefined
      ? `(time // ${width}) * ${everyMs}`
      : fromMs !== undefined
        ? `CAST(${Math.ceil(fromMs)} AS BIGINT)`
        : 'min(time) // 1000000';
  const group = width === undefined ? '' : `, time // ${width}`;
  const values = `SELECT series, ${bucket} AS bucket, ${valueSql(name)} FROM points WHERE ${where} GROUP BY series${group}`;
  if (places === undefined) return `${values} ORDER BY series, bucket`;
  return `SELECT * EXCLUDE (placed, place) FROM (${values})${placed} ORDER BY place, bucket`;
}

/** Of a list of series, those from the cursor's on: the others were given. */
function from(some: readonly Series[], cursor: Cursor | undefined): readonly Series[] {
  if (cursor === undefined) return some;
  const at = some.findIndex(({ name }) => name === cursor.series);
  return at < 0 ? some : some.slice(at);
}

/** What is not wanted is not sorted either, and stands in no memory until somebody clears up; those of the cursor's time come again. */
const limitSql = ({ limit }: StoreQuery, cursor: Cursor | undefined): string =>
  limit === undefined ? '' : ` LIMIT ${limit + (cursor?.given ?? 0)}`;

/** Of these series, in a range of times, behind a cursor in the first of them. */
function whereSql(
  { fromMs, toMs }: StoreQuery,
  some: readonly Series[],
  raw: boolean,
  cursor: Cursor | undefined,
): string {
  const conditions = [`series IN (${some.map(({ id }) => id).join(',')})`];
  if (fromMs !== undefined) conditions.push(`time >= ${nanosOf(Math.ceil(fromMs), 0)}`);
  if (toMs !== undefined) conditions.push(`time < ${nanosOf(Math.ceil(toMs), 0)}`);
  const [first] = some;
  if (raw && cursor !== undefined && first?.name === cursor.series)
    conditions.push(`(series <> ${first.id} OR time >= ${nanosOf(cursor.timeMs, 0)})`);
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
  const some = from(wanted, cursor);
  const where = whereSql(query, some, true, cursor);
  const counts = await rows(`SELECT series, count(*) FROM points WHERE ${where} GROUP BY series`);
  const count = new Map(counts.map(([id, number]) => [Number(id), Number(number)]));
  const slices: Series[][] = [];
  let points = Infinity;
  for (const series of some) {
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
