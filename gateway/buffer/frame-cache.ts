/** The newest committed frames in memory, so that an uplink that keeps up never reads the disk. */
import type { StoredFrame } from './stored-frame.ts';

/** What a frame takes in memory beside its bytes, about: three Buffers and an object. Under light load frames are small. */
const OVERHEAD = 512;
const sizeOf = ({ frame }: StoredFrame): number => frame.length + OVERHEAD;

export class FrameCache {
  private readonly bytesMax: number;
  private frames: StoredFrame[] = [];
  private bytes = 0;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  add(stored: StoredFrame): void {
    this.frames.push(stored);
    this.bytes += sizeOf(stored);
    let drop = 0;
    for (let bytes = this.bytes; bytes > this.bytesMax && drop < this.frames.length - 1; drop++) {
      bytes -= sizeOf(this.frames[drop] as StoredFrame); // Below the length.
    }
    this.drop(drop);
  }

  private drop(count: number): void {
    for (const stored of this.frames.splice(0, count)) this.bytes -= sizeOf(stored);
  }

  /** Frames from `from` on; undefined when the cache does not reach back so far. */
  read(from: Buffer, bytesMax: number): StoredFrame[] | undefined {
    const [first] = this.frames;
    if (first === undefined || Buffer.compare(first.position, from) > 0) return undefined;
    let low = 0;
    let high = this.frames.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const { position } = this.frames[middle] as StoredFrame; // Below `high`.
      if (Buffer.compare(position, from) < 0) low = middle + 1;
      else high = middle;
    }
    let end = low;
    for (let bytes = 0; end < this.frames.length && bytes < bytesMax; end++) {
      bytes += this.frames[end]?.frame.length ?? 0;
    }
    return this.frames.slice(low, end);
  }

  /** These were rewritten or given up. */
  forget(frames: StoredFrame[]): void {
    const keys = new Set(frames.map(({ position }) => position.toString('latin1')));
    // What is older goes too: a cache without gaps needs no index.
    const last = this.frames.findLastIndex(({ position }) => keys.has(position.toString('latin1')));
    this.drop(last + 1);
  }

  clear(): void {
    this.drop(this.frames.length);
  }

  /** Everything up to `last` is safe elsewhere. The newest stays, so that a reader at the end is answered from memory. */
  release(last: Buffer): void {
    const keep = this.frames.findIndex(({ position }) => Buffer.compare(position, last) > 0);
    this.drop(keep === -1 ? Math.max(0, this.frames.length - 1) : keep);
  }
}
