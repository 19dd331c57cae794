/** Many small files of the past become one, with as many rows as before. A file that is not as it was written is left as it is. */
import { hasCode } from '../../shared/errors.ts';
import type { Lake } from './lake.ts';
import { isWhole, listing, pastFound, pastKey, type PastFile } from './past.ts';

const SMALL_BYTES = 32 * 1024 * 1024;
const SMALL_FILES = 16;

/** Those of a writer; gives how many were merged. `place`: whose name the merged file has. */
export async function mergePast(
  lake: Lake,
  writer: string,
  place: { log: string; partition: number },
): Promise<number> {
  const catalog = lake.catalog('readings');
  const listed = (await catalog.loadRoots()).get(writer)?.past?.files ?? [];
  if (listed.filter(({ bytes }) => bytes < SMALL_BYTES).length < SMALL_FILES) return 0;
  if (lake.pastTried === listed.length) return 0;
  const found = await pastFound(lake);
  const parts: PastFile[] = [];
  const paths: string[] = [];
  for (const file of found.files) {
    if (file.writer !== writer || file.bytes >= SMALL_BYTES) continue;
    const path = await lake.fetch(file);
    if (!(await isWhole(lake, file, path))) continue;
    parts.push(file);
    paths.push(path);
  }
  if (parts.length < SMALL_FILES) {
    lake.pastTried = listed.length;
    return 0;
  }
  const made = await lake.parquet.mergePast(paths);
  await lake.using([made], async () => {
    const untilMs = Math.max(...parts.map((part) => part.untilMs));
    const step = Math.max(...parts.map((part) => part.step));
    const named = await pastKey(made, untilMs, { log: place.log, step }, place.partition);
    const keys = parts.map(({ key }) => key);
    // What they were merged from is nowhere any more, unless another root speaks of it or a kill left it there.
    const roots = [...(await catalog.loadRoots()).values()];
    const known = new Set([
      ...roots.flatMap(({ past }) => past?.files ?? []).map(({ key }) => key),
      ...found.merged.map(({ key }) => key),
    ]);
    const before = listed.flatMap(({ key, of = [] }) => (keys.includes(key) ? of : []));
    const of = [...keys, ...before.filter((key) => known.has(key))];
    await lake.put(named.key, made);
    await catalog.commit(writer, new Map(), { past: listing({ ...named, of }) });
    await removeMerged(lake, keys);
  });
  return parts.length;
}

export async function removeMerged(lake: Lake, keys: readonly string[]): Promise<void> {
  for (const key of keys)
    await lake.remove(key).catch((error: unknown) => {
      if (!hasCode(error, 'NOT_FOUND')) throw error;
    });
}
