/**
 * The files that take longest begin first, so that none of them runs alone at the end of a project. How long each took is
 * kept from run to run in the cache; a machine's first run goes by seconds.json, which is written with HEADWATER_UPDATE=1.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { CACHE } from '../support/cache.ts';

/** Shorter files go in any order. */
const LONG_SECONDS = 5;
const COMMITTED = join(import.meta.dirname, 'seconds.json');
const KEPT = join(CACHE, 'test-seconds.json');

type Seconds = Record<string, number>;

function read(file: string): Seconds {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Seconds;
  } catch {
    return {}; // No run has written it.
  }
}

/** Of each file of a run, its path in the checkout and its seconds; what other runs said of others stays. */
export function keepSeconds(files: [name: string, seconds: number][]): void {
  const taken = files.map(([name, seconds]) => [name, Math.round(seconds)] as const);
  for (const file of process.env['HEADWATER_UPDATE'] === '1' ? [COMMITTED, KEPT] : [KEPT]) {
    const all = Object.entries({ ...read(file), ...Object.fromEntries(taken) });
    const long = all.filter(([, seconds]) => seconds >= LONG_SECONDS).sort(([, a], [, b]) => b - a);
    mkdirSync(dirname(file), { recursive: true });
    const made = `${file}.${process.pid}`;
    writeFileSync(made, `${JSON.stringify(Object.fromEntries(long), null, 2)}\n`);
    renameSync(made, file);
  }
}

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const seconds = { ...read(COMMITTED), ...read(KEPT) };
    const secondsOf = ({ moduleId }: TestSpecification): number =>
      seconds[moduleId.slice(moduleId.lastIndexOf('/test/') + 1)] ?? 0;
    const sorted = await super.sort(files);
    return sorted.toSorted((a, b) => secondsOf(b) - secondsOf(a));
  }
}
