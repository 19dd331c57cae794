/** A store that adds up its own points, for the audit: of others every point is fetched (`contracts/store.ts`). */
import type { Asked, Level, PointSum } from '../duckdb/points.ts';
import type { TimeSeriesStore } from './store.ts';

export interface SumsAsked {
  level: Level;
  /** Epoch milliseconds from and up to without; left out: of all times. */
  range?: [fromMs: number, toMs: number];
  /** Of these blocks or sequences only. */
  only?: { by: Level; asked: readonly Asked[] };
}

export interface Summing {
  /** Throws STORE_UNAVAILABLE. */
  sums(asked: SumsAsked): Promise<PointSum[]>;
  /** YYYY-MM-DD of which there are points. */
  days(): Promise<string[]>;
}

export const isSumming = (store: TimeSeriesStore): store is TimeSeriesStore & Summing =>
  'sums' in store && 'days' in store;
