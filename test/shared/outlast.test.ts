/** What other people's packages let fall ends no process; a broken invariant of ours does. */
import { spawn } from 'node:child_process';
import { expect, it } from 'vitest';
import { ROOT } from '../support/process.ts';

/** Runs a script in a process that outlasts, and gives its exit code and what it said. */
async function run(script: string): Promise<{ code: number | null; said: string }> {
  const text = `
    import { outlast } from './shared/config/process.ts';
    import { assert } from './shared/errors.ts';
    outlast(({ level, event, text }) => console.log(level, event, text.split('\\n')[0]));
    ${script}
    setTimeout(() => { console.log('still here'); process.exit(0); }, 100);
  `;
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', text], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString('utf8')));
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { code, said };
}

it('rejections and exceptions in the background are told, once for the same, and the process goes on', async () => {
  const { code, said } = await run(`
    for (let i = 0; i < 3; i++) void Promise.reject(new TypeError('lost by a package'));
    void Promise.reject(undefined);
    setTimeout(() => { throw 'thrown in a timer'; }, 1);
  `);
  expect(code).toBe(0);
  expect(said.match(/lost by a package/g)).toHaveLength(1);
  expect(said).toMatch(/error uncaught .*it gave no reason/);
  expect(said).toMatch(/error uncaught .*thrown in a timer/);
  expect(said).toContain('still here');
});

it('a broken invariant ends it, with its stack', async () => {
  const { code, said } = await run(`setTimeout(() => assert(false, 'two and two'), 1);`);
  expect(code).toBe(70);
  expect(said).toContain('error bug Error: bug: two and two');
  expect(said).not.toContain('still here');
});
