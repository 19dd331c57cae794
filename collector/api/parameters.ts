/** Query parameters of the API: described, and read once they have been checked. Throws QUERY_INVALID naming the parameter. */
import { maySee } from '../../shared/access/may.ts';
import type { Identity } from '../../shared/access/tokens.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { invalid, parseDuration, parseTime } from '../../shared/http/parameters.ts';
import type { Parameters } from '../../shared/http/route.ts';
import { checkTopicFilter } from '../../shared/mqtt/packets.ts';
import {
  FUNCTIONS,
  type AggregateFunction,
  type SeriesFilter,
  type StoreQuery,
} from '../store/store.ts';

export const FILTER: Parameters = {
  measurement: { about: 'Only this measurement.' },
  field: { about: 'Only this field; texts are in `<field>_text`, booleans in `<field>_bool`.' },
  tag: {
    about: 'Only series with these tags: `tag.KEY=VALUE`, as often as needed.',
    isMap: true,
  },
};

/** Throws QUERY_INVALID. */
export function checkFilter(topic: string): void {
  try {
    checkTopicFilter(topic);
  } catch (error) {
    invalid(`topic: ${messageOf(error)}`);
  }
}

export const QUERY: Parameters = {
  ...FILTER,
  from: { about: 'RFC 3339, epoch milliseconds, or now-1h; inclusive.' },
  to: { about: 'The same; exclusive.' },
  every: { about: 'Width of a bucket: 30s, 5m, 1h, 1d, or milliseconds.' },
  fn: { about: 'Aggregate; `mean` when only `every` is given.', choices: FUNCTIONS },
  limit: {
    about: 'Most points of this answer; `next` says where the following one begins.',
    integer: { min: 1, max: 10_000_000 },
  },
  asOf: {
    about:
      'What was known at this time (RFC 3339, epoch milliseconds or now-1h): without what arrived, moved or was decoded anew since. Needs a lake.',
  },
  cursor: { about: '`next` of the answer before this one, to the same question.' },
};

export function parseFilter(query: URLSearchParams): SeriesFilter {
  const filter: SeriesFilter = {};
  const tags: [string, string][] = [];
  for (const [key, value] of query) {
    if (key === 'measurement') filter.measurement = value;
    else if (key === 'field') filter.field = value;
    else if (key.startsWith('tag.')) tags.push([key.slice(4), value]);
  }
  if (tags.length > 0) filter.tags = Object.fromEntries(tags);
  return filter;
}

export function parseQuery(query: URLSearchParams, nowMs: number): StoreQuery {
  const result: StoreQuery = parseFilter(query);
  const [from, to, every, fn, limit, cursor] = ['from', 'to', 'every', 'fn', 'limit', 'cursor'].map(
    (name) => query.get(name) ?? undefined,
  );
  if (from !== undefined) result.fromMs = parseTime(from, 'from', nowMs);
  if (to !== undefined) result.toMs = parseTime(to, 'to', nowMs);
  if (every !== undefined) result.everyMs = parseDuration(every, 'every');
  if (limit !== undefined) result.limit = Number(limit);
  if (cursor !== undefined) result.cursor = cursor;
  if (fn !== undefined) result.fn = fn as AggregateFunction; // One of the choices.
  if (result.fromMs !== undefined && result.toMs !== undefined && result.fromMs > result.toMs)
    invalid('from is later than to');
  return result;
}

/** A filter for another gateway than an asker may see is an error, not an empty answer. */
export function checkAsked(identity: Identity, query: URLSearchParams): void {
  const asked = query.get('tag.gateway');
  if (asked !== null && !maySee(identity, asked))
    throw new HeadwaterError('FORBIDDEN', `this token may not see gateway '${asked.slice(0, 64)}'`);
}
