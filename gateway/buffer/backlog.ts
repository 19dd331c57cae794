/**
 * How much waits: what this run has committed and not released, and what earlier runs left, which is counted a piece
 * at a time so that the start does not wait for it.
 */
import type { KvDatabase } from '../../shared/kv/kv.ts';
import type { FrameRef } from './buffer.ts';
import { framesAfter, ordinalOf } from './position.ts';

const PIECE_BYTES = 1024 * 1024;
const COUNT_OFFSET = 40;

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

  /** Counts the next piece of what earlier runs left. False when there is no more. */
  async countPiece(db: KvDatabase, own: Buffer): Promise<boolean> {
    this.ownFrom = Math.min(this.ownFrom, ordinalOf(own));
    const entries = await db.read({ ...framesAfter(this.countedTo), lt: own }, PIECE_BYTES);
    for (const [, frame] of entries) {
      this.add(
        frame.length >= COUNT_OFFSET + 4 ? frame.readUInt32LE(COUNT_OFFSET) : 0,
        frame.length,
      );
    }
    this.countedTo = entries.at(-1)?.[0] ?? this.countedTo;
    this.done = entries.length === 0;
    return !this.done;
  }

  /** Undefined until everything is counted. */
  get totals(): { messages: number; frames: number; bytes: number } | undefined {
    const { messages, frames, bytes } = this;
    return this.done ? { messages, frames, bytes } : undefined;
  }
}
