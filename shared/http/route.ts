/**
 * A route is its description: method, path, right, parameters, body and replies. The server checks requests against it
 * before its handler sees them, OpenAPI and the table of rights are made from it. Nothing is served that is not described.
 */
import type { X509Certificate } from 'node:crypto';
import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import type { WebSocket } from 'ws';
import type { Share } from '../access/shares.ts';
import type { Identity, Scope } from '../access/tokens.ts';
import { HeadwaterError, type ErrorCode } from '../errors.ts';
import { invalid } from './parameters.ts';
import type { Schema } from './schema.ts';

export interface Reply {
  status?: number;
  type?: string;
  body: string | Buffer;
  headers?: Record<string, string>;
}

/** An answer in parts, each taken when the one before it has gone out. What throws before the first one is answered as an error. */
export interface StreamReply {
  status?: number;
  type: string;
  parts: AsyncIterable<string | Uint8Array>;
  headers?: Record<string, string>;
}

export interface Request {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingHttpHeaders;
  identity: Identity;
  address: string;
  /** Whose share a limit is of: the token's name where there is one, else the address. */
  principal: string;
  /** What the route's body has, checked. */
  fields: Record<string, string>;
  /** Aborted when nobody waits for the answer any more. */
  signal: AbortSignal;
  /** What the asker has shown, whoever signed it: only where the server asks for one. */
  certificate(): X509Certificate | undefined;
  /** How many Idempotency-Keys are remembered, and of whom. */
  keys: Share;
  /** A stream that reads what it has missed waits for its turn, see `turns.ts`. */
  catchUp(isWanted: () => boolean, work: () => Promise<void>): Promise<void>;
  /** Throws BODY_TOO_LARGE. */
  body(bytesMax: number): Promise<Buffer>;
}

export interface Parameter {
  about: string;
  required?: boolean;
  choices?: readonly string[];
  /** Inclusive. */
  integer?: { min: number; max: number };
  /** `NAME.KEY=VALUE`, as often as needed. */
  isMap?: boolean;
}

export type Parameters = Readonly<Record<string, Parameter>>;

export interface Right {
  scope: Scope;
  /** `here`: of this gateway, or of the name under which this collector takes messages. Else as `may` knows it. */
  subject: 'all' | 'each' | 'here';
}

export type Body =
  /** An object of texts, under these names. */
  | { fields: Parameters }
  /** As it is, for the handler to read, with the content type that it may have. */
  | { type: string; schema: Schema };

export interface Route<Running> {
  readonly method: 'GET' | 'POST';
  /** Exact. */
  readonly path: string;
  readonly about: string;
  /** 'open': it holds no data and needs no token. */
  readonly right: Right | 'open';
  /** 'any': a file, whose address may carry what is not for the server. */
  readonly query?: Parameters | 'any';
  readonly headers?: Parameters;
  readonly body?: Body;
  readonly replies: Readonly<Record<number, Answer>>;
  /** It reads much: it waits for its turn, see `turns.ts`. */
  readonly isCostly?: boolean;
  /** What its clients look for in an error: `{"error":"text"}`; else as everywhere. */
  readonly errors?: 'influxdb';
  /** It stays open and counts as a stream. */
  readonly isStream?: boolean;
  /**
   * For a client that asks for a WebSocket: what is done with it once it is open. `request.signal` is aborted when it is closed.
   * What this throws is answered in its place.
   */
  socket?(running: Running, request: Request): (webSocket: WebSocket) => void;
  /** Returns a reply, or undefined when it answers on `response` itself (a stream). */
  handle(
    running: Running,
    request: Request,
    response: ServerResponse,
  ): Promise<Reply | StreamReply | undefined> | Reply | StreamReply | undefined;
}

/** A route with what answers it; undefined: that does not run here, for this reason. */
export interface Endpoint {
  route: Route<unknown>;
  running: unknown;
  absent: string;
}

export interface Answer {
  about: string;
  /** Left out: text, or nothing. */
  schema?: Schema;
  /** Several: as a parameter says. */
  type?: string | readonly string[];
}

export const READ_ALL: Right = { scope: 'read', subject: 'all' };
export const READ_EACH: Right = { scope: 'read', subject: 'each' };
/** The handler asks about the gateway that a request names. */
export const ADMIN_EACH: Right = { scope: 'admin', subject: 'each' };
export const ADMIN_ALL: Right = { scope: 'admin', subject: 'all' };

export function json(value: unknown, status = 200): Reply {
  return { status, type: 'application/json; charset=utf-8', body: JSON.stringify(value) };
}

function checkValue(name: string, value: string, { choices, integer }: Parameter): void {
  if (choices?.includes(value) === false)
    invalid(`${name}=${value.slice(0, 100)} is not one of ${choices.join(', ')}`);
  if (integer === undefined) return;
  const number = Number(value);
  if (!/^-?\d+$/.test(value) || number < integer.min || number > integer.max)
    invalid(`${name}=${value.slice(0, 100)} is not a number from ${integer.min} to ${integer.max}`);
}

const descriptionOf = (known: Parameters, name: string): Parameter | undefined => {
  if (Object.hasOwn(known, name)) return known[name]?.isMap === true ? undefined : known[name];
  const dot = name.indexOf('.');
  const map =
    dot > 0 && Object.hasOwn(known, name.slice(0, dot)) ? known[name.slice(0, dot)] : undefined;
  return map?.isMap === true ? map : undefined;
};

/** Throws QUERY_INVALID for what is unknown, missing or not as it has to be. */
export function checkParameters(
  known: Parameters,
  given: Iterable<[name: string, value: string]>,
): void {
  const seen = new Set<string>();
  for (const [name, value] of given) {
    const parameter = descriptionOf(known, name);
    if (parameter === undefined) {
      const names = Object.entries(known).map(([each, { isMap }]) =>
        isMap === true ? `${each}.KEY` : each,
      );
      return invalid(
        `'${name.slice(0, 100)}' is not known here; ${names.length === 0 ? 'there are no parameters' : `known are ${names.join(', ')}`}`,
      );
    }
    // Readers take the first of two, or the last.
    if (seen.has(name)) invalid(`${name.slice(0, 100)} is given twice: send it once`);
    seen.add(name);
    checkValue(name, value, parameter);
  }
  for (const [name, { required }] of Object.entries(known))
    if (required === true && !seen.has(name)) invalid(`${name} is missing`);
}

/** A JSON object of texts and numbers under known names, all as texts. Throws QUERY_INVALID. */
export function parseFields(text: string, known: Parameters): Record<string, string> {
  let body: unknown;
  try {
    body = text === '' ? {} : JSON.parse(text);
  } catch {
    return invalid('the body is not JSON');
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    return invalid('the body is not an object');
  const fields = Object.entries(body).map(([name, value]: [string, unknown]): [string, string] => {
    if (typeof value !== 'string' && typeof value !== 'number')
      return invalid(`'${name.slice(0, 100)}' is not a text`);
    return [name, String(value)];
  });
  checkParameters(known, fields);
  return Object.fromEntries(fields);
}

/** Of a method and path that nothing answers. */
export function notServed(
  method: string,
  path: string,
  methods: readonly string[],
): HeadwaterError {
  const code: ErrorCode = methods.length === 0 ? 'NOT_FOUND' : 'METHOD_NOT_ALLOWED';
  const what = methods.length === 0 ? '' : `, only ${methods.join(' and ')}`;
  return new HeadwaterError(
    code,
    `nothing at ${method} ${path.slice(0, 200)}${what}: see /openapi.json`,
  );
}
