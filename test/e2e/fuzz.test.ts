/**
 * The fuzzer of `npm run fuzz` at CI's size: no crash, no unhandled rejection, no growth, no false acknowledgement.
 * The command alone, and a release, has 100,000 connections; each run here has another seed.
 */
import { expect, it } from 'vitest';
import { fuzz } from '../fuzz/fuzz.ts';
import { FULL, seeded } from '../support/seed.ts';

const CONNECTIONS = FULL ? 100_000 : 8000;

it(`${CONNECTIONS} damaged conversations harm nobody`, { timeout: 600_000 }, async () => {
  const { seed } = seeded();
  const result = await fuzz({ connections: CONNECTIONS, seed: seed % 1_000_000 });
  const label = `HEADWATER_SEED=${seed}`;
  expect(result.problems, label).toEqual([]);
  expect(result.connections, label).toBe(CONNECTIONS);
  // That the fuzzer does what it says: most get in, and many messages are acknowledged among the damage.
  expect(result.accepted, label).toBeGreaterThan(CONNECTIONS * 0.4);
  expect(result.acknowledged, label).toBeGreaterThan(CONNECTIONS * 0.2);
  expect(result.grownBytes, label).toBeLessThan(64 * 1024 * 1024);
});
