/** The suite of the TimeSeriesStore contract: every adapter passes it. Its cases stand beside this file, by what they are about. */
import assert from 'node:assert/strict';
import type { StoreSupports } from '../store.ts';
import { runCases, type Result } from './runner.ts';
import { StoreBench, T0, type StoreCase, type StoreUnderTest } from './store-bench.ts';
import { READING } from './store-reading.ts';
import { WRITING } from './store-writing.ts';

export type { StoreUnderTest } from './store-bench.ts';

const LIFE: readonly StoreCase[] = [
  {
    name: 'has an identity, which stays through a restart',
    run: async (bench) => {
      const identity = await bench.store.identity();
      assert.match(identity, /^[A-Za-z0-9._-]{1,64}$/);
      await bench.reopen();
      assert.equal(await bench.store.identity(), identity);
    },
  },
  {
    name: 'all of it is there after a restart, and repeats are still recognised',
    run: async (bench) => {
      const before = bench.change('restart', T0, { value: 1 });
      await bench.apply([before]);
      await bench.reopen();
      assert.deepEqual(await bench.points('restart'), [[T0, 1]]);
      await bench.apply([before]);
      assert.deepEqual(await bench.points('restart'), [[T0, 1]]);
      const [latest] = await bench.store.latest({ measurement: bench.name('restart') });
      assert.equal(latest?.value, 1);
    },
  },
  {
    name: 'marks are kept with the changes, the last of a name counts, and they are found by prefix',
    skip: ({ progress }) => (progress ? undefined : 'it keeps no marks: the log does'),
    run: async (bench) => {
      const name = `suite/${bench.name('marks')}`;
      await bench.apply(
        [bench.change('marks', T0, { value: 1 })],
        new Map([
          [`${name}/a`, '1'],
          [`${name}/b`, `it's "2"`],
        ]),
      );
      await bench.apply([], new Map([[`${name}/a`, '3']]));
      await bench.reopen();
      assert.deepEqual(
        await bench.store.marks(`${name}/`),
        new Map([
          [`${name}/a`, '3'],
          [`${name}/b`, `it's "2"`],
        ]),
      );
    },
  },
];

export const STORE_CASES: readonly StoreCase[] = [...WRITING, ...READING, ...LIFE];

export async function runStoreCase(tested: StoreUnderTest, { run }: StoreCase): Promise<void> {
  await StoreBench.use(tested, run);
}

/** Why a case does not apply, or undefined. */
export function skipReason({ supports }: StoreUnderTest, { skip }: StoreCase): string | undefined {
  return skip?.(supports, { canCrash: false });
}

/** All cases whose name holds `only`, one after the other. */
export async function runStoreSuite(
  tested: StoreUnderTest,
  onResult: (result: Result) => void,
  only = '',
): Promise<Result[]> {
  return await runCases<StoreBench, StoreSupports>(
    STORE_CASES,
    tested.supports,
    false,
    (run) => StoreBench.use(tested, run),
    onResult,
    only,
  );
}
