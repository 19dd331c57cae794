/** The suite of the ObjectStore contract: every adapter passes it. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { operatingError } from '../errors.ts';
import type { ObjectStore } from '../object-store.ts';
import { inPlace, runCases, type Case, type Result } from './runner.ts';

/** How the suite gets at what is tested: a store, empty or shared, under a prefix that each case has to itself. */
export interface ObjectStoreUnderTest {
  /** The same storage each time. */
  create(): ObjectStore | Promise<ObjectStore>;
  /** Ends the server as a power cut would, and starts it again. */
  crash?: () => Promise<void>;
  /** Objects for a list that is longer than a page: 1,100 when left out, as many as it takes in ten seconds. */
  many?: number;
}

export interface ObjectStoreBench {
  store: ObjectStore;
  /** Before every key: what a case writes is its own. */
  own: string;
  /** A local file with this content. */
  file(content: string | Buffer): string;
  /** The same storage in another life: opened afresh. */
  again(): Promise<ObjectStore>;
  crash(): Promise<void>;
  many: number;
}

const MANY = 1100;
const MANY_MS_MAX = 10_000;
const AT_ONCE = 20;

export type ObjectStoreCase = Case<ObjectStoreBench, object>;

export const OBJECT_STORE_CASES: readonly ObjectStoreCase[] = [
  {
    name: 'what was put is there, byte for byte, with its length, and under no other name',
    run: async ({ store, own, file }) => {
      const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, at) => (at * 7919) % 256));
      await store.put(`${own}raw/date=2026-01-01/gw=a/x.parquet`, file(bytes));
      assert.equal(
        Buffer.compare(await store.get(`${own}raw/date=2026-01-01/gw=a/x.parquet`), bytes),
        0,
      );
      const [info, ...others] = await store.list(`${own}raw/date=2026-01-01/`);
      assert.equal(info?.key, `${own}raw/date=2026-01-01/gw=a/x.parquet`);
      assert.equal(info.bytes, 100_000);
      assert.deepEqual(others, []);
    },
  },
  {
    name: 'a second put replaces the first, as a whole, and its version differs',
    run: async ({ store, own, file }) => {
      await store.put(`${own}again/x`, file('first, and longer'));
      const [before] = await store.list(`${own}again/`);
      await store.put(`${own}again/x`, file('second'));
      assert.equal((await store.get(`${own}again/x`)).toString(), 'second');
      const [after, ...others] = await store.list(`${own}again/`);
      assert.deepEqual(others, []);
      assert.equal(after?.bytes, 6);
      assert.notEqual(after?.version, before?.version);
    },
  },
  {
    name: 'a list is of one folder, in order, and empty for one that is not there',
    run: async ({ store, own, file }) => {
      for (const key of ['list/b/2', 'list/a/1', 'list/b/1', 'listing/c'])
        await store.put(own + key, file(key));
      assert.deepEqual(
        (await store.list(`${own}list/`)).map(({ key }) => key),
        ['list/a/1', 'list/b/1', 'list/b/2'].map((key) => own + key),
      );
      assert.deepEqual(
        (await store.list(`${own}list/b/`)).map(({ key }) => key),
        ['list/b/1', 'list/b/2'].map((key) => own + key),
      );
      assert.deepEqual(await store.list(`${own}nowhere/`), []);
    },
  },
  {
    name: 'names with percent signs, equals signs, tildes and dots stay as they are',
    run: async ({ store, own, file }) => {
      const key = 'names/date=2026-01-01/gw=a%2Fb%20c%2E/~x-1_2.parquet';
      await store.put(own + key, file('named'));
      assert.deepEqual(
        (await store.list(`${own}names/`)).map((info) => info.key),
        [own + key],
      );
      assert.equal((await store.get(own + key)).toString(), 'named');
    },
  },
  {
    name: 'what is not there is NOT_FOUND, and removing it is no error',
    run: async ({ store, own, file }) => {
      const error: unknown = await store.get(`${own}nowhere/x`).catch((caught: unknown) => caught);
      assert.equal(operatingError(error)?.code, 'NOT_FOUND');
      await store.remove(`${own}nowhere/x`);
      await store.put(`${own}gone/x`, file('x'));
      await store.remove(`${own}gone/x`);
      assert.deepEqual(await store.list(`${own}gone/`), []);
    },
  },
  {
    name: 'a path is of a file that is there, or there is none',
    run: async ({ store, own, file }) => {
      await store.put(`${own}path/x`, file('x'));
      const path = store.path(`${own}path/x`);
      assert.equal(path === undefined || existsSync(path), true);
    },
  },
  {
    name: 'more than a page of objects is listed whole',
    run: async ({ store, own, file, many }) => {
      const keys: string[] = [];
      const deadline = performance.now() + MANY_MS_MAX;
      while (keys.length < many && performance.now() < deadline) {
        const some = Array.from({ length: Math.min(AT_ONCE, many - keys.length) }, (_, at) =>
          [own, 'many/', String(keys.length + at).padStart(5, '0')].join(''),
        );
        await Promise.all(some.map((key) => store.put(key, file('x'))));
        keys.push(...some);
      }
      assert.deepEqual(
        (await store.list(`${own}many/`)).map(({ key }) => key),
        keys,
      );
    },
  },
  {
    name: 'what was put and removed is so in another life of the store',
    run: async ({ store, own, file, again }) => {
      for (const name of ['kept', 'gone']) await store.put(`${own}life/${name}`, file(name));
      await store.remove(`${own}life/gone`);
      await store.close();
      const next = await again();
      assert.deepEqual(
        (await next.list(`${own}life/`)).map(({ key, bytes }) => [key, bytes]),
        [[`${own}life/kept`, 4]],
      );
      assert.equal((await next.get(`${own}life/kept`)).toString(), 'kept');
    },
  },
  {
    name: 'what was acknowledged is there after a crash',
    skip: (_, { canCrash }) => (canCrash ? undefined : 'no way to crash its server was given'),
    run: async ({ store, own, file, crash, again }) => {
      const acknowledged = new Set<string>();
      let isOver = false;
      const writing = (async () => {
        for (let at = 0; !isOver; at++) {
          const key = `${own}crash/${String(at).padStart(6, '0')}`;
          await store.put(key, file(key)).then(
            () => acknowledged.add(key),
            () => new Promise((resolve) => setTimeout(resolve, 50)),
          );
        }
      })();
      const deadline = performance.now() + MANY_MS_MAX;
      while (acknowledged.size < 20 && performance.now() < deadline)
        await new Promise((resolve) => setTimeout(resolve, 20));
      await crash();
      isOver = true;
      await writing;
      const next = await again();
      assert.ok(acknowledged.size > 0, 'nothing was acknowledged before the crash');
      for (const key of acknowledged) assert.equal((await next.get(key)).toString(), key);
    },
  },
];

