/** Ways in which files are damaged, and whether a collector keeps its word then: nothing changes, goes or hides without being told. */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
  readSync,
} from 'node:fs';
import { join } from 'node:path';
import { COLLECTOR_FILES, filesBelow, kindOf } from './collector-files.ts';
import type { DiskCall, FaultyDisk } from './faulty-disk.ts';
import type { FileSite, Print } from './file-site.ts';

type Chance = () => number;

export const CONTENT = ['flip', 'flips', 'zeros', 'truncate', 'empty', 'delete', 'older'] as const;
export const PLACE = ['folder', 'pipe'] as const;
export const UNREADABLE = ['EACCES', 'EIO'] as const;
type How = (typeof CONTENT)[number] | (typeof PLACE)[number] | (typeof UNREADABLE)[number];

export interface Damaged {
  kind: string;
  path: string;
  how: How;
}

const pick = <T>(all: readonly T[], next: Chance): T => all[Math.floor(next() * all.length)] as T;

function flip(path: string, count: number, next: Chance): void {
  const { size } = statSync(path);
  const file = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  for (let at = 0; at < count; at++) {
    const offset = Math.floor(next() * size);
    readSync(file, byte, 0, 1, offset);
    byte[0] = (byte[0] ?? 0) ^ (1 << Math.floor(next() * 8));
    writeSync(file, byte, 0, 1, offset);
  }
  closeSync(file);
}

const SECTOR = 512;

function zeros(path: string, next: Chance): void {
  const { size } = statSync(path);
  const from = Math.floor((next() * size) / SECTOR) * SECTOR;
  const file = openSync(path, 'r+');
  const length = Math.min(size - from, SECTOR * (1 + Math.floor(next() * 8)));
  writeSync(file, Buffer.alloc(length), 0, length, from);
  closeSync(file);
}

/** False: it cannot be damaged so. */
export function damage(site: FileSite, path: string, how: How, next: Chance): boolean {
  const file = join(site.folder, path);
  const { size } = statSync(file);
  if (size === 0 && how !== 'delete' && !isPlace(how)) return false;
  if (how === 'flip') flip(file, 1, next);
  else if (how === 'flips') flip(file, 3, next);
  else if (how === 'zeros') zeros(file, next);
  else if (how === 'truncate') truncateSync(file, Math.floor(next() * size));
  else if (how === 'empty') truncateSync(file, 0);
  else if (how === 'delete') rmSync(file);
  else if (how === 'older') {
    const older = join(site.older, path);
    if (!existsSync(older)) return false;
    copyFileSync(older, `${file}.put`);
    renameSync(`${file}.put`, file);
  } else {
    rmSync(file);
    if (how === 'folder') mkdirSync(file);
    else execFileSync('mkfifo', [file]);
  }
  return true;
}

const isPlace = (how: How): boolean => (PLACE as readonly string[]).includes(how);

/** So many files, of each kind one before another of the same; of two that are copies of each other one. */
function chosen(site: FileSite, count: number, next: Chance): { kind: string; path: string }[] {
  const paths = shuffled(filesBelow(site.folder), next);
  const kinds = shuffled(COLLECTOR_FILES, next).map(({ name, isTwice = false }) => ({
    kind: name,
    own: paths.filter((path) => kindOf(path)?.name === name).slice(0, isTwice ? 1 : undefined),
  }));
  const found: { kind: string; path: string }[] = [];
  for (let turn = 0; found.length < count && kinds.some(({ own }) => own.length > turn); turn++)
    for (const { kind, own } of kinds) {
      const path = own[turn];
      if (path !== undefined && found.length < count) found.push({ kind, path });
    }
  return found;
}

function shuffled<T>(all: readonly T[], next: Chance): T[] {
  return all
    .map((each) => [next(), each] as const)
    .sort(([a], [b]) => a - b)
    .map(([, each]) => each);
}

export interface Outcome {
  damages: Damaged[];
  /** Of them, those of which something was said. */
  told: Damaged[];
  /** Why a promise is broken; empty: none is. */
  broken: string[];
}

const differing = (before: Print, after: Print): string[] =>
  Object.keys(before)
    .filter((name) => before[name] !== after[name])
    .map((name) => `${name}: ${before[name]} became ${after[name]}`);

/** What was said of a damage. */
function saidOf({ kind, path }: Damaged, output: string): boolean {
  const { said } = COLLECTOR_FILES.find(({ name }) => name === kind) ?? {};
  return output.includes(path.split('/').at(-1) ?? '') || said?.test(output) === true;
}

