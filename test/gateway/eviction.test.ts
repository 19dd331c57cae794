/** History that gives way: whatever happens to its deletion, what is on the disk and what is known of it agree. */
import { expect, it } from 'vitest';
import { Epochs } from '../../gateway/buffer/epochs.ts';
import { evictOldest } from '../../gateway/buffer/eviction.ts';
import { positionOf } from '../../gateway/buffer/position.ts';

const CLOCK = { wallUs: 1, monotonicUs: 1 };
const ANCHOR = { ...CLOCK, boot: 'b', errorUs: 1, basis: 'collector' } as const;

/** Three opens of ten messages each, all of them acknowledged by a collector, and the present one. */
function registry(isTimed = true): Epochs {
  const epochs = new Epochs();
  for (let ordinal = 1; ordinal <= 3; ordinal++) {
    epochs.begin(ordinal, `e${ordinal}`, 'b', CLOCK);
    epochs.committed(positionOf(ordinal, 1), positionOf(ordinal, 11), 10, 100, CLOCK);
    epochs.release(positionOf(ordinal, 1), 10);
  }
  epochs.begin(4, 'e4', 'b', CLOCK);
  if (isTimed) epochs.settle([ANCHOR]);
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

it('an epoch of which nothing is left is known, and no more said of, until the time of its boot is: what it had waits for that elsewhere', async () => {
  const epochs = registry(false);
  await evictOldest(epochs, 30, () => Promise.resolve());
  expect(forgotten(epochs)).toBe(0);
  const again = new Epochs();
  epochs.allChanged();
  again.load(
    epochs.takeChanges(4).flatMap((op) => (op.type === 'put' ? [[op.key, op.value]] : [])),
  );
  expect(again.all.map(({ ordinal }) => ordinal)).toEqual([1, 2, 3, 4]);
  expect(again.holdings()).toEqual([]);
  again.settle([ANCHOR]);
  expect(forgotten(again)).toBe(3);
  expect(again.begin(5, 'e5', 'b', CLOCK).offsetUs).toBe(0);
});

it('of epochs whose time nobody ever says as many are known as there is room for', () => {
  const epochs = new Epochs();
  let deleted = 0;
  for (let ordinal = 1; ordinal <= 1010; ordinal++) {
    epochs.begin(ordinal, `e${ordinal}`, `b${ordinal}`, CLOCK);
    epochs.committed(positionOf(ordinal, 1), positionOf(ordinal, 2), 1, 10, CLOCK);
    const own = epochs.at(ordinal);
    if (own !== undefined) epochs.lose(own, 1, 1);
    deleted += epochs.takeChanges(ordinal).filter(({ type }) => type === 'del').length;
  }
  expect([epochs.all.length, deleted]).toEqual([1000, 10]);
});
