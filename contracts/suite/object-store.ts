/** The suite of the ObjectStore contract: every adapter passes it. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { operatingError } from '../errors.ts';
import type { ObjectStore } from '../object-store.ts';
import { inPlace, runCases, type Case, type Result } from './runner.ts';

/** How the suite gets at what is tested: an open store, empty or shared, under a prefix that each case has to itself. */
export interface ObjectStoreUnderTest {
  create(): ObjectStore | Promise<ObjectStore>;
}

export interface ObjectStoreBench {
  store: ObjectStore;
  /** Before every key: what a case writes is its own. */
  own: string;
  /** A local file with this content. */
  file(content: string | Buffer): string;
}

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
    run: async ({ store, own, file }) => {
      await Promise.all(
        Array.from({ length: 40 }, (_, at) =>
          store.put(`${own}many/${String(at).padStart(3, '0')}`, file('x')),
        ),
      );
      assert.equal((await store.list(`${own}many/`)).length, 40);
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
    try {
      await run({ store, own: `${namespace}/`, file });
    } finally {
      await store.close();
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
    false,
    (run) => runObjectStoreCase(tested, run),
    onResult,
    only,
  );
}
