/** The made-up fleet: the same for the same seed, and as wrong as it was asked to be. */
import { describe, expect, it } from 'vitest';
import { KINDS, simulate, type Fleet, type Made } from '../../cli/simulation.ts';

const START = Date.UTC(2026, 10, 1);
const FLEET: Fleet = {
  ...{ seed: 7, sensors: 20, kinds: KINDS, everyMs: 10_000, outages: 0, badClocks: 0 },
  ...{ startMs: START, topic: 'sim/{sensor}/{kind}' },
};

function first(count: number, more: Partial<Fleet> = {}): Made[] {
  const all: Made[] = [];
  for (const each of simulate({ ...FLEET, ...more })) if (all.push(each) === count) break;
  return all;
}
const timeOf = ({ payload }: Made): number =>
  Date.parse((JSON.parse(payload) as { time: string }).time);

describe('the simulated fleet', () => {
  it('a seed makes the same messages, byte for byte; another seed makes others', () => {
    expect(first(2000)).toEqual(first(2000));
    expect(first(50, { seed: 8 }).map(({ payload }) => payload)).not.toEqual(
      first(50).map(({ payload }) => payload),
    );
  });

  it('comes in the order of time, at the rate that was asked for, each sensor under a topic of its own', () => {
    const all = first(20_000);
    const times = all.map(({ atMs }) => atMs);
    expect([...times].sort((a, b) => a - b)).toEqual(times);
    expect(all.map(timeOf)).toEqual(times);
    expect((times.at(-1) ?? 0) - START).toBeGreaterThan(0.98 * 1000 * 10_000);
    expect((times.at(-1) ?? 0) - START).toBeLessThan(1.02 * 1000 * 10_000);
    expect(new Set(all.map(({ topic }) => topic)).size).toBe(20);
    expect(all.map(({ topic }) => topic)).toContain('sim/climate-01/climate');
    expect(first(1, { sensors: 1, kinds: ['door'], topic: 'x/{sensor}' })[0]?.topic).toBe(
      'x/door-1',
    );
  });

  it('outages take that share of the time away', () => {
    const hours = 24;
    const count = (outages: number): number => {
      let sum = 0;
      for (const { atMs } of simulate({ ...FLEET, outages })) {
        if (atMs >= START + hours * 3_600_000) break;
        sum++;
      }
      return sum;
    };
    const share = 1 - count(0.2) / count(0);
    expect(share).toBeGreaterThan(0.15);
    expect(share).toBeLessThan(0.25);
  });

  it('bad clocks are in 1970, ahead or drifting; the others say when it is', () => {
    const wrong = new Map<number, number>();
    for (const each of first(4000, { badClocks: 0.5, sensors: 100 }))
      wrong.set(each.sensor, timeOf(each) - each.atMs);
    const errors = [...wrong.values()].filter((ms) => ms !== 0);
    expect(errors.length).toBeGreaterThan(30);
    expect(errors.length).toBeLessThan(70);
    expect(errors.some((ms) => ms === -START)).toBe(true);
    expect(errors.some((ms) => ms >= 3_600_000)).toBe(true);
    expect(errors.some((ms) => ms > 0 && ms < 3_600_000)).toBe(true);
  });
});
