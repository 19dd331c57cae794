/** When a server that is asked too often, or too soon, wants to be asked again: `Retry-After`, obeyed by all of our clients. */
import { HeadwaterError, type ErrorCode } from '../errors.ts';

/** However long a server asks to be left alone. */
const REST_MS_MAX = 600_000;

/** Not now; and not before `afterMs` have passed, where the other side said so. */
export class AskAgain extends HeadwaterError {
  readonly afterMs: number;

  constructor(code: ErrorCode, message: string, afterMs: number, options?: { cause?: unknown }) {
    super(code, message, options);
    this.afterMs = afterMs;
  }
}

/** Of any error; 0: it does not say. */
export const restOf = (error: unknown): number => (error instanceof AskAgain ? error.afterMs : 0);

/** Milliseconds; 0: it does not say. RFC 9110, 10.2.3: seconds, or a date, which is held against the server's own clock. */
export function retryAfterMs(
  after: string | null | undefined,
  date: string | null | undefined,
): number {
  const text = after?.trim() ?? '';
  if (text === '') return 0;
  const seconds = Number(text);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(text) - Date.parse(date ?? '');
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), REST_MS_MAX) : 0;
}
