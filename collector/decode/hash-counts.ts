/**
 * Sets of 32-bit hashes by name, kept in the codec state in chunks, so that only the chunk that grows is written. Names are
 * without number: in memory are those that were used last, and the others are read from the state again.
 */
import type { CodecState } from './codecs/context.ts';

/** Hashes in one entry of the state. */
const CHUNK = 4096;
/** In memory at once. */
export const NAMES_MAX = 4096;

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

  /** Sets with fewer than `keptFrom` hashes are not kept: out of memory they begin anew. */
  constructor(state: CodecState, prefix: string, keptFrom: number) {
    this.state = state;
    this.prefix = prefix;
    this.keptFrom = keptFrom;
  }

  /** How many names are in memory. */
  get size(): number {
    return this.counts.size;
  }

  /** A name that has none takes no room: who asks may ask for ever new ones. */
  of(name: string): ReadonlySet<number> {
    return this.count(name)?.hashes ?? NONE;
  }

  /** What is kept of all names together. An entry that says nothing that the others do not is deleted. */
  all(): Set<number> {
    const all = new Set<number>();
    const { state } = this;
    for (const key of state.keys(`${this.prefix}/`)) {
      const chunk = state.get(key);
      if (!Array.isArray(chunk)) continue;
      const before = all.size;
      for (const hash of chunk as number[]) all.add(hash);
      // The first chunk of several is looked for before the others.
      if (all.size === before && chunk.length < CHUNK) state.set(key, undefined);
    }
    return all;
  }

  private key(name: string, index: number): string {
    return `${this.prefix}/${index}/${name}`;
  }

  /** Undefined: it has none. */
  private count(name: string): Count | undefined {
    const known = this.counts.get(name);
    if (known !== undefined) return this.use(name, known);
    if (!Array.isArray(this.state.get(this.key(name, 0)))) return undefined;
    const count: Count = { hashes: new Set(), chunk: undefined, index: 0 };
    for (let index = 0; ; index++) {
      const chunk = this.state.get(this.key(name, index));
      if (!Array.isArray(chunk)) break;
      for (const hash of chunk as number[]) count.hashes.add(hash);
      count.chunk = chunk as number[];
      count.index = index;
    }
    return this.use(name, count);
  }

  /** The order of a Map is that of use: the first one gives way. */
  private use(name: string, count: Count): Count {
    this.counts.delete(name);
    this.counts.set(name, count);
    const [oldest] = this.counts.keys();
    if (this.counts.size > NAMES_MAX && oldest !== undefined) this.counts.delete(oldest);
    return count;
  }

  add(name: string, hash: number): void {
    const count =
      this.count(name) ?? this.use(name, { hashes: new Set(), chunk: undefined, index: 0 });
    count.hashes.add(hash);
    if (count.hashes.size < this.keptFrom) return;
    if (count.chunk === undefined) count.chunk = [...count.hashes];
    else if (count.chunk.length >= CHUNK) {
      count.chunk = [hash];
      count.index++;
    } else count.chunk.push(hash);
    this.state.set(this.key(name, count.index), count.chunk);
  }
}
