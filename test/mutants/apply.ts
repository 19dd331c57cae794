/** Mutants on the sources of a checkout: all of it stays as it was but for one text. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Mutant } from './mutants.ts';

/** The file with the mutant in it. Throws when its text is not there exactly once. */
export function mutated(root: string, { name, file, find, put }: Mutant): string {
  const parts = readFileSync(join(root, file), 'utf8').split(find);
  if (parts.length !== 2)
    throw new Error(
      `mutant '${name}': its text is ${parts.length - 1} times in ${file}, not once; the code has moved, so must the mutant`,
    );
  return parts.join(put);
}
