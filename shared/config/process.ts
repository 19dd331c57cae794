/** What every server process does the same way: catch signals, stop once, and end with the right exit code. */
import { operatingError } from '../../contracts/errors.ts';
import { codeOf, isBug, messageOf, stackOf } from '../errors.ts';
import { addressText, type Address } from '../net/listen.ts';
import { printableLines, type Notify } from '../telemetry/log.ts';
import { standstill } from '../telemetry/standstill.ts';

/**
 * Longest time a stop may take before the process ends anyway: Docker kills ten seconds after it asked, and would leave no
 * line that says why. What is acknowledged is on disk by then.
 */
export const STOP_MS = 9000;

/**
 * Resolves when SIGINT or SIGTERM arrives. A second signal ends the process at once. SIGHUP, which a closed terminal or a
 * rotation of logs sends, ends nothing: the lines go to standard error, and whoever reads that rotates.
 */
export function untilSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let seen = false;
    const onSignal = (signal: NodeJS.Signals): void => {
      if (seen) endHard();
      seen = true;
      resolve(signal);
    };
    process.on('SIGINT', onSignal);
    process.on('SIGTERM', onSignal);
    process.on('SIGHUP', () => undefined);
  });
}

/**
 * A start or a stop that takes longer says what it waits for; a start again and again. One on Kafka takes four seconds where all
 * is well: its brokers let a new group wait for three (group.initial.rebalance.delay.ms).
 */
const START_TOLD_MS = 6000;
const START_AGAIN_MS = 10_000;
const STOP_TOLD_MS = 2000;

/** At once: an exit may wait for native threads (librdkafka's), and those for a server that is gone. */
function endHard(): never {
  process.kill(process.pid, 'SIGKILL');
  process.exit(1); // Not reached.
}

/** What is started, runs and is stopped. */
export interface Served {
  /** Resolves once it serves. */
  start: () => Promise<void>;
  /** What it does first once it serves; ends the process where it rejects. */
  run?: () => Promise<void>;
  close: () => Promise<void>;
  /** While it starts or closes: what it waits for, in words. */
  waitsFor: () => string | undefined;
  notify: Notify;
}

/** Closes within STOP_MS, and says what it waits for; else ends the process. */
async function stopWithin({ close, waitsFor, notify }: Served): Promise<void> {
  const waiting = (): string => `waiting for ${waitsFor() ?? 'its last work'}`;
  const timers = [
    setTimeout(() => {
      const text = `stopping, ${waiting()}: ends in ${(STOP_MS - STOP_TOLD_MS) / 1000} s at the latest`;
      notify({ level: 'info', event: 'stop_waits', text });
    }, STOP_TOLD_MS),
    setTimeout(() => {
      const text = `not stopped within ${STOP_MS} ms, still ${waiting()}: ending anyway; what was acknowledged is on disk`;
      notify({ level: 'error', event: 'stop_slow', text });
      endHard();
    }, STOP_MS),
  ];
  await close();
  for (const timer of timers) clearTimeout(timer);
}

/**
 * Runs a server until a signal, and ends the process. A signal that comes while it starts, which may wait for another machine,
 * ends that. Rejects with what the start or the run rejects with.
 */
export async function serve(served: Served): Promise<never> {
  const stopped = untilSignal();
  standstill.start(served.notify);
  let timer: NodeJS.Timeout | undefined;
  const slow = (): void => {
    const text = `starting, waiting for ${served.waitsFor() ?? 'its last parts'}: nothing is served yet`;
    served.notify({ level: 'warn', event: 'start_waits', text });
    timer = setTimeout(slow, START_AGAIN_MS);
  };
  timer = setTimeout(slow, START_TOLD_MS);
  try {
    // What it meets while it is taken down again nobody tells: it was to end.
    await Promise.race([served.start(), stopped]);
  } finally {
    clearTimeout(timer);
  }
  await Promise.race([served.run?.(), stopped]);
  await stopped;
  await stopWithin(served);
  process.exit(0);
}

/** As shells and getopt have it: the command line itself was wrong. */
const EXIT_USAGE = 2;

