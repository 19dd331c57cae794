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

/** What it gives within so many milliseconds; undefined where it does not: it goes on, and nobody hears of it. Rejects as it does. */
export async function within<T>(
  timers: Timers,
  ms: number,
  work: Promise<T>,
): Promise<T | undefined> {
  let timer: Timer | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = timers.after(ms, () => resolve(undefined));
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    timer?.cancel();
  }
}

/** Rests that can be cut short: `wake` ends those under way, and is harmless when there are none. */
export class Rest {
  private readonly timers: Timers;
  private readonly waiting = new Set<() => void>();

  constructor(timers: Timers) {
    this.timers = timers;
  }

  /** Any number of them at once, each of its own length. */
  async for(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const end = (): void => {
        timer.cancel();
        this.waiting.delete(end);
        resolve();
      };
      const timer = this.timers.after(ms, end);
      this.waiting.add(end);
    });
  }

  wake(): void {
    for (const end of [...this.waiting]) end();
  }
}
