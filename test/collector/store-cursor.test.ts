/** A cursor says the same of a store that was filled anew, in whatever order its series came that time. */
import { describe, expect, it } from 'vitest';
import { seenParts } from '../../collector/api/points.ts';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import type { FieldValue } from '../../shared/model/reading.ts';
import { parseCursor } from '../../collector/store/pages.ts';
import type { Identity } from '../../shared/access/tokens.ts';
import type { Change, PointsPart, StoreQuery } from '../../collector/store/store.ts';
import { temporaryFolder } from '../support/process.ts';
import { seeded } from '../support/seed.ts';

const T0 = 1_700_000_000_000;
const SERIES = 30;
/** More than what the newest points in memory are, so that files are asked as well. */
const POINTS = 400;

async function filled(changes: readonly Change[]): Promise<DuckDbStore> {
  const store = new DuckDbStore(
    { folder: temporaryFolder(), memoryBytes: 128 * 1024 ** 2, now: () => Date.now() },
    () => undefined,
  );
  await store.open();
  for (let at = 0; at < changes.length; at += 1000)
    await store.apply(changes.slice(at, at + 1000), new Map());
  return store;
}

function points(): Change[] {
  const changes: Change[] = [];
  for (let n = 0; n < SERIES * POINTS; n++) {
    const series = n % SERIES;
    const reading = {
      measurement: series % 3 === 0 ? 'hall' : 'Yard "2"',
      tags: { gateway: `g${series % 2}`, device: `ä ${series}` },
      timeMs: T0 + Math.floor(n / SERIES / 3) * 1000,
      ns: n % 1_000_000,
      sequence: n,
      index: 0,
      fields: (series % 7 === 0 ? { v_text: `t${n}` } : { v: n }) as Record<string, FieldValue>,
    };
    const identity = { gateway: reading.tags.gateway, epoch: 'e', sequence: n, index: 0 };
    changes.push({ identity, put: reading });
  }
  return changes;
}

const flat = (parts: readonly PointsPart[]): string[] =>
  parts.flatMap(({ points: own, cursor: _, ...key }) =>
    own.map((point) => `${JSON.stringify(key)} ${point.join(' ')}`),
  );

describe('a cursor, and a store that was filled anew in another order', () => {
  it.each<[string, StoreQuery]>([
    ['points', {}],
    ['buckets', { everyMs: 10_000, fn: 'count' }],
    ['points of some series', { tags: { gateway: 'g1' }, fromMs: T0 + 5000 }],
  ])('give %s exactly once', async (_, query) => {
    const { seed, next } = seeded();
    const all = points();
    const other = all
      .map((change) => ({ change, at: next() }))
      .sort((a, b) => a.at - b.at)
      .map(({ change }) => change);
    const stores = [await filled(all), await filled(other), await filled(all.toReversed())];
    try {
      const answer = async (of: number, more: StoreQuery): Promise<PointsPart[]> => {
        const parts: PointsPart[] = [];
        for await (const part of stores[of]?.query({ ...query, ...more }) ?? []) parts.push(part);
        return parts;
      };
      const whole = flat(await answer(0, {}));
      expect(flat(await answer(1, {})), `seed ${seed}`).toEqual(whole);
      const inParts: string[] = [];
      for (let cursor: string | undefined, turn = 0; ; turn++) {
        const limit = 1 + Math.floor(next() * 700);
        const parts = await answer(turn % 3, {
          limit,
          ...(cursor === undefined ? {} : { cursor }),
        });
        inParts.push(...flat(parts));
        if (flat(parts).length < limit) break;
        cursor = parts.at(-1)?.cursor;
      }
      expect(inParts, `seed ${seed}`).toEqual(whole);
    } finally {
      for (const store of stores) await store.close();
    }
  });
});

it('a cursor whose series is not there is wrong, but of a store that is being filled one to ask again with', async () => {
  const store = await filled(points());
  const empty = await filled([]);
  try {
    const query: StoreQuery = { measurement: 'hall', limit: 10 };
    const ask = async (
      of: DuckDbStore,
      more: StoreQuery,
      isComing: boolean,
    ): Promise<PointsPart[]> => {
      const everybody = { gateways: undefined } as Identity;
      const parts: PointsPart[] = [];
      for await (const part of seenParts(of, { ...query, ...more }, everybody, () => isComing))
        parts.push(part);
      return parts;
    };
    const cursor = (await ask(store, {}, false)).at(-1)?.cursor ?? '';
    expect(flat(await ask(store, { cursor }, true))).toHaveLength(10);
    await expect(ask(empty, { cursor }, false)).rejects.toMatchObject({ code: 'QUERY_INVALID' });
    await expect(ask(empty, { cursor }, true)).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      message: expect.stringContaining('ask again with the same cursor') as string,
    });
    await expect(ask(empty, {}, true)).resolves.toEqual([]);
  } finally {
    await store.close();
    await empty.close();
  }
});

it.each([
  '[1,2]',
  '["m","f","tag"]',
  '["m","f",{},[]]',
  '{}',
  'null',
])('a cursor of the series %s is none', (series) => {
  const text = Buffer.from(JSON.stringify([2, series, 1, 1])).toString('base64url');
  expect(() => parseCursor(text)).toThrow('it is not one that an answer had');
});
