/**
 * Every kind of file that a collector writes is known, by the table in `test/support/collector-files.ts` and in docs/trust.md;
 * damaged, many at once, nothing goes or changes without being told (`npm run test:long`; more of it: `npm run files:try`).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COLLECTOR_FILES, filesBelow, kindOf } from '../support/collector-files.ts';
import { contentTrial } from '../support/file-damage.ts';
import { FileSite } from '../support/file-site.ts';
import { long } from '../support/long.ts';
import { ROOT } from '../support/process.ts';
import { seeded } from '../support/seed.ts';

const site = new FileSite();
const AT_ONCE = 24;

beforeAll(() => site.open());
afterAll(() => site.close());

describe('the files of a collector', () => {
  it('are all of a kind that is known, and told in the docs', () => {
    const paths = [...filesBelow(site.kept), ...filesBelow(site.older), ...filesBelow(site.folder)];
    expect(paths.filter((path) => kindOf(path) === undefined)).toEqual([]);
    const docs = readFileSync(join(ROOT, 'docs', 'trust.md'), 'utf8');
    for (const { name } of COLLECTOR_FILES) expect(docs, name).toContain(`| ${name} |`);
  });

  for (const isRunning of [false, true])
    long(
      `damaged ${isRunning ? 'while it runs' : 'between stop and start'}: everything is there again, or it is told`,
      async () => {
        const { seed, next } = seeded();
        const { damages, told, broken } = await contentTrial(site, AT_ONCE, isRunning, next);
        expect(damages.length).toBeGreaterThan(AT_ONCE / 2);
        expect(told.length).toBeGreaterThan(0);
        expect({ seed, damages, broken }).toEqual({ seed, damages, broken: [] });
      },
    );
});
