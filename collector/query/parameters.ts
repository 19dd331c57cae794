/** Query parameters of the API, checked. Throws QUERY_INVALID naming the parameter. */
import { invalid, parseDuration, parseTime } from '../../shared/http/parameters.ts';
import {
  FUNCTIONS,
  type AggregateFunction,
  type SeriesFilter,
  type StoreQuery,
} from '../store/store.ts';

export function parseFilter(query: URLSearchParams, others: readonly string[] = []): SeriesFilter {
  const filter: SeriesFilter = {};
  const tags: [string, string][] = [];
  for (const [key, value] of query) {
    if (key === 'measurement') filter.measurement = value;
    else if (key === 'field') filter.field = value;
    else if (key.startsWith('tag.')) tags.push([key.slice(4), value]);
    else if (!others.includes(key)) invalid(`parameter '${key}' is not known here`);
  }
  if (tags.length > 0) filter.tags = Object.fromEntries(tags);
  return filter;
}

export function parseQuery(query: URLSearchParams, nowMs: number): StoreQuery {
  const result: StoreQuery = parseFilter(query, ['from', 'to', 'every', 'fn']);
  const [from, to, every, fn] = ['from', 'to', 'every', 'fn'].map(
    (name) => query.get(name) ?? undefined,
  );
  if (from !== undefined) result.fromMs = parseTime(from, 'from', nowMs);
  if (to !== undefined) result.toMs = parseTime(to, 'to', nowMs);
  if (every !== undefined) result.everyMs = parseDuration(every, 'every');
  if (fn !== undefined) {
    if (!(FUNCTIONS as readonly string[]).includes(fn))
      invalid(`fn=${fn} is not one of ${FUNCTIONS.join(', ')}`);
    result.fn = fn as AggregateFunction;
  }
  if (result.fromMs !== undefined && result.toMs !== undefined && result.fromMs > result.toMs)
    invalid('from is later than to');
  return result;
}
