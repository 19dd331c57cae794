/** Many small files of a folder become one; what was merged is deleted once the merged file is there. */
import type { Part } from './gather.ts';
import type { Lake } from './lake.ts';
import { fileName, type LakeFile, type Zone } from './layout.ts';

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
  const own = (await lake.folder(folder)).filter(
    (file) => file.log === part.state.log && file.partition === partition,
  );
  const run = longestRun(own);
  if (run.length < SMALL_FILES) return 0;
  const [first, last] = [run[0] as LakeFile, run.at(-1) as LakeFile];
  const into = `${folder}${fileName(first.log, partition, first.from, last.to)}`;
  const paths: string[] = [];
  for (const file of run) paths.push(await lake.fetch(file));
  const merged = await lake.parquet.merge(zone, paths);
  part.state = { ...part.state, merge: { into, from: run.map(({ key }) => key) } };
  await lake.using([merged], async () => {
    await announce();
    await lake.put(into, merged);
  });
  await finishMerge(lake, part);
  return run.length;
}

/** Deletes what was merged, if the merged file is there; the next state that is written no longer speaks of it. */
export async function finishMerge(lake: Lake, part: Part): Promise<void> {
  const { merge: under, ...state } = part.state;
  if (under === undefined) return;
  const folder = under.into.slice(0, under.into.lastIndexOf('/') + 1);
  const isThere = (await lake.folder(folder)).some(({ key }) => key === under.into);
  if (isThere) for (const key of under.from) await lake.remove(key);
  part.state = state;
}
