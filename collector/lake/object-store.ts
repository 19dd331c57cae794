/** The ObjectStore contract, as the contracts have it: `contracts/object-store.ts`. */
import type { ObjectStore } from '../../contracts/object-store.ts';
import { processTimers, within } from '../../shared/env/timers.ts';
import { HeadwaterError } from '../../shared/errors.ts';

export * from '../../contracts/object-store.ts';

/** Beside the file it becomes; never listed. */
export const PART = '.part';
/** One that lies so long is on its way nowhere: whoever wrote it was killed. */
const PART_MS_MAX = 24 * 3_600_000;

/** Whether a file on its way was left behind: those who list remove it. */
export const isLeft = (modifiedMs: number): boolean =>
  performance.timeOrigin + performance.now() - modifiedMs > PART_MS_MAX;

/** A start waits for another machine no longer. */
const OPEN_MS = 3000;

/** Opens it. Rejects as it does, or with LAKE_UNAVAILABLE when it says nothing for a while: it may open later. */
export async function answering(store: ObjectStore): Promise<void> {
  const opened = store.open().then(() => true);
  if ((await within(processTimers, OPEN_MS, opened)) === true) return;
  const text = `the lake at ${store.address} has not answered for ${OPEN_MS / 1000} s: it is waited for`;
  throw new HeadwaterError('LAKE_UNAVAILABLE', text);
}
