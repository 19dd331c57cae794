/** What every server process does the same way: catch signals, stop once, and end with the right exit code. */
import { HeadwaterError, codeOf, messageOf } from '../errors.ts';
import type { Notify } from '../telemetry/log.ts';

/** Longest time a stop may take before the process ends anyway. What is acknowledged is on disk by then. */
const STOP_MS = 15_000;

/** Resolves when SIGINT or SIGTERM arrives. A second signal ends the process at once. */
export function untilSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let seen = false;
    const onSignal = (signal: NodeJS.Signals): void => {
      if (seen) process.exit(130);
      seen = true;
      resolve(signal);
    };
    process.on('SIGINT', onSignal);
    process.on('SIGTERM', onSignal);
  });
}

/** Runs `close` within STOP_MS. */
export async function stopWithin(close: () => Promise<void>, notify: Notify): Promise<void> {
  const timer = setTimeout(() => {
    notify({
      level: 'error',
      event: 'stop_slow',
      text: `not stopped within ${STOP_MS} ms: ending anyway; what was acknowledged is on disk`,
    });
    process.exit(1);
  }, STOP_MS);
  await close();
  clearTimeout(timer);
}

/** As shells and getopt have it: the command line itself was wrong. */
const EXIT_USAGE = 2;

/** Prints one sentence and sets the exit code: 2 for a command line that is not understood, else 1. */
export function failProcess(error: unknown): void {
  process.stderr.write(`headwater: ${messageOf(error)}\n`);
  if (
    !(error instanceof HeadwaterError) &&
    error instanceof Error &&
    process.env['HEADWATER_DEBUG'] !== undefined
  ) {
    process.stderr.write(`${error.stack ?? ''}\n`);
  }
  process.exitCode = codeOf(error) === 'USAGE' ? EXIT_USAGE : 1;
}

/** What a server writes is its owner's alone: buffers, logs and stores hold everything that devices said. */
export function privateFiles(): void {
  process.umask(0o077);
}

/** A lost promise or a thrown bug must end the process: what is not known to be right does not acknowledge. */
export function failFast(notify: Notify): void {
  const end = (error: unknown): void => {
    notify({
      level: 'error',
      event: 'bug',
      text: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
    process.exit(70);
  };
  process.on('uncaughtException', end);
  process.on('unhandledRejection', end);
}

export function readyLine(
  addresses: Record<string, { host: string; port: number } | undefined>,
): string {
  const parts = Object.entries(addresses)
    .filter(([, address]) => address !== undefined)
    .map(([name, address]) => `${name}=${address?.host}:${address?.port}`);
  return `ready ${parts.join(' ')}\n`;
}
