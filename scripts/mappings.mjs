// The shipped mappings as what their YAML says, by the hash of its text: reading YAML was a quarter of a collector's start.
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';

const folder = join(dirname(dirname(fileURLToPath(import.meta.url))), 'collector/mappings');

/** JSON in JSON, so that each reader gets an object of its own. */
export function buildMappings(file) {
  const texts = readdirSync(folder)
    .filter((name) => name.endsWith('.yaml'))
    .sort()
    .map((name) => readFileSync(join(folder, name), 'utf8'));
  const documents = texts.map((text) => [
    createHash('sha256').update(text).digest('hex'),
    JSON.stringify(parse(text)),
  ]);
  writeFileSync(file, JSON.stringify(Object.fromEntries(documents)));
}
