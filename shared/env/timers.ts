/**
 * Timers as a value, so that a run can be simulated: what waits does so through these. A timer keeps no process alive: a
 * process lives as long as its servers do, and its stop cancels what waits.
 */
export interface Timer {
  cancel(): void;
}

export interface Timers {
  /** Once, after so many milliseconds. */
  after(ms: number, work: () => void): Timer;
  /** Every so many milliseconds, until it is cancelled. */
  every(ms: number, work: () => void): Timer;
}

/** Those of the process. They are looked up when they are asked for: a simulation puts its own in their place. */
export const processTimers: Timers = {
  after(ms, work) {
    const timer = setTimeout(work, ms);
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
  every(ms, work) {
    const timer = setInterval(work, ms);
    timer.unref();
    return { cancel: () => clearInterval(timer) };
  },
};

/** A rest that can be cut short: `wake` ends the one under way, and is harmless when there is none. */
export class Rest {
  private readonly timers: Timers;
  private timer: Timer | undefined;
  private resolve: (() => void) | undefined;

  constructor(timers: Timers) {
    this.timers = timers;
  }

  async for(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      this.resolve = resolve;
      this.timer = this.timers.after(ms, resolve);
    });
    this.resolve = undefined;
  }

  wake(): void {
    this.timer?.cancel();
    this.resolve?.();
  }
}
