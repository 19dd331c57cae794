/** What `npm run check` says of `docs/threats.md`, on a page with mistakes. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ROOT, temporaryFolder } from '../support/process.ts';
import { threatProblems } from './threats.ts';

it('a row without a test, or with one that is not there, is named', () => {
  expect(threatProblems(ROOT)).toEqual([]);
  const root = temporaryFolder();
  mkdirSync(join(root, 'docs'));
  writeFileSync(
    join(root, 'a.test.ts'),
    "it('S1: is there', () => 1);\nit('other words', () => 2);\n",
  );
  const head = 'A: `a.test.ts`\n\n| # | a | b | |\n|---|---|---|---|\n';
  const rows = [
    'S1 | x | y | A',
    'S2 | x | y | A',
    'S3 | x | y | ',
    'S4 | x | y | A other',
    'S5 | x | y | `b.test.ts`: z',
  ];
  writeFileSync(join(root, 'docs/threats.md'), head + rows.map((row) => `| ${row} |\n`).join(''));
  expect(threatProblems(root)).toEqual([
    expect.stringMatching(/S2 names a test that is not in a\.test\.ts/),
    expect.stringMatching(/S3 names no test/),
    expect.stringMatching(/S5 names a test that is not in b\.test\.ts: z/),
  ]);
  expect(readFileSync(join(ROOT, 'docs/threats.md'), 'utf8')).toMatch(/npm run attack/);
});
