/** What the embedded store has in memory of the newest points is at any time what its file has. */
import { describe, expect, it } from 'vitest';
import { nanosOf } from '../../collector/duckdb/nanos.ts';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { Tails, TAIL_POINTS_MAX, type TailPoints } from '../../collector/store/tails.ts';
import type { Change } from '../../collector/store/store.ts';
import { temporaryFolder } from '../support/process.ts';
import { seeded } from '../support/seed.ts';

const T0 = 1_700_000_000_000;
const SERIES = 4;
const STEPS = 60;

const opened = async (folder: string): Promise<DuckDbStore> => {
  const store = new DuckDbStore(
    { folder, memoryBytes: 128 * 1024 ** 2, now: () => Date.now(), blockPoints: 64 },
    () => undefined,
  );
  await store.open();
  return store;
};

interface Answers {
  recent: unknown[][] | undefined;
  inFile: unknown[][];
}

async function asked(store: DuckDbStore, fromMs: number): Promise<Answers> {
  const session = await store.session({ timeoutMs: 10_000, signal: undefined });
  try {
    const all = (await store.known()).toSorted((a, b) => a.id - b.id);
    const [from, to] = [nanosOf(fromMs, 0), nanosOf(T0 + 1e9, 0)];
    const recent = await store.recent(session, all, from, to);
    const inFile = await session.all(
      `SELECT series, time, num FROM points WHERE time >= ${from} ORDER BY series, time, origin, seq, idx`,
    );
    // A series without points is not among those that are known, and its number stays free.
    const rows = recent?.flatMap(({ times, values }, n) =>
      [...times].map((time, at) => [all[n]?.id, time, values[at]]),
    );
    return { recent: rows, inFile };
  } finally {
    await session.close();
  }
}

describe('the newest points in memory', () => {
  it('are those of the file, whatever is added, moved, repeated and taken back, also while they are read', async () => {
    const { seed, next } = seeded();
    const below = (n: number): number => Math.floor(next() * n);
    const folder = temporaryFolder();
    let store = await opened(folder);
    let sequence = 0;
    const change = (): Change => {
      const isOld = sequence > 0 && next() < 0.3;
      const at = isOld ? below(sequence) : sequence++;
      const identity = { gateway: 'g', epoch: 'e', sequence: at, index: 0 };
      if (isOld && next() < 0.4) return { identity, put: undefined };
      const tags = { gateway: 'g', n: String(below(SERIES)) };
      // Often two of one time, and some late.
      const timeMs = T0 + below(1 + sequence) * 1000;
      return {
        identity,
        put: { ...identity, measurement: 'm', tags, fields: { v: below(1000) }, timeMs, ns: 0 },
      };
    };
    let kept = 0;
    for (let step = 0; step < STEPS; step++) {
      const writing = store.apply(Array.from({ length: 1 + below(8) }, change), new Map());
      const from = T0 + below(sequence) * 1000;
      // A question that runs beside a transaction sees it whole or not at all, and nothing half of it stays.
      const beside = asked(store, from);
      await Promise.all([writing, beside]);
      for (let again = 0; again < 2; again++) {
        const { recent, inFile } = await asked(store, from);
        expect(recent ?? [], `seed ${seed}, step ${step}`).toEqual(inFile);
        if (recent !== undefined) kept++;
      }
      if (step % 20 === 19) {
        await store.close();
        store = await opened(folder);
      }
    }
    expect(kept).toBeGreaterThan(STEPS);
    await store.close();
  });

  it('are bounded: a tail that grows too long keeps its newer half, many are forgotten, the oldest first', () => {
    const tails = new Tails();
    const of = (count: number): TailPoints => ({
      times: BigInt64Array.from({ length: count }, (_, n) => BigInt(n)),
      values: new Float64Array(count),
    });
    tails.keep(tails.reads(), 0, 0n, of(TAIL_POINTS_MAX));
    tails.begun();
    tails.add(0, BigInt(TAIL_POINTS_MAX), 1);
    tails.committed();
    expect(tails.get([0], 0n, 10n ** 9n)).toBeUndefined();
    const from = BigInt(TAIL_POINTS_MAX / 2 + 1);
    expect(tails.get([0], from, 10n ** 9n)?.[0]?.times[0]).toBe(from);
    for (let id = 1; id <= 60; id++) tails.keep(tails.reads(), id, 0n, of(TAIL_POINTS_MAX));
    expect(tails.get([0], from, 10n ** 9n)).toBeUndefined();
    expect(tails.get([60], 0n, 10n)?.[0]?.times.length).toBe(11);
  });

  it('are bounded also by what is written to series that nobody asks about again', () => {
    const tails = new Tails();
    const few = { times: BigInt64Array.of(0n), values: Float64Array.of(0) };
    for (let id = 0; id < 50; id++) tails.keep(tails.reads(), id, 0n, few);
    for (let time = 1n; time <= 24_000n; time += 1000n) {
      tails.begun();
      for (let id = 0; id < 50; id++) for (let n = 0n; n < 1000n; n++) tails.add(id, time + n, 0);
      tails.committed();
      tails.get([49], 0n, 0n);
    }
    // 50 × 24,001 points are more than all tails have.
    expect(tails.get([0], 0n, 9n)).toBeUndefined();
    expect(tails.get([49], 0n, 9n)?.[0]?.times.length).toBe(10);
  });

  it('do not keep what was read while a transaction ran, or one ended meanwhile', () => {
    const tails = new Tails();
    const points = { times: BigInt64Array.of(1n), values: Float64Array.of(1) };
    const before = tails.reads();
    tails.begun();
    tails.keep(before, 0, 0n, points);
    const during = tails.reads();
    tails.committed();
    tails.keep(before, 0, 0n, points);
    tails.keep(during, 0, 0n, points);
    expect(tails.get([0], 0n, 9n)).toBeUndefined();
    tails.keep(tails.reads(), 0, 0n, points);
    expect(tails.get([0], 0n, 9n)).toEqual([points]);
  });
});
