/**
 * The ObjectStore contract: where the lake's files lie. Its suite is `suite/object-store.ts`.
 *
 * - Keys are relative, `/` between their parts, without `..`; parts hold letters, digits and `_~=%.-`.
 * - `put` is atomic: a reader sees the object that was there or the new one, and never a part. It resolves when the
 *   object is on stable storage. Writing the same key again replaces it.
 * - What cannot be done now throws LAKE_UNAVAILABLE, and the caller tries again: also without its bucket or credentials,
 *   which a person can give while everything waits.
 */
export const OBJECT_STORE_CONTRACT_VERSION = 1;

export interface ObjectInfo {
  key: string;
  bytes: number;
  /** Differs when the content does. */
  version: string;
}

export interface ObjectStore {
  readonly kind: string;
  /** For people: where it is. */
  readonly address: string;
  /** Whether it is there and takes writes. */
  open(): Promise<void>;
  /** Puts a local file's content; the file is the caller's to delete, and may be gone afterwards. */
  put(key: string, file: string): Promise<void>;
  /** Throws NOT_FOUND. */
  get(key: string): Promise<Buffer>;
  /** In order of key. `prefix` ends with `/`, or is '' for everything. */
  list(prefix: string): Promise<ObjectInfo[]>;
  /** What is not there is no error. */
  remove(key: string): Promise<void>;
  /** Path of an object that lies on a local disk; undefined where it has to be fetched. */
  path(key: string): string | undefined;
  close(): Promise<void>;
}
