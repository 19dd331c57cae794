/** Sets of 32-bit hashes by name, kept in the codec state in chunks, so that only the chunk that grows is written. */
import type { CodecState } from './codecs/context.ts';

/** Hashes in one entry of the state. */
const CHUNK = 4096;

/** FNV-1a. */
export function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

const NONE: ReadonlySet<number> = new Set();

interface Count {
  hashes: Set<number>;
  /** Of the chunk that grows; undefined while there are too few to be kept. */
  chunk: number[] | undefined;
  index: number;
}

export class HashCounts {
  private readonly state: CodecState;
  private readonly prefix: string;
  private readonly keptFrom: number;
  private readonly counts = new Map<string, Count>();
  /** Of all names. */
  total = 0;

  /** Sets with fewer than `keptFrom` hashes are not kept. */
  constructor(state: CodecState, prefix: string, keptFrom: number) {
    this.state = state;
    this.prefix = prefix;
    this.keptFrom = keptFrom;
  }

  /** A name that has none takes no room: who asks may ask for ever new ones. */
  of(name: string): ReadonlySet<number> {
    return this.count(name)?.hashes ?? NONE;
  }

  private key(name: string, index: number): string {
    return `${this.prefix}/${index}/${name}`;
  }

  /** Undefined: it has none. */
  private count(name: string): Count | undefined {
    let count = this.counts.get(name);
    if (count !== undefined) return count;
    if (!Array.isArray(this.state.get(this.key(name, 0)))) return undefined;
    count = { hashes: new Set(), chunk: undefined, index: 0 };
    for (let index = 0; ; index++) {
      const chunk = this.state.get(this.key(name, index));
      if (!Array.isArray(chunk)) break;
      for (const hash of chunk as number[]) count.hashes.add(hash);
      count.chunk = chunk as number[];
      count.index = index;
    }
    this.counts.set(name, count);
    this.total += count.hashes.size;
    return count;
  }

  add(name: string, hash: number): void {
    const count = this.count(name) ?? { hashes: new Set(), chunk: undefined, index: 0 };
    this.counts.set(name, count);
    count.hashes.add(hash);
    this.total++;
    if (count.hashes.size < this.keptFrom) return;
    if (count.chunk === undefined) count.chunk = [...count.hashes];
    else if (count.chunk.length >= CHUNK) {
      count.chunk = [hash];
      count.index++;
    } else count.chunk.push(hash);
    this.state.set(this.key(name, count.index), count.chunk);
  }
}
