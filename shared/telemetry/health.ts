/** How a stage or a link is: it works, or it waits, for what and since when. */

export interface Health {
  /** A stable name: log, store, decode, uplink, disk … */
  name: string;
  /** Its present reason to wait, one sentence; undefined while it works. */
  why: string | undefined;
  /** While it waits: nothing can be taken, so `/readyz` is 503. */
  isEssential: boolean;
}

/** Why nothing can be taken now, or undefined. */
export const blockedBy = (health: readonly Health[]): string | undefined =>
  health.find(({ isEssential, why }) => isEssential && why !== undefined)?.why;
