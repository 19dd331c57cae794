/** Seeded chance for tests: the seed is printed, and HEADWATER_SEED replays it. */
export function seeded(): { seed: number; next: () => number } {
  const seed = Number(process.env['HEADWATER_SEED'] ?? Date.now() % 1_000_000_007);
  return { seed, next: rng(seed) };
}

/** mulberry32: numbers from 0 to 1. */
export function rng(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Full sizes are for named runs by hand; CI's are small. */
export const FULL = process.env['HEADWATER_FULL'] === '1';
