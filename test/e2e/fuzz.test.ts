/** The fuzzer of `npm run fuzz`, 100,000 connections: no crash, no unhandled rejection, no growth, no false acknowledgement. */
import { expect, it } from 'vitest';
import { fuzz } from '../fuzz/fuzz.ts';
import { seeded } from '../support/seed.ts';

it('100,000 damaged conversations harm nobody', { timeout: 600_000 }, async () => {
  const { seed } = seeded();
  const result = await fuzz({ connections: 100_000, seed: seed % 1_000_000 });
  const label = `HEADWATER_SEED=${seed}`;
  expect(result.problems, label).toEqual([]);
  expect(result.connections, label).toBe(100_000);
  // That the fuzzer does what it says: most get in, and many messages are acknowledged among the damage.
  expect(result.accepted, label).toBeGreaterThan(40_000);
  expect(result.acknowledged, label).toBeGreaterThan(20_000);
  expect(result.grownBytes, label).toBeLessThan(64 * 1024 * 1024);
});
