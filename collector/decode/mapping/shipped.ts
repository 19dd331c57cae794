/** The mappings that come with Headwater: one YAML file a maker in `collector/mappings/`, each with examples that are tests. */
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
