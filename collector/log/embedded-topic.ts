/** A topic of the embedded log in memory: its end, its newest records, and who waits for more. */
import type { TopicSize } from './embedded-size.ts';
import type { StoredRecord } from './log.ts';

/** What a record takes beside its value: objects, and numbers of them where values are small or empty (removals). */
const RECORD_BYTES = 256;
const costOf = ({ key, value }: StoredRecord): number =>
  RECORD_BYTES + key.length * 2 + value.length;

/** A small value lies in a piece of memory that it shares, 8 KiB, and would keep all of that: it gets one of its own. */
function apart(record: StoredRecord): StoredRecord {
  const { value } = record;
  if (value.buffer.byteLength <= value.length + RECORD_BYTES) return record;
  const own = Buffer.allocUnsafeSlow(value.length);
  value.copy(own);
  return { ...record, value: own };
}

export class Topic {
  /** Offset of the next record. */
  end: number;
  /** The same when the database was opened: what is below is on the disk, or lost. */
  readonly opened: number;
  /** Where there is a limit to it. */
  readonly size: TopicSize | undefined;
  private readonly cacheBytes: number;
  private readonly cache: StoredRecord[] = [];
  private cachedBytes = 0;
  private readonly waiters: Set<() => void>;

  /** `before`: the same topic before the database was reopened, of whose waiters it takes care. */
  constructor(
    end: number,
    size: TopicSize | undefined,
    cacheBytes: number,
    before: Topic | undefined,
  ) {
    this.end = end;
    this.opened = end;
    this.size = size;
    this.cacheBytes = cacheBytes;
    this.waiters = before?.waiters ?? new Set();
  }

  remember(record: StoredRecord): void {
    this.cache.push(apart(record));
    this.cachedBytes += costOf(record);
    let drop = 0;
    while (this.cachedBytes > this.cacheBytes && drop < this.cache.length - 1) {
      this.cachedBytes -= costOf(this.cache[drop++] as StoredRecord); // Below its length.
    }
    if (drop > 0) this.cache.splice(0, drop);
  }

  /** Undefined where they begin before what is in memory. */
  read(from: number, bytesMax: number): StoredRecord[] | undefined {
    const first = this.cache[0];
    if (first === undefined || first.offset > from) return undefined;
    return firstOf(this.cache, from - first.offset, bytesMax);
  }

  wake(): void {
    for (const wake of this.waiters) wake();
  }

  /** Resolves when it is woken, or after `waitMs`. */
  async wait(waitMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.waiters.delete(done);
        resolve();
      };
      const timer = setTimeout(done, waitMs);
      this.waiters.add(done);
    });
  }
}

/** From an index on, as many as `bytesMax` allows; the first in any case. */
export function firstOf(all: StoredRecord[], from: number, bytesMax: number): StoredRecord[] {
  const records: StoredRecord[] = [];
  let bytes = 0;
  for (let index = from; index < all.length; index++) {
    const record = all[index] as StoredRecord; // Below its length.
    bytes += record.value.length;
    if (records.length > 0 && bytes > bytesMax) break;
    records.push(record);
  }
  return records;
}