/** All is as it was, or is told. */
async function judge(
  site: FileSite,
  damages: readonly Damaged[],
  outputs: string,
): Promise<Pick<Outcome, 'told' | 'broken'>> {
  const told = damages.filter((each) => saidOf(each, outputs));
  const broken: string[] = [];
  let differs: string[] = [];
  try {
    await site.whole();
    const end = performance.now() + 20_000;
    do differs = differing(site.print, await site.look());
    while (differs.length > 0 && performance.now() < end && (await pause()));
    await site.goesOn();
  } catch (error) {
    broken.push(error instanceof Error ? error.message : String(error));
  }
  const said = site.child?.output() ?? '';
  const untold = differs.filter((each) => !isTold(each, said));
  if (untold.length > 0) broken.push(...untold, ...site.changed());
  return { told, broken };
}

const pause = (): Promise<true> => new Promise((resolve) => setTimeout(() => resolve(true), 500));

const NO_RESULTS = /results of .* are there again; the log has no more of them/;
/** What nothing else has may be gone, when it is told; results can be made again by a rebuild. */
const TOLD: Readonly<Record<string, RegExp>> = {
  settings: /settings that were declared .* may be lost/,
  ledger: NO_RESULTS,
  'lake, results': NO_RESULTS,
  'store, hourly': NO_RESULTS,
  'store, twice': NO_RESULTS,
  'store, daily_summary': NO_RESULTS,
};

const isTold = (difference: string, output: string): boolean =>
  TOLD[difference.split(':')[0] ?? '']?.test(output) === true;

const SIGBUS = 135;
/** LevelDB maps its tables into memory: one that is cut short beneath it ends the process. */
const cutsMapped = ({ kind, how }: Damaged): boolean =>
  kind === 'log, table' && (how === 'truncate' || how === 'empty');

/** Content of several kinds damaged at once, between stop and start or under a running collector. */
export async function contentTrial(
  site: FileSite,
  count: number,
  isRunning: boolean,
  next: Chance,
): Promise<Outcome> {
  site.restore();
  if (isRunning) {
    await site.start();
    await site.whole();
  }
  const damages: Damaged[] = [];
  for (const { kind, path } of chosen(site, count, next)) {
    const how = pick(CONTENT, next);
    if (damage(site, path, how, next)) damages.push({ kind, path, how });
  }
  const broken: string[] = [];
  let outputs = '';
  if (isRunning) {
    const { broken: meanwhile } = await judge(site, damages, '');
    const code = await site.stop();
    outputs += site.child?.output() ?? '';
    // Who watches over it starts it again, and the start puts it right.
    const isCut = code === SIGBUS && damages.some(cutsMapped);
    if (!isCut) broken.push(...meanwhile.map((each) => `running: ${each}`));
    if (!isCut && code !== 0) broken.push(`it ended with ${code}`);
  }
  const refusal = await site.start();
  if (refusal !== undefined) {
    broken.push(`it does not start: ${refusal.slice(-600)}`);
    return { damages, told: [], broken };
  }
  const result = await judge(site, damages, '');
  broken.push(...result.broken);
  outputs += site.child?.output() ?? '';
  const code = await site.stop();
  if (code !== 0) broken.push(`it ended with ${code}`);
  const told = damages.filter((each) => saidOf(each, outputs));
  return { damages, told, broken: broken.length === 0 ? [] : [...broken, outputs.slice(-6000)] };
}

/** A folder or a pipe where a file of a kind was: the start says it in a sentence that names the path, or goes on and makes it again. */
export async function placeTrial(site: FileSite, next: Chance, count = 4): Promise<Outcome> {
  site.restore();
  const damages: Damaged[] = [];
  const told: Damaged[] = [];
  const broken: string[] = [];
  for (const { kind, path } of chosen(site, count, next)) {
    const how = pick(PLACE, next);
    const file = join(site.folder, path);
    copyFileSync(file, `${site.folder}.away`);
    damage(site, path, how, next);
    damages.push({ kind, path, how });
    const refusal = await site.start();
    const output = site.child?.output() ?? '';
    if (refusal !== undefined) {
      if (!isSentence(refusal, path)) broken.push(`${path} (${how}): ${refusal.slice(-800)}`);
      told.push({ kind, path, how });
    } else {
      const judged = await judge(site, damages, output);
      broken.push(...judged.broken);
      if (saidOf({ kind, path, how }, output)) told.push({ kind, path, how });
      const code = await site.stop();
      if (code !== 0) broken.push(`it ended with ${code}`);
    }
    rmSync(file, { recursive: true, force: true });
    if (refusal !== undefined) renameSync(`${site.folder}.away`, file);
    else site.restore();
  }
  const refusal = await site.start();
  if (refusal !== undefined) return { damages, told, broken: [...broken, refusal.slice(-800)] };
  broken.push(...(await judge(site, damages, '')).broken);
  await site.stop();
  return { damages, told, broken };
}

