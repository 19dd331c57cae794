/** A record that no file can be made of ends no stage of the lake; an outage is nobody's fault. */
import { expect, it } from 'vitest';
import { sift } from '../../collector/lake/sift.ts';
import type { StoredRecord } from '../../collector/log/log.ts';

const records = Array.from(
  { length: 100 },
  (_, offset): StoredRecord => ({
    partition: 0,
    offset,
    key: 'gw',
    headers: {},
    value: Buffer.from(String(offset)),
  }),
);

it('finds those that fail alone, with their reasons, in few tries', async () => {
  let tries = 0;
  const found = await sift(records, (some) => {
    tries++;
    const bad = some.find(({ offset }) => offset === 7 || offset === 64);
    return bad === undefined
      ? Promise.resolve()
      : Promise.reject(new TypeError(`cannot convert ${bad.offset}`));
  });
  expect([...found].map(([{ offset }, error]) => [offset, (error as Error).message])).toEqual([
    [7, 'cannot convert 7'],
    [64, 'cannot convert 64'],
  ]);
  expect(tries).toBeLessThan(40);
});

it('finds nobody while everything fails, while it fails by chance, or when it ends meanwhile', async () => {
  const always = (): Promise<void> => Promise.reject(new Error('disk'));
  expect((await sift(records, always)).size).toBe(0);
  let tries = 0;
  const first = (): Promise<void> => (tries++ < 9 ? always() : Promise.resolve());
  expect((await sift(records, first)).size).toBe(0);
  let passes = 3;
  const later = (some: StoredRecord[]): Promise<void> =>
    some.length > 10 || passes-- <= 0 ? always() : Promise.resolve();
  expect((await sift(records, later)).size).toBe(0);
});

it('finds nobody where a disk fails by chance, however often it is the same record', async () => {
  const flaky = (some: StoredRecord[]): Promise<void> =>
    some.some(({ offset }) => offset === 7)
      ? Promise.reject(new Error('the lake: writing a file: EIO: i/o error, write'))
      : Promise.resolve();
  expect((await sift(records, flaky)).size).toBe(0);
});
