/** Aggregates for stores that have none: points of a series, in order of time, into buckets. */
import type { FieldValue } from '../../shared/model/reading.ts';
import { paged } from './pages.ts';
import {
  seriesName,
  type AggregateFunction,
  type PointsPart,
  type SeriesKey,
  type SeriesPoints,
  type StoreQuery,
  type TimeSeriesStore,
} from './store.ts';

/** What answers a query: a store, or a view of one. */
export interface Answering {
  readonly supports: Pick<TimeSeriesStore['supports'], 'aggregates'>;
  query: TimeSeriesStore['query'];
}

/** What a query says, whoever aggregates. */
export function ask(store: Answering, query: StoreQuery): AsyncIterable<PointsPart> {
  const { everyMs, fn, limit, cursor, ...plain } = query;
  if (store.supports.aggregates || (everyMs === undefined && fn === undefined))
    return store.query(query);
  return paged(query, aggregated(store.query(plain), query));
}

/** Text and truth have no mean: only what is defined for them is answered. */
const OF_ANYTHING: ReadonlySet<AggregateFunction> = new Set(['count', 'first', 'last']);

/** In buckets, or one value of all. */
export async function* aggregated(
  parts: AsyncIterable<SeriesPoints>,
  { everyMs, fn = 'mean', fromMs }: StoreQuery,
): AsyncGenerator<SeriesPoints> {
  let bucket: { key: SeriesKey; name: string; at: number; values: FieldValue[] } | undefined;
  const done = (): SeriesPoints[] => {
    if (bucket === undefined) return [];
    const { key, at, values } = bucket;
    return [{ ...key, points: [[at, valueOf(fn, values)]] }];
  };
  for await (const { points, measurement, field, tags } of parts) {
    const key = { measurement, field, tags };
    const name = seriesName(key);
    for (const [time, value] of points) {
      if (typeof value !== 'number' && !OF_ANYTHING.has(fn)) break;
      const begin = everyMs === undefined ? undefined : Math.floor(time / everyMs) * everyMs;
      if (
        bucket === undefined ||
        bucket.name !== name ||
        (begin !== undefined && begin !== bucket.at)
      ) {
        yield* done();
        const at = begin ?? (fromMs === undefined ? time : Math.ceil(fromMs));
        bucket = { key, name, at, values: [] };
      }
      bucket.values.push(value);
    }
  }
  yield* done();
}

function valueOf(fn: AggregateFunction, values: readonly FieldValue[]): FieldValue {
  if (fn === 'count') return values.length;
  if (fn === 'first') return values[0] as FieldValue; // A bucket is made with one.
  if (fn === 'last') return values.at(-1) as FieldValue; // The same.
  const numbers = values as number[]; // Of nothing else: see above.
  const sum = numbers.reduce((a, b) => a + b, 0);
  if (fn === 'sum') return sum;
  if (fn === 'mean') return sum / numbers.length;
  if (fn === 'min') return numbers.reduce((a, b) => Math.min(a, b));
  if (fn === 'max') return numbers.reduce((a, b) => Math.max(a, b));
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number; // Not empty.
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}
