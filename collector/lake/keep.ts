/**
 * Row groups of a damaged file that are as they were written stay in the lake, in a file of their own, whatever else can be
 * made again: what is said again replaces their rows, or is left out, by its identity.
 */
import { createHash } from 'node:crypto';
import { access } from 'node:fs/promises';
import { codeOf } from '../../shared/errors.ts';
import { ASIDE } from './check.ts';
import { isOfDisk, type MadeFile } from './engine.ts';
import { wholeGroups } from './groups.ts';
import type { Lake } from './lake.ts';
import { dateOfKey, gatewayOf, fileName, type Zone } from './layout.ts';
import type { FileEntry } from './manifest.ts';
import { filesWith } from './replace.ts';
import { entryOf } from './write.ts';

/** Local path of what was set aside; undefined: nothing was, or it is gone. */
export async function asideOf(lake: Lake, { key, since }: FileEntry): Promise<string | undefined> {
  const aside = `${ASIDE}${key}.${since ?? 0}`;
  try {
    const path = await lake.fetch({ key: aside, version: '' });
    // On the local disk a path is given for whatever key.
    await access(path);
    return path;
  } catch (error) {
    if (codeOf(error) !== 'NOT_FOUND' && codeOf(error) !== 'ENOENT') throw error;
    return undefined;
  }
}

/** The file that has what is whole of a damaged one. */
function keptKey({ key, crc }: FileEntry): string {
  const folder = key.slice(0, key.lastIndexOf('/') + 1);
  const name = createHash('sha256').update(`${key} ${crc}`).digest('hex').slice(0, 8);
  return `${folder}${fileName(name, 0, 1, 2)}`;
}

/** Of a file that was made, what no file has that was written since. */
async function withoutKnown(
  lake: Lake,
  zone: Zone,
  key: string,
  made: MadeFile,
): Promise<MadeFile> {
  const { path, facts } = made;
  const where = { spans: facts.spans, dates: [dateOfKey(key)] };
  // Results have no sequences that say where they could be.
  const others =
    zone === 'results'
      ? await lake.folder(key.slice(0, key.lastIndexOf('/') + 1))
      : await filesWith(lake, zone, gatewayOf(key), where, () => false);
  const local = await lake.whole(others);
  if (local.size === 0) return made;
  const apart = await lake.parquet.apart(zone, path, [...local.keys()]);
  await lake.discard([path]);
  return { path: apart.rewritten, facts: apart.facts };
}

/**
 * Of a file whose manifest was lost, and that nothing proves to be as it was written: rows that nothing else has any more stay,
 * and that is told. Whether there was such a file.
 */
export async function keepUnproven(lake: Lake, zone: Zone, entry: FileEntry): Promise<boolean> {
  if (entry.gone !== 'damaged' || entry.groups.length > 0 || entry.rows === 0) return false;
  const aside = await asideOf(lake, entry);
  if (aside === undefined) return false;
  const { entries } = await lake.catalog(zone).day(dateOfKey(entry.key));
  if (entries.has(keptKey(entry))) return true;
  const all = await lake.parquet.part(zone, aside, [[0, entry.rows]]).catch((error: unknown) => {
    if (isOfDisk(error)) throw error;
    return undefined; // Nothing of it can be read.
  });
  if (all === undefined) return false;
  await lake.alone(zone, async () => {
    const rows = await putKept(lake, zone, entry, await withoutKnown(lake, zone, entry.key, all));
    lake.check.notify({
      level: 'error',
      event: 'lake_kept',
      text: `the lake: ${rows} of the ${entry.rows} rows of ${entry.key} have no other source: they stay, though nothing proves that they are as they were written`,
    });
  });
  return true;
}

export async function keepWhole(lake: Lake, zone: Zone, entry: FileEntry): Promise<void> {
  await lake.alone(zone, () => keep(lake, zone, entry));
}

async function keep(lake: Lake, zone: Zone, entry: FileEntry): Promise<void> {
  if (entry.gone !== 'damaged' || entry.final === true) return;
  const key = keptKey(entry);
  const catalog = lake.catalog(zone);
  const date = dateOfKey(entry.key);
  // Kept once: what was replaced of it since is not to come back.
  if ((await catalog.day(date)).entries.has(key)) return;
  const aside = await asideOf(lake, entry);
  const rows = aside === undefined ? [] : await wholeGroups(aside, entry);
  if (aside === undefined || rows.length === 0) return;
  const all = await lake.parquet.part(zone, aside, rows);
  const kept = await putKept(lake, zone, entry, await withoutKnown(lake, zone, entry.key, all));
  lake.check.notify({
    level: 'info',
    event: 'lake_kept',
    text: `the lake: ${kept} of the ${entry.rows} rows of ${entry.key} are in row groups that are whole; they stay`,
  });
}

/** In the lake, in a file of its own; gives how many rows it has. */
async function putKept(
  lake: Lake,
  zone: Zone,
  entry: FileEntry,
  { path, facts }: MadeFile,
): Promise<number> {
  const key = keptKey(entry);
  const date = dateOfKey(entry.key);
  await lake.using([path], async () => {
    const own = await entryOf(key, path, facts);
    if (facts.rows > 0) await lake.put(key, path);
    const put = [facts.rows > 0 ? own : { ...own, gone: 'emptied' as const }];
    const changes = new Map([[date, { put, isAnew: true as const }]]);
    await lake.catalog(zone).commit(lake.check.writer, changes, { isAlone: true });
  });
  return facts.rows;
}
