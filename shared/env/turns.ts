/** Turns for others within work that holds the event loop: by the number of items that are alike, or by time where they are not. */
import { setImmediate } from 'node:timers/promises';

/** Items of some microseconds each: together some milliseconds. */
const AT_ONCE = 2000;

/** Whether others have their turn at the item in this place of many. */
export const isTurn = (place: number): boolean => place % AT_ONCE === AT_ONCE - 1;

/** Resolves when others have had it. */
export const nextTurn = async (): Promise<void> => await setImmediate();

export class Turns {
  private readonly ms: number;
  private readonly nowMs: () => number;
  private sinceMs: number;

  /** Others are due after so many milliseconds. `nowMs`: of a monotonic clock. */
  constructor(ms: number, nowMs = (): number => performance.now()) {
    this.ms = ms;
    this.nowMs = nowMs;
    this.sinceMs = nowMs();
  }

  get isDue(): boolean {
    return this.nowMs() - this.sinceMs >= this.ms;
  }

  async pass(): Promise<void> {
    await nextTurn();
    this.sinceMs = this.nowMs();
  }
}
