/**
 * Oldest history that gives way. It counts as gone before it is deleted, so that nobody misses it meanwhile, and is there
 * again where it could not be: frames whose note is forgotten would be taken for ones that wait.
 */
import type { Epochs } from './epochs.ts';
import { ordinalOf, positionOf, sequenceOf } from './position.ts';

/** Keys of frames. */
export interface Span {
  gte: Buffer;
  lt: Buffer;
}

/** About so many messages, by `clear`. Gives what was deleted; throws what `clear` throws. */
export async function evictOldest(
  epochs: Epochs,
  messages: number,
  clear: (span: Span) => Promise<void>,
): Promise<Span[]> {
  const spans = oldest(epochs, messages);
  let cleared = 0;
  try {
    for (const span of spans) {
      await clear(span);
      cleared++;
    }
  } finally {
    for (const [at, { gte, lt }] of spans.entries()) {
      const epoch = epochs.at(ordinalOf(gte));
      if (epoch === undefined) continue;
      if (at >= cleared) epoch.gone.remove(sequenceOf(gte), sequenceOf(lt) - 1);
      epochs.leaving.delete(epoch);
      epochs.touch(epoch);
    }
  }
  return spans;
}

function oldest(epochs: Epochs, messages: number): Span[] {
  const spans: Span[] = [];
  let left = messages;
  for (const epoch of epochs.all) {
    for (const [low, high] of epoch.released.within(1, epoch.next - 1)) {
      for (const [a, b] of epoch.gone.gaps(low, high)) {
        if (left <= 0) return spans;
        // A whole run where it is short; else a part, which may cut a frame: that one goes whole.
        const to = Math.min(b, a + left - 1);
        left -= to - a + 1;
        epoch.gone.add(a, to);
        epochs.leaving.add(epoch);
        spans.push({ gte: positionOf(epoch.ordinal, a), lt: positionOf(epoch.ordinal, to + 1) });
      }
    }
  }
  return spans;
}
