/**
 * Which log, store and lake this data folder was used with last, so that a start with others is told: nothing is wrong with
 * that, but who did it by mistake sees it at once. `served.json` is there only where one of them is not the usual one.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeWhole } from '../../shared/config/whole-file.ts';

const FILE = 'served.json';

const BECOMES = {
  log: 'it begins with what it has: gateways send again what they still hold, headwater rebuild puts raw frames back from the lake, and the former log stays as it is',
  store: 'it is filled from the log and from the lake, and the former store stays as it is',
  lake: 'what it lacks is made again from the log, and the former lake stays as it is',
} as const;
type Kind = keyof typeof BECOMES;
const KINDS = Object.keys(BECOMES) as Kind[];
type Served = Partial<Record<Kind, string>>;

/** What is there of the usual ones, which lie in the folder itself. */
const USUAL: Record<Kind, [name: string, folder: string]> = {
  log: ['embedded', 'log'],
  store: ['embedded', 'store'],
  lake: ['local', 'lake'],
};

/** Without what may be a secret in the address of somebody's adapter. */
const named = (address: string): string =>
  address.replace(/\/\/[^/@]*@/, '//').replace(/\?.*$/, '');

/** Undefined for one of which nothing is known. */
export async function servedBefore(data: string): Promise<Served> {
  try {
    const kept = JSON.parse(await readFile(join(data, FILE), 'utf8')) as unknown;
    if (typeof kept === 'object' && kept !== null)
      return Object.fromEntries(
        KINDS.flatMap((kind) => {
          const name = (kept as Served)[kind];
          return typeof name === 'string' ? [[kind, name]] : [];
        }),
      );
  } catch {
    // None, or damaged: what lies in the folder tells.
  }
  return Object.fromEntries(
    KINDS.flatMap((kind) => {
      const [name, folder] = USUAL[kind];
      return existsSync(join(data, folder)) ? [[kind, name]] : [];
    }),
  );
}

/** A sentence for each that is another one than before; `was`: before anything was opened. */
export function changed(was: Served, config: Record<Kind, string>): string[] {
  return KINDS.flatMap((kind) => {
    const [former, now] = [was[kind], named(config[kind])];
    return former === undefined || former === now
      ? []
      : [`the ${kind} is ${now}, and was ${former} until this start: ${BECOMES[kind]}`];
  });
}

/** For the next start. Rejects with the error of the file system. */
export async function noteServed(data: string, config: Record<Kind, string>): Promise<void> {
  const now = Object.fromEntries(KINDS.map((kind) => [kind, named(config[kind])]));
  const isUsual = KINDS.every((kind) => now[kind] === USUAL[kind][0]);
  if (isUsual && !existsSync(join(data, FILE))) return;
  const text = `${JSON.stringify(now)}\n`;
  if ((await readFile(join(data, FILE), 'utf8').catch(() => '')) !== text)
    await writeWhole(join(data, FILE), text);
}
