/**
 * The wall clock as deadlines see it: it goes on evenly, and is set at a look alone, at which whoever keeps deadlines moves them
 * with it. A gateway without a clock of its own boots in 1970 and learns the time later.
 */
import type { Env } from '../../shared/env/env.ts';

/** Less is the slow correction of a clock that is right. */
const JUMP_MS = 10_000;
const YEAR_MS = 365 * 86_400_000;

/**
 * Where a deadline is after the clock was set, by `jumpMs`, to `nowMs`. One that an earlier run has kept by a clock that was right
 * stays where it is: it is nearer to the new time.
 */
export function afterJump(deadlineMs: number, nowMs: number, jumpMs: number): number {
  const fromOldMs = Math.abs(deadlineMs - (nowMs - jumpMs));
  const isOfNewTime = Math.abs(jumpMs) > YEAR_MS && Math.abs(deadlineMs - nowMs) < fromOldMs;
  return isOfNewTime ? deadlineMs : deadlineMs + jumpMs;
}

export class SteadyClock {
  private readonly clock: Env['clock'];
  private readonly listeners: ((jumpMs: number) => void)[] = [];
  /** The wall clock's lead over the monotonic one when it was last looked at. */
  private aheadMs: number;

  constructor(clock: Env['clock']) {
    this.clock = clock;
    this.aheadMs = this.lead();
  }

  private lead(): number {
    return (this.clock.wallUs() - this.clock.monotonicUs()) / 1000;
  }

  /** Epoch milliseconds. */
  nowMs(): number {
    return this.monotonicMs() + this.aheadMs;
  }

  monotonicMs(): number {
    return this.clock.monotonicUs() / 1000;
  }

  /** Whoever keeps deadlines moves them. */
  onJump(listener: (jumpMs: number) => void): void {
    this.listeners.push(listener);
  }

  /** Takes the wall clock as it is now. */
  look(): void {
    const aheadMs = this.lead();
    const jumpMs = aheadMs - this.aheadMs;
    this.aheadMs = aheadMs;
    if (Math.abs(jumpMs) >= JUMP_MS) for (const listener of this.listeners) listener(jumpMs);
  }
}
