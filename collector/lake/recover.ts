/**
 * What a stage finds when it takes a partition: what an attempt before it left, files that no manifest speaks of, and
 * whether the lake is the one that it wrote.
 */
import { adopt, unlisted } from './adopt.ts';
import type { Part } from './gather.ts';
import type { Lake } from './lake.ts';
import type { Zone } from './layout.ts';
import { finishMerge } from './merge.ts';
import { counts, isAs, rootFolder, writerOf, type FileEntry } from './manifest.ts';
import { remakeRoot } from './remake.ts';
import { entryOf } from './write.ts';
import { sumFile } from './sums.ts';

/** Before the first step of a partition. Throws LAKE_UNAVAILABLE: it is tried again. */
export async function recover(
  lake: Lake,
  zone: Zone,
  partition: number,
  part: Part,
): Promise<void> {
  const { notify } = lake.check;
  const catalog = lake.catalog(zone);
  catalog.refresh();
  const writer = writerOf(part.state.log, partition);
  if (part.isNew) {
    const files = await unlisted(lake, zone, await lake.files(zone));
    if (files.length > 0)
      notify({
        level: 'info',
        event: 'lake_adopt',
        text: `lake, ${zone}: ${files.length} files that no manifest speaks of are read once, so that nothing in them is written twice`,
      });
    await adopt(lake, zone, writer, files);
  } else if (part.attempt !== undefined) {
    const { log, from } = part.attempt;
    const files = (await lake.files(zone)).filter((file) => file.log === log && file.from === from);
    await adopt(lake, zone, writer, await unlisted(lake, zone, files));
    for (const { key } of files) part.suspects.add(key.slice(0, key.lastIndexOf('/') + 1));
  }
  const isUnderWay = part.state.writing !== undefined || part.state.merge !== undefined;
  await finishMerge(lake, zone, partition, part);
  for (const date of part.state.writing ?? []) await settle(lake, zone, partition, part, date);
  const { writing, seal, ...state } = part.state;
  const digest = await catalog.digest(writer);
  if (!isUnderWay && seal !== undefined && seal !== digest) await less(lake, zone, writer, seal);
  part.state = { ...state, step: state.step + (writing === undefined ? 0 : 1) };
  part.isReady = true;
}

/** What a step that was not committed has left in a day: its files stay, and what comes again replaces their rows. */
async function settle(
  lake: Lake,
  zone: Zone,
  partition: number,
  part: Part,
  date: string,
): Promise<void> {
  const catalog = lake.catalog(zone);
  const writer = writerOf(part.state.log, partition);
  const files = await lake.files(zone, { from: date, to: date });
  const own = files.filter(
    (file) =>
      file.log === part.state.log && file.partition === partition && file.from === part.state.step,
  );
  await adopt(lake, zone, writer, await unlisted(lake, zone, own));
  for (const { key } of own) part.suspects.add(key.slice(0, key.lastIndexOf('/') + 1));
  const day = await catalog.day(date);
  // The day's manifest may have been written and the root not, which says what the lake has: said once more, it does.
  const put = own.flatMap(({ key }) => day.entries.get(key) ?? []).filter(isSettled);
  for (const file of files) {
    const entry = day.entries.get(file.key);
    if (entry?.gone === 'emptied') await lake.remove(file.key);
    if (entry?.or === undefined) continue;
    const { or: _, ...before } = entry;
    const path = await lake.fetch(file);
    const sum = await sumFile(path);
    if (isAs(before, sum)) put.push(before);
    else if (isAs(entry, sum))
      put.push(await entryOf(file.key, path, await lake.parquet.facts(zone, path)));
  }
  if (put.length > 0) await catalog.commit(writer, new Map([[date, { put }]]));
}

const isSettled = (entry: FileEntry): boolean => counts(entry) && entry.or === undefined;

/** The root is not what the log knows of it: it is made again from the days, or the lake has less than it had. */
async function less(lake: Lake, zone: Zone, writer: string, seal: string): Promise<void> {
  const { notify } = lake.check;
  if (await remakeRoot(lake, zone, writer, seal)) {
    notify({
      level: 'warn',
      event: 'lake_manifest',
      text: `the lake: the manifest ${rootFolder(zone)}${writer}.json was gone and is made again`,
    });
    return;
  }
  notify({
    level: 'error',
    event: 'lake_less',
    text: `lake, ${zone}: ${lake.store.address} is not as this collector left it (emptied, an older copy, or another place): what it lacks is made again from the log and from raw frames`,
  });
  lake.check.hasLess(zone);
}
