/** History that gives way: whatever happens to its deletion, what is on the disk and what is known of it agree. */
import { expect, it } from 'vitest';
import { Epochs } from '../../gateway/buffer/epochs.ts';
import { evictOldest } from '../../gateway/buffer/eviction.ts';
import { positionOf } from '../../gateway/buffer/position.ts';

const CLOCK = { wallUs: 1, monotonicUs: 1 };

/** Three opens of ten messages each, all of them acknowledged by a collector, and the present one. */
function registry(): Epochs {
  const epochs = new Epochs();
  for (let ordinal = 1; ordinal <= 3; ordinal++) {
    epochs.begin(ordinal, `e${ordinal}`, 'b', CLOCK);
    epochs.committed(positionOf(ordinal, 1), positionOf(ordinal, 11), 10, 100, CLOCK);
    epochs.release(positionOf(ordinal, 1), 10);
  }
  epochs.begin(4, 'e4', 'b', CLOCK);
  epochs.takeChanges(4);
  return epochs;
}
const forgotten = (epochs: Epochs): number =>
  epochs.takeChanges(4).filter(({ type }) => type === 'del').length;

it('what could not be deleted is still there, and its note with it (seed 8100378)', async () => {
  const epochs = registry();
  let calls = 0;
  const clear = (): Promise<void> =>
    ++calls === 2 ? Promise.reject(new Error('the database is being reopened')) : Promise.resolve();
  await expect(evictOldest(epochs, 30, clear)).rejects.toThrow('being reopened');
  expect(epochs.history().messages).toBe(20);
  // The first was deleted.
  expect(forgotten(epochs)).toBe(1);
  expect(epochs.all.map(({ ordinal }) => ordinal)).toEqual([2, 3, 4]);
  // And it gives way the next time.
  await evictOldest(epochs, 30, () => Promise.resolve());
  expect([epochs.history().messages, forgotten(epochs)]).toEqual([0, 2]);
});

it('a note is forgotten once its frames are deleted, and nobody misses them meanwhile', async () => {
  const epochs = registry();
  let during: number | undefined;
  await evictOldest(epochs, 10, () => {
    epochs.allChanged();
    during = forgotten(epochs);
    expect(epochs.history().messages).toBe(20);
    return Promise.resolve();
  });
  expect(during).toBe(0);
  expect(forgotten(epochs)).toBe(1);
});
