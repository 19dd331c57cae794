/**
 * What readings were before they moved, were decoded anew or went: so that a question "as of then" can be answered exactly.
 * Files of the lake hold what is so now; a row that is taken out of one is kept here, with the time until which it was so:
 *
 *   _past/readings/UNTIL-LOG-PARTITION-STEP-CRC.parquet   rows of one step that were replaced
 *   _past/since/MS                                        this lake has them from then on; 0: from its first row on. The latest counts
 *
 * UNTIL is the latest `until` of the file's rows, epoch milliseconds of 14 digits: an older question needs no file whose rows
 * all ended before it. CRC is the CRC-32C of the file: a damaged one is known by its name. Columns are those of `readings` and
 *   until   TIMESTAMPTZ  when it was found out that it is not so
 *   absent  BOOLEAN      until then there was no reading of this identity: its frame waited for a clock, or was in quarantine
 *
 * Nothing is written here of what is never corrected. Results need none of it: the lake keeps all their revisions.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf, hasCode } from '../../shared/errors.ts';
import type { Lake } from './lake.ts';
import { sumFile } from './sums.ts';

const FOLDER = '_past/readings/';
const SINCE = '_past/since/';
const DIGITS = 14;
const NAME = /^_past\/readings\/(\d{14})-([0-9a-f]+)-(\d+)-(\d+)-([0-9a-f]{8})\.parquet$/;

export interface PastFile {
  key: string;
  untilMs: number;
  crc: string;
  version: string;
}

/** What is known of then. */
export interface Past {
  /** Local paths. */
  paths: string[];
  /** Keys of files that are not as they were written. */
  damaged: string[];
  /** What was replaced before is not known, epoch milliseconds; 0: everything is. Undefined: no stage has filled this lake since. */
  sinceMs: number | undefined;
}

export async function pastKey(
  path: string,
  untilMs: number,
  { log, step }: { log: string; step: number },
  partition: number,
): Promise<string> {
  const { crc } = await sumFile(path);
  return `${FOLDER}${String(untilMs).padStart(DIGITS, '0')}-${log}-${partition}-${step}-${crc}.parquet`;
}

/** Of rows that were so later than this. */
export async function pastFiles(lake: Lake, afterMs: number): Promise<PastFile[]> {
  const files: PastFile[] = [];
  for (const { key, version } of await lake.store.list(FOLDER)) {
    const [, until, , , , crc] = NAME.exec(key) ?? [];
    if (until === undefined || crc === undefined || Number(until) <= afterMs) continue;
    files.push({ key, untilMs: Number(until), crc, version });
  }
  return files;
}

async function sinceOf(lake: Lake): Promise<number | undefined> {
  const marks = (await lake.store.list(SINCE)).map(({ key }) => Number(key.slice(SINCE.length)));
  return marks.length === 0 ? undefined : Math.max(...marks);
}

export async function pastOf(lake: Lake, afterMs: number): Promise<Past> {
  const past: Past = { paths: [], damaged: [], sinceMs: await sinceOf(lake) };
  for (const file of await pastFiles(lake, afterMs)) {
    const path = await lake.fetch(file).catch((error: unknown) => {
      if (!hasCode(error, 'NOT_FOUND')) throw error;
      return undefined;
    });
    if (path === undefined) continue;
    if (await isWhole(lake, file, path)) past.paths.push(path);
    else past.damaged.push(file.key);
  }
  return past;
}

async function isWhole(
  lake: Lake,
  { key, crc, version }: PastFile,
  path: string,
): Promise<boolean> {
  const name = `${key} ${version}`;
  if (lake.pastSeen.has(name)) return true;
  if ((await sumFile(path)).crc !== crc) return false;
  lake.pastSeen.add(name);
  return true;
}

/** Keys of those that are not as they were written, whatever was seen of them before. `rest` after each that was looked at. */
export async function damagedPast(
  lake: Lake,
  rest: (workMs: number) => Promise<void>,
): Promise<string[]> {
  const damaged: string[] = [];
  for (const file of await pastFiles(lake, -1)) {
    const begin = performance.now();
    try {
      if ((await sumFile(await lake.fetch(file))).crc !== file.crc) damaged.push(file.key);
    } catch (error) {
      // Forgotten meanwhile.
      if (!hasCode(error, 'NOT_FOUND') && codeOf(error) !== 'ENOENT') throw error;
    }
    await rest(performance.now() - begin);
  }
  return damaged;
}

/** Says once that from now on what is replaced is kept. An empty lake lacks nothing of its past. */
export async function markPast(lake: Lake, nowMs: number): Promise<void> {
  if ((await sinceOf(lake)) !== undefined) return;
  const isEmpty = (await lake.files('readings')).length === 0;
  await say(lake, isEmpty ? 0 : nowMs);
}

async function say(lake: Lake, sinceMs: number): Promise<void> {
  const folder = join(lake.work, 'past');
  await mkdir(folder, { recursive: true });
  const path = join(folder, 'since');
  await writeFile(path, '');
  await lake.put(`${SINCE}${Math.round(sinceMs)}`, path);
}

/** Deletes what was so until before this time; gives how many files. */
export async function forgetPast(lake: Lake, beforeMs: number): Promise<number> {
  const since = await sinceOf(lake);
  if (since === undefined || since < beforeMs) await say(lake, beforeMs);
  const kept = new Set((await pastFiles(lake, beforeMs)).map(({ key }) => key));
  let files = 0;
  for (const { key } of await pastFiles(lake, -1)) {
    if (kept.has(key)) continue;
    await lake.remove(key);
    files++;
  }
  return files;
}
