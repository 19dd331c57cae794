/** The embedded store opened afresh while somebody still reads what was open before: of the two only one has the file. */
import { cpSync } from 'node:fs';
import { expect, it } from 'vitest';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import type { Change } from '../../collector/store/store.ts';
import { heldBytes } from '../support/heap.ts';
import { temporaryFolder } from '../support/process.ts';

const ALL = 'SELECT series, seq FROM points';
const LIMITS = { timeoutMs: 60_000, signal: undefined };

const batch = (first: number, count: number): Change[] =>
  Array.from({ length: count }, (_, at) => ({
    identity: { gateway: 'gw', epoch: '00', sequence: first + at, index: 0 },
    put: {
      ...{ measurement: 'm', tags: {}, fields: { n: first + at } },
      ...{ timeMs: 1.7e12 + first + at, ns: 0, sequence: first + at, index: 0 },
    },
  }));

it('what is written after it is there, whatever becomes of the readers of before', async () => {
  const options = { folder: temporaryFolder(), memoryBytes: 64 * 1024 * 1024, now: () => 1.8e12 };
  const told: string[] = [];
  const store = new DuckDbStore(options, ({ text }) => void told.push(text));
  await store.open();
  const countIn = async (each: DuckDbStore): Promise<number> => {
    const session = await each.session(LIMITS);
    const rows = await session.all('SELECT count(*)::INTEGER FROM points');
    await session.close();
    return Number(rows[0]?.[0]);
  };
  /** As after an error of the disk: the next call opens the file. */
  const fail = (): void => {
    const { file } = store as unknown as { file: { failed(error: Error, wrote: boolean): Error } };
    file.failed(new Error('IO Error: Input/output error'), true);
  };
  await store.apply(batch(1, 50_000), new Map([['at', '1']]));
  await (async () => {
    const reader = await store.session(LIMITS);
    const chunks = reader.chunks(ALL);
    await chunks.next();
    fail();
    await store.apply(batch(50_001, 439), new Map([['at', '2']]));
    // A reader of before is told, ends nothing of what is open now, and goes.
    await expect(
      (async () => {
        for (let next = await chunks.next(); next.done !== true; ) next = await chunks.next();
      })(),
    ).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    await reader.close();
  })();
  // What was open before is gone for good once nothing holds it.
  for (let tries = 0; tries < 3; tries++) {
    heldBytes();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  // The next one that is read, and fails, leaves the file to one more.
  const second = await store.session(LIMITS);
  const unread = second.chunks(ALL);
  await unread.next();
  fail();
  await store.marks('');
  // As after a power cut.
  const folder = temporaryFolder();
  cpSync(options.folder, folder, { recursive: true });
  const cut = new DuckDbStore({ ...options, folder }, () => undefined);
  for (const each of [store, cut]) {
    await each.open();
    expect(await countIn(each)).toBe(50_439);
    expect(await each.marks('at')).toEqual(new Map([['at', '2']]));
    await each.close();
  }
  await second.close();
  expect(told.filter((text) => text.includes('opened afresh'))).toHaveLength(2);
});

it('points that cannot be put in order, since those who read have the memory, are put in order later; nothing is opened afresh', async () => {
  const options = {
    ...{ folder: temporaryFolder(), memoryBytes: 64 * 1024 * 1024, now: () => 1.8e12 },
    blockPoints: 80,
  };
  const told: string[] = [];
  const store = new DuckDbStore(options, ({ text }) => void told.push(text));
  await store.open();
  const { file } = store as unknown as {
    file: { current: { run(sql: string): Promise<unknown> } };
  };
  const run = file.current.run.bind(file.current);
  const sorted: number[] = [];
  let points = 0;
  file.current.run = async (sql) => {
    if (sql.startsWith('INSERT INTO points SELECT')) {
      sorted.push(points);
      if (sorted.length === 1)
        throw new Error('Out of Memory Error: failed to pin block of size 256.0 KiB');
    }
    return await run(sql);
  };
  for (; points < 200; points += 5) {
    await store.apply(batch(1 + points, 5), new Map());
    await store.marks('');
  }
  // An eighth more after it failed, and then as ever.
  expect(sorted).toEqual([75, 85, 165]);
  const session = await store.session(LIMITS);
  expect(
    await session.all('SELECT count(*)::INTEGER, count(DISTINCT seq)::INTEGER FROM points'),
  ).toEqual([[200, 200]]);
  await session.close();
  expect(told).toEqual([]);
  await store.close();
});
