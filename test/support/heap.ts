/** What JavaScript holds when everything that nobody needs has been collected. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

let collect: (() => void) | undefined;

/** Bytes of this process. */
export function heldBytes(): number {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void; // What the flag brings.
  }
  collect();
  return process.memoryUsage().heapUsed;
}
