/** The SQL of a query on the embedded store, and what its rows say. */
import type { FieldValue } from '../../shared/model/reading.ts';
import { valueOf, type Series } from './duckdb-catalog.ts';
import type { Cursor } from './pages.ts';
import { seriesName, type AggregateFunction, type SeriesPoints, type StoreQuery } from './store.ts';

export const nanos = (timeMs: number, ns: number): bigint =>
  BigInt(timeMs) * 1_000_000n + BigInt(ns);

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

/** `time // width` in SQL floors towards zero; times before 1970 do not occur (they are implausible). */
export function querySql(
  { fromMs, toMs, everyMs, fn }: StoreQuery,
  wanted: readonly Series[],
  cursor: Cursor | undefined,
): string | undefined {
  const raw = everyMs === undefined && fn === undefined;
  const name = fn ?? 'mean';
  // Text and truth have no mean: only what is defined for them is answered.
  const some =
    raw || NUMBERS[name] === undefined ? wanted : wanted.filter(({ kind }) => kind === 'num');
  if (some.length === 0) return undefined;
  const conditions = [`series IN (${some.map(({ id }) => id).join(',')})`];
  if (fromMs !== undefined) conditions.push(`time >= ${nanos(Math.ceil(fromMs), 0)}`);
  if (toMs !== undefined) conditions.push(`time < ${nanos(Math.ceil(toMs), 0)}`);
  const at = cursor && some.find((series) => seriesName(series) === cursor.series);
  if (at !== undefined && cursor !== undefined)
    conditions.push(
      raw
        ? `(series > ${at.id} OR (series = ${at.id} AND time >= ${nanos(cursor.timeMs, 0)}))`
        : `series >= ${at.id}`,
    );
  const where = conditions.join(' AND ');
  if (raw)
    return `SELECT series, time // 1000000, num, txt FROM points WHERE ${where} ORDER BY series, time, origin, seq, idx`;
  const width = everyMs === undefined ? undefined : nanos(everyMs, 0);
  const bucket =
    width !== undefined
      ? `(time // ${width}) * ${everyMs}`
      : fromMs !== undefined
        ? `CAST(${Math.ceil(fromMs)} AS BIGINT)`
        : 'min(time) // 1000000';
  const group = width === undefined ? '' : `, time // ${width}`;
  return `SELECT series, ${bucket} AS bucket, ${valueSql(name)} FROM points WHERE ${where} GROUP BY series${group} ORDER BY series, bucket`;
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
