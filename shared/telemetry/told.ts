/**
 * Whether a trouble is due to be told: when it begins, once a minute while it lasts, and when its reason changes, at most every
 * ten seconds.
 */
import { wayOf } from './way.ts';

const REMIND_MS = 60_000;
const CHANGED_MS = 10_000;

export class Told {
  private last: { way: string; atMs: number } | undefined;

  /** Since the trouble began. */
  get isTold(): boolean {
    return this.last !== undefined;
  }

  /** True: it is to be told now, and counts as told. `nowMs` is of a monotonic clock. */
  isDue(reason: string, nowMs: number): boolean {
    const way = wayOf(reason);
    const { last } = this;
    const dueMs = way === last?.way ? REMIND_MS : CHANGED_MS;
    if (last !== undefined && nowMs - last.atMs < dueMs) return false;
    this.last = { way, atMs: nowMs };
    return true;
  }
}
