/** Runs with every test file, last of all: what the file has cost goes to the table at the end (test/services/times.ts). */
import { afterAll } from 'vitest';
import { spentSince } from '../support/cost.ts';

declare module 'vitest' {
  interface TaskMeta {
    cpuMs?: number;
  }
}

// oxlint-disable-next-line no-empty-pattern -- vitest reads which fixtures a hook wants from this pattern: none.
afterAll(({}, { meta }) => {
  meta.cpuMs = spentSince();
});
