/**
 * One connection to a collector, from its first status to its end: which frames go, in which lane, and when they are
 * free.
 *
 * - Live first (law 6): frames committed since the connection began go ahead; what waited before is backlog and takes
 *   the rest of the link. What waits for less than `liveAgeMs` is live, longer is backlog: a break that nobody noticed
 *   changes no order, and what is shown as live is fresh even on a link that is too slow.
 * - A frame is released when its acknowledgement comes, which is when the collector's log has it.
 * - The status tells what is held. The answer tells the time, which is made an anchor before the backlog goes.
 */
import type { Env } from '../../shared/env/env.ts';
import { messageOf } from '../../shared/errors.ts';
import { KIND_ANCHOR, KIND_STATUS, readHeader } from '../../shared/frame/frame.ts';
import { noteFrame } from '../../shared/frame/notes.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import {
  LANE_BACKFILL,
  LANE_LIVE,
  decodeDown,
  encodeUp,
  type EpochAck,
  type TimeAnswer,
} from '../../shared/wire/wire.ts';
import type { BacklogOrder } from '../choices.ts';
import type { MessageBuffer } from '../buffer/buffer.ts';
import type { FrameRef, StoredFrame } from '../buffer/stored-frame.ts';
import { anchorsOfEarlierBoots, type GatewayClock } from '../buffer/clock.ts';
import { Window, type Budget } from './pace.ts';

export interface SessionOptions {
  gateway: string;
  windowBytes: number;
  publishBytesMax: number;
  ackTimeoutMs: number;
  statusMs: number;
  order: BacklogOrder;
  liveAgeMs: number;
  /** Frames older than this are given up instead of sent; 0: none are. */
  backlogAgeMaxMs: number;
}

/** What carries bytes to the collector. */
export interface Link {
  send(payload: Buffer): void;
  hangUp(why: string): void;
  /** The collector has something to say to a device. */
  command(topic: string, payload: Buffer): void;
}

/** The part of the buffer that an uplink uses. It never makes a ticket. */
export type UplinkBuffer = Pick<
  MessageBuffer<never>,
  'read' | 'readNewest' | 'release' | 'recall' | 'expire' | 'note' | 'epochs' | 'epoch' | 'head'
>;

export interface SessionStats {
  sentFrames: number;
  sentBytes: number;
  sentMessages: number;
  backlogBytes: number;
  acknowledgedMessages: number;
  inFlightBytes: number;
  ackTimeouts: number;
  windowBytes: number;
  expiredMessages: number;
  recalledMessages: number;
}

export const freshStats = (): SessionStats => ({
  sentFrames: 0,
  sentBytes: 0,
  sentMessages: 0,
  backlogBytes: 0,
  acknowledgedMessages: 0,
  inFlightBytes: 0,
  ackTimeouts: 0,
  windowBytes: 0,
  expiredMessages: 0,
  recalledMessages: 0,
});

interface InFlight extends FrameRef {
  from: number;
  to: number;
  sentUs: number;
}

const TICK_MS = 500;
/** Without an answer to the status the backlog goes all the same. */
const HELLO_MS = 3000;
/** The clock is compared anew after this. */
const TIME_US = 600e6;
/** Clocks that differ by more are worth a warning. */
const APART_US = 60e6;
/** What live may have on its way beyond the window that a backlog has filled, as a share of the largest window. */
const LIVE_SHARE = 1 / 16;
const CHUNK_MIN = 16 * 1024;

export class Session {
  private readonly env: Env;
  private readonly options: SessionOptions;
  private readonly buffer: UplinkBuffer;
  private readonly clock: GatewayClock;
  private readonly budget: Budget;
  private readonly link: Link;
  private readonly stat: SessionStats;
  private readonly notify: Notify;

  private readonly window: Window;
  private readonly ticker: NodeJS.Timeout;
  private paused: NodeJS.Timeout | undefined;
  private ended = false;
  private answered = false;
  private begun = false;
  private filling = false;
  private wanted = false;
  /** Frames from here on are live; before it is backlog. */
  private liveFrom: Buffer;
  private liveNext: Buffer;
  private backlogAt: Buffer | undefined;
  private backlogDone = false;
  /** Epoch → sequences sent on this connection. */
  private readonly sent = new Map<string, RangeSet>();
  private readonly inFlight = new Map<string, InFlight[]>();
  private lastHeardUs: number;
  private startedUs: number;
  private statusUs = 0;
  private statusText = '';

