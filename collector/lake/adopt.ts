/** Files that no manifest speaks of: of an older version, of an attempt that was not committed, of a day whose manifest was lost. */
import { isOfDisk } from './engine.ts';
import type { Lake } from './lake.ts';
import { dateOfKey, type LakeFile, type Zone } from './layout.ts';
import type { FileEntry } from './manifest.ts';
import { sumFile } from './sums.ts';
import { entryOf } from './write.ts';

/** Manifests are written for so many files at once. */
const FILES_AT_ONCE = 64;

interface Read {
  entries: FileEntry[];
  /** Those that nothing can be read of. */
  unreadable: LakeFile[];
}

/** What manifests would say of these files as they are now. */
export async function readEntries(
  lake: Lake,
  zone: Zone,
  files: readonly LakeFile[],
): Promise<Read> {
  const read: Read = { entries: [], unreadable: [] };
  for (const file of files) {
    const path = await lake.fetch(file);
    const entry = await lake.parquet
      .facts(zone, path)
      .then((facts) => entryOf(file.key, path, facts))
      .catch(async (error: unknown) => {
        // Its own trouble: its bytes can be read, and say nothing.
        if (isOfDisk(error)) throw error;
        await sumFile(path);
        return undefined;
      });
    if (entry === undefined) read.unreadable.push(file);
    else read.entries.push(entry);
  }
  return read;
}

/** Says in the writer's manifests what files have of which no manifest speaks; gives those that nothing can be read of. */
export async function adopt(
  lake: Lake,
  zone: Zone,
  writer: string,
  files: readonly LakeFile[],
): Promise<LakeFile[]> {
  const unreadable: LakeFile[] = [];
  for (let at = 0; at < files.length; at += FILES_AT_ONCE) {
    const read = await readEntries(lake, zone, files.slice(at, at + FILES_AT_ONCE));
    unreadable.push(...read.unreadable);
    const changes = new Map<string, { put: FileEntry[] }>();
    for (const entry of read.entries) {
      const date = dateOfKey(entry.key);
      const own = changes.get(date);
      if (own === undefined) changes.set(date, { put: [entry] });
      else own.put.push(entry);
    }
    if (changes.size > 0) await lake.catalog(zone).commit(writer, changes, { isAlone: true });
  }
  return unreadable;
}

/** Files that count and that no manifest speaks of. */
export async function unlisted(
  lake: Lake,
  zone: Zone,
  files: readonly LakeFile[],
): Promise<LakeFile[]> {
  const found: LakeFile[] = [];
  for (const file of files)
    if (!(await lake.catalog(zone).day(file.date)).entries.has(file.key)) found.push(file);
  return found;
}
