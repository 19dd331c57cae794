/**
 * Answers remembered by what somebody outside has named, such as topics. A name may be as long as its sender likes, and an
 * answer may hold its text: so it is bounded in characters as well as in entries, and a long name is not remembered, since it
 * would take the place of many. When it is full it begins anew; what is asked for again is found again.
 */
/** Of a name, in the mean: what devices say is shorter. */
const MEAN_CHARS = 256;
const LONG_CHARS = 1024;
/** What an entry takes beside its text, about. */
const ENTRY_BYTES = 128;

/** Memory that many have together: each connection remembers something, and there may be thousands. */
export class Pool {
  private left: number;

  constructor(bytesMax: number) {
    this.left = bytesMax;
  }

  take(bytes: number): boolean {
    if (bytes > this.left) return false;
    this.left -= bytes;
    return true;
  }

  give(bytes: number): void {
    this.left += bytes;
  }
}

/** How much is remembered in one place, or in several together. */
export class Bound {
  private readonly entriesMax: number;
  private entries = 0;
  private chars = 0;

  constructor(entriesMax: number) {
    this.entriesMax = entriesMax;
  }

  /** One that is to be remembered, unless it is too long; `clear` is called where it would be one too many. */
  add({ length }: string, clear: () => void): boolean {
    if (length > LONG_CHARS) return false;
    if (this.entries >= this.entriesMax || this.chars + length > this.entriesMax * MEAN_CHARS) {
      clear();
      this.clear();
    }
    this.entries++;
    this.chars += length;
    return true;
  }

  clear(): void {
    this.entries = 0;
    this.chars = 0;
  }

  get bytes(): number {
    return this.chars + this.entries * ENTRY_BYTES;
  }
}

export class Remembered<V> {
  private readonly known = new Map<string, V>();
  private readonly bound: Bound;
  private readonly pool: Pool | undefined;

  /** What it takes of a pool comes back when it is cleared. */
  constructor(entriesMax: number, pool?: Pool) {
    this.bound = new Bound(entriesMax);
    this.pool = pool;
  }

  get(name: string): V | undefined {
    return this.known.get(name);
  }

  /** `name` is not there yet. */
  set(name: string, value: V): void {
    const { bound, pool } = this;
    if (pool !== undefined && !pool.take(name.length + ENTRY_BYTES)) return;
    if (bound.add(name, () => this.clear())) this.known.set(name, value);
    else pool?.give(name.length + ENTRY_BYTES);
  }

  clear(): void {
    this.pool?.give(this.bound.bytes);
    this.bound.clear();
    this.known.clear();
  }
}
