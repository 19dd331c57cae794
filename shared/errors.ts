/**
 * Every operating error that Headwater reports, in one table. Callers branch on `code`, never on text.
 * A user reads one sentence: what happened, where, and what to do. `docs/errors.md` is generated from this table.
 */
import { CONTRACT_ERRORS, OPERATING_ERROR } from '../contracts/errors.ts';

interface ErrorSpec {
  /** Whether trying the same again later can succeed without anybody changing anything. */
  retryable: boolean;
  /** What it means, for the reference page. */
  about: string;
}

export const ERRORS = {
  ...CONTRACT_ERRORS,
  USAGE: {
    retryable: false,
    about: 'A command line is not understood; the command ends with exit code 2.',
  },
  CONFIG_UNKNOWN_KEY: {
    retryable: false,
    about:
      'A configuration key is not known; unknown keys are refused so that a typing error cannot switch a limit off.',
  },
  ADDRESS_IN_USE: { retryable: true, about: 'Another process listens on the address.' },
  ADDRESS_NOT_LOOPBACK: {
    retryable: false,
    about: 'An address beyond loopback needs credentials, and without TLS an explicit flag.',
  },
  DATA_LOCKED: { retryable: true, about: 'Another process has the data folder open.' },
  DATA_VERSION: {
    retryable: false,
    about: 'The data folder was written by another version of the layout.',
  },
  DATA_UNUSABLE: { retryable: true, about: 'The data folder cannot be read or written.' },
  FRAME_INVALID: {
    retryable: false,
    about: 'Bytes that should be a frame are not: wrong magic, version, length or checksum.',
  },
  WIRE_INVALID: { retryable: false, about: 'An uplink message does not follow the wire format.' },
  PACKET_INVALID: {
    retryable: false,
    about: 'An MQTT packet breaks the specification or a limit; the connection is closed.',
  },
  RULE_INVALID: {
    retryable: false,
    about: 'A stream rule is not valid; the message names file and place.',
  },
  BATCH_INVALID: {
    retryable: false,
    about: 'A batch job is not valid, or its SQL fails; the message says where.',
  },
  ADAPTER_MISSING: {
    retryable: false,
    about: 'An adapter or the client library that it needs is not installed.',
  },
  ADAPTER_CONTRACT: {
    retryable: false,
    about: 'A third-party adapter was written for another version of the contract.',
  },
  ROLES_CONFLICT: {
    retryable: false,
    about:
      'Embedded log and store lock their files, so their roles cannot run in several processes.',
  },
  MAPPING_INVALID: {
    retryable: false,
    about: 'A mapping file is not valid; the message names file and place.',
  },
  QUERY_INVALID: { retryable: false, about: 'A query parameter is missing or not understood.' },
  UNAUTHORIZED: { retryable: false, about: 'Credentials are missing or wrong.' },
  FORBIDDEN: {
    retryable: false,
    about:
      'The credentials do not cover what was asked for, or the request came from a foreign page.',
  },
  BODY_TOO_LARGE: { retryable: false, about: 'The body of an HTTP request is over its limit.' },
  TOO_MANY_REQUESTS: {
    retryable: true,
    about: 'Too many wrong credentials from this address; it may try again in a minute.',
  },
  INPUT_FILE: {
    retryable: false,
    about: 'An input file cannot be read or is not what the command expects.',
  },
  NOT_ACKNOWLEDGED: {
    retryable: true,
    about: 'Not everything that was sent has been acknowledged.',
  },
  UNREACHABLE: { retryable: true, about: 'A server does not answer.' },
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

/** The sentence of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The system or library code of anything thrown (`ENOSPC`, `LEVEL_LOCKED`), or ''. */
export function codeOf(error: unknown): string {
  if (typeof error !== 'object' || error === null) return '';
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' ? code : '';
}

/** Stops the process's current task: a broken invariant is a bug, not an operating error. */
export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Error(`bug: ${what}`);
}
