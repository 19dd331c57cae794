/** The gateway that is tried: a process of its own, on loopback and free ports, with no collector. It ends with this one. */
import { spawn, type ChildProcess } from 'node:child_process';
import { HeadwaterError } from '../../shared/errors.ts';

const START_MS = 60_000;
const SAID_MAX = 4000;

/** Command and first arguments; `gateway` and its flags follow. */
export type Launch = readonly [string, ...string[]];

export interface TriedGateway {
  pid: number;
  /** HOST:PORT. */
  mqtt: string;
  http: string;
  /** Resolves when the process is gone. */
  kill(): Promise<void>;
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** What it listens on, by its `ready` line. Rejects with UNREACHABLE and what it said when it ends before, or takes a minute. */
async function addresses(child: ChildProcess): Promise<Record<string, string>> {
  let [out, said] = ['', ''];
  return await new Promise((resolve, reject) => {
    const give = (why: string): void =>
      reject(
        new HeadwaterError('UNREACHABLE', `the gateway that is tried ${why}: ${said.trim()}`, {
          cause: undefined,
        }),
      );
    const timer = setTimeout(() => give('did not start within a minute'), START_MS);
    child.once('error', ({ message }) => give(`could not be started (${message})`));
    child.once('exit', (code) => {
      clearTimeout(timer);
      give(`ended at its start (${code})`);
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      said = `${said}${chunk.toString()}`.slice(-SAID_MAX);
    });
    child.stdout?.on('data', (chunk: Buffer) => {
      out += chunk.toString();
      const line = /^ready (.*)$/m.exec(out)?.[1];
      if (line === undefined) return;
      clearTimeout(timer);
      resolve(Object.fromEntries(line.split(' ').map((part) => part.split('='))));
    });
  });
}

/** Resolves when it takes messages. `settings`: environment of the configuration. */
export async function startGateway(
  launch: Launch,
  folder: string,
  settings: Record<string, string> = {},
): Promise<TriedGateway> {
  const [command, ...first] = launch;
  const flags = ['--data', folder, '--id', 'prove', '--mqtt', '127.0.0.1:0'];
  const child = spawn(command, [...first, 'gateway', ...flags, '--gateway-http', '127.0.0.1:0'], {
    // What this shell has set for a real gateway is not meant for this one.
    env: {
      ...Object.fromEntries(
        Object.entries(process.env).filter(([name]) => !name.startsWith('HEADWATER_')),
      ),
      ...settings,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  const gone = new Promise<void>((resolve) => {
    child.once('close', () => {
      running.delete(child);
      resolve();
    });
  });
  try {
    const { mqtt = '', http = '' } = await addresses(child);
    return {
      pid: child.pid ?? 0,
      mqtt,
      http,
      kill: async () => {
        child.kill('SIGKILL');
        await gone;
      },
    };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
}
