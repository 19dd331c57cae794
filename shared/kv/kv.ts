/**
 * The ordered key-value database under the gateway's buffer and the collector's embedded log, as a contract:
 * what they need of LevelDB and no more, so that a simulation can stand in a model that misbehaves.
 */
export type KvOp = { type: 'put'; key: Buffer; value: Buffer } | { type: 'del'; key: Buffer };

export interface KvRange {
  gte?: Buffer;
  gt?: Buffer;
  lt?: Buffer;
  reverse?: boolean;
  /** Most entries returned; all when left out. */
  limit?: number;
}

export interface KvDatabase {
  /** Opens or creates. Rejects with an error whose `code` is the library's. */
  open(): Promise<void>;
  close(): Promise<void>;
  get(key: Buffer): Promise<Buffer | undefined>;
  /** Atomic. With `sync` it resolves after fsync; without, a power cut may undo it. */
  write(ops: KvOp[], options: { sync: boolean }): Promise<void>;
  /** Entries of a range in key order, until keys and values are `bytesMax` bytes or more: fewer bytes mean that was all. */
  read(range: KvRange, bytesMax: number): Promise<[Buffer, Buffer][]>;
  /** Deletes all entries of a range, without fsync. */
  clear(range: KvRange): Promise<void>;
  /** Frees the space of what was deleted in the range. */
  compact(from: Buffer, to: Buffer): Promise<void>;
}

/** The first key after all that start with `prefix`, whose last byte must be below 255. */
export function after(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix);
  end[end.length - 1] = (end[end.length - 1] ?? 0) + 1;
  return end;
}
