/**
 * Operating errors across packages. An error is known by its mark, or by its `code`, and never by `instanceof`: two
 * copies of this package, or an adapter that has none, mean the same by the same code.
 *
 * An adapter throws `AdapterError` (or any error with one of these codes). What passes by itself is `retryable`: the
 * caller waits, says so and tries again. Everything else that is thrown is told with the adapter's name.
 */
export const CONTRACT_ERRORS = {
  LOG_UNAVAILABLE: {
    retryable: true,
    about: 'The log cannot be reached or written; the uplink is not acknowledged meanwhile.',
  },
  LOG_FENCED: {
    retryable: true,
    about: 'Another consumer has taken over the partitions; the step was not committed.',
  },
  LOG_TOO_LARGE: {
    retryable: false,
    about:
      'A record is larger than the log takes; the stage splits it or sets it aside, and goes on.',
  },
  RECORD_REFUSED: {
    retryable: false,
    about:
      'The other side refuses this one record, whatever else it takes; it goes to quarantine with the reason.',
  },
  STORE_UNAVAILABLE: {
    retryable: true,
    about: 'The time-series store cannot be reached; reading goes on when it can.',
  },
  STORE_RESET: {
    retryable: false,
    about:
      'The store was damaged and set aside; what the log has is written again from its beginning.',
  },
  LAKE_UNAVAILABLE: {
    retryable: true,
    about: 'The lake cannot be reached or written; nothing is lost, it goes on when it can.',
  },
  BATCH_INVALID: {
    retryable: false,
    about: 'A batch job is not valid, or its SQL fails; the message says where.',
  },
  QUERY_INVALID: { retryable: false, about: 'A query parameter is missing or not understood.' },
  NOT_FOUND: { retryable: false, about: 'The thing asked for does not exist.' },
  CONFIG_INVALID: {
    retryable: false,
    about: 'A flag, file or environment variable holds a value that is not accepted.',
  },
} as const satisfies Record<string, { retryable: boolean; about: string }>;

export type ContractErrorCode = keyof typeof CONTRACT_ERRORS;

/** On every operating error, whichever copy of whichever package made it. */
export const OPERATING_ERROR: unique symbol = Symbol.for('headwater.operating-error');

/** What a caller may rely on once an error is known. */
export interface OperatingError {
  code: string;
  retryable: boolean;
  message: string;
}

/** The error an adapter throws; `message` is the one sentence for the user: what, where, what to do. */
export class AdapterError extends Error {
  readonly code: ContractErrorCode;
  readonly retryable: boolean;
  readonly [OPERATING_ERROR] = true;

  constructor(code: ContractErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'AdapterError';
    this.code = code;
    this.retryable = CONTRACT_ERRORS[code].retryable;
  }
}

/** The operating error that this is, by its mark or by one of the codes above; undefined for anything else. */
export function operatingError(error: unknown): OperatingError | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  try {
    return known(error);
  } catch {
    return undefined; // What throws when it is looked at is no error of ours.
  }
}

function known(error: object): OperatingError | undefined {
  const { code, retryable, message } = error as Partial<Record<keyof OperatingError, unknown>>;
  if (typeof code !== 'string') return undefined;
  const row = Object.hasOwn(CONTRACT_ERRORS, code)
    ? CONTRACT_ERRORS[code as ContractErrorCode]
    : undefined;
  if (row === undefined && !(OPERATING_ERROR in error)) return undefined;
  return {
    code,
    retryable: typeof retryable === 'boolean' ? retryable : (row?.retryable ?? false),
    message: typeof message === 'string' ? message : code,
  };
}

/** Whether this is an operating error that passes by itself. */
export function isRetryable(error: unknown): boolean {
  return operatingError(error)?.retryable === true;
}
