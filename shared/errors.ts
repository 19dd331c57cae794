/**
 * Every operating error that Headwater reports, in one table: nothing else maps a code to anything. Callers branch on
 * `code`, never on text and never on a class: an error is known by its mark or its code, whatever package made it. A user reads one sentence: what happened, where, and what to do. `docs/errors.md` is generated from this table.
 */
import { CONTRACT_ERRORS, OPERATING_ERROR, operatingError } from '../contracts/errors.ts';

/**
 * Whom an error concerns: the one who asked (request), one record, which goes to quarantine (record), a stage or link,
 * which waits and tries again (stage), the start, which ends with the sentence (start), or those who keep the code (bug).
 */
export type ErrorScope = 'request' | 'record' | 'stage' | 'start' | 'bug';

interface ErrorSpec {
  /** HTTP status where it is the answer to a request. */
  status: number;
  scope: ErrorScope;
  /** Whether trying the same again later can succeed without anybody changing anything. */
  retryable: boolean;
  /** What it means, for the reference page. */
  about: string;
}

export const ERRORS = {
  CONFIG_INVALID: { ...CONTRACT_ERRORS.CONFIG_INVALID, status: 500, scope: 'start' },
  NOT_FOUND: { ...CONTRACT_ERRORS.NOT_FOUND, status: 404, scope: 'request' },
  LOG_UNAVAILABLE: { ...CONTRACT_ERRORS.LOG_UNAVAILABLE, status: 503, scope: 'stage' },
  LOG_FENCED: { ...CONTRACT_ERRORS.LOG_FENCED, status: 503, scope: 'stage' },
  LOG_TOO_LARGE: { ...CONTRACT_ERRORS.LOG_TOO_LARGE, status: 413, scope: 'record' },
  RECORD_REFUSED: { ...CONTRACT_ERRORS.RECORD_REFUSED, status: 422, scope: 'record' },
  STORE_UNAVAILABLE: { ...CONTRACT_ERRORS.STORE_UNAVAILABLE, status: 503, scope: 'stage' },
  STORE_RESET: { ...CONTRACT_ERRORS.STORE_RESET, status: 503, scope: 'stage' },
  LEDGER_FULL: {
    status: 503,
    scope: 'request',
    retryable: true,
    about:
      'The ledger keeps as much of this gateway as it may: nothing new is begun, and the gateway keeps it.',
  },
  LAKE_UNAVAILABLE: { ...CONTRACT_ERRORS.LAKE_UNAVAILABLE, status: 503, scope: 'stage' },
  USAGE: {
    status: 400,
    scope: 'request',
    retryable: false,
    about: 'A command line is not understood; the command ends with exit code 2.',
  },
  CONFIG_UNKNOWN_KEY: {
    status: 500,
    scope: 'start',
    retryable: false,
    about:
      'A configuration key is not known; unknown keys are refused so that a typing error cannot switch a limit off.',
  },
  ADDRESS_IN_USE: {
    status: 500,
    scope: 'start',
    retryable: true,
    about: 'Another process listens on the address.',
  },
  ADDRESS_NOT_LOOPBACK: {
    status: 500,
    scope: 'start',
    retryable: false,
    about: 'An address beyond loopback needs credentials, and without TLS an explicit flag.',
  },
  ENROLL_REFUSED: {
    status: 403,
    scope: 'request',
    retryable: false,
    about:
      'A join token or certificate does not make a gateway one of this collector; the message says why.',
  },
  ENROLL_WAITS: {
    status: 202,
    scope: 'request',
    retryable: true,
    about: 'A person has to let the gateway in; it asks again by itself.',
  },
  CLOCK_DOUBTED: {
    status: 503,
    scope: 'request',
    retryable: true,
    about: "This machine's clock cannot be right, so no certificate is made by it.",
  },
  DATA_LOCKED: {
    status: 503,
    scope: 'start',
    retryable: true,
    about: 'Another process has the data folder open.',
  },
  DATA_VERSION: {
    status: 500,
    scope: 'start',
    retryable: false,
    about: 'The data folder was written by another version of the layout.',
  },
  DATA_UNUSABLE: {
    status: 503,
    scope: 'stage',
    retryable: true,
    about: 'The data folder cannot be read or written.',
  },
  FRAME_INVALID: {
    status: 400,
    scope: 'record',
    retryable: false,
    about: 'Bytes that should be a frame are not: wrong magic, version, length or checksum.',
  },
  WIRE_INVALID: {
    status: 400,
    scope: 'record',
    retryable: false,
    about: 'An uplink message does not follow the wire format.',
  },
  PACKET_INVALID: {
    status: 400,
    scope: 'request',
    retryable: false,
    about: 'An MQTT packet breaks the specification or a limit; the connection is closed.',
  },
  RULE_INVALID: {
    status: 400,
    scope: 'start',
    retryable: false,
    about: 'A stream rule is not valid; the message names file and place.',
  },
  BATCH_INVALID: { ...CONTRACT_ERRORS.BATCH_INVALID, status: 400, scope: 'request' },
  ADAPTER_MISSING: {
    status: 500,
    scope: 'start',
    retryable: false,
    about: 'An adapter or the client library that it needs is not installed.',
  },
  ADAPTER_CONTRACT: {
    status: 500,
    scope: 'start',
    retryable: false,
    about: 'A third-party adapter was written for another version of the contract.',
  },
  ROLES_CONFLICT: {
    status: 500,
    scope: 'start',
    retryable: false,
    about:
      'Embedded log and store lock their files, so their roles cannot run in several processes.',
  },
  MAPPING_INVALID: {
    status: 400,
    scope: 'start',
    retryable: false,
    about: 'A mapping file is not valid; the message names file and place.',
  },
  QUERY_INVALID: { ...CONTRACT_ERRORS.QUERY_INVALID, status: 400, scope: 'request' },
  QUERY_LIMIT: {
    status: 422,
    scope: 'request',
    retryable: false,
    about: 'A query asks for more time, memory, rows or buckets than one query may have.',
  },
  UNAUTHORIZED: {
    status: 401,
    scope: 'request',
    retryable: false,
    about: 'Credentials are missing or wrong.',
  },
  FORBIDDEN: {
    status: 403,
    scope: 'request',
    retryable: false,
    about:
      'The credentials do not cover what was asked for, or the request came from a foreign page.',
  },
  BODY_TOO_LARGE: {
    status: 413,
    scope: 'request',
    retryable: false,
    about: 'The body of an HTTP request is over its limit.',
  },
  TOO_MANY_REQUESTS: {
    status: 429,
    scope: 'request',
    retryable: true,
    about: 'Too many wrong credentials from this address; it may try again in a minute.',
  },
  METHOD_NOT_ALLOWED: {
    status: 405,
    scope: 'request',
    retryable: false,
    about: 'The path is there, but not with this HTTP method.',
  },
  INPUT_FILE: {
    status: 400,
    scope: 'request',
    retryable: false,
    about: 'An input file cannot be read or is not what the command expects.',
  },
  NOT_ACKNOWLEDGED: {
    status: 503,
    scope: 'request',
    retryable: true,
    about: 'Not everything that was sent has been acknowledged.',
  },
  UNREACHABLE: { status: 503, scope: 'stage', retryable: true, about: 'A server does not answer.' },
  INTERNAL: {
    status: 500,
    scope: 'bug',
    retryable: false,
    about: 'Something that this table does not know, or a bug; the log of the process says more.',
  },
} as const satisfies Record<string, ErrorSpec>;

