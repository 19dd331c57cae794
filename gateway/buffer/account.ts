/** What the buffer has counted: what became durable, what waits, how soon it is full. */
import type { Env } from '../../shared/env/env.ts';
import { Histogram } from '../../shared/telemetry/histogram.ts';
import type { Backlog } from './backlog.ts';
import type { BufferStats } from './buffer.ts';
import type { Epochs } from './epochs.ts';
import { FillRate } from './fill-rate.ts';
import type { Group } from './open-group.ts';
import type { Upkeep } from './upkeep.ts';

export class Account {
  readonly commitSeconds = new Histogram();
  readonly totals = {
    committedMessages: 0,
    committedGroups: 0,
    committedFrameBytes: 0,
    writeErrors: 0,
    reopens: 0,
    losses: 0,
    lastCommitUs: 0,
  };
  private readonly env: Env;
  private readonly diskBytesMax: number;
  private readonly registry: Epochs;
  private readonly backlog: Backlog;
  private readonly upkeep: Upkeep;
  private readonly rate = new FillRate();

  constructor(env: Env, diskBytesMax: number, registry: Epochs, backlog: Backlog, upkeep: Upkeep) {
    this.env = env;
    this.diskBytesMax = diskBytesMax;
    this.registry = registry;
    this.backlog = backlog;
    this.upkeep = upkeep;
  }

  /** A group has become durable. */
  committed({ frames, openedUs }: Group<unknown>): void {
    const { totals, env } = this;
    totals.committedGroups++;
    totals.lastCommitUs = env.clock.wallUs();
    if (openedUs !== undefined)
      this.commitSeconds.observe((env.clock.monotonicUs() - openedUs) / 1e6);
    for (const { position, end, frame, count, clock } of frames) {
      totals.committedMessages += count;
      totals.committedFrameBytes += frame.length;
      this.upkeep.diskBytes += frame.length;
      this.backlog.add(count, frame.length);
      this.registry.committed(position, end, count, frame.length, clock);
    }
  }

  /** Call now and then: how fast it fills is known from this. */
  sample(): void {
    this.rate.sample(
      this.env.clock.monotonicUs(),
      this.totals.committedFrameBytes,
      this.backlog.totals?.bytes ?? 0,
    );
  }

  stats(pendingBytes: number): BufferStats {
    const waiting = this.backlog.totals;
    const history = this.registry.history();
    const hours = this.rate.hours(this.upkeep.roomBytes);
    return {
      ...this.totals,
      waitingMessages: waiting?.messages,
      waitingFrames: waiting?.frames,
      waitingBytes: waiting?.bytes,
      diskBytes: this.upkeep.diskBytes,
      diskBytesMax: this.diskBytesMax,
      historyMessages: history.messages,
      historyBytes: Math.round(history.bytes),
      hoursUntilFull: hours.untilFull,
      hoursIfCut: hours.ifCut,
      ...this.upkeep.counts,
      pendingBytes,
    };
  }
}
