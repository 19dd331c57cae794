/** Files of the lake are merged and rewritten while they are read: who was about to read one asks again. */
import { hasCode, messageOf } from '../../shared/errors.ts';

export const LAKE_ATTEMPTS = 5;

/** Asks once more where a file is gone. */
export async function again<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++)
    try {
      return await work();
    } catch (error) {
      if (!isGone(error) || attempt === LAKE_ATTEMPTS) throw error;
    }
}

/**
 * A file that was about to be read was merged or rewritten. One that is replaced while DuckDB opens it is read with the length
 * of before: what is no footer then, or no page, has many words.
 */
export const isGone = (error: unknown): boolean =>
  hasCode(error, 'NOT_FOUND') ||
  /No files found|Cannot open file|No such file|could not be read|ETag|not a Parquet|No magic bytes|TProtocol|don't know what type|Variable-length int|Could not read enough bytes|decompress/i.test(
    messageOf(error),
  );
