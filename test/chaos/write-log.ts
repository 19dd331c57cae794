/**
 * What QEMU's `blklogwrites` keeps of a disk (in the form of dm-log-writes): each write with its bytes, and each flush, in order.
 * Of it come images of the disk as a cut at any place would leave it: what was flushed is there; of what was not, the disk
 * may have had anything, a sector of a write and not the one beside it.
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';

const SECTOR = 512;
const MAGIC = 0x6a736677736872n;
const FLUSH = 1;

interface Entry {
  isFlush: boolean;
  /** Bytes, on the disk. */
  offset: number;
  length: number;
  /** Where in the log its bytes are. */
  at: number;
}

/** How many entries a log has, up to its last flush. A flush that the guest knows of is among them. */
export function entriesOf(log: string): number {
  const file = openSync(log, 'r');
  try {
    const head = Buffer.alloc(SECTOR);
    readSync(file, head, 0, SECTOR, 0);
    if (head.readBigUInt64LE(0) !== MAGIC) return 0; // Nothing was flushed yet.
    return Number(head.readBigUInt64LE(16));
  } finally {
    closeSync(file);
  }
}

export class WriteLog {
  private readonly entries: Entry[] = [];
  private readonly log: string;

  constructor(log: string) {
    this.log = log;
    const count = entriesOf(log);
    const file = openSync(log, 'r');
    const head = Buffer.alloc(SECTOR);
    for (let at = SECTOR; this.entries.length < count; ) {
      readSync(file, head, 0, SECTOR, at);
      const [sector, sectors, flags] = [0, 8, 16].map((from) => Number(head.readBigUInt64LE(from)));
      const isFlush = ((flags ?? 0) & FLUSH) !== 0;
      const length = (sectors ?? 0) * SECTOR;
      this.entries.push({ isFlush, offset: (sector ?? 0) * SECTOR, length, at: at + SECTOR });
      at += SECTOR + length;
    }
    closeSync(file);
  }

  /** The place after the last flush among the first `count` entries. */
  private flushedBy(count: number): number {
    return this.entries.slice(0, count).findLastIndex(({ isFlush }) => isFlush) + 1;
  }

  /**
   * Writes what a cut after `count` entries leaves into an image of the disk as it was at first; gives how many sectors were
   * not flushed. `keeps`: whether a sector that was not flushed is there all the same.
   */
  replay(image: string, count: number, keeps: () => boolean): number {
    const [log, disk] = [openSync(this.log, 'r'), openSync(image, 'r+')];
    const flushed = this.flushedBy(count);
    let open = 0;
    const put = (offset: number, length: number, at: number): void => {
      const bytes = Buffer.alloc(length);
      readSync(log, bytes, 0, length, at);
      writeSync(disk, bytes, 0, length, offset);
    };
    for (const [place, { offset, length, at }] of this.entries.slice(0, count).entries())
      if (place < flushed) put(offset, length, at);
      else
        for (let from = 0; from < length; from += SECTOR) {
          open++;
          if (keeps()) put(offset + from, SECTOR, at + from);
        }
    closeSync(log);
    closeSync(disk);
    return open;
  }
}
