/** Child processes of tests: started, awaited, and stopped by process id, whatever the test does. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, constants, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const running = new Set<ChildProcess>();
const folders: string[] = [];
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
// vitest ends its workers by a signal, which by itself would end them without the lines above.
process.on('SIGTERM', () => process.exit(143));

/** In the folder of the run, which goes as a whole at its end, if vitest runs this. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(
    join(process.env['HEADWATER_TEST_FOLDER'] ?? tmpdir(), 'headwater-test-'),
  );
  folders.push(folder);
  return folder;
}

export interface Child {
  pid: number;
  /** Everything it has printed. */
  output: () => string;
  stdout: () => string;
  /** Exit code, or undefined while it runs; a signal counts as 128 and more. */
  exited: Promise<number>;
  kill(signal?: NodeJS.Signals): Promise<number>;
}

export function start(
  command: string,
  args: string[],
  environment: Record<string, string> = {},
  cwd = ROOT,
): Child {
  const child = spawn(command, args, {
    cwd,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let output = '';
  let stdout = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const exited = new Promise<number>((resolve) => {
    child.on('error', (error) => {
      output += error.message;
      resolve(127);
    });
    child.on('close', (code, signal) => {
      running.delete(child);
      resolve(code ?? 128 + constants.signals[signal ?? 'SIGTERM']);
    });
  });
  return {
    pid: child.pid ?? 0,
    output: () => output,
    stdout: () => stdout,
    exited,
    kill: async (signal = 'SIGTERM') => {
      child.kill(signal);
      return await exited;
    },
  };
}

/**
 * How many times longer something may take because the machine has other work: 1 while the run queue of the last minute is
 * at most twice its cores, which no test brings about by itself. A limit in milliseconds is a law for a machine that is free.
 */
export const crowding = (): number =>
  Math.max(1, (loadavg()[0] ?? 0) / (2 * availableParallelism()));

/** Between two looks, milliseconds; after a second, when looking means asking, longer. */
const LOOK_MS = 20;
const LOOK_LATER_MS = 50;
const LOOK_MS_MAX = 500;

/**
 * Waits until `probe` gives something, or throws what the child said. Looking is a small part of the waiting: what is
 * waited for needs the processor itself.
 */
export async function until<T>(
  what: string,
  probe: () => Promise<T | undefined> | T | undefined,
  ms = 30_000,
  lookMs = LOOK_MS,
): Promise<T> {
  const began = performance.now();
  const deadline = began + ms;
  let last: unknown;
  for (;;) {
    const look = performance.now();
    let isAsked = false;
    try {
      const answer = probe();
      isAsked = answer instanceof Promise;
      const value = await answer;
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      if (error instanceof Error && 'fatal' in error) throw error;
      last = error;
    }
    if (performance.now() > deadline)
      throw new Error(
        `not within ${ms} ms: ${what}${last instanceof Error ? ` (${last.message})` : ''}`,
      );
    const now = performance.now();
    const least = isAsked && now - began > 1000 ? LOOK_LATER_MS : 0;
    const pause = Math.min(LOOK_MS_MAX, Math.max(lookMs, least, 3 * (now - look)));
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

export interface Headwater extends Child {
  /** HOST:PORT by name: mqtt, http, uplink, gateway-http. */
  address: Record<string, string>;
  port: (name: string) => number;
}

/** Starts a server command of the built `headwater` and waits for its `ready` line. */
export async function headwater(
  args: string[],
  environment: Record<string, string> = {},
): Promise<Headwater> {
  return await ready(
    start(process.execPath, ['cli/bin.mjs', ...args], environment),
    args.join(' '),
  );
}

/** A gateway as it is on a device: with the flags of gateway/bin.mjs, which keep its memory flat. Later flags win. */
export async function startDevice(
  more: string[] = [],
  environment: Record<string, string> = {},
): Promise<Headwater> {
  const [flags = ''] = readFileSync(join(ROOT, 'gateway/bin.mjs'), 'utf8').split('\n');
  const args = [...flags.replace(/^.* node /, '').split(' '), 'gateway/bin.mjs'];
  const usual = ['--data', temporaryFolder(), '--mqtt', '127.0.0.1:0', '--http', '127.0.0.1:0'];
  return await ready(
    start(process.execPath, [...args, ...usual, ...more], environment),
    'gateway/bin.mjs',
  );
}

export async function ready(child: Child, name: string): Promise<Headwater> {
  let code: number | undefined;
  void child.exited.then((value) => {
    code = value;
  });
  const line = await until(
    `ready line of ${name}: ${child.output()}`,
    () => {
      if (code !== undefined)
        throw Object.assign(new Error(`exited ${code}: ${child.output()}`), { fatal: true });
      return /^ready (.*)$/m.exec(child.stdout())?.[1];
    },
    60_000,
  );
  const address = Object.fromEntries(
    line.split(' ').map((part) => part.split('=') as [string, string]),
  );
  return { ...child, address, port: (which) => Number(address[which]?.split(':').at(-1)) };
}

/** Runs a command of the built `headwater` to its end. */
export async function run(
  args: string[],
  environment: Record<string, string> = {},
): Promise<{ code: number; output: string; stdout: string }> {
  const child = start(process.execPath, ['cli/bin.mjs', ...args], environment);
  const code = await child.exited;
  return { code, output: child.output(), stdout: child.stdout() };
}

/** A collector on free ports with a folder of its own; later flags win. */
export const startCollector = (
  more: string[] = [],
  environment: Record<string, string> = {},
): Promise<Headwater> =>
  headwater(
    [
      'collector',
      '--data',
      temporaryFolder(),
      '--http',
      '127.0.0.1:0',
      '--uplink',
      '127.0.0.1:0',
      ...more,
    ],
    environment,
  );

/** A gateway on free ports with a folder of its own, sending to `uplink` if there is one; later flags win. */
export const startGateway = (
  uplink: string | undefined,
  more: string[] = [],
  environment: Record<string, string> = {},
): Promise<Headwater> =>
  headwater(
    [
      'gateway',
      '--data',
      temporaryFolder(),
      '--mqtt',
      '127.0.0.1:0',
      '--http',
      '127.0.0.1:0',
      ...(uplink === undefined ? [] : ['--collector', `mqtt://${uplink}`]),
      ...more,
    ],
    environment,
  );
