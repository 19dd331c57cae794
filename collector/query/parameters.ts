/** Query parameters and bodies of the API, checked. Throws QUERY_INVALID naming the parameter. */
import { invalid, parseDuration, parseTime } from '../../shared/http/parameters.ts';
import type { Request } from '../../shared/http/server.ts';
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

const BODY_BYTES_MAX = 64 * 1024;

/** A request's body: an object of texts and numbers under known names, all as texts. Throws QUERY_INVALID. */
export async function bodyOf(
  request: Request,
  known: readonly string[],
): Promise<Record<string, string>> {
  const text = (await request.body(BODY_BYTES_MAX)).toString('utf8');
  let body: unknown;
  try {
    body = text === '' ? {} : JSON.parse(text);
  } catch {
    return invalid('the body is not JSON');
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    return invalid('the body is not an object');
  return Object.fromEntries(
    Object.entries(body).map(([key, value]: [string, unknown]) => {
      if (!known.includes(key)) invalid(`'${key}' is not known; known are ${known.join(', ')}`);
      if (typeof value !== 'string' && typeof value !== 'number')
        return invalid(`'${key}' is not a text`);
      return [key, String(value)];
    }),
  );
}
