/** What a process has cost, read from /proc. */
import { readFileSync, readdirSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { execFileSync } from 'node:child_process';

export interface Cost {
  cpuSeconds: number;
  /** Private memory that is no file's: what a small board has to have. */
  anonymousBytes: number;
  /** Handed to the block layer. */
  writtenBytes: number;
}

export function costOf(pid: number): Cost {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const io = readFileSync(`/proc/${pid}/io`, 'utf8');
  return {
    // USER_HZ is 100 on Linux.
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / 100,
    anonymousBytes: Number(/RssAnon:\s+(\d+)/.exec(status)?.[1]) * 1024,
    writtenBytes: Number(/^write_bytes: (\d+)/m.exec(io)?.[1]),
  };
}

/** How long its threads were ready to run and had no core, seconds: on a machine with other work what seems to wait may be that. */
export function waitedForCore(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`).map((id) =>
    Number(readFileSync(`/proc/${pid}/task/${id}/schedstat`, 'utf8').split(' ')[1]),
  );
  return threads.reduce((sum, each) => sum + each, 0) / 1e9;
}

export const median = (values: number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

export function quantile(sorted: ArrayLike<number>, q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

function version(command: string, args: string[]): string {
  try {
    return (
      execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split(
        '\n',
      )[0] ?? ''
    );
  } catch (error) {
    // Mosquitto prints its version and exits 3.
    return String((error as { stdout?: string }).stdout ?? '').split('\n')[0] ?? '';
  }
}

export function machine(): Record<string, string | number> {
  return {
    node: process.version,
    mosquitto: version('mosquitto', ['-h']),
    kernel: version('uname', ['-sr']),
    cpu: cpus()[0]?.model ?? '',
    cores: cpus().length,
    memoryBytes: totalmem(),
    commit: version('git', ['rev-parse', '--short', 'HEAD']),
    when: new Date().toISOString(),
  };
}