export type ErrorCode = keyof typeof ERRORS;

/** An operating error. `message` is the one sentence for the user. */
export class HeadwaterError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly [OPERATING_ERROR] = true;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'HeadwaterError';
    this.code = code;
    this.retryable = ERRORS[code].retryable;
  }
}

/** A broken invariant. What is not known to be right does not go on. Nobody else can say so of ours: it is no shared symbol. */
const BUG: unique symbol = Symbol('headwater.bug');

/** Stops the process's current task: a broken invariant is a bug, not an operating error. */
export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw Object.assign(new Error(`bug: ${what}`), { [BUG]: true });
}

/** Whatever it is, looking at it throws nothing: somebody else's error may be anything. */
function looked<T>(error: unknown, look: (error: object) => T, otherwise: T): T {
  if (typeof error !== 'object' || error === null) return otherwise;
  try {
    return look(error);
  } catch {
    return otherwise;
  }
}

export const isBug = (error: unknown): boolean => looked(error, (each) => BUG in each, false);

/** The code in the table, whatever package made the error; INTERNAL for what no table knows. */
export function errorCode(error: unknown): ErrorCode {
  const code = operatingError(error)?.code;
  // One of the table's own keys.
  return code !== undefined && Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'INTERNAL';
}

/** Whether it is this operating error, whatever package made it. */
export const hasCode = (error: unknown, code: ErrorCode): boolean =>
  code === operatingError(error)?.code;

/** Whether the reason is one record, which would fail anywhere and at any time. */
export function isOfRecord(error: unknown): boolean {
  const { scope, retryable } = ERRORS[errorCode(error)];
  return scope === 'record' && !retryable;
}

/** Characters: more is no sentence. */
const MESSAGE_MAX = 2048;

const shortened = (text: string): string =>
  text.length <= MESSAGE_MAX ? text : `${text.slice(0, MESSAGE_MAX)}…`;

/** Whether it is one of ours already. */
export const isOurs = (error: unknown): error is HeadwaterError =>
  looked(error, (each) => each instanceof HeadwaterError, false);

/** The sentence of anything thrown. */
export function messageOf(error: unknown): string {
  if (typeof error === 'string') return shortened(error);
  if (typeof error === 'number' || typeof error === 'bigint') return `${error}`;
  return looked(
    error,
    (each) => {
      const { message, name } = each as { message?: unknown; name?: unknown };
      if (typeof message === 'string' && message !== '') return shortened(message);
      return typeof name === 'string' && name !== '' ? shortened(name) : NO_REASON;
    },
    NO_REASON,
  );
}

const NO_REASON = 'it gave no reason';

/** Where it was thrown, for those who keep the code; its sentence where it does not say. */
export function stackOf(error: unknown): string {
  const stack = looked(error, (each) => (each as { stack?: unknown }).stack, undefined);
  return typeof stack === 'string' && stack !== '' ? shortened(stack) : messageOf(error);
}

/** The system or library code of anything thrown (`ENOSPC`, `LEVEL_LOCKED`), or ''. */
export function codeOf(error: unknown): string {
  const code = looked(error, (each) => (each as { code?: unknown }).code, undefined);
  return typeof code === 'string' ? code : '';
}
