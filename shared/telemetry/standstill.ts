/**
 * A process that stood still says so: one that was stopped (SIGSTOP, a frozen container or machine), or got no processor, answers
 * nobody meanwhile, and what it says of others afterwards ("no answer for 30 s") would be its own doing.
 */
import { monotonicMs, processTime, wallMs, type Time } from '../env/env.ts';
import type { Timer } from '../env/timers.ts';
import type { Notify } from './log.ts';

const LOOK_MS = 1000;
/** So much more than that is a standstill. */
const STILL_MS = 5000;
/** A process that worked for so much of it was busy, and had its processor. */
const BUSY_SHARE = 0.5;
/** It is named among the warnings for so long. */
const NAMED_MS = 3_600_000;

const cpuMsNow = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

export class Standstill {
  /** Since the start. */
  seconds = 0;
  private readonly time: Time;
  private readonly cpuMs: () => number;
  private last: { atMs: number; cpuMs: number } | undefined;
  private told: { text: string; atMs: number } | undefined;
  private timer: Timer | undefined;

  constructor(time: Time = processTime, cpuMs: () => number = cpuMsNow) {
    this.time = time;
    this.cpuMs = cpuMs;
  }

  start(notify: Notify): void {
    this.timer?.cancel();
    this.last = { atMs: monotonicMs(this.time), cpuMs: this.cpuMs() };
    this.timer = this.time.timers.every(LOOK_MS, () => this.look(notify));
  }

  private look(notify: Notify): void {
    const now = { atMs: monotonicMs(this.time), cpuMs: this.cpuMs() };
    const before = this.last ?? now;
    this.last = now;
    const stillMs = now.atMs - before.atMs - LOOK_MS;
    if (stillMs < STILL_MS) return;
    this.seconds += stillMs / 1000;
    const isBusy = (now.cpuMs - before.cpuMs) / stillMs > BUSY_SHARE;
    const why = isBusy
      ? 'it was busy with one thing'
      : 'it was stopped (SIGSTOP, a container or machine that was paused), or got no processor';
    const until = new Date(wallMs(this.time)).toISOString();
    const text = `this process stood still for ${Math.round(stillMs / 1000)} s until ${until}: ${why}; nobody got an answer meanwhile`;
    this.told = { text, atMs: now.atMs };
    notify({ level: 'warn', event: 'stood_still', text });
  }

  /** One sentence, for an hour. */
  warnings(): string[] {
    const { told } = this;
    return told !== undefined && monotonicMs(this.time) - told.atMs < NAMED_MS ? [told.text] : [];
  }
}

/** Of this process. */
export const standstill = new Standstill();
