/** The TimeSeriesStore suite, reading: series, newest points, ranges, pages and aggregates. */
import assert from 'node:assert/strict';
import type { FieldValue } from '../reading.ts';
import type { PointsPart, StoreQuery } from '../store.ts';
import { T0, aggregates, removes, type StoreCase } from './store-bench.ts';

const MINUTE = 60_000;

export const READING: readonly StoreCase[] = [
  {
    name: 'lists series and their newest points, by any filter',
    run: async (bench) => {
      const tags = { device: 'a', 'odd key': 'a=b,c d' };
      await bench.apply([
        bench.change('latest', T0 + 10, { value: 1 }, tags),
        bench.change('latest', T0 + 20, { value: 2 }, tags),
        bench.change('latest', T0 + 15, { value: 3 }, { device: 'b' }),
      ]);
      const measurement = bench.name('latest');
      const series = (await bench.store.series()).filter(
        (each) => each.measurement === measurement,
      );
      assert.equal(series.length, 2);
      assert.ok(series.some((each) => each.tags['odd key'] === 'a=b,c d'));
      assert.deepEqual(await bench.store.latest({ measurement, tags: { device: 'a' } }), [
        { measurement, field: 'value', tags, time: T0 + 20, value: 2 },
      ]);
      assert.deepEqual(await bench.store.latest({ measurement: bench.name('nothing') }), []);
    },
  },
  {
    name: 'a point older than the newest does not become the newest',
    run: async (bench) => {
      await bench.apply([bench.change('old', T0 + 100, { value: 1 })]);
      await bench.apply([bench.change('old', T0, { value: 2 })]);
      const [latest] = await bench.store.latest({ measurement: bench.name('old') });
      assert.deepEqual([latest?.time, latest?.value], [T0 + 100, 1]);
    },
  },
  {
    name: 'what is asked again after a change is as it is then',
    run: async (bench) => {
      const measurement = bench.name('again');
      const count = async (): Promise<number[]> => [
        (await bench.store.series()).filter((each) => each.measurement === measurement).length,
        (await bench.store.latest({ measurement })).length,
        (await bench.points('again')).length,
      ];
      assert.deepEqual(await count(), [0, 0, 0]);
      await bench.apply([bench.change('again', T0, { value: 1 })]);
      assert.deepEqual(await count(), [1, 1, 1]);
      await bench.apply([bench.change('again', T0 + 10, { value: 2, more: 3 })]);
      assert.deepEqual(await count(), [2, 2, 2]);
      const newest = await bench.store.latest({ measurement, field: 'value' });
      assert.deepEqual([newest[0]?.time, newest[0]?.value], [T0 + 10, 2]);
    },
  },
  {
    name: 'when the newest point goes, the one before it is the newest',
    skip: removes,
    run: async (bench) => {
      const newest = bench.change('newest', T0 + 100, { value: 1 });
      await bench.apply([bench.change('newest', T0, { value: 2 }), newest]);
      await bench.apply([{ ...newest, put: undefined, was: [newest.put] }]);
      const measurement = bench.name('newest');
      const [latest] = await bench.store.latest({ measurement });
      assert.deepEqual([latest?.time, latest?.value], [T0, 2]);
    },
  },
  {
    name: 'a query with a limit goes on from its cursor, and gives every point once',
    run: async (bench) => {
      await bench.apply(
        ['a', 'b', 'c'].flatMap((device) =>
          // Several in a millisecond: a cursor stands between two of them as well.
          Array.from({ length: 40 }, (_, i) =>
            bench.change('pages', T0 + (i >> 2), { value: i, other: 100 - i }, { device }),
          ),
        ),
      );
      const query = { measurement: bench.name('pages') };
      const flat = (parts: readonly PointsPart[]): string[] =>
        parts.flatMap(({ field, tags, points }) =>
          points.map((point) => `${field} ${tags['device']} ${point.join(' ')}`),
        );
      const whole = flat(await bench.parts(query));
      assert.equal(whole.length, 240);
      const paged: string[] = [];
      let cursor: string | undefined;
      for (let page = 0; page < 40; page++) {
        const parts = await bench.parts({
          ...query,
          limit: 7,
          ...(cursor === undefined ? {} : { cursor }),
        });
        const found = flat(parts);
        if (found.length === 0) break;
        assert.ok(found.length <= 7, `${found.length} points of 7`);
        paged.push(...found);
        cursor = parts.at(-1)?.cursor;
      }
      assert.deepEqual(paged, whole);
    },
  },
  {
    name: 'a cursor that no answer had is refused',
    run: async (bench) => {
      await bench.apply([bench.change('cursor', T0, { value: 1 })]);
      const query = { measurement: bench.name('cursor'), cursor: 'x' };
      await assert.rejects(bench.parts(query), { code: 'QUERY_INVALID' });
    },
  },
  {
    name: 'aggregates by bucket and over the whole, with ranges inclusive and exclusive',
    skip: aggregates,
    run: async (bench) => {
      await bench.apply(
        Array.from({ length: 10 }, (_, i) => bench.change('agg', T0 + i * 20_000, { value: i })),
      );
      const of = (more: StoreQuery): Promise<[number, FieldValue][]> =>
        bench.points('agg', 'value', more);
      assert.deepEqual(await of({ everyMs: MINUTE, fn: 'mean' }), [
        [T0, 1],
        [T0 + MINUTE, 4],
        [T0 + 2 * MINUTE, 7],
        [T0 + 3 * MINUTE, 9],
      ]);
      assert.deepEqual(await of({ everyMs: MINUTE, fn: 'count' }), [
        [T0, 3],
        [T0 + MINUTE, 3],
        [T0 + 2 * MINUTE, 3],
        [T0 + 3 * MINUTE, 1],
      ]);
      assert.deepEqual(await of({ fn: 'count' }), [[T0, 10]]);
      assert.deepEqual(await of({ fn: 'max', fromMs: T0 + 20_000, toMs: T0 + 80_000 }), [
        [T0 + 20_000, 3],
      ]);
      assert.deepEqual(await of({ fn: 'sum' }), [[T0, 45]]);
      assert.deepEqual(await of({ fn: 'median', toMs: T0 + MINUTE }), [[T0, 1]]);
      assert.deepEqual(await of({ fn: 'last' }), [[T0, 9]]);
    },
  },
  {
    name: 'a range is inclusive where it begins and exclusive where it ends',
    run: async (bench) => {
      await bench.apply(
        Array.from({ length: 10 }, (_, i) => bench.change('range', T0 + i * 20_000, { value: i })),
      );
      const range = { fromMs: T0 + 40_000, toMs: T0 + 80_000 };
      assert.deepEqual(await bench.points('range', 'value', range), [
        [T0 + 40_000, 2],
        [T0 + 60_000, 3],
      ]);
    },
  },
  {
    name: 'text has a count, a first and a last, and no mean',
    skip: aggregates,
    run: async (bench) => {
      await bench.apply([
        bench.change('words', T0, { state_text: 'a' }),
        bench.change('words', T0 + 1, { state_text: 'b' }),
      ]);
      const of = async (fn: 'count' | 'first' | 'last' | 'mean'): Promise<FieldValue[]> =>
        (await bench.points('words', 'state_text', { fn })).map(([, value]) => value);
      assert.deepEqual(await of('count'), [2]);
      assert.deepEqual(await of('first'), ['a']);
      assert.deepEqual(await of('last'), ['b']);
      assert.deepEqual(await of('mean'), []);
    },
  },
  {
    name: 'names that are hostile to a query language are names',
    run: async (bench) => {
      const tags = { device: `'; DROP TABLE points; --`, __proto: 'constructor' };
      await bench.apply([bench.change(`m'"; --`, T0, { [`f'"=,`]: 1 }, tags)]);
      const measurement = bench.name(`m'"; --`);
      const parts = await bench.parts({ measurement, tags });
      assert.deepEqual(
        parts.map(({ cursor: _, ...part }) => part),
        [{ measurement, field: `f'"=,`, tags, points: [[T0, 1]] }],
      );
    },
  },
];
