/** Cards of a batch: so many at once, one that fails stops no other, and a report from which the next call goes on. */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';

export interface Work {
  name: string;
  place: string;
  /** Resolves with what has been done, to be said behind the name. */
  make: () => Promise<string>;
}

/** `NAME-report.csv` beside a table; without a table nothing is noted. */
export class Report {
  private readonly path: string | undefined;

  constructor(table: string | undefined) {
    this.path = table === undefined ? undefined : `${table.replace(/\.csv$/, '')}-report.csv`;
  }

  get name(): string {
    return basename(this.path ?? '');
  }

  /** Names that were written. */
  written(): Set<string> {
    if (this.path === undefined || !existsSync(this.path)) return new Set();
    const lines = readFileSync(this.path, 'utf8').split('\n');
    return new Set(
      lines.flatMap((line) => (line.endsWith(',written') ? [line.split(',')[0] ?? ''] : [])),
    );
  }

  note({ name, place }: Work, state: 'written' | 'failed'): void {
    if (this.path !== undefined)
      appendFileSync(this.path, `${name},${place},${new Date().toISOString()},${state}\n`);
  }
}

/** Throws USAGE. */
export function jobsOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const jobs = Number(text);
  if (!Number.isInteger(jobs) || jobs < 1)
    throw new HeadwaterError('USAGE', `--jobs ${text} is no number of cards, at least 1`);
  return jobs;
}

/** How many failed. */
export async function inParts(
  work: readonly Work[],
  jobs: number,
  report: Report,
): Promise<number> {
  const waiting = [...work];
  let failed = 0;
  const worker = async (): Promise<void> => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift())
      try {
        const done = await item.make();
        process.stdout.write(`${item.name}: ${done}\n`);
        report.note(item, 'written');
      } catch (error) {
        failed++;
        process.stderr.write(`headwater: ${item.name}: ${messageOf(error)}\n`);
        report.note(item, 'failed');
      }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, work.length) }, worker));
  return failed;
}
