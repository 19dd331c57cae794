/** Points in the embedded store's file are put in the order of their series, block by block, and stay what they were. */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openDuckDb } from '../../collector/duckdb/database.ts';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import type { Change } from '../../collector/store/store.ts';
import { temporaryFolder } from '../support/process.ts';

const SERIES = 20;
const BLOCK = 1000;

/** One point of each series after the other. */
const changes = (from: number, count: number, plus = 0): Change[] =>
  Array.from({ length: count }, (_, at) => {
    const sequence = from + at;
    return {
      identity: { gateway: 'g', epoch: 'e', sequence, index: 0 },
      put: {
        measurement: 'm',
        tags: { of: String(sequence % SERIES) },
        fields: { n: sequence + plus },
        sequence,
        index: 0,
        timeMs: 1_700_000_000_000 + sequence,
        ns: 0,
      },
    };
  });

const opened = async (folder: string): Promise<DuckDbStore> => {
  const options = { folder, memoryBytes: 64 << 20, now: () => 0, blockPoints: BLOCK };
  const store = new DuckDbStore(options, () => undefined);
  await store.open();
  return store;
};

async function pointsOf(store: DuckDbStore): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>();
  for await (const { tags, points } of store.query({}))
    found.set(tags['of'] ?? '', [
      ...(found.get(tags['of'] ?? '') ?? []),
      ...points.map(([, value]) => Number(value)),
    ]);
  return new Map([...found].sort(([a], [b]) => Number(a) - Number(b)));
}

/** Numbers of the series as the rows lie. */
async function lying(folder: string): Promise<number[]> {
  const path = join(folder, 'store', 'readings.duckdb');
  const file = await openDuckDb(path, { memoryBytes: 64 << 20, files: false });
  const connection = await file.connect();
  const rows = await connection.runAndReadAll('SELECT series FROM points ORDER BY rowid');
  connection.closeSync();
  file.closeSync();
  return rows.getRows().map(([series]) => Number(series));
}

const steps = (list: readonly number[]): number =>
  list.filter((series, at) => at > 0 && series !== list[at - 1]).length;

it('a block of points lies by series, what came behind it as it came, through a restart in its middle', async () => {
  const folder = temporaryFolder();
  let store = await opened(folder);
  await store.apply(changes(0, 700), new Map());
  await store.close();
  // What came before the restart is of the block.
  store = await opened(folder);
  await store.apply(changes(700, 400), new Map());
  await store.apply(changes(1100, 300), new Map());
  const whole = Array.from({ length: SERIES }, (_, series): [string, number[]] => [
    String(series),
    changes(0, 1400).flatMap(({ identity: { sequence } }) =>
      sequence % SERIES === series ? [sequence] : [],
    ),
  ]);
  expect([...(await pointsOf(store))]).toEqual(whole);
  // It is found by its identity wherever it lies: said again it is one point, corrected another.
  await store.apply(changes(0, 100), new Map());
  await store.apply(changes(300, 1, 0.5), new Map());
  const corrected = await pointsOf(store);
  expect([...corrected.values()].flat()).toHaveLength(1400);
  expect(corrected.get('0')?.[15]).toBe(300.5);
  await store.close();
  const lies = await lying(folder);
  expect(lies).toHaveLength(1400);
  expect(steps(lies.slice(0, 1099))).toBe(SERIES - 1);
  expect(steps(lies.slice(1099))).toBeGreaterThan(290);
});

it('a question that began before goes on with what it saw', async () => {
  const store = await opened(temporaryFolder());
  await store.apply(changes(0, 900), new Map());
  const session = await store.session({ timeoutMs: 10_000, signal: undefined });
  const chunks = session.chunks('SELECT n.seq FROM points AS n, range(10) ORDER BY n.seq');
  let seen = (await chunks.next()).value?.length ?? 0;
  await store.apply(changes(900, 200), new Map());
  await store.series();
  for await (const rows of chunks) seen += rows.length;
  await session.close();
  expect(seen).toBe(9000);
  expect([...(await pointsOf(store)).values()].flat()).toHaveLength(1100);
  await store.close();
});
