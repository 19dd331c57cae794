/**
 * A point that a store has acknowledged, of the newest step, kept with the place of a store that keeps none itself. Where it is
 * not there any more, that store was put back to an older copy, emptied, or has lost what it had: nobody else would say so.
 */
import type { Change, Refused, SeriesKey, TimeSeriesStore } from './store.ts';

export interface Sample extends SeriesKey {
  /** Epoch milliseconds. */
  timeMs: number;
}

/** So many changes of a step are looked at. */
const LOOKS_MAX = 100;
/** What is nearly as old as the store keeps may go at any moment. */
const MARGIN_MS = 3_600_000;

const isKept = (value: unknown): boolean =>
  typeof value === 'number' ? Number.isFinite(value) : typeof value === 'boolean';

/**
 * Of a step that the store has taken: 'none' when it has nothing that is surely there; undefined when nothing of it says
 * anything about the one before.
 */
export function sampleOf(
  changes: readonly Change[],
  refused: readonly Refused[],
): Sample | 'none' | undefined {
  const gone = new Set(refused.flatMap((each) => each.changes));
  let moves = changes.some(({ put, was }) => put === undefined || was !== undefined);
  for (const change of changes.slice(-LOOKS_MAX).toReversed()) {
    const { put } = change;
    const [field] = Object.entries(put?.fields ?? {}).find(([, value]) => isKept(value)) ?? [];
    if (put !== undefined && field !== undefined && !gone.has(change)) {
      const { measurement, tags, timeMs } = put;
      return { measurement, field, tags, timeMs };
    }
    // What comes later may have taken away what was before it.
    if (put === undefined || change.was !== undefined) {
      moves = true;
      break;
    }
  }
  return moves ? 'none' : undefined;
}

/** Throws STORE_UNAVAILABLE. */
export async function isThere(
  store: Pick<TimeSeriesStore, 'query' | 'keepsFromMs'>,
  { measurement, field, tags, timeMs }: Sample,
): Promise<boolean> {
  const keepsFromMs = store.keepsFromMs?.() ?? Number.NEGATIVE_INFINITY;
  if (timeMs < keepsFromMs + MARGIN_MS) return true;
  const asked = { measurement, field, tags, fromMs: timeMs, toMs: timeMs + 1 };
  for await (const { points } of store.query(asked)) if (points.length > 0) return true;
  return false;
}
