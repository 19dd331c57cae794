/** The contributors' pages, each followed in a copy of the checkout: what they add works, its types hold, the reference pages follow. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { follow, type Followed } from './support/page.ts';
import { ROOT, temporaryFolder } from './support/process.ts';

const FOLDER = join(ROOT, 'docs/contributing');
const index = readFileSync(join(FOLDER, 'README.md'), 'utf8');
const pages = readdirSync(FOLDER).filter((name) => name !== 'README.md');

interface Report {
  testResults: {
    name: string;
    status: string;
    message: string;
    assertionResults: { failureMessages: string[] }[];
  }[];
}

const copy = temporaryFolder();
const followed = new Map<string, Followed | string>();
const run = (command: string, ...args: string[]): string => {
  const { status, stdout, stderr } = spawnSync(join(copy, 'node_modules/.bin', command), args, {
    cwd: copy,
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '', VITEST: '', VITEST_POOL_ID: '' },
  });
  return status === 0 ? '' : `${stdout}${stderr}`;
};

describe('contributor pages', () => {
  beforeAll(() => {
    const list = ['ls-files', '--cached', '--others', '--exclude-standard'];
    const files = execFileSync('git', list, { cwd: ROOT, encoding: 'utf8' }).trim().split('\n');
    for (const file of files)
      if (existsSync(join(ROOT, file))) cpSync(join(ROOT, file), join(copy, file));
    // As `npm ci` leaves a clone.
    for (const made of ['node_modules', 'dist']) symlinkSync(join(ROOT, made), join(copy, made));
    for (const page of pages)
      try {
        followed.set(page, follow(join(FOLDER, page), copy));
      } catch (error) {
        followed.set(page, String(error));
      }
  });

  it.each(pages)('%s can be followed, and touches as many files as it says', (page) => {
    const done = followed.get(page);
    expect(done).not.toBeTypeOf('string');
    const [, said] = new RegExp(`\\(${page}\\) \\| (\\d+)`).exec(index) ?? [];
    expect((done as Followed).files).toHaveLength(Number(said));
  });

  it(
    'their tests pass, their types hold, and the reference pages are made of them',
    { timeout: 120_000 },
    () => {
      const tests = [...followed.values()].flatMap((each) =>
        typeof each === 'string' ? [] : [each.test],
      );
      const report = join(copy, 'report.json');
      const args = ['run', '--project', 'quick', '--reporter=json', `--outputFile=${report}`];
      const said = run('vitest', ...args, ...tests);
      const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as Report;
      const why = testResults.flatMap(({ message, assertionResults }) => [
        message,
        ...assertionResults.flatMap(({ failureMessages }) => failureMessages),
      ]);
      expect(
        testResults.map(({ status }) => status),
        `${said}${why.join('\n')}`,
      ).toEqual(tests.map(() => 'passed'));
      expect(run('tsc', '--noEmit', '-p', '.')).toBe('');
      expect(run('tsx', 'scripts/generate.ts')).toBe('');
      expect(readFileSync(join(copy, 'docs/commands.md'), 'utf8')).toContain('headwater codecs');
      expect(readFileSync(join(copy, 'docs/readings.md'), 'utf8')).toContain('| `nmea` |');
      expect(readFileSync(join(copy, 'docs/metrics.md'), 'utf8')).toContain(
        '`headwater_decode_mappings`',
      );
    },
  );
});