  constructor(
    env: Env,
    options: SessionOptions,
    buffer: UplinkBuffer,
    clock: GatewayClock,
    budget: Budget,
    link: Link,
    stat: SessionStats,
    notify: Notify,
  ) {
    this.env = env;
    this.options = options;
    this.buffer = buffer;
    this.clock = clock;
    this.budget = budget;
    this.link = link;
    this.stat = stat;
    this.notify = notify;
    this.window = new Window(options.windowBytes);
    this.liveFrom = buffer.head;
    this.liveNext = buffer.head;
    this.lastHeardUs = env.clock.monotonicUs();
    this.startedUs = this.lastHeardUs;
    this.stat.inFlightBytes = 0;
    this.ticker = setInterval(() => this.tick(), TICK_MS);
    this.ticker.unref();
    this.sendStatus();
  }

  isInFlight(position: Buffer): boolean {
    for (const list of this.inFlight.values())
      if (list.some((sent) => sent.position.equals(position))) return true;
    return false;
  }

  /** A frame was committed, or there is room again. */
  wake(): void {
    this.wanted = true;
    if (!this.filling && !this.ended) void this.fill();
  }

  end(): void {
    this.ended = true;
    clearInterval(this.ticker);
    clearTimeout(this.paused);
    this.inFlight.clear();
    this.stat.inFlightBytes = 0;
  }

  private get isBusy(): boolean {
    return this.stat.inFlightBytes > 0;
  }

  private tick(): void {
    const nowUs = this.env.clock.monotonicUs();
    if (this.isBusy && nowUs - this.lastHeardUs > this.options.ackTimeoutMs * 1000) {
      this.stat.ackTimeouts++;
      this.link.hangUp(`no acknowledgement within ${this.options.ackTimeoutMs} ms`);
      return;
    }
    if (nowUs - this.statusUs > this.options.statusMs * 1000) this.sendStatus();
    if (!this.answered && nowUs - this.startedUs > HELLO_MS * 1000) this.answered = true;
    this.wake();
  }

  /** Says what is held, when that has changed, and asks for the time now and then. */
  private sendStatus(): void {
    const { buffer, options, env } = this;
    const status = { epochs: buffer.epochs.holdings() };
    const text = JSON.stringify(status);
    const nowUs = env.clock.monotonicUs();
    const due = !this.answered || nowUs - (this.clock.anchor?.monotonicUs ?? 0) > TIME_US;
    if (text === this.statusText && !due) return;
    this.statusText = text;
    this.statusUs = nowUs;
    const identity = {
      gateway: options.gateway,
      epoch: Buffer.from(buffer.epoch, 'hex'),
      bootId: env.bootId,
    };
    const frame = noteFrame(KIND_STATUS, status, identity, 0, this.clock.stamp());
    this.transmit(LANE_LIVE, [frame]);
  }

  private transmit(lane: number, frames: Buffer[]): void {
    const payload = encodeUp(lane, frames);
    this.stat.sentBytes += payload.length;
    if (lane === LANE_BACKFILL) this.stat.backlogBytes += payload.length;
    this.budget.sent(payload.length);
    this.link.send(payload);
  }

