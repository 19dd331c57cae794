/** Deletes whole days of a lake on purpose, and says so before the first file goes (`forgotten.ts`). */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeWithin } from '../../shared/config/folder.ts';
import { markOf } from './forgotten.ts';
import type { Lake } from './lake.ts';
import { ZONES, type LakeFile, type Zone } from './layout.ts';
import type { FileEntry } from './manifest.ts';

interface Day {
  zone: Zone;
  date: string;
  /** What manifests speak of and is not gone yet. */
  entries: FileEntry[];
  files: LakeFile[];
}

async function daysBefore(lake: Lake, before: string): Promise<Day[]> {
  const days: Day[] = [];
  for (const zone of ZONES) {
    const catalog = lake.catalog(zone);
    const listed = await lake.files(zone);
    const dates = new Set([...(await catalog.dates()), ...listed.map(({ date }) => date)]);
    for (const date of [...dates].filter((each) => each < before)) {
      const entries = [...(await catalog.day(date)).entries.values()];
      days.push({
        ...{ zone, date },
        entries: entries.filter(({ gone }) => gone !== 'emptied'),
        files: listed.filter((file) => file.date === date),
      });
    }
  }
  return days;
}

/** Deletes every file of days before this one, on purpose; gives how many. Throws LAKE_UNAVAILABLE: it can be asked for again. */
export async function forget(lake: Lake, before: string, nowMs: number): Promise<number> {
  const { check } = lake;
  const days = await daysBefore(lake, before);
  const keys = new Set(
    days.flatMap(({ entries, files }) => [...entries, ...files].map(({ key }) => key)),
  );
  if (keys.size > 0) {
    const folder = join(lake.work, 'past');
    await makeWithin(folder, 2);
    const path = join(folder, 'forgotten');
    const [key, mark] = markOf(before, nowMs, keys);
    await writeFile(path, mark);
    await lake.put(key, path);
  }
  let count = 0;
  for (const { zone, date, entries, files } of days) {
    const put = entries.map((entry): FileEntry => ({ ...entry, gone: 'emptied' }));
    if (put.length > 0)
      await lake
        .catalog(zone)
        .commit(check.writer, new Map([[date, { put, isAnew: true as const }]]));
    for (const { key } of put) check.lost.delete(key);
    for (const { key } of files) {
      await lake.remove(key);
      count++;
    }
  }
  const text = `the lake: ${count} files of days before ${before} were deleted, as was asked for`;
  check.notify({ level: 'info', event: 'lake_forgotten', text });
  return count;
}
