/** The TimeSeriesStore suite, restarts and crashes: identity, marks, and what was acknowledged. */
import assert from 'node:assert/strict';
import { T0, type StoreCase } from './store-bench.ts';

const CRASH_MS_MAX = 30_000;
const BATCH = 20;

export const LIFE: readonly StoreCase[] = [
  {
    name: 'has an identity, which stays through a restart',
    run: async (bench) => {
      const identity = await bench.store.identity();
      assert.match(identity, /^[A-Za-z0-9._-]{1,64}$/);
      await bench.reopen();
      assert.equal(await bench.store.identity(), identity);
    },
  },
  {
    name: 'all of it is there after a restart, and repeats are still recognised',
    run: async (bench) => {
      const before = bench.change('restart', T0, { value: 1 });
      await bench.apply([before]);
      await bench.reopen();
      assert.deepEqual(await bench.points('restart'), [[T0, 1]]);
      await bench.apply([before]);
      assert.deepEqual(await bench.points('restart'), [[T0, 1]]);
      const [latest] = await bench.store.latest({ measurement: bench.name('restart') });
      assert.equal(latest?.value, 1);
    },
  },
  {
    name: 'marks are kept with the changes, the last of a name counts, and they are found by prefix',
    skip: ({ progress }) => (progress ? undefined : 'it keeps no marks: the log does'),
    run: async (bench) => {
      const name = `suite/${bench.name('marks')}`;
      await bench.apply(
        [bench.change('marks', T0, { value: 1 })],
        new Map([
          [`${name}/a`, '1'],
          [`${name}/b`, `it's "2"`],
        ]),
      );
      await bench.apply([], new Map([[`${name}/a`, '3']]));
      await bench.reopen();
      assert.deepEqual(
        await bench.store.marks(`${name}/`),
        new Map([
          [`${name}/a`, '3'],
          [`${name}/b`, `it's "2"`],
        ]),
      );
    },
  },
  {
    name: 'what was acknowledged is there once after a crash, and no mark is ahead of its data',
    skip: (_, { canCrash }) => (canCrash ? undefined : 'no way to crash its server was given'),
    run: async (bench) => {
      const mark = `suite/${bench.name('crash')}`;
      const deadline = performance.now() + CRASH_MS_MAX;
      let acknowledged = 0;
      let failed = 0;
      let wanted = Number.POSITIVE_INFINITY;
      const writing = (async () => {
        while (acknowledged < wanted && performance.now() < deadline) {
          const changes = Array.from({ length: BATCH }, (_, i) =>
            bench.change('crash', T0 + acknowledged * BATCH + i, { value: acknowledged }),
          );
          // The same changes until they are acknowledged, as a stage does.
          for (let done = false; !done && performance.now() < deadline; ) {
            try {
              await bench.apply(changes, new Map([[mark, String(acknowledged)]]));
              done = true;
            } catch {
              failed++;
              await bench.pause();
            }
          }
          acknowledged++;
          await bench.pause(); // A store that answers at once lets nobody else have a turn.
        }
      })();
      while (acknowledged < 10 && performance.now() < deadline) await bench.pause();
      await bench.crash();
      wanted = acknowledged + 10;
      await writing;
      assert.equal(acknowledged, wanted, `after the crash it took no more (${failed} failed)`);
      const expected = Array.from({ length: acknowledged * BATCH }, (_, i) => [
        T0 + i,
        Math.floor(i / BATCH),
      ]);
      assert.deepEqual(await bench.points('crash'), expected);
      if (!bench.supports.progress) return;
      const marks = await bench.store.marks(mark);
      assert.deepEqual(marks, new Map([[mark, String(acknowledged - 1)]]));
    },
  },
  {
    name: 'changes that are not applied leave no mark behind',
    skip: ({ progress }, { canCrash }) => {
      if (!progress) return 'it keeps no marks: the log does';
      return canCrash ? undefined : 'no way to crash its server was given';
    },
    run: async (bench) => {
      const mark = `suite/${bench.name('ahead')}`;
      const crashed = bench.crash();
      let count = 0;
      // One try of each while the server goes and comes: some are not applied, and none of these is marked.
      const tries = (async () => {
        for (let ended = false; !ended; count++) {
          const change = bench.change('ahead', T0 + count, { value: count });
          await bench
            .apply([change], new Map([[`${mark}/${count}`, 'there']]))
            .catch(() => undefined);
          ended = await Promise.race([crashed.then(() => true), bench.pause().then(() => false)]);
        }
      })();
      await crashed;
      await tries;
      await bench.reopen();
      const marked = [...(await bench.store.marks(`${mark}/`)).keys()];
      const there = (await bench.points('ahead')).map(([, value]) => `${mark}/${String(value)}`);
      assert.deepEqual(new Set(marked), new Set(there));
    },
  },
];
