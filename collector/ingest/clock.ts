/**
 * What the collector knows of the time (law 9). Gateways learn it from here, so a wrong clock must not become theirs.
 *
 * - A clock that is behind the making of this version, or behind what the log has by more than a minute, is doubted: no
 *   gateway is told the time, and readings whose own clock is not known wait. `clock.trusted` says that it is right. Until
 *   it is known what the log has nobody is told the time either.
 * - A wall clock that was set (it moved by more than a second against the monotonic one) is asked for anew by every gateway
 *   that is connected: their new anchors move what the old ones had placed.
 * - For 15 minutes after the machine's boot, and after each step, it is not settled: it may be set again any moment (a board
 *   without a battery, before NTP). What arrives meanwhile is marked, so that decoding keeps it ready to be moved.
 */
import { monotonicMs, wallMs, type Env } from '../../shared/env/env.ts';
import type { Timer } from '../../shared/env/timers.ts';
import type { Notify } from '../../shared/telemetry/log.ts';

const STEP_MS = 1000;
const SETTLED_MS = 900_000;
/** Several collectors on one log may differ by so much; and so may a gateway before it is worth a word. */
const APART_MS = 60_000;
const LOOK_MS = 1000;
const REMIND_MS = 60_000;

export interface CollectorClockOptions {
  env: Env;
  notify: Notify;
  /** The operator answers for the wall clock. */
  trusted: boolean;
  /** No right clock shows an earlier time, epoch milliseconds. */
  notBeforeMs: number;
}

export class CollectorClock {
  private readonly options: CollectorClockOptions;
  private newestMs = 0;
  /** It is known what the log has. */
  private isCompared = false;
  private newestAtMs: number;
  private offsetMs: number;
  private steadySinceMs = 0;
  private doubted: string | undefined;
  private toldAtMs = -REMIND_MS;
  private looking: Timer | undefined;
  /** Gateway → milliseconds that its wall clock is ahead. */
  private readonly apart = new Map<string, number>();
  private readonly warned = new Set<string>();
  private readonly listeners: (() => void)[] = [];

  constructor(options: CollectorClockOptions) {
    this.options = options;
    this.newestAtMs = monotonicMs(options.env);
    this.offsetMs = wallMs(options.env) - this.newestAtMs;
  }

  /** `newestMs`: of what the log has, as other runs dated it; undefined: `compare` says it later. */
  start(newestMs: number | undefined): void {
    if (newestMs !== undefined) this.take(newestMs);
    this.look();
    this.looking = this.options.env.timers.every(LOOK_MS, () => this.look());
  }

  /** The log has been read. */
  compare(newestMs: number): void {
    this.take(newestMs);
    this.look();
    for (const listener of this.listeners) listener();
  }

  private take(newestMs: number): void {
    this.isCompared = true;
    this.newestMs = newestMs;
    this.newestAtMs = monotonicMs(this.options.env);
    this.doubted = this.findDoubt();
  }

  /** Gateways may be told what it shows. */
  get isTold(): boolean {
    return this.doubt === undefined && (this.isCompared || this.options.trusted);
  }

  /** The clock was set, or is doubted no longer: what was said of the time is no more. */
  onChange(listener: () => void): void {
    this.listeners.push(listener);
  }

  close(): void {
    this.looking?.cancel();
  }

  /** Why its time is not believed, a sentence; undefined while it is. */
  get doubt(): string | undefined {
    this.look();
    return this.doubted;
  }

  /** Nobody expects it to be set any more. */
  get isSettled(): boolean {
    const { trusted, env } = this.options;
    return trusted || monotonicMs(env) - this.steadySinceMs >= SETTLED_MS;
  }

  /** Epoch milliseconds as well as it is known: never before what the log has. */
  nowMs(): number {
    const { env } = this.options;
    if (this.doubt === undefined) return wallMs(env);
    return this.floorMs + monotonicMs(env) - this.newestAtMs;
  }

  private get floorMs(): number {
    return Math.max(this.options.notBeforeMs, this.newestMs);
  }

  private findDoubt(): string | undefined {
    const { trusted, notBeforeMs, env } = this.options;
    const now = wallMs(env);
    if (trusted) return undefined;
    const clock = `this machine's clock says ${textOf(now)}`;
    const held = 'gateways are told no time and readings of unknown time wait until it is set';
    const insist = 'if it is right, set clock.trusted';
    if (now < notBeforeMs)
      return `${clock}, before this version was made (${textOf(notBeforeMs)}): ${held}; ${insist}`;
    if (now < this.newestMs - APART_MS)
      return `${clock}, before what the log has (${textOf(this.newestMs)}): ${held}; ${insist}`;
    return undefined;
  }

  private look(): void {
    const { env, notify } = this.options;
    const mono = monotonicMs(env);
    const offset = wallMs(env) - mono;
    const moved = offset - this.offsetMs;
    const isSet = Math.abs(moved) > STEP_MS;
    // Slow corrections are followed.
    this.offsetMs = offset;
    const before = this.doubted;
    if (isSet) {
      this.steadySinceMs = mono;
      const by = `${moved > 0 ? '+' : ''}${(moved / 1000).toFixed(1)} s`;
      const text = `the clock of this machine was set by ${by}: gateways are asked again, and what arrived while it was not settled moves`;
      notify({ level: 'warn', event: 'clock_set', text });
    }
    this.doubted = this.findDoubt();
    if (this.doubted !== undefined && mono - this.toldAtMs >= REMIND_MS) {
      this.toldAtMs = mono;
      notify({ level: 'warn', event: 'clock_doubted', text: this.doubted });
    }
    if (before !== undefined && this.doubted === undefined)
      notify({ level: 'info', event: 'clock_believed', text: 'the clock is believed again' });
    if (isSet || (before !== undefined && this.doubted === undefined))
      for (const listener of this.listeners) listener();
  }

  /** What a gateway's own clock said when its message arrived. */
  heard(gateway: string, gatewayMs: number): void {
    if (this.doubt !== undefined) return;
    const apart = gatewayMs - wallMs(this.options.env);
    this.apart.set(gateway, apart);
    if (Math.abs(apart) <= APART_MS) return void this.warned.delete(gateway);
    if (this.warned.has(gateway)) return;
    this.warned.add(gateway);
    const text = `the clock of gateway ${gateway} is ${Math.round(Math.abs(apart) / 1000)} s ${apart > 0 ? 'ahead of' : 'behind'} this one; its readings are put right by this one, if that is wrong set it`;
    this.options.notify({ level: 'warn', event: 'clock_apart', text });
  }

  /** Gateway → seconds that its wall clock is ahead of this one. */
  offsets(): { labels: { gateway: string }; value: number }[] {
    return [...this.apart].map(([gateway, ms]) => ({ labels: { gateway }, value: ms / 1000 }));
  }
}

const textOf = (ms: number): string => new Date(ms).toISOString();
