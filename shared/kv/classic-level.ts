/**
 * LevelDB by classic-level 3: the only file that imports it. Frames are compressed already, so LevelDB's own
 * compression is off. Writes are synced only when asked: the library's default is not to.
 */
import { ClassicLevel } from 'classic-level';
import { HeadwaterError, codeOf } from '../errors.ts';
import type { KvDatabase, KvOp, KvRange } from './kv.ts';

export interface LevelOptions {
  /** Memory for reads, bytes. */
  cacheBytes: number;
  /** Size of the memory table and so of one log file, bytes; LevelDB holds up to two. */
  writeBufferBytes: number;
}

/** Read at once from the database, bytes. */
const READ_AHEAD_BYTES = 256 * 1024;

const DEFAULTS: LevelOptions = { cacheBytes: 1024 * 1024, writeBufferBytes: 4 * 1024 * 1024 };

/** A read that the closing of the database cuts off can be tried again after the next open. */
async function whileOpen<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!/^LEVEL_(DATABASE|ITERATOR)_NOT_OPEN$/.test(codeOf(error))) throw error;
    throw new HeadwaterError('DATA_UNUSABLE', 'the database is being reopened', { cause: error });
  }
}

export class LevelDatabase implements KvDatabase {
  private readonly db: ClassicLevel<Buffer, Buffer>;
  private readonly options: LevelOptions;

  constructor(folder: string, options: Partial<LevelOptions> = {}) {
    this.options = { ...DEFAULTS, ...options };
    this.db = new ClassicLevel<Buffer, Buffer>(folder, {
      keyEncoding: 'buffer',
      valueEncoding: 'buffer',
    });
  }

  /** Whether another process has the database in this folder open. Nothing of it is touched, whatever is damaged in it. */
  static async isHeld(folder: string): Promise<boolean> {
    // Its lock is taken before it is looked at, and what it says then fails in any case.
    const probe = new ClassicLevel(folder, { createIfMissing: false, errorIfExists: true });
    try {
      await probe.open();
      await probe.close();
      return false;
    } catch (error) {
      return error instanceof Error && codeOf(error.cause) === 'LEVEL_LOCKED';
    }
  }

  open(): Promise<void> {
    return this.db.open({
      compression: false,
      cacheSize: this.options.cacheBytes,
      writeBufferSize: this.options.writeBufferBytes,
    });
  }

  close(): Promise<void> {
    return this.db.close();
  }

  get(key: Buffer): Promise<Buffer | undefined> {
    return whileOpen(this.db.get(key));
  }

  write(ops: KvOp[], options: { sync: boolean }): Promise<void> {
    return this.db.batch(ops, { sync: options.sync });
  }

  read(range: KvRange, bytesMax: number): Promise<[Buffer, Buffer][]> {
    return whileOpen(this.readOpen(range, bytesMax));
  }

  private async readOpen(range: KvRange, bytesMax: number): Promise<[Buffer, Buffer][]> {
    const iterator = this.db.iterator({
      ...range,
      highWaterMarkBytes: Math.min(READ_AHEAD_BYTES, bytesMax),
    });
    const entries: [Buffer, Buffer][] = [];
    try {
      for (let bytes = 0; bytes < bytesMax; ) {
        const some = await iterator.nextv(1000);
        if (some.length === 0) break;
        for (const entry of some) {
          bytes += entry[0].length + entry[1].length;
          entries.push(entry);
        }
      }
    } finally {
      await iterator.close();
    }
    return entries;
  }

  clear(range: KvRange): Promise<void> {
    return this.db.clear(range);
  }

  compact(from: Buffer, to: Buffer): Promise<void> {
    return this.db.compactRange(from, to);
  }
}
