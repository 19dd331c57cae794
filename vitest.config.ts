/** Two projects: `quick` needs no server; `full` starts real ones, one file at a time, on a machine of two cores. */
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    pool: 'forks',
    projects: [
      {
        extends: true,
        test: {
          name: 'quick',
          include: ['test/{shared,gateway,collector,cli,docs}/**/*.test.ts', 'test/*.test.ts'],
          testTimeout: 30_000,
          hookTimeout: 30_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'full',
          include: ['test/{integration,e2e,sim,chaos}/**/*.test.ts'],
          // Wide: a machine that does other work as well is no failure. What a test may take at most is half of it.
          testTimeout: 240_000,
          hookTimeout: 240_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