/** Runs one case with a prefix of its own. */
export async function runObjectStoreCase(
  tested: ObjectStoreUnderTest,
  run: (bench: ObjectStoreBench) => Promise<void>,
): Promise<void> {
  await inPlace(async ({ folder, namespace }) => {
    const store = await tested.create();
    await store.open();
    let files = 0;
    const file = (content: string | Buffer): string => {
      const path = join(folder, `${files++}`);
      writeFileSync(path, content);
      return path;
    };
    const opened = [store];
    const again = async (): Promise<ObjectStore> => {
      const next = await tested.create();
      await next.open();
      opened.push(next);
      return next;
    };
    const crash = async (): Promise<void> => {
      assert.ok(tested.crash, 'a case that crashes is skipped without a way to');
      await tested.crash();
    };
    try {
      const { many = MANY } = tested;
      await run({ store, own: `${namespace}/`, file, again, crash, many });
    } finally {
      for (const each of opened) await each.close();
    }
  });
}

/** All cases whose name holds `only`, one after the other. */
export async function runObjectStoreSuite(
  tested: ObjectStoreUnderTest,
  onResult: (result: Result) => void,
  only = '',
): Promise<Result[]> {
  return await runCases<ObjectStoreBench, object>(
    OBJECT_STORE_CASES,
    {},
    tested.crash !== undefined,
    (run) => runObjectStoreCase(tested, run),
    onResult,
    only,
  );
}
