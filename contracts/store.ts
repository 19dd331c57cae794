/**
 * The TimeSeriesStore contract. Its suite is `suite/store.ts`.
 *
 * - `apply` resolves when the store has acknowledged. Afterwards exactly `put` of an identity exists, however often it is
 *   applied (law 3), wherever it was before: a repaired clock or a changed mapping leaves no second point behind.
 * - A reading that the store refuses is returned with the reason and holds up nobody (law 5).
 * - What a store keeps has a name of its own (`identity`): another server, bucket or file is another store.
 */
import type { FieldValue, Reading } from './reading.ts';

export const STORE_CONTRACT_VERSION = 3;

export interface Identity {
  gateway: string;
  epoch: string;
  sequence: number;
  /** Of several readings in one message. */
  index: number;
}

export interface Change {
  identity: Identity;
  /** What is there afterwards, and nothing else of this identity; undefined: nothing. */
  put: Reading | undefined;
  /** Where it may have been: series and time of each, for stores that know points by their address alone. */
  was?: readonly Reading[];
}

/** Changes that a store will never take, by their reason. */
export interface Refused {
  reason: string;
  changes: readonly Change[];
}

export interface SeriesKey {
  measurement: string;
  field: string;
  tags: Record<string, string>;
}

export interface SeriesFilter {
  measurement?: string;
  field?: string;
  tags?: Record<string, string>;
}

export const FUNCTIONS = ['mean', 'min', 'max', 'sum', 'count', 'first', 'last', 'median'] as const;
export type AggregateFunction = (typeof FUNCTIONS)[number];

export interface StoreQuery extends SeriesFilter {
  /** Epoch milliseconds, inclusive; everything when left out. */
  fromMs?: number;
  /** Exclusive. */
  toMs?: number;
  /** Width of a bucket, aligned to the epoch. */
  everyMs?: number;
  fn?: AggregateFunction;
  /** Most points in all. */
  limit?: number;
  /** Goes on behind the part that had this cursor. */
  cursor?: string;
  /** Aborted when nobody waits for the answer any more: a store may then stop at once. */
  signal?: AbortSignal;
}

export interface SeriesPoints extends SeriesKey {
  /** Epoch milliseconds (without the digits below) and value, in order of time. */
  points: [number, FieldValue][];
}

/** Parts of one series follow each other. */
export interface PointsPart extends SeriesPoints {
  /** Where to go on behind this part: opaque. */
  cursor: string;
}

export interface LatestPoint extends SeriesKey {
  time: number;
  value: FieldValue;
}

/** A point as it lies in the store, to the nanosecond. */
export interface StoredPoint extends SeriesKey {
  timeNs: bigint;
  value: FieldValue;
}

export interface StoreSupports {
  /** Keeps marks in the transaction of the changes: it says itself how far it has come. */
  progress: boolean;
  /** How a reading goes: rows by their identity, a tombstone at its address, or not at all. */
  remove: 'rows' | 'tombstone' | 'none';
  /** `query` knows `everyMs` and `fn`; else it gives points, and Headwater aggregates them. */
  aggregates: boolean;
}

export interface TimeSeriesStore {
  readonly kind: string;
  readonly supports: StoreSupports;
  open(): Promise<void>;
  /**
   * Names what is kept here: server and bucket, or a file's own id. Letters, digits, `.`, `_` and `-`, at most 64.
   * Throws STORE_UNAVAILABLE while it cannot be told.
   */
  identity(): Promise<string>;
  /**
   * Applies changes in order. `marks` (name → text) are kept in the same transaction by a store that supports progress.
   * Throws STORE_UNAVAILABLE: nothing or a part of it is applied, and the caller applies all of it again. Throws
   * STORE_RESET: it has another identity than it has told; the caller asks for it and for its marks, and goes on from there.
   */
  apply(changes: readonly Change[], marks: ReadonlyMap<string, string>): Promise<Refused[]>;
  /** Kept by `apply`, by names that begin so. Empty of a store that does not support progress. */
  marks(prefix: string): Promise<Map<string, string>>;
  series(): Promise<SeriesKey[]>;
  latest(filter: SeriesFilter): Promise<LatestPoint[]>;
  /**
   * Series come in an order that their names alone decide, so that a cursor says the same of a store that was filled anew.
   * Throws QUERY_INVALID for a cursor that it did not give, STORE_UNAVAILABLE.
   */
  query(query: StoreQuery): AsyncIterable<PointsPart>;
  /**
   * Every point of [fromMs, toMs), in any order, for the audit. Left out by a store that cannot say to the nanosecond.
   * Throws STORE_UNAVAILABLE.
   */
  scan?(fromMs: number, toMs: number): AsyncIterable<StoredPoint[]>;
  /** Nothing before it is kept, epoch milliseconds; left out, or undefined: all is. */
  keepsFromMs?(): number | undefined;
  warnings(): string[];
  close(): Promise<void>;
}

/** Whether a series is asked for. */
export function matches(key: SeriesKey, { measurement, field, tags }: SeriesFilter): boolean {
  if (measurement !== undefined && key.measurement !== measurement) return false;
  if (field !== undefined && key.field !== field) return false;
  return Object.entries(tags ?? {}).every(([name, value]) => key.tags[name] === value);
}

/** A name that is the same for the same series, however its tags are ordered. */
export function seriesName({ measurement, field, tags }: SeriesKey): string {
  return JSON.stringify([
    measurement,
    field,
    ...Object.entries(tags)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flat(),
  ]);
}
