/**
 * Row groups of a damaged file that are as they were written stay in the lake, in a file of their own, whatever else can be
 * made again: what is said again replaces their rows, or is left out, by its identity.
 */
import { createHash } from 'node:crypto';
import { access } from 'node:fs/promises';
import { codeOf } from '../../shared/errors.ts';
import { dateOfKey, gatewayOf } from './catalog.ts';
import { ASIDE } from './check.ts';
import type { MadeFile } from './engine.ts';
import { wholeGroups } from './groups.ts';
import type { Lake } from './lake.ts';
import { fileName, type Zone } from './layout.ts';
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
  const { path, facts } = await withoutKnown(lake, zone, entry.key, all);
  await lake.using([path], async () => {
    const own = await entryOf(key, path, facts);
    if (facts.rows > 0) await lake.put(key, path);
    const put = [facts.rows > 0 ? own : { ...own, gone: 'emptied' as const }];
    await catalog.commit(lake.check.writer, new Map([[date, { put, isAnew: true as const }]]), {
      isAlone: true,
    });
  });
  lake.check.notify({
    level: 'info',
    event: 'lake_kept',
    text: `the lake: ${facts.rows} of the ${entry.rows} rows of ${entry.key} are in row groups that are whole; they stay`,
  });
}
