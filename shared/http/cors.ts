/**
 * Pages of other origins (the Fetch standard's CORS protocol): none, but for those that the settings name, each exactly. They say who
 * they are by a token that they send themselves; never by a cookie, and no answer allows credentials.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { HeadwaterError } from '../errors.ts';
import { isSameOrigin } from '../net/address.ts';

export type Origins = ReadonlySet<string>;

/** What such a page may send, beside what any may, and what it may read of an answer. */
const SENT =
  'authorization, content-type, content-encoding, idempotency-key, last-event-id, accept';
const READ = 'headwater-incomplete, retry-after, allow, content-disposition';
const HELD_SECONDS = 600;

/** Throws CONFIG_INVALID for what no browser sends as an origin: `*`, a path, a name in capitals. */
export function parseOrigins(list: readonly string[]): Origins {
  for (const text of list) {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if (
      url === undefined ||
      !/^https?:$/.test(url.protocol) ||
      url.origin !== text ||
      text.includes('*')
    )
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `http.corsOrigins: '${text.slice(0, 200)}' is not an origin such as https://dash.example.org: scheme and host in small letters, a port where it is not the usual one, and nothing else (each page's origin is named, '*' is not taken)`,
      );
  }
  return new Set(list);
}

/** Whether the page that asks is one of those, and of no origin of our own. */
export function isListed(origins: Origins, { headers }: IncomingMessage): boolean {
  const { origin, host = '' } = headers;
  return origin !== undefined && origins.has(origin) && !isSameOrigin(origin, host);
}

/** Lets the page that asks read the answer, where it is listed; a cache keeps answers to each apart. */
export function allow(origins: Origins, request: IncomingMessage, response: ServerResponse): void {
  if (origins.size === 0) return;
  response.setHeader('vary', 'origin');
  if (!isListed(origins, request)) return;
  response.setHeader('access-control-allow-origin', request.headers.origin ?? '');
  response.setHeader('access-control-expose-headers', READ);
}

/** What a browser asks before it sends what a form could not: answered without a token, which it does not send with it. */
export const isPreflight = (origins: Origins, request: IncomingMessage): boolean =>
  request.method === 'OPTIONS' &&
  request.headers['access-control-request-method'] !== undefined &&
  isListed(origins, request);

export const preflightHeaders = (methods: readonly string[]): Record<string, string> => ({
  'access-control-allow-methods': methods.join(', '),
  'access-control-allow-headers': SENT,
  'access-control-max-age': String(HELD_SECONDS),
});
