/** When this version was made: no clock that is right shows an earlier time. */
import { statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** No version ran before it was written: 2026-01-01, microseconds. */
export const NOT_BEFORE_US = 1_767_225_600_000_000;

/** Epoch milliseconds: of the file that this is in, unless an archive took its time away. */
export function builtMs(): number {
  const first = NOT_BEFORE_US / 1000;
  try {
    return Math.max(first, statSync(fileURLToPath(import.meta.url)).mtimeMs);
  } catch {
    return first; // Not from a file.
  }
}
