/** Time that passes faster than it does, for what waits long in earnest: a second in `1000 / factor` milliseconds. */
import { processTime, type Time } from '../../shared/env/env.ts';
import { processTimers } from '../../shared/env/timers.ts';

export const fastTime = (factor: number): Time => ({
  clock: {
    wallUs: () => processTime.clock.wallUs(),
    monotonicUs: () => processTime.clock.monotonicUs() * factor,
  },
  timers: {
    after: (ms, work) => processTimers.after(ms / factor, work),
    every: (ms, work) => processTimers.every(ms / factor, work),
  },
});
