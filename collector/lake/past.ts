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
 * The root of its writer lists each file (`manifest.ts`), so that a deleted one is missed, and says since when they are kept.
 * Many small ones are merged (`past-merge.ts`).
 *
 * Nothing is written here of what is never corrected. Results need none of it: the lake keeps all their revisions.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeWithin } from '../../shared/config/folder.ts';
import { codeOf, hasCode } from '../../shared/errors.ts';
import { again } from './again.ts';
import type { Lake } from './lake.ts';
import { writerOf, type PastEntry, type PastList } from './manifest.ts';
import { sumFile } from './sums.ts';

const FOLDER = '_past/readings/';
const SINCE = '_past/since/';
const DIGITS = 14;
const NAME = /^_past\/readings\/(\d{14})-([0-9a-f]+)-(\d+)-(\d+)-([0-9a-f]{8})\.parquet$/;

export interface PastFile {
  key: string;
  untilMs: number;
  /** LOG-PARTITION. */
  writer: string;
  step: number;
  crc: string;
  bytes: number;
  version: string;
}

/** What is known of then. */
export interface Past {
  /** Local paths. */
  paths: string[];
  /** Keys of files that are not as they were written. */
  damaged: string[];
  /** Keys of files that must be there and are not. */
  missing: string[];
  /** What was replaced before is not known, epoch milliseconds; 0: everything is. Undefined: no stage has filled this lake since. */
  sinceMs: number | undefined;
}

/** What there is, and what there must be. */
export interface PastFound {
  files: PastFile[];
  /** Merged into others, and about to be deleted. */
  merged: PastFile[];
  /** Of which no root speaks. */
  unlisted: PastFile[];
  missing: string[];
  sinceMs: number | undefined;
}

export async function pastKey(
  path: string,
  untilMs: number,
  { log, step }: { log: string; step: number },
  partition: number,
): Promise<{ key: string; bytes: number }> {
  const { crc, bytes } = await sumFile(path);
  const until = String(untilMs).padStart(DIGITS, '0');
  return { key: `${FOLDER}${until}-${log}-${partition}-${step}-${crc}.parquet`, bytes };
}

/** The root speaks of this file from now on; `of`: in the place of these. */
export const listing =
  ({ key, bytes, of }: PastEntry) =>
  (before: PastList): PastList => {
    const gone = new Set([key, ...(of ?? [])]);
    const files = before.files.filter((entry) => !gone.has(entry.key));
    return { ...before, files: [...files, of === undefined ? { key, bytes } : { key, bytes, of }] };
  };

function parse(key: string): Omit<PastFile, 'bytes' | 'version'> | undefined {
  const [, until, log, partition, step, crc] = NAME.exec(key) ?? [];
  if (until === undefined || log === undefined || crc === undefined) return undefined;
  const writer = writerOf(log, Number(partition));
  return { key, untilMs: Number(until), writer, step: Number(step), crc };
}

/** Forgotten or merged since it was listed. */
const isAbsent = (error: unknown): boolean =>
  hasCode(error, 'NOT_FOUND') || codeOf(error) === 'ENOENT';

/** Since when what is replaced is kept, as the marks have it. */
async function marksOf(lake: Lake): Promise<number[]> {
  return (await lake.store.list(SINCE)).map(({ key }) => Number(key.slice(SINCE.length)));
}

async function look(lake: Lake): Promise<PastFound> {
  // First the lists: what they name was put there before.
  const roots = [...(await lake.catalog('readings').loadRoots()).values()];
  const lists = roots.flatMap(({ past }) => past ?? []);
  const entries = lists.flatMap(({ files }) => files);
  const all: PastFile[] = [];
  for (const { key, bytes, version } of await lake.store.list(FOLDER)) {
    const named = parse(key);
    if (named !== undefined) all.push({ ...named, bytes, version });
  }
  const marks = await marksOf(lake);
  marks.push(...lists.flatMap(({ sinceMs }) => sinceMs ?? []));
  const sinceMs = marks.length === 0 ? undefined : Math.max(...marks);
  const there = new Set(all.map(({ key }) => key));
  const merged = new Set(
    entries.flatMap(({ key, of }) => (of === undefined || !there.has(key) ? [] : of)),
  );
  const listed = new Set(entries.map(({ key }) => key));
  const isMissed = (key: string): boolean =>
    !there.has(key) && !merged.has(key) && (parse(key)?.untilMs ?? 0) > (sinceMs ?? 0);
  return {
    files: all.filter(({ key }) => !merged.has(key)),
    merged: all.filter(({ key }) => merged.has(key)),
    unlisted: all.filter(({ key }) => !merged.has(key) && !listed.has(key)),
    missing: [...listed].filter(isMissed),
    sinceMs,
  };
}

