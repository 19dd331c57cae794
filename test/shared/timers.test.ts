/** Rests that can be cut short. */
import { describe, expect, it } from 'vitest';
import { Rest, processTimers } from '../../shared/env/timers.ts';

describe('a rest', () => {
  it('ends by itself, each of several after its own time', async () => {
    const rest = new Rest(processTimers);
    const ended: number[] = [];
    await Promise.all([30, 10, 20].map((ms) => rest.for(ms).then(() => ended.push(ms))));
    expect(ended).toEqual([10, 20, 30]);
  });

  it('is cut short by a wake, and so are all others under way; later ones are not', async () => {
    const rest = new Rest(processTimers);
    rest.wake();
    const all = Promise.all([rest.for(3_600_000), rest.for(7_200_000)]);
    rest.wake();
    await all;
    let isOver = false;
    const later = rest.for(3_600_000).then(() => (isOver = true));
    await rest.for(5);
    expect(isOver).toBe(false);
    rest.wake();
    await later;
  });
});
