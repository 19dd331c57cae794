/**
 * Parts of a query's answer: limited, with cursors.
 *
 * A cursor names a series, the millisecond of the last point given of it and how many points of that millisecond were
 * given: points that arrive meanwhile elsewhere change nothing behind it. Which series come behind it is the same in a store
 * that was filled anew: they come in an order of their names.
 */
import { HeadwaterError } from '../../shared/errors.ts';
import {
  seriesName,
  type PointsPart,
  type SeriesKey,
  type SeriesPoints,
  type StoreQuery,
} from './store.ts';

export interface Cursor {
  series: string;
  timeMs: number;
  /** Points of that millisecond that were given. */
  given: number;
}

/** Points in one part at most. */
export const PART_POINTS = 5000;

/** Of the order of series: a cursor of another one would say something else. */
const ORDER = 2;

const cursorText = ({ series, timeMs, given }: Cursor): string =>
  Buffer.from(JSON.stringify([ORDER, series, timeMs, given])).toString('base64url');

/** As `seriesName` makes it. */
const isName = (name: unknown): boolean =>
  Array.isArray(name) && name.length % 2 === 0 && name.every((each) => typeof each === 'string');

/** Throws QUERY_INVALID. */
export function parseCursor(text: string): Cursor {
  try {
    const [order, series, timeMs, given] = JSON.parse(
      Buffer.from(text, 'base64url').toString('utf8'),
    ) as unknown[];
    if (
      order === ORDER &&
      typeof series === 'string' &&
      isName(JSON.parse(series)) &&
      Number.isSafeInteger(timeMs) &&
      Number.isSafeInteger(given) &&
      (given as number) > 0
    )
      return { series, timeMs: timeMs as number, given: given as number };
  } catch {
    // Told below.
  }
  throw new HeadwaterError('QUERY_INVALID', 'cursor: it is not one that an answer had');
}

const GONE = 'cursor: its series is no more: begin anew';

/** Of a store that knows its series before it reads. Throws QUERY_INVALID. */
export function checkCursor(cursor: Cursor, wanted: readonly SeriesKey[]): void {
  if (!wanted.some((series) => seriesName(series) === cursor.series))
    throw new HeadwaterError('QUERY_INVALID', GONE);
}

/** The series that it names. */
export function keyOf({ series }: Cursor): SeriesKey {
  const [measurement = '', field = '', ...rest] = JSON.parse(series) as string[]; // Looked at by `parseCursor`.
  const tags: Record<string, string> = {};
  for (let at = 0; at + 1 < rest.length; at += 2) tags[rest[at] ?? ''] = rest[at + 1] ?? '';
  return { measurement, field, tags };
}

/** The gateway of the series that it names. */
export const gatewayOf = (cursor: Cursor): string => keyOf(cursor).tags['gateway'] ?? '';

/**
 * Gives what `source` gives, in the same order each time, from the cursor on and up to the limit. A source may begin at
 * the cursor's series and millisecond by itself. Throws QUERY_INVALID when the cursor's series is no more.
 */
export async function* paged(
  { limit = Number.POSITIVE_INFINITY, cursor: text }: StoreQuery,
  source: AsyncIterable<SeriesPoints>,
): AsyncGenerator<PointsPart> {
  const cursor = text === undefined ? undefined : parseCursor(text);
  let isBehind = cursor === undefined;
  let isAtSeries = false;
  let left = limit;
  let at: Cursor = { series: '', timeMs: Number.NaN, given: 0 };
  for await (const { points, ...key } of source) {
    const series = seriesName(key);
    if (cursor !== undefined && !isBehind) {
      if (series !== cursor.series) {
        if (!isAtSeries) continue;
        isBehind = true;
      } else isAtSeries = true;
    }
    let kept: SeriesPoints['points'] = [];
    for (const point of points) {
      if (left <= 0) break;
      if (series !== at.series || point[0] !== at.timeMs)
        at = { series, timeMs: point[0], given: 0 };
      at.given++;
      if (isAtSeries && !isBehind && cursor !== undefined && isGiven(at, cursor)) continue;
      left--;
      kept.push(point);
      if (kept.length < PART_POINTS) continue;
      yield { ...key, points: kept, cursor: cursorText(at) };
      kept = [];
    }
    if (kept.length > 0) yield { ...key, points: kept, cursor: cursorText(at) };
    if (left <= 0) return;
  }
  if (cursor !== undefined && !isAtSeries) throw new HeadwaterError('QUERY_INVALID', GONE);
}

const isGiven = ({ timeMs, given }: Cursor, cursor: Cursor): boolean =>
  timeMs < cursor.timeMs || (timeMs === cursor.timeMs && given <= cursor.given);
