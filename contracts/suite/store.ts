/** The suite of the TimeSeriesStore contract: every adapter passes it. Its cases stand beside this file, by what they are about. */
import type { StoreSupports } from '../store.ts';
import { runCases, type Result } from './runner.ts';
import { StoreBench, type StoreCase, type StoreUnderTest } from './store-bench.ts';
import { LIFE } from './store-life.ts';
import { READING } from './store-reading.ts';
import { WRITING } from './store-writing.ts';

export type { StoreUnderTest } from './store-bench.ts';

export const STORE_CASES: readonly StoreCase[] = [...WRITING, ...READING, ...LIFE];

export async function runStoreCase(tested: StoreUnderTest, { run }: StoreCase): Promise<void> {
  await StoreBench.use(tested, run);
}

/** Why a case does not apply, or undefined. */
export function skipReason(tested: StoreUnderTest, { skip }: StoreCase): string | undefined {
  return skip?.(tested.supports, { canCrash: tested.crash !== undefined });
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
    tested.crash !== undefined,
    (run) => StoreBench.use(tested, run),
    onResult,
    only,
  );
}
