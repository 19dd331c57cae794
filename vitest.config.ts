/**
 * Three projects: `quick` needs no server, and two of its files run side by side; the files of `full` start real ones, three side
 * by side, since most of their time they wait; those of `alone` assert a time or a rate, and come last. `npm test` runs
 * `quick` beside `full`.
 */
import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/services/longest-first.ts';

const ALONE = ['test/e2e/{fuzz,hostile-packets,lanes}.test.ts'];
/** Wide: a machine that does other work as well is no failure. What a test may take at most is half of it. */
const LIMITS = { testTimeout: 240_000, hookTimeout: 240_000 };

export default defineConfig({
  test: {
    pool: 'forks',
    sequence: { sequencer: LongestFirst },
    setupFiles: 'test/services/cost.ts',
    // `npm run coverage`: of the quick tests, which run the code in their own process.
    coverage: {
      provider: 'v8',
      include: ['{shared,gateway,collector,cli,contracts,dashboards}/**/*.ts'],
      reporter: ['text-summary', 'html'],
      reportsDirectory: 'test-results/coverage',
    },
    projects: [
      {
        extends: true,
        test: {
          name: 'quick',
          include: ['test/{shared,gateway,collector,cli,docs}/**/*.test.ts', 'test/*.test.ts'],
          // The longest of them takes a quarter of it on a quiet machine, beside `full`.
          testTimeout: 120_000,
          hookTimeout: 120_000,
          // By itself vitest would leave one core of two to itself.
          maxWorkers: 2,
          // One process for many files: loading what they share is half of what most of them cost.
          isolate: false,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'full',
          include: ['test/{integration,e2e,sim,chaos}/**/*.test.ts'],
          exclude: ALONE,
          ...LIMITS,
          globalSetup: 'test/services/global.ts',
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'alone',
          include: ALONE,
          ...LIMITS,
          globalSetup: 'test/services/global.ts',
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
