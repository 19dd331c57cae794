/**
 * Days of the lake that were deleted on purpose. The manifest that says so of each file may be damaged later; then others would
 * still speak of what is gone, and it would be looked for and made again. So it is said a second time, before the first file goes:
 *
 *   _past/forgotten/YYYY-MM-DD-MS.json   before which day, and when that was asked for, epoch milliseconds: the keys of those files
 */
import { codeOf } from '../../shared/errors.ts';
import type { Catalog } from './catalog.ts';
import { dateOf, type Zone } from './layout.ts';
import { decodeManifest, encodeManifest, type FileEntry } from './manifest.ts';
import type { ObjectStore } from './object-store.ts';

const FOLDER = '_past/forgotten/';
const NAME = /^_past\/forgotten\/(\d{4}-\d\d-\d\d)-(\d+)\.json$/;

interface Kept {
  store: ObjectStore;
  catalog(zone: Zone): Catalog;
}

interface Mark {
  key: string;
  before: string;
  atMs: number;
}

async function marksOf(store: ObjectStore): Promise<Mark[]> {
  return (await store.list(FOLDER)).flatMap(({ key }) => {
    const [, before, at] = NAME.exec(key) ?? [];
    return before === undefined ? [] : [{ key, before, atMs: Number(at) }];
  });
}

/** YYYY-MM-DD before which days were deleted on purpose, in all zones; '': none were. What others have of them is nobody's fault. */
export async function forgottenBefore(lake: Kept): Promise<string> {
  const roots = [...(await lake.catalog('readings').loadRoots()).values()];
  const dates = roots.flatMap(({ past }) => past?.forgottenMs ?? []).map(dateOf);
  return [...dates, ...(await marksOf(lake.store)).map(({ before }) => before)].sort().at(-1) ?? '';
}

/** What had arrived before this time, epoch milliseconds, was deleted on purpose where it is not there; 0: nothing was. */
export async function forgottenUntilMs(store: ObjectStore): Promise<number> {
  const marks = await marksOf(store);
  return Math.max(0, ...marks.map(({ before, atMs }) => Math.min(Date.parse(before), atMs)));
}

/** Of these entries, which were deleted on purpose. */
export async function amongForgotten(
  store: ObjectStore,
  date: string,
  entries: readonly FileEntry[],
): Promise<Set<string>> {
  const gone = new Set<string>();
  // Each day is looked at, and hardly one has any.
  if (entries.length === 0) return gone;
  for (const { key, before } of await marksOf(store)) {
    if (date >= before) continue;
    const bytes = await store.get(key).catch((error: unknown) => {
      if (codeOf(error) !== 'NOT_FOUND') throw error;
      return Buffer.alloc(0);
    });
    // One that is damaged proves nothing: what is gone is looked for.
    const { keys = [] } = (decodeManifest(bytes) ?? {}) as { keys?: string[] };
    for (const each of keys) gone.add(each);
  }
  return new Set(entries.map(({ key }) => key).filter((key) => gone.has(key)));
}

/** The object that says it of these, and its key. */
export function markOf(before: string, atMs: number, keys: Iterable<string>): [string, Buffer] {
  return [`${FOLDER}${before}-${Math.round(atMs)}.json`, encodeManifest({ keys: [...keys] })];
}
