/**
 * Time and chance as values, so that a seed can replay a run. The globals appear only in this folder and in the commands.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { processTimers, type Timers } from './timers.ts';

export interface Clock {
  /** Wall clock, microseconds since 1970-01-01 UTC. May jump. */
  wallUs(): number;
  /** Monotonic clock, microseconds since the machine's boot (CLOCK_MONOTONIC). Never jumps. */
  monotonicUs(): number;
}

export interface Random {
  bytes(size: number): Buffer;
  /** Uniform in [0, 1). */
  fraction(): number;
}

export interface Env {
  clock: Clock;
  timers: Timers;
  random: Random;
  /** Eight bytes that change with every boot of the machine. */
  bootId: Buffer;
}

/** What waits and measures, and needs no chance. */
export type Time = Pick<Env, 'clock' | 'timers'>;

/** Monotonic clock, milliseconds. */
export const monotonicMs = ({ clock }: Pick<Env, 'clock'>): number => clock.monotonicUs() / 1000;

/** Wall clock, epoch milliseconds. */
export const wallMs = ({ clock }: Pick<Env, 'clock'>): number => clock.wallUs() / 1000;

const realClock: Clock = {
  wallUs: () => Math.round((performance.timeOrigin + performance.now() + drift()) * 1000),
  monotonicUs: () => Number(process.hrtime.bigint() / 1000n),
};

/**
 * `performance.timeOrigin + performance.now()` has microseconds but never follows a stepped wall clock;
 * `Date.now()` follows it but has milliseconds. Where the two differ by more than 2 ms the wall clock was set.
 */
let driftMs = 0;
function drift(): number {
  const fine = performance.timeOrigin + performance.now();
  const apart = Date.now() - fine;
  if (Math.abs(apart - driftMs) > 2) driftMs = apart;
  return driftMs;
}

/** The time of this process, for what is not simulated. */
export const processTime: Time = { clock: realClock, timers: processTimers };

function readBootId(): Buffer {
  try {
    const text = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1')
      .replaceAll('-', '')
      .trim();
    return Buffer.from(text.slice(0, 16), 'hex');
  } catch {
    // Not Linux: a process's own start stands for the boot.
    return randomBytes(8);
  }
}

export function realEnv(): Env {
  return {
    ...processTime,
    random: { bytes: (size) => randomBytes(size), fraction: () => Math.random() },
    bootId: readBootId(),
  };
}
