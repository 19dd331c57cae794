/** What was sent on one connection, and which of it no acknowledgement has come for yet. */
import { readHeader } from '../../shared/frame/frame.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import type { EpochAck } from '../../shared/wire/wire.ts';
import type { FrameRef, StoredFrame } from '../buffer/stored-frame.ts';
import type { SessionStats } from './stats.ts';

export interface SentFrame extends FrameRef {
  from: number;
  to: number;
  sentUs: number;
}

export class Flight {
  private readonly stat: SessionStats;
  /** Epoch → sequences. */
  private readonly sent = new Map<string, RangeSet>();
  private readonly inFlight = new Map<string, SentFrame[]>();

  constructor(stat: SessionStats) {
    this.stat = stat;
    stat.inFlightBytes = 0;
  }

  get bytes(): number {
    return this.stat.inFlightBytes;
  }

  add(frames: StoredFrame[], sentUs: number): void {
    for (const { position, frame } of frames) {
      const { epoch, firstSequence, count } = readHeader(frame);
      const to = firstSequence + count - 1;
      let sent = this.sent.get(epoch);
      if (sent === undefined) this.sent.set(epoch, (sent = new RangeSet()));
      sent.add(firstSequence, to);
      let list = this.inFlight.get(epoch);
      if (list === undefined) this.inFlight.set(epoch, (list = []));
      const bytes = frame.length;
      list.push({ position, bytes, count, from: firstSequence, to, sentUs });
      this.stat.inFlightBytes += bytes;
      this.stat.sentFrames++;
      this.stat.sentMessages += count;
    }
  }

  holds(position: Buffer): boolean {
    for (const list of this.inFlight.values())
      if (list.some((sent) => sent.position.equals(position))) return true;
    return false;
  }

  get positions(): Buffer[] {
    return [...this.inFlight.values()].flat().map(({ position }) => position);
  }

  wasSent({ frame }: StoredFrame): boolean {
    const { epoch, firstSequence, count } = readHeader(frame);
    return this.sent.get(epoch)?.covers(firstSequence, firstSequence + count - 1) ?? false;
  }

  /** The frames that this acknowledgement covers whole. */
  acknowledged({ epoch, ranges }: EpochAck): SentFrame[] {
    const list = this.inFlight.get(epoch);
    if (list === undefined) return [];
    const done: SentFrame[] = [];
    const left: SentFrame[] = [];
    for (const sent of list) {
      const covered = ranges.some(([from, to]) => from <= sent.from && sent.to <= to);
      (covered ? done : left).push(sent);
    }
    if (left.length === 0) this.inFlight.delete(epoch);
    else this.inFlight.set(epoch, left);
    for (const { bytes, count } of done) {
      this.stat.inFlightBytes -= bytes;
      this.stat.acknowledgedMessages += count;
    }
    return done;
  }

  /** Of this epoch anything may go once more. */
  forget(epoch: string): void {
    this.sent.delete(epoch);
  }

  end(): void {
    this.inFlight.clear();
    this.stat.inFlightBytes = 0;
  }
}
