/**
 * Manifests that were damaged or are gone, made again: a root from the manifests of its days, those of a day from its
 * files. The digest kept above each proves what was made; where it does not, the files are taken for damaged.
 */
import { adopt, unlisted } from './adopt.ts';
import type { Broken } from './manifest-read.ts';
import type { Lake } from './lake.ts';
import type { Zone } from './layout.ts';
import { counts, dateFolder, writerOf } from './manifest.ts';

export async function remake(lake: Lake, zone: Zone, { key, writer, date }: Broken): Promise<void> {
  const catalog = lake.catalog(zone);
  if (date === undefined) await remakeRoot(lake, zone, writer);
  else await remakeDay(lake, zone, writer, date);
  catalog.broken.delete(key);
  told(lake, key);
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

async function remakeDay(lake: Lake, zone: Zone, writer: string, date: string): Promise<void> {
  const catalog = lake.catalog(zone);
  const seal = (await catalog.loadRoots()).get(writer)?.dates[date];
  const files = await lake.files(zone, { from: date, to: date });
  const own = files.filter((file) => writerOf(file.log, file.partition) === writer);
  catalog.forget(date);
  // Before what is made again hides that it was gone.
  const since = Math.round(performance.timeOrigin + performance.now());
  const mark = await lake.check.less.mark(zone, since);
  const unreadable = await adopt(lake, zone, writer, await unlisted(lake, zone, own), date);
  for (const file of unreadable) await lake.check.unreadable(file);
  const now = (await catalog.loadRoots()).get(writer)?.dates[date];
  if (seal !== undefined && now?.digest === seal.digest) return await lake.remove(mark);
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
