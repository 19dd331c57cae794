/** The TimeSeriesStore suite, writing: afterwards exactly what was put of an identity is there. */
import assert from 'node:assert/strict';
import { T0, removes, type StoreCase } from './store-bench.ts';

export const WRITING: readonly StoreCase[] = [
  {
    name: 'gives back every point with its value, type and time',
    run: async (bench) => {
      const fields = { value: 21.25, state_text: 'n/a, "quoted" \\ back', on_bool: true };
      assert.deepEqual(await bench.apply([bench.change('types', T0 + 1, fields)]), []);
      for (const [field, value] of Object.entries(fields))
        assert.deepEqual(await bench.points('types', field), [[T0 + 1, value]]);
    },
  },
  {
    name: 'keeps two readings of one series in the same millisecond',
    run: async (bench) => {
      await bench.apply([
        bench.change('twice', T0, { value: 1 }),
        bench.change('twice', T0, { value: 2 }),
      ]);
      const points = await bench.points('twice');
      assert.deepEqual(
        points.map(([time]) => time),
        [T0, T0],
      );
      assert.deepEqual(new Set(points.map(([, value]) => value)), new Set([1, 2]));
    },
  },
  {
    name: 'the same identity applied again, in the same and in a later call, is one point',
    run: async (bench) => {
      const same = bench.change('again', T0, { value: 5 });
      await bench.apply([same, same]);
      await bench.apply([same]);
      assert.deepEqual(await bench.points('again'), [[T0, 5]]);
      await bench.apply([bench.change('again', T0 + 1, { value: 6 }), same]);
      assert.deepEqual(await bench.points('again'), [
        [T0, 5],
        [T0 + 1, 6],
      ]);
    },
  },
  {
    name: 'the same sequence of another epoch is another point',
    run: async (bench) => {
      const one = bench.change('epochs', T0, { value: 1 });
      const two = bench.change('epochs', T0, { value: 2 }, { device: 'd1' }, 'ffffffffffffffff');
      const put = { ...two.put, sequence: one.put.sequence };
      await bench.apply([
        one,
        { identity: { ...two.identity, sequence: one.identity.sequence }, put },
      ]);
      assert.equal((await bench.points('epochs')).length, 2);
    },
  },
  {
    name: 'a reading that is put elsewhere leaves nothing where it was',
    skip: removes,
    run: async (bench) => {
      const kept = bench.change('moved', T0, { value: 1 });
      const { identity, put } = bench.change('moved', T0, { value: 2, other: 3 });
      await bench.apply([kept, { identity, put }]);
      const moved = { ...put, timeMs: T0 + 5000 };
      await bench.apply([{ identity, put: moved, was: [put] }]);
      assert.deepEqual(await bench.points('moved'), [
        [T0, 1],
        [T0 + 5000, 2],
      ]);
      assert.deepEqual(await bench.points('moved', 'other'), [[T0 + 5000, 3]]);
      // To another series, with a field less, and done again as after a lost acknowledgement.
      const renamed = { ...moved, tags: { device: 'd2' }, fields: { value: 4 } };
      for (let round = 0; round < 2; round++)
        await bench.apply([{ identity, put: renamed, was: [put, moved] }]);
      assert.deepEqual(await bench.points('moved', 'value', { tags: { device: 'd1' } }), [[T0, 1]]);
      assert.deepEqual(await bench.points('moved', 'value', { tags: { device: 'd2' } }), [
        [T0 + 5000, 4],
      ]);
      assert.deepEqual(await bench.points('moved', 'other'), []);
    },
  },
  {
    name: 'a reading that is put again with fewer fields has no more',
    skip: removes,
    run: async (bench) => {
      const { identity, put } = bench.change('fewer', T0, { value: 1, other: 2 });
      await bench.apply([{ identity, put }]);
      await bench.apply([{ identity, put: { ...put, fields: { value: 3 } }, was: [put] }]);
      assert.deepEqual(await bench.points('fewer'), [[T0, 3]]);
      assert.deepEqual(await bench.points('fewer', 'other'), []);
    },
  },
  {
    name: 'a reading that is taken back is gone, and may come again',
    skip: removes,
    run: async (bench) => {
      const { identity, put } = bench.change('gone', T0, { value: 1 });
      const other = bench.change('gone', T0 + 1, { value: 2 });
      await bench.apply([{ identity, put }, other]);
      await bench.apply([{ identity, put: undefined, was: [put] }]);
      assert.deepEqual(await bench.points('gone'), [[T0 + 1, 2]]);
      await bench.apply([{ identity, put: undefined, was: [put] }]);
      await bench.apply([{ identity, put }]);
      assert.deepEqual(await bench.points('gone'), [
        [T0, 1],
        [T0 + 1, 2],
      ]);
    },
  },
  {
    name: 'changes of one call are applied in their order',
    skip: removes,
    run: async (bench) => {
      const { identity, put } = bench.change('order', T0, { value: 1 });
      const later = { ...put, timeMs: T0 + 10 };
      await bench.apply([
        { identity, put },
        { identity, put: later, was: [put] },
        { identity, put: undefined, was: [later] },
        { identity, put: { ...put, fields: { value: 2 } } },
      ]);
      assert.deepEqual(await bench.points('order'), [[T0, 2]]);
      await bench.apply([
        { identity, put: { ...put, fields: { value: 3 } } },
        { identity, put: undefined, was: [put] },
      ]);
      assert.deepEqual(await bench.points('order'), []);
    },
  },
  {
    name: 'takes ten thousand points and gives back all of them',
    run: async (bench) => {
      await bench.apply(
        Array.from({ length: 10_000 }, (_, i) => bench.change('many', T0 + i, { value: i })),
      );
      const all = await bench.points('many');
      assert.equal(all.length, 10_000);
      assert.deepEqual(all.at(-1), [T0 + 9999, 9999]);
    },
  },
  {
    name: '732, 732.5 and "n/a" of one sensor all stay',
    run: async (bench) => {
      await bench.apply([
        bench.change('co2', T0, { value: 732 }),
        bench.change('co2', T0 + 1, { value: 732.5 }),
        bench.change('co2', T0 + 2, { value_text: 'n/a' }),
      ]);
      assert.deepEqual(
        (await bench.points('co2')).map(([, value]) => value),
        [732, 732.5],
      );
      assert.deepEqual(await bench.points('co2', 'value_text'), [[T0 + 2, 'n/a']]);
    },
  },
];
