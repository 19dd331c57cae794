/** Query parameters of the API, checked. Throws QUERY_INVALID naming the parameter. */
import { HeadwaterError } from '../../shared/errors.ts';
import { fromText } from '../../shared/codecs/time.ts';
import {
  FUNCTIONS,
  type AggregateFunction,
  type SeriesFilter,
  type StoreQuery,
} from '../store/store.ts';

function invalid(why: string): never {
  throw new HeadwaterError('QUERY_INVALID', why);
}

const UNITS_MS: Record<string, number> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/** `90s`, `5m`, `1h` … or milliseconds. */
export function parseDuration(text: string, name: string): number {
  const match = /^(\d+)(ms|s|m|h|d|w)?$/.exec(text);
  const ms = Number(match?.[1]) * (UNITS_MS[match?.[2] ?? 'ms'] ?? 1);
  if (match === null || !(ms > 0) || !Number.isSafeInteger(ms))
    invalid(`${name}=${text} is not a duration such as 30s, 5m, 1h or milliseconds`);
  return ms;
}

/** RFC 3339 or epoch milliseconds; `now` and `now-1h` too. */
export function parseTime(text: string, name: string, nowMs: number): number {
  const relative = /^now(?:-(.+))?$/.exec(text);
  if (relative !== null)
    return nowMs - (relative[1] === undefined ? 0 : parseDuration(relative[1], name));
  if (/^-?\d{1,15}$/.test(text)) return Number(text);
  const time = fromText(/^\d{4}-\d{2}-\d{2}$/.test(text) ? `${text}T00:00:00Z` : text);
  if (time === undefined) invalid(`${name}=${text} is neither RFC 3339 nor epoch milliseconds`);
  return time.ms + time.ns / 1e6;
}

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
