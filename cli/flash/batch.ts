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

/** A line that is whole: one that a full disk or a power cut has cut says nothing of the card behind it. */
const LINE = /^([^,]+),([^,]*),(\d{4}-\d\d-\d\dT[\d:.]+Z),(written|failed)$/;

/** `NAME-report.csv` beside a table; without a table nothing is noted. */
export class Report {
  private readonly path: string | undefined;

  /** Throws CONFIG_INVALID where nothing can be noted: the next call would give a second card the same token. */
  constructor(table: string | undefined, isDry: boolean) {
    this.path = table === undefined ? undefined : `${table.replace(/\.csv$/, '')}-report.csv`;
    if (this.path === undefined || isDry) return;
    try {
      const text = existsSync(this.path) ? readFileSync(this.path, 'utf8') : '';
      appendFileSync(this.path, text === '' || text.endsWith('\n') ? '' : '\n');
    } catch (error) {
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `what was written cannot be noted, so nothing is: ${messageOf(error)}; put the table where you may write`,
        { cause: error },
      );
    }
  }

  get name(): string {
    return basename(this.path ?? '');
  }

  /** Names that were written. */
  written(): Set<string> {
    if (this.path === undefined || !existsSync(this.path)) return new Set();
    const lines = readFileSync(this.path, 'utf8').split('\n');
    return new Set(
      lines.flatMap((line) => {
        const [, name = '', , , state] = LINE.exec(line) ?? [];
        return state === 'written' ? [name] : [];
      }),
    );
  }

  /** One that cannot be noted is said, and stops no other. */
  note({ name, place }: Work, state: 'written' | 'failed'): void {
    if (this.path === undefined) return;
    const line = [name, place.replaceAll(',', ' '), new Date().toISOString(), state].join(',');
    try {
      appendFileSync(this.path, `${line}\n`);
    } catch (error) {
      process.stderr.write(
        `headwater: ${name}: that it was ${state} cannot be noted (${messageOf(error)}); add this line to ${this.path}: ${line}\n`,
      );
    }
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
