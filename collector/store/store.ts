/**
 * The TimeSeriesStore contract. Its suite is `test/contract/store.ts`.
 *
 * - `write` resolves when the store has acknowledged. The same identity written again is the same point (law 3).
 * - What one identity wrote can be removed, so that a repaired clock or a changed mapping moves a point and leaves no
 *   second one behind.
 * - A reading that the store refuses is returned with the reason and holds up nobody (law 5).
 */
import type { FieldValue, Reading, ReadingBatch } from '../../shared/model/reading.ts';

export const STORE_CONTRACT_VERSION = 2;

export interface Refused {
  gateway: string;
  epoch: string;
  reading: Reading;
  reason: string;
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
}

export interface SeriesPoints extends SeriesKey {
  /** Epoch milliseconds (without the digits below) and value, in order of time. */
  points: [number, FieldValue][];
}

export interface LatestPoint extends SeriesKey {
  time: number;
  value: FieldValue;
}

export interface TimeSeriesStore {
  readonly kind: string;
  open(): Promise<void>;
  /**
   * Writes batches. `progress` (source → next offset; a source is `topic/partition`) is kept in the same transaction by
   * a store that can.
   * Throws STORE_UNAVAILABLE: nothing or a part of it is written, and the caller writes all of it again. Throws
   * STORE_RESET: the store is empty, and the caller asks for its progress and goes on from there.
   */
  write(batches: ReadingBatch[], progress: Map<string, number>): Promise<Refused[]>;
  /** Offsets kept by `write`; 0 for a source that is not known, undefined from a store that keeps none. */
  progress(source: string): Promise<number | undefined>;
  /** Removes what these readings wrote; they are as they were given to `write`. */
  remove(batches: ReadingBatch[]): Promise<void>;
  series(): Promise<SeriesKey[]>;
  latest(filter: SeriesFilter): Promise<LatestPoint[]>;
  query(query: StoreQuery): Promise<SeriesPoints[]>;
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