/** `headwater:`, red on a terminal that wants colours (no-color.org). */
function signature(): string {
  const { NO_COLOR: none = '', TERM: terminal } = process.env;
  const isPlain = process.stderr.isTTY !== true || none !== '' || terminal === 'dumb';
  return isPlain ? 'headwater:' : '\u001b[31mheadwater:\u001b[0m';
}

/** What the system says of files, for people; its code stays, to be searched for. */
const SYSTEM: Record<string, string> = {
  ENOENT: 'there is no such file or folder',
  EISDIR: 'it is a folder, not a file',
  ENOTDIR: 'a part of this path is a file, not a folder',
  EEXIST: 'something else has this name',
  EACCES: 'this user may not read or write there',
  EPERM: 'this user may not do that',
  EROFS: 'this file system can only be read',
  ENOSPC: 'no space is left on the disk',
};

/** `ENOENT: no such file or directory, open '/x'` as a sentence; a path that was named before is named once. */
export function inWords(text: string): string {
  return text
    .replaceAll(
      /\b(E[A-Z]{3,}): [^,\n]*, \w+(?: '([^'\n]*)')?(?: -> '[^'\n]*')?/g,
      (whole, code: string, path: string | undefined, at: number) => {
        const words = SYSTEM[code];
        if (words === undefined) return whole;
        const isNamed = path === undefined || text.slice(0, at).includes(path);
        return `${isNamed ? '' : `${path}: `}${words} (${code})`;
      },
    )
    .replaceAll(/(\S+): \1 (is|has) /g, '$1 $2 ');
}

/** Prints one sentence and sets the exit code: 2 for a command line that is not understood, else 1. */
export function failProcess(error: unknown): void {
  const isOfFiles = ['EMFILE', 'ENFILE'].includes(codeOf(error));
  const advice = isOfFiles
    ? ': this process may open too few; raise the limit (ulimit -n 1024, or LimitNOFILE= in its unit)'
    : '';
  process.stderr.write(`${signature()} ${printableLines(inWords(messageOf(error)))}${advice}\n`);
  if (
    operatingError(error) === undefined &&
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

function endOf(notify: Notify, error: unknown): void {
  notify({ level: 'error', event: 'bug', text: stackOf(error) });
  process.exit(70);
}

/** A lost promise or a thrown bug must end the process: what is not known to be right does not acknowledge. */
export function failFast(notify: Notify): void {
  const end = (error: unknown): void => endOf(notify, error);
  process.on('uncaughtException', end);
  process.on('unhandledRejection', end);
}

/** What nobody caught is told once a minute, not for each time. */
const TOLD_EVERY_MS = 60_000;

/**
 * For a process that is made of other people's packages: what one of them lets fall, as a rejection in the background or
 * an exception in a callback, is told and counted, and ends nothing. Nothing is acknowledged by it: that takes an answer.
 * A broken invariant of ours still ends the process.
 */
export function outlast(notify: Notify): void {
  const told = new Map<string, number>();
  let count = 0;
  const take = (error: unknown): void => {
    if (isBug(error)) return endOf(notify, error);
    count++;
    // The same with other figures is the same.
    const text = messageOf(error).slice(0, 300).replaceAll(/\d+/g, '…');
    const now = performance.now();
    if (now - (told.get(text) ?? -TOLD_EVERY_MS) < TOLD_EVERY_MS) return;
    if (told.size > 1000) told.clear();
    told.set(text, now);
    const about = `an error that nobody caught, number ${count} since the start; the process goes on`;
    notify({ level: 'error', event: 'uncaught', text: `${about}: ${stackOf(error)}` });
  };
  process.on('uncaughtException', take);
  process.on('unhandledRejection', take);
}

export function readyLine(addresses: Record<string, Address | undefined>): string {
  const parts = Object.entries(addresses)
    .filter(([, address]) => address !== undefined)
    .map(([name, address]) => `${name}=${addressText(address as Address)}`); // Those that are none are out.
  return `ready ${parts.join(' ')}\n`;
}
