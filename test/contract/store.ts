/** The suite of the TimeSeriesStore contract: every adapter passes it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TimeSeriesStore } from '../../collector/store/store.ts';
import {
  identityDigits,
  identitySeed,
  type FieldValue,
  type Reading,
  type ReadingBatch,
} from '../../shared/model/reading.ts';

const GATEWAY = 'gw';
const EPOCH = '00112233aabbccdd';
const T0 = Date.UTC(2024, 0, 1);

let sequence = 0;
function reading(
  measurement: string,
  timeMs: number,
  fields: Record<string, FieldValue>,
  tags: Record<string, string> = { device: 'd1' },
): Reading {
  sequence++;
  const ns = identityDigits(identitySeed(GATEWAY, EPOCH), sequence, 0, 1_000_000);
  return { measurement, tags, fields, sequence, index: 0, timeMs, ns };
}
const batch = (readings: Reading[], epoch = EPOCH): ReadingBatch => ({
  gateway: GATEWAY,
  epoch,
  arrivedMs: T0,
  readings,
});
const none = new Map<string, number>();

export interface StoreHarness {
  create(): TimeSeriesStore;
  stop(): Promise<void>;
}

export function storeContract(name: string, makeHarness: () => Promise<StoreHarness>): void {
  describe(`TimeSeriesStore contract: ${name}`, () => {
    let harness: StoreHarness;
    let store: TimeSeriesStore;
    const points = async (measurement: string, field = 'value'): Promise<[number, FieldValue][]> =>
      (await store.query({ measurement, field })).flatMap(({ points }) => points);

    beforeAll(async () => {
      harness = await makeHarness();
      store = harness.create();
      await store.open();
    });
    afterAll(async () => {
      await store.close();
      await harness.stop();
    });

    it('gives back every point with its value, type and time', async () => {
      const refused = await store.write(
        [
          batch([
            reading('types', T0 + 1, {
              value: 21.25,
              state_text: 'n/a, "quoted" \\ back',
              on_bool: true,
            }),
          ]),
        ],
        none,
      );
      expect(refused).toEqual([]);
      expect(await points('types')).toEqual([[T0 + 1, 21.25]]);
      expect(await points('types', 'state_text')).toEqual([[T0 + 1, 'n/a, "quoted" \\ back']]);
      expect(await points('types', 'on_bool')).toEqual([[T0 + 1, true]]);
    });

    it('keeps two readings of one series in the same millisecond', async () => {
      await store.write(
        [batch([reading('twice', T0, { value: 1 }), reading('twice', T0, { value: 2 })])],
        none,
      );
      expect((await points('twice')).map(([time]) => time)).toEqual([T0, T0]);
      expect(new Set((await points('twice')).map(([, value]) => value))).toEqual(new Set([1, 2]));
    });

    it('the same identity written again, in the same and in a later write, is one point', async () => {
      const same = reading('again', T0, { value: 5 });
      await store.write([batch([same, same])], none);
      await store.write([batch([same])], none);
      expect(await points('again')).toEqual([[T0, 5]]);
    });

    it('the same sequence of another epoch is another point', async () => {
      const one = reading('epochs', T0, { value: 1 });
      const seed = identitySeed(GATEWAY, 'ffffffffffffffff');
      const two = {
        ...one,
        fields: { value: 2 },
        ns: identityDigits(seed, one.sequence, 0, 1_000_000),
      };
      await store.write([batch([one]), batch([two], 'ffffffffffffffff')], none);
      expect(await points('epochs')).toHaveLength(2);
    });

    it('removes what an identity wrote and nothing else', async () => {
      const kept = reading('moved', T0, { value: 1 });
      const gone = reading('moved', T0, { value: 2, other: 3 });
      await store.write([batch([kept, gone])], none);
      await store.remove([batch([gone])]);
      expect(await points('moved')).toEqual([[T0, 1]]);
      expect(await points('moved', 'other')).toEqual([]);
      // The repaired reading takes its new place and leaves no second one.
      await store.write([batch([{ ...gone, timeMs: T0 + 5000 }])], none);
      expect(await points('moved')).toEqual([
        [T0, 1],
        [T0 + 5000, 2],
      ]);
    });

    it('lists series and their newest points, by any filter', async () => {
      await store.write(
        [
          batch([
            reading('latest', T0 + 10, { value: 1 }, { device: 'a', 'odd key': 'a=b,c d' }),
            reading('latest', T0 + 20, { value: 2 }, { device: 'a', 'odd key': 'a=b,c d' }),
            reading('latest', T0 + 15, { value: 3 }, { device: 'b' }),
          ]),
        ],
        none,
      );
      const series = (await store.series()).filter(({ measurement }) => measurement === 'latest');
      expect(series).toHaveLength(2);
      expect(series).toContainEqual({
        measurement: 'latest',
        field: 'value',
        tags: { device: 'a', 'odd key': 'a=b,c d' },
      });
      const latest = await store.latest({ measurement: 'latest', tags: { device: 'a' } });
      expect(latest).toEqual([
        {
          measurement: 'latest',
          field: 'value',
          tags: { device: 'a', 'odd key': 'a=b,c d' },
          time: T0 + 20,
          value: 2,
        },
      ]);
      expect(await store.latest({ measurement: 'nothing' })).toEqual([]);
    });

    it('a point older than the newest does not become the newest', async () => {
      await store.write([batch([reading('old', T0 + 100, { value: 1 })])], none);
      await store.write([batch([reading('old', T0, { value: 2 })])], none);
      expect((await store.latest({ measurement: 'old' }))[0]).toMatchObject({
        time: T0 + 100,
        value: 1,
      });
    });

    it('aggregates by bucket and over the whole, with ranges inclusive and exclusive', async () => {
      const minute = 60_000;
      await store.write(
        [
          batch(
            Array.from({ length: 10 }, (_, i) => reading('agg', T0 + i * 20_000, { value: i })),
          ),
        ],
        none,
      );
      const query = { measurement: 'agg', field: 'value' };
      const of = async (more: object): Promise<[number, FieldValue][]> =>
        (await store.query({ ...query, ...more })).flatMap(({ points }) => points);
      expect(await of({ everyMs: minute, fn: 'mean' })).toEqual([
        [T0, 1],
        [T0 + minute, 4],
        [T0 + 2 * minute, 7],
        [T0 + 3 * minute, 9],
      ]);
      expect(await of({ everyMs: minute, fn: 'count' })).toEqual([
        [T0, 3],
        [T0 + minute, 3],
        [T0 + 2 * minute, 3],
        [T0 + 3 * minute, 1],
      ]);
      expect(await of({ fn: 'count' })).toEqual([[T0, 10]]);
      expect(await of({ fn: 'max', fromMs: T0 + 20_000, toMs: T0 + 80_000 })).toEqual([
        [T0 + 20_000, 3],
      ]);
      expect(await of({ fn: 'sum' })).toEqual([[T0, 45]]);
      expect(await of({ fn: 'median', toMs: T0 + 60_000 })).toEqual([[T0, 1]]);
      expect(await of({ fn: 'last' })).toEqual([[T0, 9]]);
      expect(await of({ fromMs: T0 + 40_000, toMs: T0 + 80_000 })).toEqual([
        [T0 + 40_000, 2],
        [T0 + 60_000, 3],
      ]);
    });

    it('text has a count, a first and a last, and no mean', async () => {
      await store.write(
        [
          batch([
            reading('words', T0, { state_text: 'a' }),
            reading('words', T0 + 1, { state_text: 'b' }),
          ]),
        ],
        none,
      );
      const of = async (fn: 'count' | 'last' | 'mean'): Promise<FieldValue[]> =>
        (await store.query({ measurement: 'words', field: 'state_text', fn })).flatMap(
          ({ points }) => points.map(([, value]) => value),
        );
      expect([await of('count'), await of('last'), await of('mean')]).toEqual([[2], ['b'], []]);
    });

    it('732, 732.5 and "n/a" of one sensor all stay', async () => {
      await store.write(
        [
          batch([
            reading('co2', T0, { value: 732 }),
            reading('co2', T0 + 1, { value: 732.5 }),
            reading('co2', T0 + 2, { value_text: 'n/a' }),
          ]),
        ],
        none,
      );
      expect((await points('co2')).map(([, value]) => value)).toEqual([732, 732.5]);
      expect(await points('co2', 'value_text')).toEqual([[T0 + 2, 'n/a']]);
    });

    it('names that are hostile to a query language are names', async () => {
      const tags = { device: `'; DROP TABLE points; --`, __proto: 'constructor' };
      await store.write([batch([reading(`m'"; --`, T0, { [`f'"=,`]: 1 }, tags)])], none);
      expect(await store.query({ measurement: `m'"; --`, tags })).toEqual([
        { measurement: `m'"; --`, field: `f'"=,`, tags, points: [[T0, 1]] },
      ]);
    });

    it('takes ten thousand points and gives back all of them', async () => {
      await store.write(
        [batch(Array.from({ length: 10_000 }, (_, i) => reading('many', T0 + i, { value: i })))],
        none,
      );
      const all = await points('many');
      expect(all).toHaveLength(10_000);
      expect(all.at(-1)).toEqual([T0 + 9999, 9999]);
    });

    it('all of it is there after a restart, and repeats are still recognised', async () => {
      const before = reading('restart', T0, { value: 1 });
      await store.write([batch([before])], new Map([['readings/0', 42]]));
      await store.close();
      store = harness.create();
      await store.open();
      expect(await points('restart')).toEqual([[T0, 1]]);
      await store.write([batch([before])], none);
      expect(await points('restart')).toEqual([[T0, 1]]);
      expect([42, undefined]).toContain(await store.progress('readings/0'));
      expect((await store.latest({ measurement: 'restart' }))[0]).toMatchObject({ value: 1 });
    });
  });
}
