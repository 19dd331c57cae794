/**
 * Runs a suite's cases and reports. It needs no test framework: ours run the same cases one by one.
 *
 * Every case has a place of its own (a namespace and a folder), so that no case sees what another has left, and none
 * needs another to have run. A case that what is tested does not support is skipped, with the reason.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Case<Bench, Supports> {
  /** A law, in one sentence. */
  name: string;
  /** Why it does not apply, or undefined. */
  skip?: (supports: Supports, bench: { canCrash: boolean }) => string | undefined;
  run: (bench: Bench) => Promise<void>;
}

export interface Result {
  name: string;
  outcome: 'passed' | 'failed' | 'skipped';
  /** Why it was skipped, or what failed. */
  reason: string;
  ms: number;
}

export const CASE_MS_MAX = 60_000;

/** Rejects when the work takes longer; the work itself cannot be stopped. */
export async function within<T>(ms: number, what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

let folders = 0;

/** A folder and a name for one case; the folder is gone afterwards. */
export async function inPlace<T>(
  work: (place: { folder: string; namespace: string }) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'headwater-contract-'));
  const namespace = `contract-${process.pid}-${Math.floor(performance.timeOrigin)}-${folders++}`;
  try {
    return await work({ folder, namespace });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Runs those whose name holds `only`, one after the other, and tells each result as it comes. */
export async function runCases<Bench, Supports>(
  cases: readonly Case<Bench, Supports>[],
  supports: Supports,
  canCrash: boolean,
  withBench: (work: (bench: Bench) => Promise<void>) => Promise<void>,
  onResult: (result: Result) => void,
  only: string,
): Promise<Result[]> {
  const results: Result[] = [];
  for (const { name, skip, run } of cases) {
    if (!name.includes(only)) continue;
    const reason = skip?.(supports, { canCrash });
    const startedMs = performance.now();
    const result: Result = { name, outcome: 'passed', reason: '', ms: 0 };
    if (reason !== undefined) Object.assign(result, { outcome: 'skipped', reason });
    else {
      try {
        await within(CASE_MS_MAX, 'the case', withBench(run));
      } catch (error) {
        result.outcome = 'failed';
        result.reason = error instanceof Error ? error.message : String(error);
      }
      result.ms = Math.round(performance.now() - startedMs);
    }
    results.push(result);
    onResult(result);
  }
  return results;
}
