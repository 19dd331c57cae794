/**
 * One connection to a collector, from its first status to its end: what it says and hears. Which frames go is decided in
 * `lanes.ts`, what is on its way is known to `flight.ts`.
 *
 * - A frame is released when its acknowledgement comes, which is when the collector's log has it.
 * - The status tells what is held. The answer tells the time, which is made an anchor before the backlog goes.
 */
import type { Env } from '../../shared/env/env.ts';
import { messageOf } from '../../shared/errors.ts';
import { KIND_ANCHOR, KIND_STATUS } from '../../shared/frame/frame.ts';
import type { RemoteConfig } from '../../shared/model/remote.ts';
import { noteFrame, type Status } from '../../shared/frame/notes.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import {
  LANE_BACKFILL,
  LANE_LIVE,
  decodeDown,
  encodeUp,
  type EpochAck,
  type TimeAnswer,
} from '../../shared/wire/wire.ts';
import { anchorsOfEarlierBoots, type GatewayClock } from '../buffer/clock.ts';
import type { StoredFrame } from '../buffer/stored-frame.ts';
import { Flight, type SentFrame } from './flight.ts';
import { Lanes, type LaneOptions, type UplinkBuffer } from './lanes.ts';
import { Window, type Budget } from './pace.ts';
import type { SessionStats } from './stats.ts';

export interface SessionOptions extends LaneOptions {
  gateway: string;
  windowBytes: number;
  ackTimeoutMs: number;
  statusMs: number;
}

/** What carries bytes to the collector. */
export interface Link {
  send(payload: Buffer): void;
  hangUp(why: string): void;
  /** The collector has something to say to a device. */
  command(topic: string, payload: Buffer): void;
  /** Settings that the collector declares for this gateway. */
  config(config: RemoteConfig): void;
  /** It said something that could be understood. */
  heard(): void;
  /** What a status tells beside what is held. */
  about(): Omit<Status, 'epochs'>;
}