/** One line that says what, where, what to do. */
function isSentence(output: string, path: string): boolean {
  const lines = output.trim().split('\n');
  const last = lines.at(-1) ?? '';
  return (
    last.startsWith('headwater: ') &&
    last.includes(path.split('/').at(-1) ?? path) &&
    !/^ {4}at /m.test(output)
  );
}

const CALLS: Record<(typeof UNREADABLE)[number], readonly DiskCall[]> = {
  EACCES: ['open'],
  EIO: ['open', 'read', 'write', 'fsync'],
};

/** Calls on a file of a kind fail for a while: nothing is taken for damaged, and all goes on when they do not fail any more. */
export async function faultTrial(
  site: FileSite,
  disk: FaultyDisk,
  next: Chance,
  count = 3,
): Promise<Outcome> {
  site.restore();
  const damages: Damaged[] = [];
  const told: Damaged[] = [];
  const broken: string[] = [];
  const before = setAside(site);
  for (const { kind, path } of chosen(site, count, next)) {
    const how = pick(UNREADABLE, next);
    const call = pick(CALLS[how], next);
    damages.push({ kind, path, how });
    if (next() < 0.5) {
      disk.fail(call, how, `/${path}`);
      const refusal = await site.start();
      if (refusal === undefined) await new Promise((resolve) => setTimeout(resolve, 700));
      else if (!isSentence(refusal, path))
        broken.push(`${path} (${call} ${how}): ${refusal.slice(-800)}`);
      disk.heal();
      if (refusal !== undefined) {
        told.push({ kind, path, how });
        const second = await site.start();
        if (second !== undefined)
          return {
            damages,
            told,
            broken: [...broken, `healed, and it does not start: ${second.slice(-800)}`],
          };
      }
    } else {
      await site.start();
      disk.fail(call, how, `/${path}`);
      await site.touch();
      disk.heal();
    }
    const judged = await judge(site, damages, '');
    broken.push(...judged.broken.map((each) => `${path} (${call} ${how}): ${each}`));
    if (
      saidOf({ kind, path, how }, site.child?.output() ?? '') ||
      /store_disk|log_write|LAKE_UNAVAILABLE|lake_scrub|wait/.test(site.child?.output() ?? '')
    )
      told.push({ kind, path, how });
    const code = await site.stop();
    if (code !== 0)
      broken.push(
        `${path} (${call} ${how}): it ended with ${code}: ${site.child?.output().slice(-2000)}`,
      );
  }
  const after = setAside(site);
  if (after.length > before.length)
    broken.push(`set aside, though only calls failed: ${after.join(', ')}`);
  return { damages, told, broken };
}

const setAside = (site: FileSite): string[] =>
  filesBelow(site.folder).filter((path) => /^damaged\/|^lake\/_aside\/|damaged-/.test(path));

interface Row {
  damages: number;
  told: number;
}

/** Counts by kind. */
export class Tally {
  damages = 0;
  broken = 0;
  private told = 0;
  private rounds = 0;
  private readonly rows = new Map<string, Row>();

  add({ damages, told, broken }: Outcome): void {
    this.rounds++;
    this.damages += damages.length;
    this.told += told.length;
    if (broken.length > 0) this.broken++;
    for (const { kind } of damages) this.row(kind).damages++;
    for (const { kind } of told) this.row(kind).told++;
  }

  private row(kind: string): Row {
    const row = this.rows.get(kind) ?? { damages: 0, told: 0 };
    this.rows.set(kind, row);
    return row;
  }

  line(): string {
    return `${this.damages} damages in ${this.rounds} rounds, ${this.told} told, ${this.broken} rounds broke a promise`;
  }

  table(): string {
    return COLLECTOR_FILES.map(({ name }) => {
      const { damages, told } = this.row(name);
      return `${name.padEnd(26)} ${String(damages).padStart(5)} damaged ${String(told).padStart(5)} told`;
    }).join('\n');
  }
}
