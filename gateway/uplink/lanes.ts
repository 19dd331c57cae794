/**
 * Which frames of the buffer go next on one connection, and in which lane.
 *
 * Live first (law 6): frames committed since the connection began go ahead; what waited before is backlog and takes the
 * rest of the link. What waits for less than `liveAgeMs` is live, longer is backlog: a break that nobody noticed changes
 * no order, and what is shown as live is fresh even on a link that is too slow.
 */
import type { Env } from '../../shared/env/env.ts';
import { messageOf } from '../../shared/errors.ts';
import { readHeader } from '../../shared/frame/frame.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { LANE_BACKFILL, LANE_LIVE } from '../../shared/wire/wire.ts';
import type { MessageBuffer } from '../buffer/buffer.ts';
import type { GatewayClock } from '../buffer/clock.ts';
import type { StoredFrame } from '../buffer/stored-frame.ts';
import type { BacklogOrder } from '../../shared/config/remote.ts';
import { sortByAge } from './age.ts';
import type { Flight } from './flight.ts';
import type { Budget, Window } from './pace.ts';
import type { SessionStats } from './stats.ts';

/** The part of the buffer that an uplink uses. It never makes a ticket. */
export type UplinkBuffer = Pick<
  MessageBuffer<never>,
  'read' | 'readNewest' | 'release' | 'recall' | 'expire' | 'note' | 'epochs' | 'epoch' | 'head'
>;

export interface LaneOptions {
  publishBytesMax: number;
  order: BacklogOrder;
  liveAgeMs: number;
  /** Frames older than this are given up instead of sent; 0: none are. */
  backlogAgeMaxMs: number;
}

export interface LaneParts {
  env: Env;
  options: LaneOptions;
  buffer: UplinkBuffer;
  clock: GatewayClock;
  budget: Budget;
  window: Window;
  flight: Flight;
  stat: SessionStats;
  notify: Notify;
  send: (lane: number, frames: StoredFrame[]) => void;
}

/** What live may have on its way beyond the window that a backlog has filled, as a share of the largest window. */
const LIVE_SHARE = 1 / 16;
const CHUNK_MIN = 16 * 1024;

export class Lanes {
  /** The collector has answered the status, or has had its time to: the backlog may go. */
  mayBackfill = false;
  private readonly parts: LaneParts;
  private paused: NodeJS.Timeout | undefined;
  private ended = false;
  private begun = false;
  private filling = false;
  private wanted = false;
  /** Frames from here on are live; before it is backlog. */
  private liveFrom: Buffer;
  private liveNext: Buffer;
  /** When the first live frame that could not go yet was seen. */
  private oldestUnsentUs: number | undefined;
  private backlogAt: Buffer | undefined;
  private backlogDone = false;

  constructor(parts: LaneParts) {
    this.parts = parts;
    this.liveFrom = parts.buffer.head;
    this.liveNext = parts.buffer.head;
  }

  /** A frame was committed, or there is room again. */
  wake(): void {
    this.wanted = true;
    if (!this.filling && !this.ended) void this.fill();
  }

  /** A live frame was committed. */
  committed(): void {
    this.oldestUnsentUs ??= this.parts.env.clock.monotonicUs();
    this.wake();
  }

  /** From the beginning: what was sent already is passed over. */
  restartBacklog(): void {
    this.backlogAt = undefined;
    this.backlogDone = false;
  }

  end(): void {
    this.ended = true;
    clearTimeout(this.paused);
  }

  /** Sends until nothing may go or nothing is left. One at a time. */
  private async fill(): Promise<void> {
    this.filling = true;
    try {
      if (!this.begun) await this.begin();
      while (!this.ended) {
        this.wanted = false;
        const sent = (await this.sendLive()) || (await this.sendBacklog());
        if (!sent && !this.wanted) return;
      }
    } catch (error) {
      // The buffer may be reopening: it is asked again with the next tick, whether new messages come or not.
      this.parts.notify({ level: 'warn', event: 'uplink_read', text: messageOf(error) });
    } finally {
      this.filling = false;
    }
  }

