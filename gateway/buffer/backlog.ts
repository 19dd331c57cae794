/**
 * How much waits: what this run has committed and not released, and what earlier runs left, which is counted a piece
 * at a time so that the start does not wait for it.
 */
import { readHeader } from '../../shared/frame/frame.ts';
import type { FrameRef, StoredFrame } from './stored-frame.ts';
import { ordinalOf } from './position.ts';

interface Totals {
  messages: number;
  frames: number | undefined;
  bytes: number | undefined;
}

export class Backlog {
  private messages = 0;
  private frames = 0;
  private bytes = 0;
  /** Ordinals from this one on are this run's own. */
  private ownFrom = Number.POSITIVE_INFINITY;
  private countedTo: Buffer | undefined;
  private done = false;

  add(count: number, bytes: number): void {
    this.messages += count;
    this.frames++;
    this.bytes += bytes;
  }

  remove({ position, bytes, count }: FrameRef): void {
    const known =
      this.done ||
      ordinalOf(position) >= this.ownFrom ||
      (this.countedTo !== undefined && Buffer.compare(position, this.countedTo) <= 0);
    if (!known) return;
    this.messages -= count;
    this.frames--;
    this.bytes -= bytes;
  }

  /** Ordinals from this one on are counted as they are committed. */
  begin(own: number): void {
    this.ownFrom = Math.min(this.ownFrom, own);
  }

  /** Counts a piece of what earlier runs left; without frames that was all of it. */
  countPiece(frames: StoredFrame[], isReleased: (position: Buffer) => boolean): void {
    for (const { position, frame } of frames) {
      // While they were being read an acknowledgement may have come.
      if (!isReleased(position)) this.add(readHeader(frame).count, frame.length);
    }
    this.countedTo = frames.at(-1)?.position ?? this.countedTo;
    this.done = frames.length === 0;
  }

  /** History that waits again: about so many bytes. */
  recall(messages: number, bytes: number): void {
    this.messages += messages;
    this.bytes += bytes;
  }

  /** Undefined until everything is counted; so are frames and bytes where the estimate of what was recalled fell short. */
  get totals(): Totals | undefined {
    if (!this.done) return undefined;
    const { messages } = this;
    // Recalled frames are counted by their messages, and their bytes by the mean.
    const known = (value: number): number | undefined =>
      messages === 0 ? 0 : value > 0 ? Math.round(value) : undefined;
    return { messages, frames: known(this.frames), bytes: known(this.bytes) };
  }
}
