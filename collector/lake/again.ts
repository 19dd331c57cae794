/** Files of the lake are merged and rewritten while they are read: who was about to read one asks again. */
import { hasCode, messageOf } from '../../shared/errors.ts';

export const LAKE_ATTEMPTS = 5;

/** Asks once more where a file is gone, or what else passes by that. */
export async function again<T>(
  work: () => Promise<T>,
  passes: (error: unknown) => boolean = isGone,
): Promise<T> {
  for (let attempt = 1; ; attempt++)
    try {
      return await work();
    } catch (error) {
      if (!passes(error) || attempt === LAKE_ATTEMPTS) throw error;
    }
}

/** What DuckDB says of bytes that are no Parquet file, or not a whole one: many words, by where it notices. */
const NO_PARQUET =
  /not a Parquet|No magic bytes|too small to be a Parquet|TProtocol|don't know what type|Variable-length int|Could not read enough bytes|decompress/i;

export const isNoParquet = (error: unknown): boolean => NO_PARQUET.test(messageOf(error));

/**
 * A file that was about to be read was merged or rewritten. One that is replaced while DuckDB opens it is read with the length
 * of before, and is no whole one then.
 */
export const isGone = (error: unknown): boolean =>
  hasCode(error, 'NOT_FOUND') ||
  isNoParquet(error) ||
  /No files found|Cannot open file|No such file|could not be read|ETag/i.test(messageOf(error));
