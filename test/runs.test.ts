/** What a run of the tests promises of itself: it says what is slow, and leaves nothing behind. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { MARK, endLeftBehind, leftBehind } from '../scripts/left-behind.mjs';
import { nearLimits } from './services/times.ts';
import { ROOT, start, temporaryFolder, until } from './support/process.ts';

const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}/exe`);

it('a test that took more than half of its limit is named, one that did not is not', () => {
  const near = { name: 'near.test.ts > near', ms: 5001, limitMs: 10_000 };
  const far = { name: 'far.test.ts > far', ms: 5000, limitMs: 10_000 };
  expect(nearLimits([far])).toBeUndefined();
  expect(nearLimits([far, near])).toMatch(
    /time limit[^]*5\.0 {2}of 10 {2}near\.test\.ts > near\n$/,
  );
  expect(nearLimits([far, near])).not.toContain('far.test.ts');
});

it('what a run has left behind is named and ended by its id; what is not of the run stays', async () => {
  const mark = `test-${process.pid}`;
  const left = start('sleep', ['300'], { [MARK]: mark });
  const other = start('sleep', ['300'], { [MARK]: `${mark}-other` });
  await until('both to run', () => leftBehind(mark).length === 1 || undefined);
  const said: string[] = [];
  expect(await endLeftBehind(mark, (text) => said.push(text), 0)).toBe(1);
  expect(said).toEqual([`left behind and killed: ${left.pid} sleep 300`]);
  expect(await left.exited).toBe(137);
  expect(isAlive(other.pid)).toBe(true);
  await other.kill();
  expect(await endLeftBehind(mark, (text) => said.push(text))).toBe(0);
});

it('a worker that is ended by a signal takes its children and folders with it', async () => {
  const folder = temporaryFolder();
  const script = join(folder, 'worker.ts');
  writeFileSync(
    script,
    `import { start, temporaryFolder } from ${JSON.stringify(join(ROOT, 'test/support/process.ts'))};
const child = start('sleep', ['300']);
process.stdout.write('child ' + child.pid + ' ' + temporaryFolder() + ' so\\n');
setInterval(() => undefined, 1000);
`,
  );
  const worker = start(process.execPath, ['--import', 'tsx', script]);
  const [, pid = '', own = ''] = await until(
    'its child',
    () => /^child (\d+) (\S+) so$/m.exec(worker.stdout()) ?? undefined,
  );
  expect(isAlive(Number(pid)) && existsSync(own)).toBe(true);
  expect(await worker.kill('SIGTERM')).toBe(143);
  await until('the child to end', () => !isAlive(Number(pid)) || undefined);
  expect(existsSync(own)).toBe(false);
});
