/** The ObjectStore contract, as the contracts have it: `contracts/object-store.ts`. */
import type { ObjectStore } from '../../contracts/object-store.ts';
import { processTimers, within } from '../../shared/env/timers.ts';
import { HeadwaterError } from '../../shared/errors.ts';

export * from '../../contracts/object-store.ts';

/** A start waits for another machine no longer. */
const OPEN_MS = 3000;

/** Opens it. Rejects as it does, or with LAKE_UNAVAILABLE when it says nothing for a while: it may open later. */
export async function answering(store: ObjectStore): Promise<void> {
  const opened = store.open().then(() => true);
  if ((await within(processTimers, OPEN_MS, opened)) === true) return;
  const text = `the lake at ${store.address} has not answered for ${OPEN_MS / 1000} s: it is waited for`;
  throw new HeadwaterError('LAKE_UNAVAILABLE', text);
}
