/**
 * What a stage finds when it takes a partition: what an attempt before it left, files that no manifest speaks of, and
 * whether the lake is the one that it wrote.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeWithin } from '../../shared/config/folder.ts';
import { adopt, unlisted } from './adopt.ts';
import type { Part } from './gather.ts';
import type { Lake } from './lake.ts';
import type { LakeFile, Zone } from './layout.ts';
import { finishMerge } from './merge.ts';
import { counts, isAs, rootFolder, writerOf, type FileEntry } from './manifest.ts';
import { remakeRoot } from './remake.ts';
import { entryOf, markOf } from './write.ts';
import { sumFile } from './sums.ts';

/** Before the first step of a partition. Throws LAKE_UNAVAILABLE: it is tried again. */
export async function recover(
  lake: Lake,
  zone: Zone,
  partition: number,
  part: Part,
  newId: () => string,
): Promise<void> {
  const { notify } = lake.check;
  const catalog = lake.catalog(zone);
  catalog.refresh();
  const writer = writerOf(part.state.log, partition);
  catalog.release(writer);
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
  // What an earlier process has not come to the end of.
  if (part.state.ahead !== undefined)
    await noteAhead(lake, await filesFrom(lake, zone, partition, part.state.ahead));
  const { writing, made: _, seal, ...state } = part.state;
  const digest = await catalog.digest(writer);
  part.state = { ...state, step: state.step + (writing === undefined ? 0 : 1) };
  // Of a lake that is as the log knows it nothing has to be listed.
  const isAhead = seal !== digest && (await goOnBeside(lake, zone, partition, part, newId));
  if (!isAhead && !isUnderWay && seal !== undefined && seal !== digest)
    await less(lake, zone, writer, seal);
  await catalog.claim(writerOf(part.state.log, partition));
  part.isReady = true;
}

/**
 * Steps that the log has not come to yet are in the lake: the log is an older copy. Their names would be given to other rows,
 * so the writer goes on under another one; frames that only the lake has are said again in the log.
 */
async function goOnBeside(
  lake: Lake,
  zone: Zone,
  partition: number,
  part: Part,
  newId: () => string,
): Promise<boolean> {
  const { log, step } = part.state;
  const files = await filesFrom(lake, zone, partition, { log, from: step });
  if (files.length === 0) return false;
  const { notify } = lake.check;
  const writer = writerOf(log, partition);
  notify({
    level: 'error',
    event: 'lake_ahead',
    text: `lake, ${zone}: ${lake.store.address} has ${files.length} files of steps that the log knows nothing of: the log is an older copy than the lake; nothing of them is replaced${zone === 'raw' ? ', and frames that the log lacks are said again in it' : ''}`,
  });
  // A root that is behind its days, or gone, says what it can again.
  await remakeRoot(lake, zone, writer);
  part.state = { ...part.state, log: newId(), step: 1, beside: part.state.next };
  part.suspects.add('');
  if (zone !== 'raw') return true;
  // With the state: else a kill before they are said would leave nobody who knows.
  part.state.ahead = { log, from: step };
  await noteAhead(lake, files);
  return true;
}

/** Files of a writer that have something of steps from one on. */
async function filesFrom(
  lake: Lake,
  zone: Zone,
  partition: number,
  { log, from }: { log: string; from: number },
): Promise<LakeFile[]> {
  return (await lake.files(zone)).filter(
    (file) => file.log === log && file.partition === partition && file.to > from,
  );
}

/** What they have is to be said again in the log. */
async function noteAhead(lake: Lake, files: readonly LakeFile[]): Promise<void> {
  const { check } = lake;
  for (const { zone, key, date, gateway } of files) {
    const spans = (await lake.catalog(zone).day(date)).entries.get(key)?.spans;
    if (spans !== undefined) check.ahead.add(gateway, spans);
  }
  if (check.ahead.gateways.length > 0) check.onLost();
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
  const whole: LakeFile[] = [];
  for (const file of await unlisted(lake, zone, own)) {
    if (await isAsMade(lake, part, file)) {
      await putAgain(lake, file);
      whole.push(file);
    } else await lake.remove(file.key);
  }
  await adopt(lake, zone, writer, whole);
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
    if (!isAs(before, sum) && !isAs(entry, sum)) continue;
    await putAgain(lake, file);
    if (isAs(before, sum)) put.push(before);
    else put.push(await entryOf(file.key, path, await lake.parquet.facts(zone, path)));
  }
  if (put.length > 0) await catalog.commit(writer, new Map([[date, { put }]]));
}

/**
 * Whether a file is what the log says that the step made. A checksum that was taken of it only now would make what has happened
 * to it since the truth; the log gives the rows of this step once more, so one that is not proven is not needed.
 */
async function isAsMade(lake: Lake, { state: { made } }: Part, file: LakeFile): Promise<boolean> {
  // A version before this one did not say what it made.
  return made?.includes(markOf(file.key, await sumFile(await lake.fetch(file)))) ?? true;
}

/**
 * What an attempt before this one has put may be nowhere but in memory, its name as well, and an fsync that failed once says
 * yes the next time: before anything is built on it, it is written once more. What can be listed elsewhere is there to stay.
 */
async function putAgain(lake: Lake, { key, zone }: LakeFile): Promise<void> {
  if (lake.store.path(key) === undefined) return;
  const path = join(lake.work, `again-${zone}`);
  await makeWithin(lake.work, 1);
  await writeFile(path, await lake.store.get(key));
  await lake.put(key, path);
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
  await lake.check.hasLess(zone);
}
