/**
 * Manifests that were damaged or are gone, made again: a root from the manifests of its days, those of a day from its
 * files. The digest kept above each proves what was made; where it does not, the files are taken for damaged.
 */
import { readEntries, unlisted } from './adopt.ts';
import type { Broken } from './manifest-read.ts';
import type { Lake } from './lake.ts';
import { fileOf, type LakeFile, type Zone } from './layout.ts';
import { beyondSeal, counts, dateFolder, writerOf } from './manifest.ts';

/** One at a time: stage and scrub may have found the same. */
export const remake = (lake: Lake, zone: Zone, broken: Broken): Promise<void> =>
  lake.alone(zone, () => remakeAlone(lake, zone, broken));

async function remakeAlone(lake: Lake, zone: Zone, { key, writer, date }: Broken): Promise<void> {
  const catalog = lake.catalog(zone);
  if (date !== undefined) catalog.forget(date);
  const isThere = date !== undefined && (await catalog.day(date)).byWriter.has(writer);
  if (date === undefined) await remakeRoot(lake, zone, writer);
  else if (!isThere) await remakeDay(lake, zone, writer, date);
  catalog.broken.delete(key);
  if (!isThere) told(lake, key);
}

function told({ check }: Lake, key: string): void {
  check.notify({
    level: 'warn',
    event: 'lake_manifest',
    text: `the lake: the manifest ${key} was damaged or gone and is made again`,
  });
}

/**
 * A root from the manifests of its days. `seal`: what its digest was. Files of days that it had and nothing speaks of any
 * more are not proven to be as they were.
 */
export async function remakeRoot(
  lake: Lake,
  zone: Zone,
  writer: string,
  seal?: string,
): Promise<boolean> {
  const catalog = lake.catalog(zone);
  if ((await catalog.remakeRoot(writer)) === seal) return true;
  const own = (await lake.files(zone)).filter(
    (file) => writerOf(file.log, file.partition) === writer,
  );
  const unknown = await unlisted(lake, zone, own);
  for (const date of new Set(unknown.map((file) => file.date))) {
    await remakeDay(lake, zone, writer, date);
    told(lake, `${dateFolder(zone, date)}${writer}.json`);
  }
  return false;
}

/** What is in the place of a day's manifest, of the files that lie there. */
async function remakeDay(lake: Lake, zone: Zone, writer: string, date: string): Promise<void> {
  const catalog = lake.catalog(zone);
  const seal = (await catalog.loadRoots()).get(writer)?.dates[date];
  const files = await lake.files(zone, { from: date, to: date });
  const isOwn = (file: LakeFile): boolean => writerOf(file.log, file.partition) === writer;
  const own = files.filter(isOwn);
  catalog.forget(date);
  // Before what is made again hides that it was gone.
  const since = Math.round(performance.timeOrigin + performance.now());
  const mark = await lake.check.less.mark(zone, since);
  const { entries, unreadable } = await readEntries(lake, zone, await unlisted(lake, zone, own));
  // What others say of its files since stood in it as well: they were lost, and are there again in others.
  const overruled = [...(await catalog.day(date)).entries.values()].filter(({ key }) => {
    const file = fileOf(key);
    return file !== undefined && isOwn(file);
  });
  const strange =
    seal === undefined
      ? undefined
      : (beyondSeal(entries, seal) ?? beyondSeal([...entries, ...overruled], seal));
  // A file that its writer puts this moment, or an attempt has left, is for them to speak of.
  const put = entries.filter((entry) => strange?.includes(entry) !== true);
  await catalog.commit(writer, new Map([[date, { put, isAnew: true as const }]]), {
    isAlone: true,
  });
  for (const file of unreadable) await lake.check.unreadable(file);
  if (strange !== undefined) return await lake.remove(mark);
  // Not all of them are proven to be as they were, and nothing says which; there may have been others.
  const day = await catalog.day(date);
  for (const { key } of own) {
    const entry = day.entries.get(key);
    if (entry === undefined || !counts(entry)) continue;
    const reason = 'its manifest was lost, and nothing proves that it is as it was written';
    // Checksums that were made now prove nothing of its row groups.
    await lake.check.setAside(zone, { ...entry, groups: [] }, 'damaged', reason);
  }
  lake.check.less.note(zone, true, since);
  lake.check.onLost();
}
