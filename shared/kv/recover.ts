/**
 * Opens a LevelDB folder so that it always starts (law 7): damage is found before LevelDB hides it, damaged files are
 * copied aside and never deleted, a database that does not open, or that LevelDB had better not read, is set aside whole
 * and a fresh one with all that was whole in it takes its place.
 */
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { HeadwaterError, codeOf, messageOf } from '../errors.ts';
import { LevelDatabase } from './classic-level.ts';
import type { KvDatabase } from './kv.ts';
import { checkLogBytes, checkLogs, type DamagedLog } from './log-check.ts';
import { carryOver } from './salvage.ts';
import { neededBy, type Needed } from './manifest-file.ts';
import { scanTable } from './table-file.ts';

export interface Recovery {
  db: KvDatabase;
  damaged: DamagedLog[];
  /** Where a whole database was set aside, if it did not open. */
  setAside: string | undefined;
  /** Entries of it that were whole and are in the fresh one. */
  carried: number;
  /** Where copies of damaged files lie, if there were any. */
  copies: string | undefined;
}

/** System errors that say nothing of the database's content: another place or another time may do. */
const NOT_DAMAGE =
  /No space left|Read-only file system|Permission denied|Too many open files|Input\/output error|i\/o error|Disk quota|Cannot allocate memory|Stale file handle|resource busy/i;

/**
 * What LevelDB would not notice, and then delete tables that it knows nothing of: a missing CURRENT is to it a database
 * to be created, and a manifest that ends too early (a flipped length) an older state. Undefined: nothing.
 */
async function findBroken(folder: string): Promise<string | undefined> {
  const names = await readdir(folder).catch((error: unknown): string[] => {
    if (codeOf(error) !== 'ENOENT') throw error;
    return []; // Not there: it is created.
  });
  const files = names.filter((name) => /^(MANIFEST-|\d+\.(ldb|log)$)/.test(name));
  if (files.length === 0) return undefined;
  if (!names.includes('CURRENT')) return 'its file CURRENT is gone';
  const manifest = (await readFile(join(folder, 'CURRENT'), 'latin1')).trim();
  if (!names.includes(manifest)) return 'its file CURRENT names no manifest that is there';
  const bytes = await readFile(join(folder, manifest));
  const damages = checkLogBytes(manifest, bytes);
  if (damages.length > 0) return `its manifest is damaged at offset ${damages[0]?.offset}`;
  const needed = neededBy(bytes);
  return (await findGone(folder, names, needed)) ?? (await findDamagedTable(folder, names));
}

/** Files of which the manifest speaks: LevelDB misses tables, but neither its newest records nor what of a table was cut off. */
async function findGone(
  folder: string,
  names: readonly string[],
  { log, tables }: Needed,
): Promise<string | undefined> {
  const nameOf = (number: number, kind: string): string =>
    `${String(number).padStart(6, '0')}.${kind}`;
  if (log > 0 && !names.includes(nameOf(log, 'log')))
    return `${nameOf(log, 'log')} with its newest records is gone, or its manifest is an older copy`;
  for (const [number, bytes] of tables) {
    const name = nameOf(number, 'ldb');
    if (!names.includes(name)) return `its table ${name} is gone`;
    const { size } = await stat(join(folder, name));
    if (size !== bytes) return `its table ${name} has ${size} bytes and had ${bytes}`;
  }
  return undefined;
}

/** Beside a database that is set aside: the one that takes its place, while it is made. */
const CARRIED = '.carried';

/** Tables of so many bytes are checked at every open, larger ones when the last open was so short ago. */
const CHECK_BYTES_MAX = 64 * 1024 * 1024;
const SOON_MS = 300_000;

/**
 * A damaged table can make LevelDB abort the process (an assertion, measured), which no handler sees. Small databases
 * are checked whole before it reads them; a large one is when it was opened a short while ago, as after such an end.
 */
