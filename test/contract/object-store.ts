/** The suite of the ObjectStore contract: every adapter passes it. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HeadwaterError } from '../../shared/errors.ts';
import type { ObjectStore } from '../../collector/lake/object-store.ts';
import { temporaryFolder } from '../support/process.ts';

export function objectStoreContract(name: string, create: () => Promise<ObjectStore>): void {
  describe(`ObjectStore contract: ${name}`, () => {
    let store: ObjectStore;
    const folder = temporaryFolder();
    let files = 0;
    const file = (content: string | Buffer): string => {
      const path = join(folder, `${files++}`);
      writeFileSync(path, content);
      return path;
    };
    beforeAll(async () => {
      store = await create();
      await store.open();
    });
    afterAll(async () => await store.close());

    it('what was put is there, byte for byte, with its length, and under no other name', async () => {
      const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, at) => (at * 7919) % 256));
      await store.put('raw/date=2026-01-01/gw=a/x.parquet', file(bytes));
      expect(Buffer.compare(await store.get('raw/date=2026-01-01/gw=a/x.parquet'), bytes)).toBe(0);
      const [info, ...others] = await store.list('raw/date=2026-01-01/');
      expect(info).toMatchObject({ key: 'raw/date=2026-01-01/gw=a/x.parquet', bytes: 100_000 });
      expect(others).toEqual([]);
    });

    it('a second put replaces the first, as a whole, and its version differs', async () => {
      await store.put('again/x', file('first, and longer'));
      const [before] = await store.list('again/');
      await store.put('again/x', file('second'));
      expect((await store.get('again/x')).toString()).toBe('second');
      const [after, ...others] = await store.list('again/');
      expect(others).toEqual([]);
      expect(after?.bytes).toBe(6);
      expect(after?.version).not.toBe(before?.version);
    });

    it('a list is of one folder, in order, and empty for one that is not there', async () => {
      for (const key of ['list/b/2', 'list/a/1', 'list/b/1', 'listing/c'])
        await store.put(key, file(key));
      expect((await store.list('list/')).map(({ key }) => key)).toEqual([
        'list/a/1',
        'list/b/1',
        'list/b/2',
      ]);
      expect((await store.list('list/b/')).map(({ key }) => key)).toEqual(['list/b/1', 'list/b/2']);
      expect(await store.list('nowhere/')).toEqual([]);
    });

    it('names with percent signs, equals signs, tildes and dots stay as they are', async () => {
      const key = 'names/date=2026-01-01/gw=a%2Fb%20c%2E/~x-1_2.parquet';
      await store.put(key, file('named'));
      expect((await store.list('names/')).map((info) => info.key)).toEqual([key]);
      expect((await store.get(key)).toString()).toBe('named');
    });

    it('what is not there is NOT_FOUND, and removing it is no error', async () => {
      const error: unknown = await store.get('nowhere/x').catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(HeadwaterError);
      expect((error as HeadwaterError).code).toBe('NOT_FOUND');
      await store.remove('nowhere/x');
      await store.put('gone/x', file('x'));
      await store.remove('gone/x');
      expect(await store.list('gone/')).toEqual([]);
    });

    it('a path is of a file that is there, or there is none', async () => {
      await store.put('path/x', file('x'));
      const path = store.path('path/x');
      expect(path === undefined || existsSync(path)).toBe(true);
    });

    it('more than a page of objects is listed whole', async () => {
      await Promise.all(
        Array.from({ length: 40 }, (_, at) =>
          store.put(`many/${String(at).padStart(3, '0')}`, file('x')),
        ),
      );
      expect(await store.list('many/')).toHaveLength(40);
    });
  });
}