const TICK_MS = 500;
/** Without an answer to the status the backlog goes all the same. */
const HELLO_MS = 3000;
/** The clock is compared anew after this. */
const TIME_US = 600e6;
/** Clocks that differ by more are worth a warning. */
const APART_US = 60e6;

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
  private readonly flight: Flight;
  private readonly lanes: Lanes;
  private readonly ticker: NodeJS.Timeout;
  private ended = false;
  private lastHeardUs: number;
  private isHeard = false;
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
    const window = (this.window = new Window(options.windowBytes));
    const flight = (this.flight = new Flight(stat));
    this.lanes = new Lanes({
      ...{ env, options, buffer, clock, budget, window, flight, stat, notify },
      send: (lane, frames) => this.send(lane, frames),
    });
    this.lastHeardUs = env.clock.monotonicUs();
    this.startedUs = this.lastHeardUs;
    this.ticker = setInterval(() => this.tick(), TICK_MS);
    this.ticker.unref();
    this.sendStatus();
  }

  isInFlight(position: Buffer): boolean {
    return this.flight.holds(position);
  }

  /** Sent, and not acknowledged. */
  get unacknowledged(): Buffer[] {
    return this.flight.positions;
  }

  /** There is room again. */
  wake(): void {
    this.lanes.wake();
  }

  /** A live frame was committed. */
  committed(): void {
    this.lanes.committed();
  }

  end(): void {
    this.ended = true;
    clearInterval(this.ticker);
    this.lanes.end();
    this.flight.end();
  }

  private tick(): void {
    const nowUs = this.env.clock.monotonicUs();
    if (this.flight.bytes > 0 && nowUs - this.lastHeardUs > this.options.ackTimeoutMs * 1000) {
      this.stat.ackTimeouts++;
      const never = this.isHeard ? '' : '; if this never changes, it is no uplink of a collector';
      this.link.hangUp(`no acknowledgement within ${this.options.ackTimeoutMs} ms${never}`);
      return;
    }
    if (nowUs - this.statusUs > this.options.statusMs * 1000) this.sendStatus();
    if (nowUs - this.startedUs > HELLO_MS * 1000) this.lanes.mayBackfill = true;
    this.lanes.wake();
  }

  /** Says what is held, when that has changed, and asks for the time now and then. */
  private sendStatus(): void {
    const { buffer, options, env } = this;
    const status = { epochs: buffer.epochs.holdings(), ...this.link.about() };
    const text = JSON.stringify(status);
    const nowUs = env.clock.monotonicUs();
    const due = !this.lanes.mayBackfill || nowUs - (this.clock.anchor?.monotonicUs ?? 0) > TIME_US;
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

  /** A status now, whether or not it differs from the last one. */
  tell(): void {
    if (this.ended) return;
    this.statusText = '';
    this.sendStatus();
  }

  private transmit(lane: number, frames: Buffer[]): void {
    const payload = encodeUp(lane, frames);
    this.stat.sentBytes += payload.length;
    if (lane === LANE_BACKFILL) this.stat.backlogBytes += payload.length;
    this.budget.sent(payload.length);
    this.link.send(payload);
  }

  private send(lane: number, frames: StoredFrame[]): void {
    const nowUs = this.env.clock.monotonicUs();
    if (this.flight.bytes === 0) this.lastHeardUs = nowUs;
    this.flight.add(frames, nowUs);
    this.transmit(
      lane,
      frames.map(({ frame }) => frame),
    );
  }

  // ---- hearing ----

  heard(payload: Buffer): void {
    if (this.ended) return;
    try {
      const { acks, want, time, timeless, ask, error, publish, config } = decodeDown(payload);
      if (error !== undefined) {
        this.notify({
          level: 'error',
          event: 'uplink_refused',
          text: `the collector refuses: ${error}`,
        });
        return;
      }
      this.lastHeardUs = this.env.clock.monotonicUs();
      this.link.heard();
      this.isHeard = true;
      if (time !== undefined) this.learnTime(time);
      if (timeless) this.lanes.mayBackfill = true;
      if (ask) this.tell();
      const done = acks.flatMap((ack) => this.acknowledged(ack));
      if (done.length > 0) void this.buffer.release(done);
      for (const each of want) void this.sendAgain(each);
      for (const { topic, payload } of publish)
        this.link.command(topic, Buffer.from(payload, 'base64'));
      if (config !== undefined) this.link.config(config);
      this.stat.windowBytes = Math.round(this.window.bytes);
      this.lanes.wake();
    } catch (error) {
      this.link.hangUp(messageOf(error));
    }
  }

  private acknowledged(ack: EpochAck): SentFrame[] {
    const done = this.flight.acknowledged(ack);
    const newest = done.at(-1);
    if (newest === undefined) return done;
    const nowUs = this.env.clock.monotonicUs();
    const bytes = done.reduce((sum, each) => sum + each.bytes, 0);
    this.window.acknowledged(bytes, nowUs - newest.sentUs, nowUs);
    return done;
  }

  /** The collector's log lacks what it had acknowledged: what is still here goes again. */
  private async sendAgain({ epoch, ranges }: EpochAck): Promise<void> {
    try {
      const count = await this.buffer.recall(epoch, ranges);
      if (count === 0 || this.ended) return;
      this.stat.recalledMessages += count;
      // A recalled frame may begin before its range: what is not in the set is sent, and duplicates are recognised.
      this.flight.forget(epoch);
      this.lanes.restartBacklog();
      this.notify({
        level: 'warn',
        event: 'uplink_recalled',
        text: `the collector lacks ${count} messages that it had acknowledged; they are sent again`,
      });
      this.lanes.wake();
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
    this.lanes.mayBackfill = true;
    this.warnApart(clock.apartUs);
    const present = clock.anchor;
    const told = anchor === undefined ? [] : [anchor];
    if (present !== undefined) told.push(...anchorsOfEarlierBoots(buffer.epochs.all, present));
    // Only what is durable counts as told: an anchor that a crash took is made anew.
    for (const each of told)
      void buffer.note(KIND_ANCHOR, each).then(() => buffer.epochs.settle([each]));
  }
}