async function findDamagedTable(folder: string, names: string[]): Promise<string | undefined> {
  const marker = `${folder}.opened`;
  const tables = names.filter((name) => name.endsWith('.ldb'));
  let bytes = 0;
  for (const name of tables) bytes += (await stat(join(folder, name))).size;
  const opened = await stat(marker).catch(() => undefined); // Never opened before.
  await writeFile(marker, '');
  const again = opened !== undefined && (await stat(marker)).mtimeMs - opened.mtimeMs < SOON_MS;
  if (bytes > CHECK_BYTES_MAX && !again) return undefined;
  for (const name of tables) {
    const { damagedBytes } = await scanTable(join(folder, name));
    if (damagedBytes > 0) return `its table ${name} has ${damagedBytes} damaged bytes`;
  }
  return undefined;
}

/**
 * `folder` is LevelDB's own; copies go to `damaged/` beside it. `stamp` names them. With `rebuild` the database is set
 * aside even if it would open: something in it was seen to be damaged. `onDamage` comes before anything is put right: after that
 * nothing in the folder says what it was.
 * Throws DATA_LOCKED (another process has it) and DATA_UNUSABLE (not to be read or written now).
 */
export async function openRecovering(
  folder: string,
  stamp: string,
  create: (folder: string) => KvDatabase,
  rebuild = false,
  onDamage = (): Promise<void> => Promise.resolve(),
): Promise<Recovery> {
  try {
    return await open(folder, stamp, create, rebuild, onDamage);
  } catch (error) {
    if (error instanceof HeadwaterError) throw error;
    throw new HeadwaterError('DATA_UNUSABLE', `${folder} cannot be opened: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** The same, with errors of the file system as they are. */
async function open(
  folder: string,
  stamp: string,
  create: (folder: string) => KvDatabase,
  rebuild: boolean,
  onDamage: () => Promise<void>,
): Promise<Recovery> {
  const aside = join(dirname(folder), 'damaged', stamp);
  // A cut between the two renames of `setAsideWhole`: what it had made is all there.
  if (!existsSync(folder) && existsSync(folder + CARRIED)) await rename(folder + CARRIED, folder);
  const damaged = await checkLogs(folder);
  let copies: string | undefined;
  for (const { file, damages } of damaged) {
    if (!damages.some(({ kind }) => kind === 'corrupt')) continue;
    await mkdir(aside, { recursive: true });
    await cp(join(folder, file), join(aside, file));
    copies = aside;
  }
  if (copies !== undefined) await onDamage();
  try {
    const broken = rebuild ? 'something in it cannot be read' : await findBroken(folder);
    if (broken !== undefined) throw new HeadwaterError('DATA_UNUSABLE', broken);
    // Made only now: the library opens by itself what was made.
    const db = create(folder);
    await db.open();
    return { db, damaged, setAside: undefined, carried: 0, copies };
  } catch (error) {
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    if (codeOf(cause) === 'LEVEL_LOCKED') throw locked(folder, cause);
    if (NOT_DAMAGE.test(messageOf(cause))) throw cause;
    await onDamage();
    return { damaged, copies, ...(await setAsideWhole(folder, aside, create)) };
  }
}

const locked = (folder: string, cause: unknown): HeadwaterError =>
  new HeadwaterError(
    'DATA_LOCKED',
    `another process has ${folder} open: stop it, or choose another folder with --data`,
    { cause },
  );

/**
 * What is whole goes into a fresh database beside it, which takes its place when that is on stable storage: a kill at any
 * moment leaves the damaged one, or the fresh one with everything.
 */
async function setAsideWhole(
  folder: string,
  aside: string,
  create: (folder: string) => KvDatabase,
): Promise<Pick<Recovery, 'db' | 'setAside' | 'carried'>> {
  // Of one that somebody writes, what is read of it may not fit together.
  if (await LevelDatabase.isHeld(folder)) throw locked(folder, undefined);
  await rm(folder + CARRIED, { recursive: true, force: true });
  const fresh = create(folder + CARRIED);
  await fresh.open();
  let carried: number;
  try {
    carried = await carryOver(folder, fresh);
  } finally {
    await fresh.close();
  }
  await mkdir(dirname(aside), { recursive: true });
  const setAside = `${aside}-whole`;
  await rename(folder, setAside);
  await rename(folder + CARRIED, folder);
  const db = create(folder);
  await db.open();
  return { db, setAside, carried };
}
