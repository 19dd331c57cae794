/** Lines of the processes: text or JSON, levels, journald's priorities; and no SIGHUP ends a process. */
import { spawn } from 'node:child_process';
import { expect, it } from 'vitest';
import { logLine, type LogChoice } from '../../shared/telemetry/log.ts';
import { ROOT } from '../support/process.ts';

const NOW = Date.UTC(2026, 0, 2, 3, 4, 5, 6);
const plain: LogChoice = { format: 'text', level: 'info', journal: false };

/** Escape codes, C1, a turned direction, a line end and a quotation mark: what a device may call itself. */
const HOSTILE = 'a\u001b[31m\u009b2J\u202eb\n"c';

it('a JSON line is one line of JSON that holds the text, and nothing in it reaches a terminal', () => {
  const line = logLine({ level: 'warn', event: 'odd', text: HOSTILE }, 'gateway', NOW, {
    ...plain,
    format: 'json',
  });
  expect(JSON.parse(line)).toEqual({
    time: '2026-01-02T03:04:05.006Z',
    level: 'warn',
    part: 'gateway',
    event: 'odd',
    text: HOSTILE,
  });
  expect(line.slice(0, -1)).not.toMatch(/[\p{Cc}\u202e]/u);
  expect(line.endsWith('\n')).toBe(true);
});

it.each([
  ['info', '<6>'],
  ['warn', '<4>'],
  ['error', '<3>'],
] as const)('%s has the priority %s for journald, in text and in JSON', (level, priority) => {
  for (const format of ['text', 'json'] as const) {
    const choice = { ...plain, format };
    const notice = { level, event: 'e', text: 't' };
    const line = logLine(notice, 'up', NOW, choice);
    expect(logLine(notice, 'up', NOW, { ...choice, journal: true })).toBe(priority + line);
  }
});

it('what is below the level is not written', () => {
  const written = (level: LogChoice['level']): string[] =>
    (['info', 'warn', 'error'] as const).filter(
      (each) =>
        logLine({ level: each, event: 'e', text: 't' }, 'up', NOW, { ...plain, level }) !== '',
    );
  expect(written('info')).toEqual(['info', 'warn', 'error']);
  expect(written('warn')).toEqual(['warn', 'error']);
  expect(written('error')).toEqual(['error']);
});

/** Runs a script in a process; says what was on standard error and how it ended. */
function start(script: string) {
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString('utf8')));
  const ended = new Promise<{ code: number | null; signal: string | null; said: string }>((done) =>
    child.on('close', (code, signal) => done({ code, signal, said })),
  );
  return { child, ended };
}

it('SIGTERM ends a start that waits for another machine for ever', async () => {
  const { child, ended } = start(
    `import { serve } from './shared/config/process.ts';
     import { stderrNotify } from './shared/telemetry/log.ts';
     setInterval(() => {}, 1000);
     await serve({
       start: () => (process.stdout.write('starting'), new Promise(() => {})),
       close: async () => void process.stderr.write('closed'),
       waitsFor: () => 'a machine',
       notify: stderrNotify('up', () => 0, { format: 'text', level: 'info' }),
     });`,
  );
  child.stdout.once('data', () => child.kill('SIGTERM'));
  expect(await ended).toMatchObject({ code: 0, signal: null, said: 'closed' });
});

it('what takes long to start says that nothing is served yet, what takes long once it serves does not', async () => {
  const told = (slow: 'start' | 'run') => {
    const { child, ended } = start(
      `import { serve } from './shared/config/process.ts';
       import { stderrNotify } from './shared/telemetry/log.ts';
       const real = setTimeout;
       globalThis.setTimeout = (then, ms) => real(then, ms / 10); // Its 6 s are 600 ms.
       const slow = () => new Promise((done) => real(() => (process.stdout.write('done'), done()), 800));
       const quick = async () => {};
       setInterval(quick, 1000);
       await serve({
         start: quick, run: quick, ${slow}: slow,
         close: quick, waitsFor: () => undefined,
         notify: stderrNotify('up', () => 0, { format: 'text', level: 'info' }),
       });`,
    );
    child.stdout.once('data', () => child.kill('SIGTERM'));
    return ended;
  };
  const [starting, serving] = await Promise.all([told('start'), told('run')]);
  expect(starting).toMatchObject({ code: 0, said: expect.stringContaining('start_waits') });
  expect(serving).toMatchObject({ code: 0, said: '' });
});

it('SIGHUP ends no process, SIGTERM still does', async () => {
  const { child, ended } = start(
    `import { untilSignal } from './shared/config/process.ts';
     setInterval(() => {}, 1000);
     const stopped = untilSignal();
     process.stdout.write('ready');
     await stopped;
     process.exit(7);`,
  );
  // Unhandled, the first one would end it in the kernel, before the second one comes.
  child.stdout.once('data', () => {
    child.kill('SIGHUP');
    child.kill('SIGTERM');
  });
  expect(await ended).toMatchObject({ code: 7, signal: null });
});

it('priorities stand before lines only where systemd reads this very stream', async () => {
  const script = (stream: string): string =>
    `import { fstatSync } from 'node:fs';
     import { stderrNotify } from './shared/telemetry/log.ts';
     const { dev, ino } = fstatSync(2);
     process.env.JOURNAL_STREAM = ${stream};
     stderrNotify('up', () => 0, { format: 'text', level: 'info' })({ level: 'error', event: 'e', text: 't' });`;
  const own = start(script('`${dev}:${ino}`'));
  const other = start(script('`${dev}:${ino + 1}`'));
  expect((await own.ended).said).toBe('<3>1970-01-01T00:00:00.000Z error up e: t\n');
  expect((await other.ended).said).toBe('1970-01-01T00:00:00.000Z error up e: t\n');
});
