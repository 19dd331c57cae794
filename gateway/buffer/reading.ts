/** Reading what the buffer holds: from memory where it is there. A database whose reads give errors is rebuilt. */
import type { KvDatabase } from '../../shared/kv/kv.ts';
import type { Backlog } from './backlog.ts';
import type { BufferDatabase } from './database.ts';
import type { Epochs, Which } from './epochs.ts';
import type { FrameCache } from './frame-cache.ts';
import type { FrameReader } from './frame-reader.ts';
import type { Mending } from './mending.ts';
import { positionOf } from './position.ts';
import { isDamage } from './reopen.ts';
import type { StoredFrame } from './stored-frame.ts';

const COUNT_BYTES = 1024 * 1024;

export interface ReadingParts {
  database: BufferDatabase;
  registry: Epochs;
  backlog: Backlog;
  cache: FrameCache;
  reader: FrameReader;
  mending: Mending;
}

export class Reading {
  private readonly parts: ReadingParts;

  constructor(parts: ReadingParts) {
    this.parts = parts;
  }

  /** Frames that wait, from a position on and before another. */
  async waiting(
    from: Buffer | undefined,
    bytesMax: number,
    before?: Buffer,
  ): Promise<StoredFrame[]> {
    const { cache, registry, reader } = this.parts;
    const cached = from === undefined ? undefined : cache.read(from, bytesMax);
    if (cached !== undefined)
      return cached.filter(
        ({ position }) =>
          !registry.isReleased(position) &&
          (before === undefined || Buffer.compare(position, before) < 0),
      );
    return await this.fromDisk((db) => reader.forward(db, 'waiting', from, before, bytesMax));
  }

  newest(which: Which, before: Buffer | undefined, bytesMax: number): Promise<StoredFrame[]> {
    return this.fromDisk((db) => this.parts.reader.backward(db, which, before, bytesMax));
  }

  /** Counts the next piece of what earlier runs left. Returns where the one after it begins. */
  async count(from: Buffer | undefined): Promise<Buffer | undefined> {
    const { database, registry, backlog, reader } = this.parts;
    const own = positionOf(database.ownFrom, 0);
    const frames = await this.fromDisk((db) =>
      reader.forward(db, 'waiting', from, own, COUNT_BYTES),
    );
    backlog.countPiece(frames, (position) => registry.isReleased(position));
    return frames.at(-1)?.end;
  }

  /** History that waits again. Returns how many messages. */
  async recall(name: string, ranges: readonly (readonly [number, number])[]): Promise<number> {
    const { database, registry, backlog, reader } = this.parts;
    const epoch = registry.named(name);
    if (epoch === undefined || database.db === undefined) return 0;
    const whole = await reader.wholeFrames(database.db, epoch, ranges);
    const count = registry.recall(name, whole);
    backlog.recall(count, count * registry.meanBytes);
    return count;
  }

  private async fromDisk(work: (db: KvDatabase) => Promise<StoredFrame[]>): Promise<StoredFrame[]> {
    const { database, mending } = this.parts;
    const { present } = database;
    try {
      return await work(present);
    } catch (error) {
      if (isDamage(error)) mending.rebuild(error);
      throw error;
    }
  }
}
