/** By how much the wall clock was set: a gateway without a clock of its own boots in 1970 and learns the time later. */
import type { Env } from '../../shared/env/env.ts';

/** Less is the slow correction of a clock that is right. */
const JUMP_MS = 10_000;

export class ClockJumps {
  private readonly clock: Env['clock'];
  /** The wall clock's lead over the monotonic one when it was last looked at. */
  private aheadMs: number;

  constructor(clock: Env['clock']) {
    this.clock = clock;
    this.aheadMs = this.lead();
  }

  private lead(): number {
    return (this.clock.wallUs() - this.clock.monotonicUs()) / 1000;
  }

  /** Milliseconds since it was last asked; 0: it was not set. */
  take(): number {
    const aheadMs = this.lead();
    const jumpMs = aheadMs - this.aheadMs;
    this.aheadMs = aheadMs;
    return Math.abs(jumpMs) < JUMP_MS ? 0 : jumpMs;
  }
}
