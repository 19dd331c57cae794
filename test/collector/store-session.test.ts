/** A question's bounds: time, memory, an asker who leaves. None of them harms the store. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { temporaryFolder } from '../support/process.ts';

const ENDLESS = 'SELECT sum(a.range * b.range) FROM range(10000000) AS a, range(10000000) AS b';
const HUGE = 'SELECT list(range) FROM range(200000000)';

describe('a question to the embedded store', () => {
  const told: string[] = [];
  let store: DuckDbStore;
  beforeAll(async () => {
    store = new DuckDbStore(
      { folder: temporaryFolder(), memoryBytes: 64 * 1024 * 1024, now: () => Date.now() },
      ({ text }) => void told.push(text),
    );
    await store.open();
  });
  afterAll(() => store.close());

  async function ask(sql: string, timeoutMs: number, signal?: AbortSignal): Promise<unknown[][]> {
    const session = await store.session({ timeoutMs, signal });
    try {
      return await session.all(sql);
    } finally {
      await session.close();
    }
  }

  it('that takes too long ends with the reason', async () => {
    await expect(ask(ENDLESS, 200)).rejects.toMatchObject({
      code: 'QUERY_LIMIT',
      message: /longer than 1 s/,
    });
  });

  it('that needs too much memory ends with the reason', async () => {
    await expect(ask(HUGE, 20_000)).rejects.toMatchObject({
      code: 'QUERY_LIMIT',
      message: /more memory/,
    });
  });

  it('whose asker has left ends at once', async () => {
    const leaving = new AbortController();
    const asked = ask(ENDLESS, 60_000, leaving.signal);
    setTimeout(() => leaving.abort(), 100);
    await expect(asked).rejects.toMatchObject({ code: 'QUERY_LIMIT' });
    await expect(ask('SELECT 1', 60_000, AbortSignal.abort())).rejects.toMatchObject({
      code: 'QUERY_LIMIT',
    });
  });

  it('whose asker leaves while it begins ends as well, whenever that is', async () => {
    for (let delayMs = 0; delayMs < 30; delayMs++) {
      const leaving = new AbortController();
      const asked = ask(ENDLESS, 60_000, leaving.signal);
      if (delayMs % 3 === 0) setImmediate(() => leaving.abort());
      else setTimeout(() => leaving.abort(), delayMs / 10);
      await expect(asked).rejects.toMatchObject({ code: 'QUERY_LIMIT' });
    }
  });

  it('holds two threads at most, and others have their turn behind it', async () => {
    const leaving = new AbortController();
    const long = [1, 2, 3, 4].map(() => ask(ENDLESS, 60_000, leaving.signal).catch(() => 'ended'));
    // LevelDB, files and DNS use the same four threads: two are left.
    expect((await store.marks('x')).size).toBe(0);
    leaving.abort();
    expect(await Promise.all(long)).toEqual(['ended', 'ended', 'ended', 'ended']);
    expect(await ask('SELECT 1', 60_000)).toEqual([[1]]);
  });

  it('does no harm to the store, which is not opened afresh', () => {
    expect(told).toEqual([]);
  });
});
