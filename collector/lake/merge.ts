/**
 * Many small files of a folder become one, and have as many rows as before: what was merged is deleted once the manifests
 * say so. A file that is not as it was written is merged into nothing.
 */
import type { Part } from './gather.ts';
import type { Lake } from './lake.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { dateOfKey, fileName, fileOf, type LakeFile, type Zone } from './layout.ts';
import { union, writerOf } from './manifest.ts';
import { entryOf } from './write.ts';

/** Files of one folder below this size are merged when there are so many. */
const SMALL_BYTES = 32 * 1024 * 1024;
const SMALL_FILES = 16;

/** The longest run of small files: a large one between two would be said to be merged as well. */
function longestRun(files: readonly LakeFile[]): LakeFile[] {
  let best: LakeFile[] = [];
  let run: LakeFile[] = [];
  for (const file of files) {
    run = file.bytes < SMALL_BYTES ? [...run, file] : [];
    if (run.length > best.length) best = run;
  }
  return best;
}

/** Merges files of a folder once they are many; gives how many. `announce` says in the log what the part's state says. */
export async function merge(
  lake: Lake,
  zone: Zone,
  [partition, part]: [number, Part],
  folder: string,
  announce: () => Promise<void>,
): Promise<number> {
  const catalog = lake.catalog(zone);
  const own: LakeFile[] = [];
  for (const file of await lake.folder(folder))
    if (file.log === part.state.log && file.partition === partition) own.push(file);
  const run = longestRun(own);
  if (run.length < SMALL_FILES) return 0;
  const [first, last] = [run[0] as LakeFile, run.at(-1) as LakeFile];
  const { entries } = await catalog.day(first.date);
  const parts = run.flatMap(({ key }) => entries.get(key) ?? []);
  const local = await lake.whole(run);
  // Of one that is damaged or unknown the rows are made again first.
  if (parts.length < run.length || local.size < run.length) return 0;
  const into = `${folder}${fileName(first.log, partition, first.from, last.to)}`;
  const { path, facts } = await lake.parquet.merge(zone, [...local.keys()]);
  await lake.using([path], async () => {
    const expected = parts.reduce((sum, { rows }) => sum + rows, 0);
    if (facts.rows !== expected)
      throw new HeadwaterError(
        'LAKE_UNAVAILABLE',
        `merging ${run.length} files of ${folder}: ${facts.rows} rows of ${expected}; they stay as they are`,
      );
    const spans = union(parts.map((each) => each.spans));
    const entry = { ...(await entryOf(into, path, facts)), spans };
    part.state = { ...part.state, merge: { into, from: run.map(({ key }) => key) } };
    await announce();
    await lake.put(into, path);
    const dropped = run.map(({ key }) => key);
    const changes = new Map([[first.date, { put: [entry], dropped }]]);
    await catalog.commit(writerOf(first.log, partition), changes);
  });
  await finishMerge(lake, zone, partition, part);
  return run.length;
}

/**
 * Deletes what was merged once the manifests have the merged file, or the merged file where they do not; the next state
 * that is written no longer speaks of it.
 */
export async function finishMerge(
  lake: Lake,
  zone: Zone,
  partition: number,
  part: Part,
): Promise<void> {
  const { merge: under, ...state } = part.state;
  if (under === undefined) return;
  const catalog = lake.catalog(zone);
  const { entries } = await catalog.day(dateOfKey(under.into));
  const isDone = entries.get(under.into)?.gone === undefined && entries.has(under.into);
  const file = fileOf(under.into);
  if (isDone && file !== undefined) for (const key of under.from) await lake.remove(key);
  else await lake.remove(under.into);
  part.state = { ...state, seal: await catalog.digest(writerOf(state.log, partition)) };
}
