/** The mappings that come with Headwater: one YAML file a maker in `collector/mappings/`, each with examples that are tests. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileOfPackage } from '../../../shared/config/root.ts';

/** File name and text, in the order in which they are tried. */
export function shippedMappings(): { file: string; text: string }[] {
  const folder = fileOfPackage('collector/mappings');
  return readdirSync(folder)
    .filter((name) => name.endsWith('.yaml'))
    .sort()
    .map((file) => ({ file, text: readFileSync(join(folder, file), 'utf8') }));
}

let built: Record<string, string> | undefined;

/** What a text of a mapping file says, if the build has read it already (scripts/mappings.mjs); undefined: read it. */
export function builtDocument(text: string): unknown {
  try {
    built ??= JSON.parse(readFileSync(fileOfPackage('dist/mappings.json'), 'utf8')) as typeof built;
    const document = built?.[createHash('sha256').update(text).digest('hex')];
    return document === undefined ? undefined : JSON.parse(document);
  } catch {
    return undefined; // Not built here, or not whole: the YAML says it all.
  }
}