export async function pastFound(lake: Lake): Promise<PastFound> {
  const found = await look(lake);
  if (found.missing.length === 0) return found;
  // Another process may have merged them since its lists were read.
  lake.catalog('readings').refresh();
  return await look(lake);
}

export const pastOf = (lake: Lake, afterMs: number): Promise<Past> =>
  again(() => pastNow(lake, afterMs), isAbsent);

async function pastNow(lake: Lake, afterMs: number): Promise<Past> {
  const { files, missing, sinceMs } = await pastFound(lake);
  const past: Past = { paths: [], damaged: [], missing: [], sinceMs };
  for (const file of files) {
    if (file.untilMs <= afterMs) continue;
    const path = await lake.fetch(file);
    if (await isWhole(lake, file, path)) past.paths.push(path);
    else past.damaged.push(file.key);
  }
  past.missing = missing.filter((key) => (parse(key)?.untilMs ?? 0) > afterMs);
  return past;
}

/** Whether it is as it was written, by what was seen of it before. */
export async function isWhole(
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
  { files }: PastFound,
  rest: (workMs: number) => Promise<void>,
): Promise<string[]> {
  const damaged: string[] = [];
  for (const file of files) {
    const begin = performance.now();
    try {
      if ((await sumFile(await lake.fetch(file))).crc !== file.crc) damaged.push(file.key);
    } catch (error) {
      if (!isAbsent(error)) throw error;
    }
    await rest(performance.now() - begin);
  }
  return damaged;
}

/** Files of which no root speaks, of an older version or of an attempt that was cut off, must be there from now on. */
export async function adoptPast(lake: Lake, files: readonly PastFile[]): Promise<void> {
  if (files.length === 0) return;
  await lake.catalog('readings').commit(lake.check.writer, new Map(), {
    past: (before) => files.reduce((list, { key, bytes }) => listing({ key, bytes })(list), before),
  });
}

/** Says once, in a mark and in the writer's root, since when what is replaced is kept. An empty lake lacks nothing of its past. */
export async function markPast(lake: Lake, writer: string, nowMs: number): Promise<void> {
  const catalog = lake.catalog('readings');
  const roots = [...(await catalog.loadRoots()).values()];
  const known = roots.flatMap(({ past }) => past?.sinceMs ?? []);
  const marks = await marksOf(lake);
  const all = [...known, ...marks];
  const isEmpty = all.length === 0 && (await lake.files('readings')).length === 0;
  const sinceMs = all.length === 0 ? (isEmpty ? 0 : Math.round(nowMs)) : Math.max(...all);
  // One that is there, and that no root speaks of, may be of an attempt that failed at its end, and nowhere but in memory.
  if (marks.length === 0 || known.length === 0) await putMark(lake, sinceMs);
  if (known.length === 0)
    await catalog.commit(writer, new Map(), { past: (before) => ({ ...before, sinceMs }) });
  if (known.length > 0 && marks.length === 0)
    lake.check.notify({
      level: 'warn',
      event: 'lake_manifest',
      text: `the lake: ${SINCE}${sinceMs}, which says since when it keeps what is replaced, was gone and is made again`,
    });
}

async function putMark(lake: Lake, sinceMs: number): Promise<void> {
  const folder = join(lake.work, 'past');
  await makeWithin(folder, 2);
  const path = join(folder, 'since');
  await writeFile(path, '');
  await lake.put(`${SINCE}${Math.round(sinceMs)}`, path);
}

/** Deletes what was so until before this time; gives how many files. */
export async function forgetPast(lake: Lake, beforeMs: number): Promise<number> {
  const { files, merged, sinceMs } = await pastFound(lake);
  const since = Math.max(beforeMs, sinceMs ?? beforeMs);
  if (since !== sinceMs) await putMark(lake, since);
  await lake.catalog('readings').commit(lake.check.writer, new Map(), {
    past: (before) => ({ ...before, sinceMs: since, forgottenMs: beforeMs }),
  });
  let count = 0;
  for (const { key, untilMs } of [...files, ...merged]) {
    if (untilMs > beforeMs) continue;
    await lake.remove(key);
    count++;
  }
  return count;
}
