/** Times and durations in query parameters of both sides' APIs. Throws QUERY_INVALID naming the parameter. */
import { fromText } from '../codecs/time.ts';
import { HeadwaterError } from '../errors.ts';

export function invalid(why: string): never {
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
