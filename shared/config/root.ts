/** Where the checkout or the installed package lies: static files are found from there, bundled or not. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The nearest folder above this module that holds `relative`. Throws when there is none. */
export function fileOfPackage(relative: string): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const path = join(folder, relative);
    if (existsSync(path)) return path;
    if (dirname(folder) === folder)
      throw new Error(`'${relative}' is not part of this installation`);
  }
}