  /**
   * What was committed just before the connection began is live as well, as far as the first window holds it: else the
   * next reading would overtake it, and a rule that goes forward in time would take it for late.
   */
  private async begin(): Promise<void> {
    const { buffer, env, options, window } = this.parts;
    const frames = await buffer.readNewest('waiting', this.liveFrom, window.bytes);
    this.begun = true;
    const boot = env.bootId.toString('hex');
    const sinceUs = env.clock.monotonicUs() - options.liveAgeMs * 1000;
    for (const { position, frame } of frames) {
      const { bootId, monotonicUs } = readHeader(frame);
      if (bootId !== boot || monotonicUs < sinceUs) return;
      this.liveFrom = position;
      this.liveNext = position;
      this.oldestUnsentUs ??= env.clock.monotonicUs();
    }
  }

  /** Whether the budget lets something go now; else it is tried again when it does. */
  private mayGo(isLive: boolean): boolean {
    const { budget, env } = this.parts;
    const { clock } = env;
    const waitUs = budget.waitUs(isLive, clock.wallUs(), clock.monotonicUs());
    if (waitUs === 0) return true;
    clearTimeout(this.paused);
    this.paused = setTimeout(() => this.wake(), Math.min(60_000, waitUs / 1000)).unref();
    return false;
  }

  private async sendLive(): Promise<boolean> {
    const { buffer, window, flight, options, budget, send } = this.parts;
    if (Buffer.compare(this.liveNext, buffer.head) >= 0) return false;
    const room = window.bytes + window.max * LIVE_SHARE - flight.bytes;
    if (room <= 0) {
      this.leaveBehind();
      return false;
    }
    if (!this.mayGo(true)) return false;
    const frames = await buffer.read(
      this.liveNext,
      Math.min(room, options.publishBytesMax, budget.chunkBytes),
    );
    const last = frames.at(-1);
    if (last === undefined || this.ended) return false;
    this.liveNext = last.end;
    this.oldestUnsentUs = undefined;
    send(LANE_LIVE, frames);
    return true;
  }

  /** The link cannot keep up: what has waited too long to be live is backlog from here on. */
  private leaveBehind(): void {
    const { env, options, buffer } = this.parts;
    const oldest = this.oldestUnsentUs;
    if (oldest === undefined) return;
    if (env.clock.monotonicUs() - oldest < options.liveAgeMs * 1000) return;
    this.liveFrom = buffer.head;
    this.liveNext = this.liveFrom;
    this.oldestUnsentUs = undefined;
    this.restartBacklog();
  }

  private async sendBacklog(): Promise<boolean> {
    const { env, options, buffer, window, flight, budget, clock, stat } = this.parts;
    if (!this.mayBackfill || this.backlogDone) return false;
    const room = window.bytes - flight.bytes;
    if (room <= 0 || !this.mayGo(false)) return false;
    const bytes = Math.min(
      room,
      options.publishBytesMax,
      Math.max(CHUNK_MIN, window.bytes / 4),
      budget.chunkBytes,
    );
    const newest = options.order === 'newest';
    const frames = newest
      ? await buffer.readNewest('waiting', this.backlogAt ?? this.liveFrom, bytes)
      : await buffer.read(this.backlogAt, bytes, this.liveFrom);
    if (this.ended) return false;
    const last = frames.at(-1);
    if (last === undefined) {
      this.backlogDone = true;
      return false;
    }
    this.backlogAt = newest ? last.position : last.end;
    const unsent = frames.filter((stored) => !flight.wasSent(stored));
    const { due, expired } = sortByAge(unsent, options.backlogAgeMaxMs, env, clock.known);
    if (expired.length > 0) {
      await buffer.expire(expired);
      for (const { frame } of expired) stat.expiredMessages += readHeader(frame).count;
    }
    if (due.length > 0) this.parts.send(LANE_BACKFILL, due);
    return true;
  }
}
