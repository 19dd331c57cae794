/** The suite of the Log contract: every adapter passes it. Its cases stand beside this file, by what they are about. */
import type { LogSupports } from '../log.ts';
import {
  LogBench,
  record,
  EVENTS,
  all,
  numbered,
  type LogCase,
  type LogUnderTest,
} from './log-bench.ts';
import { GROUPS } from './log-groups.ts';
import { JOURNAL } from './log-journal.ts';
import { STATES } from './log-state.ts';
import { STEPS } from './log-steps.ts';
import { runCases, type Result } from './runner.ts';

export type { LogPlace, LogUnderTest } from './log-bench.ts';

const LIFE: readonly LogCase[] = [
  {
    name: 'an open log says that it is up, closes twice, and takes nothing afterwards',
    run: async (bench) => {
      const log = await bench.open();
      if (!log.health().up) throw new Error(`it is open and not up: ${log.health().reason}`);
      await log.close();
      await log.close();
      let refused = false;
      await log.append(EVENTS, [record('a', '1')]).catch(() => {
        refused = true;
      });
      if (!refused) throw new Error('a closed log took a record');
    },
  },
];

export const LOG_CASES: readonly LogCase[] = [...LIFE, ...JOURNAL, ...GROUPS, ...STEPS, ...STATES];

/** Runs one case on a place of its own. */
export async function runLogCase(tested: LogUnderTest, { run }: LogCase): Promise<void> {
  await LogBench.use(tested, run);
}

/** Why a case does not apply, or undefined. */
export function skipReason(tested: LogUnderTest, { skip }: LogCase): string | undefined {
  return skip?.(tested.supports, { canCrash: tested.crash !== undefined });
}

/** All cases whose name holds `only`, one after the other. */
export async function runLogSuite(
  tested: LogUnderTest,
  onResult: (result: Result) => void,
  only = '',
): Promise<Result[]> {
  return await runCases<LogBench, LogSupports>(
    LOG_CASES,
    tested.supports,
    tested.crash !== undefined,
    (run) => LogBench.use(tested, run),
    onResult,
    only,
  );
}

const FIGURE_RECORDS = 5000;
const FIGURE_AT_ONCE = 50;

/** How fast it is here, in words: no promise, a figure to compare with its own from another day. */
export async function logFigures(tested: LogUnderTest): Promise<string[]> {
  const figures: string[] = [];
  await LogBench.use(tested, async (bench) => {
    const log = await bench.open();
    const value = Buffer.alloc(200);
    const started = performance.now();
    let left = FIGURE_RECORDS;
    const writer = async (at: number): Promise<void> => {
      while (left-- > 0) await log.append(EVENTS, [{ key: `k${at % 8}`, value, headers: {} }]);
    };
    await Promise.all(Array.from({ length: FIGURE_AT_ONCE }, (_, at) => writer(at)));
    const perSecond = (sinceMs: number): number =>
      Math.round(FIGURE_RECORDS / ((performance.now() - sinceMs) / 1000));
    figures.push(`append, ${FIGURE_AT_ONCE} at once: ${perSecond(started)} records/s of 200 bytes`);
    const times: number[] = [];
    for (const each of numbered('serial', 100)) {
      const at = performance.now();
      await log.append(EVENTS, [each]);
      times.push(performance.now() - at);
    }
    times.sort((a, b) => a - b);
    figures.push(
      `append, one at a time: median ${times[50]?.toFixed(2)} ms, 99th ${times[98]?.toFixed(2)} ms`,
    );
    const reading = performance.now();
    await all(log, EVENTS);
    figures.push(`read: ${perSecond(reading)} records/s, joining included`);
  });
  return figures;
}
