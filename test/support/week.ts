/** A part of the Aberdeen week through `up`, which takes it as it would the whole. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect } from 'vitest';
import { SAMPLE_FILE, SAMPLE_ROWS, SAMPLE_TOPIC } from '../../cli/sample.ts';
import { processed, startUp } from './lake.ts';
import { ROOT, run, temporaryFolder, type Headwater } from './process.ts';

export type Row = Record<string, string>;

export interface Part {
  /** CSV. */
  file: string;
  rows: Row[];
}

/** The rows for which `keep` holds, in their order. */
export function partOfWeek(keep: (row: Row, at: number) => boolean): Part {
  const [head = '', ...lines] = gunzipSync(readFileSync(join(ROOT, SAMPLE_FILE)))
    .toString()
    .trim()
    .split('\n');
  const names = head.split(',');
  const rowOf = (line: string): Row => {
    const cells = line.split(',');
    return Object.fromEntries(names.map((name, at) => [name, cells[at] ?? '']));
  };
  const kept = lines
    .map((line) => ({ line, row: rowOf(line) }))
    .filter(({ row }, at) => keep(row, at));
  const file = join(temporaryFolder(), 'part.csv');
  writeFileSync(file, `${[head, ...kept.map(({ line }) => line)].join('\n')}\n`);
  return { file, rows: kept.map(({ row }) => row) };
}

/** `up` whose sample is there already: its mapping is in force, and what is published is this part alone. */
export async function startUpWith(
  part: Part,
  settings: Record<string, string | number | boolean>,
  more: string[] = [],
  environment: Record<string, string> = {},
): Promise<{ up: Headwater; folder: string }> {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'sample.json'), JSON.stringify({ rows: SAMPLE_ROWS, clean: true }));
  const up = await startUp(folder, settings, more, environment);
  const mqtt = up.address['mqtt'] ?? '';
  const { code, output } = await run([
    'replay',
    part.file,
    '--topic',
    SAMPLE_TOPIC,
    '--mqtt',
    mqtt,
  ]);
  expect(code, output).toBe(0);
  await processed([up.address['http'] ?? '']);
  return { up, folder };
}