  // ---- sending ----

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
      this.notify({ level: 'warn', event: 'uplink_read', text: messageOf(error) });
    } finally {
      this.filling = false;
    }
  }

  /**
   * What was committed just before the connection began is live as well, as far as the first window holds it: else the
   * next reading would overtake it, and a rule that goes forward in time would take it for late.
   */
  private async begin(): Promise<void> {
    const { buffer, env, options } = this;
    const frames = await buffer.readNewest('waiting', this.liveFrom, this.window.bytes);
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
    const { clock } = this.env;
    const waitUs = this.budget.waitUs(isLive, clock.wallUs(), clock.monotonicUs());
    if (waitUs === 0) return true;
    clearTimeout(this.paused);
    this.paused = setTimeout(() => this.wake(), Math.min(60_000, waitUs / 1000)).unref();
    return false;
  }

  private async sendLive(): Promise<boolean> {
    if (Buffer.compare(this.liveNext, this.buffer.head) >= 0) return false;
    const room = this.window.bytes + this.window.max * LIVE_SHARE - this.stat.inFlightBytes;
    if (room <= 0) {
      this.leaveBehind();
      return false;
    }
    if (!this.mayGo(true)) return false;
    const { publishBytesMax } = this.options;
    const frames = await this.buffer.read(
      this.liveNext,
      Math.min(room, publishBytesMax, this.budget.chunkBytes),
    );
    const last = frames.at(-1);
    if (last === undefined || this.ended) return false;
    this.liveNext = last.end;
    this.send(LANE_LIVE, frames);
    return true;
  }

  /** The link cannot keep up: what has waited too long to be live is backlog from here on. */
  private leaveBehind(): void {
    const oldest = this.oldestUnsentUs;
    if (oldest === undefined) return;
    if (this.env.clock.monotonicUs() - oldest < this.options.liveAgeMs * 1000) return;
    this.liveFrom = this.buffer.head;
    this.liveNext = this.liveFrom;
    this.oldestUnsentUs = undefined;
    this.restartBacklog();
  }

  /** When the first live frame that could not go yet was seen. */
  private oldestUnsentUs: number | undefined;

  /** A live frame was committed. */
  committed(): void {
    this.oldestUnsentUs ??= this.env.clock.monotonicUs();
    this.wake();
  }

  private restartBacklog(): void {
    this.backlogAt = undefined;
    this.backlogDone = false;
  }

  private async sendBacklog(): Promise<boolean> {
    const { options, buffer, window } = this;
    if (!this.answered || this.backlogDone) return false;
    const room = window.bytes - this.stat.inFlightBytes;
    if (room <= 0 || !this.mayGo(false)) return false;
    const bytes = Math.min(
      room,
      options.publishBytesMax,
      Math.max(CHUNK_MIN, window.bytes / 4),
      this.budget.chunkBytes,
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
    const { due, expired } = this.sortByAge(frames.filter((stored) => !this.wasSent(stored)));
    if (expired.length > 0) {
      await buffer.expire(expired);
      for (const { frame } of expired) this.stat.expiredMessages += readHeader(frame).count;
    }
    if (due.length > 0) this.send(LANE_BACKFILL, due);
    return true;
  }

  private sortByAge(frames: StoredFrame[]): { due: StoredFrame[]; expired: StoredFrame[] } {
    const { backlogAgeMaxMs } = this.options;
    if (backlogAgeMaxMs === 0) return { due: frames, expired: [] };
    const { clock, bootId } = this.env;
    const boot = bootId.toString('hex');
    const due: StoredFrame[] = [];
    const expired: StoredFrame[] = [];
    for (const stored of frames) {
      const header = readHeader(stored.frame);
      // An earlier boot's monotonic clock says nothing here; its wall clock does when it was known.
      const ageUs =
        header.bootId === boot
          ? clock.monotonicUs() - header.monotonicUs
          : header.clockQuality > 0 && this.clock.known
            ? clock.wallUs() - header.wallUs
            : 0;
      const old = header.kind === 0 && ageUs > backlogAgeMaxMs * 1000;
      (old ? expired : due).push(stored);
    }
    return { due, expired };
  }

  private wasSent({ frame }: StoredFrame): boolean {
    const { epoch, firstSequence, count } = readHeader(frame);
    return this.sent.get(epoch)?.covers(firstSequence, firstSequence + count - 1) ?? false;
  }

  private send(lane: number, frames: StoredFrame[]): void {
    const nowUs = this.env.clock.monotonicUs();
    if (!this.isBusy) this.lastHeardUs = nowUs;
    for (const { position, frame } of frames) {
      const { epoch, firstSequence, count } = readHeader(frame);
      const to = firstSequence + count - 1;
      let sent = this.sent.get(epoch);
      if (sent === undefined) this.sent.set(epoch, (sent = new RangeSet()));
      sent.add(firstSequence, to);
      let list = this.inFlight.get(epoch);
      if (list === undefined) this.inFlight.set(epoch, (list = []));
      const bytes = frame.length;
      list.push({ position, bytes, count, from: firstSequence, to, sentUs: nowUs });
      this.stat.inFlightBytes += bytes;
      this.stat.sentFrames++;
      this.stat.sentMessages += count;
    }
    if (lane === LANE_LIVE) this.oldestUnsentUs = undefined;
    this.transmit(
      lane,
      frames.map(({ frame }) => frame),
    );
  }

  // ---- hearing ----

  heard(payload: Buffer): void {
    if (this.ended) return;
    try {
      const { acks, want, time, timeless, ask, error, publish } = decodeDown(payload);
      if (error !== undefined) {
        this.notify({
          level: 'error',
          event: 'uplink_refused',
          text: `the collector refuses: ${error}`,
        });
        return;
      }
      this.lastHeardUs = this.env.clock.monotonicUs();
      if (time !== undefined) this.learnTime(time);
      if (timeless) this.answered = true;
      if (ask) {
        this.statusText = '';
        this.sendStatus();
      }
      const done = acks.flatMap((ack) => this.acknowledged(ack));
      if (done.length > 0) void this.buffer.release(done);
      for (const each of want) void this.sendAgain(each);
      for (const { topic, payload } of publish)
        this.link.command(topic, Buffer.from(payload, 'base64'));
      this.stat.windowBytes = Math.round(this.window.bytes);
      this.wake();
    } catch (error) {
      this.link.hangUp(messageOf(error));
    }
  }

  private acknowledged({ epoch, ranges }: EpochAck): FrameRef[] {
    const list = this.inFlight.get(epoch);
    if (list === undefined) return [];
    const done: InFlight[] = [];
    const left: InFlight[] = [];
    for (const sent of list) {
      const covered = ranges.some(([from, to]) => from <= sent.from && sent.to <= to);
      (covered ? done : left).push(sent);
    }
    if (left.length === 0) this.inFlight.delete(epoch);
    else this.inFlight.set(epoch, left);
    const nowUs = this.env.clock.monotonicUs();
    let bytes = 0;
    for (const each of done) {
      bytes += each.bytes;
      this.stat.acknowledgedMessages += each.count;
    }
    this.stat.inFlightBytes -= bytes;
    const newest = done.at(-1);
    if (newest !== undefined) this.window.acknowledged(bytes, nowUs - newest.sentUs, nowUs);
    return done;
  }

  /** The collector's log lacks what it had acknowledged: what is still here goes again. */
  private async sendAgain({ epoch, ranges }: EpochAck): Promise<void> {
    try {
      const count = await this.buffer.recall(epoch, ranges);
      if (count === 0 || this.ended) return;
      this.stat.recalledMessages += count;
      // A recalled frame may begin before its range: what is not in the set is sent, and duplicates are recognised.
      this.sent.delete(epoch);
      this.restartBacklog();
      this.notify({
        level: 'warn',
        event: 'uplink_recalled',
        text: `the collector lacks ${count} messages that it had acknowledged; they are sent again`,
      });
      this.wake();
    } catch (error) {
      this.notify({ level: 'warn', event: 'uplink_recall', text: messageOf(error) });
    }
  }

  /** Said once for each time that they come apart. */
  private warnApart(apartUs: number | undefined): void {
    const { clock, notify } = this;
    if (apartUs === undefined || Math.abs(apartUs) <= APART_US) {
      clock.isApart = false;
      return;
    }
    if (clock.isApart) return;
    clock.isApart = true;
    const seconds = Math.round(Math.abs(apartUs) / 1e6);
    const text = `this machine's clock is ${seconds} s ${apartUs > 0 ? 'ahead of' : 'behind'} the collector's; readings are put right by the collector's, if that is wrong set it`;
    notify({ level: 'warn', event: 'clock_apart', text });
  }

  /** Anchors go into the buffer, so that they are durable and travel in order, ahead of the backlog. */
  private learnTime(time: TimeAnswer): void {
    const { buffer, clock } = this;
    const anchor = clock.answered(time);
    this.answered = true;
    this.warnApart(clock.apartUs);
    const present = clock.anchor;
    const told = anchor === undefined ? [] : [anchor];
    if (present !== undefined) told.push(...anchorsOfEarlierBoots(buffer.epochs.all, present));
    // Only what is durable counts as told: an anchor that a crash took is made anew.
    for (const each of told)
      void buffer.note(KIND_ANCHOR, each).then(() => buffer.epochs.settle([each]));
  }
}
