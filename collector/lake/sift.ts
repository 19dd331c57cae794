/**
 * Finds the records that no file can be made of, when files of others can: a failure of the world finds nobody. It only
 * tries: nothing is written to the lake.
 */
import type { StoredRecord } from '../log/log.ts';
import { isOfDisk } from './engine.ts';

/** When more than so many seem unwritable it is the world that fails. */
const FOUND_MAX = 16;

/** Record → why. `make` rejects when it cannot make files of these records. */
export async function sift(
  records: readonly StoredRecord[],
  make: (records: StoredRecord[]) => Promise<void>,
): Promise<Map<StoredRecord, unknown>> {
  const found = new Map<StoredRecord, unknown>();
  let good: StoredRecord[] = [];
  const waiting = [[...records]];
  while (waiting.length > 0) {
    const some = waiting.pop() ?? [];
    const [first] = some;
    if (first === undefined) continue;
    try {
      await make(some);
      good = some;
    } catch (error) {
      if (isOfDisk(error)) return new Map();
      const half = some.length >> 1;
      if (half === 0) found.set(first, error);
      else waiting.push(some.slice(half), some.slice(0, half));
      if (found.size > FOUND_MAX) return new Map();
    }
  }
  if (good.length === 0 || found.size === 0) return new Map();
  // Once more, the good ones between: what was bad luck passes now, and what was an outage takes them all.
  for (const record of [...found.keys()]) {
    try {
      await make([record]);
      found.delete(record);
    } catch (error) {
      if (isOfDisk(error)) return new Map();
      found.set(record, error);
    }
    try {
      await make(good);
    } catch {
      return new Map();
    }
  }
  return found;
}
