/** A store that has nothing of what the log had says so until it has read it; a point of the newest step shows an older copy. */
import { describe, expect, it } from 'vitest';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { TOPIC_READINGS, TOPIC_RESULTS } from '../../collector/log/log.ts';
import { HEADER_HEALED, topics } from '../../collector/log/topics.ts';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { isThere, sampleOf } from '../../collector/store/sample.ts';
import { StoreStage } from '../../collector/store/stage.ts';
import type { Change, PointsPart, StoreQuery } from '../../collector/store/store.ts';
import type { FieldValue, Reading } from '../../shared/model/reading.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import { gathered } from '../support/gathered.ts';
import { temporaryFolder, until } from '../support/process.ts';

const quiet = (): void => undefined;

const reading = (sequence: number, value: FieldValue = sequence): Reading => ({
  ...{ measurement: 'm', tags: { id: 'a' }, fields: { value } },
  ...{ sequence, index: 0, timeMs: 1000 + sequence, ns: 0 },
});
const change = (put: Reading | undefined, was?: Reading[]): Change => ({
  identity: { gateway: 'gw', epoch: 'e', sequence: put?.sequence ?? 0, index: 0 },
  put,
  ...(was === undefined ? {} : { was }),
});
const at = (timeMs: number) => ({ measurement: 'm', field: 'value', tags: { id: 'a' }, timeMs });

it('an empty store beside a log that has everything says that it lacks some until it has read it, a new pair never does', async () => {
  const folder = temporaryFolder();
  const log = new EmbeddedLog(
    { folder, cacheBytes: 64 << 10, topics: topics(1 << 20), now: () => Date.now() },
    quiet,
  );
  await log.open();
  const say = (sequence: number): Promise<unknown> => {
    const batch = { gateway: 'gw', epoch: 'e', arrivedMs: 1, readings: [reading(sequence)] };
    return log.append(TOPIC_READINGS, [{ key: 'gw', headers: {}, value: encodeReadings(batch) }]);
  };
  for (const isNew of [true, false]) {
    const own = temporaryFolder();
    const store = new DuckDbStore(
      { folder: own, memoryBytes: 64 << 20, now: () => Date.now() },
      quiet,
    );
    await store.open();
    const apply = store.apply.bind(store);
    const seen: string[][] = [];
    const stage = new StoreStage({ log, store, notify: quiet, fillRate: 1e6 });
    store.apply = (...args) => {
      seen.push(stage.fill.incomplete().map(({ of, reason }) => `${of}: ${reason}`));
      return apply(...args);
    };
    stage.start();
    const all = isNew ? 5 : 6;
    if (isNew) {
      await until('it to have joined', () => stage.readTo(TOPIC_READINGS, 0) === 0 || undefined);
      for (let sequence = 0; sequence < 5; sequence++) await say(sequence);
    }
    await until('all of it', () => stage.readTo(TOPIC_READINGS, 0) === all || undefined);
    expect(stage.fill.incomplete()).toEqual([]);
    await say(all + 1);
    await until('one more', () => stage.readTo(TOPIC_READINGS, 0) === all + 1 || undefined);
    const told = ['readings: the store is being filled from the log'];
    expect(seen[0]).toEqual(isNew ? [] : told);
    expect(seen.at(-1)).toEqual([]);
    await stage.close();
    await store.close();
  }
  await log.close();
});

it('results that are said again for the lake take back no later revision', async () => {
  const folder = temporaryFolder();
  const now = (): number => Date.now();
  const log = new EmbeddedLog(
    { folder, cacheBytes: 64 << 10, topics: topics(1 << 20), now },
    quiet,
  );
  await log.open();
  const store = new DuckDbStore({ folder, memoryBytes: 64 << 20, now }, quiet);
  await store.open();
  const stage = new StoreStage({ log, store, notify: quiet, fillRate: 1e6 });
  stage.start();
  for (const [revision, headers] of [
    [1, {}],
    [2, {}],
    // The log was cut short, or the rest of them is on its way.
    [1, { [HEADER_HEALED]: '1' }],
  ] as const) {
    const readings = [reading(1, revision)];
    const batch = { gateway: '~stream', epoch: 'rule/x', arrivedMs: 1, readings, revision };
    await log.append(TOPIC_RESULTS, [{ key: 'x', headers, value: encodeReadings(batch) }]);
  }
  await until('all of it', () => stage.readTo(TOPIC_RESULTS, 0) === 3 || undefined);
  const [series] = await gathered(store.query({ measurement: 'm' }));
  expect(series?.points).toEqual([[1001, 2]]);
  await stage.close();
  await store.close();
  await log.close();
});

describe('the sample of a step', () => {
  it('is its last point that was taken and that nothing later may have taken away', () => {
    const [a, b, c] = [change(reading(1)), change(reading(2)), change(reading(3))];
    expect(sampleOf([a, b, c], [])).toEqual(at(1003));
    expect(sampleOf([a, b, c], [{ reason: 'type', changes: [c, b] }])).toEqual(at(1001));
    expect(sampleOf([a, change(reading(4, 'text'))], [])).toEqual(at(1001));
    expect(sampleOf([a, change(undefined, [reading(1)])], [])).toBe('none');
    // What is moved is there where it is put.
    expect(sampleOf([a, change(reading(7), [reading(1)])], [])).toEqual(at(1007));
    expect(sampleOf([a], [{ reason: 'type', changes: [a] }])).toBeUndefined();
    expect(sampleOf([], [])).toBeUndefined();
  });

  it('is looked for at its place, but not once the store may have let it go for its age', async () => {
    const asked: StoreQuery[] = [];
    const store = (count: number, keepsFromMs?: number) => ({
      keepsFromMs: () => keepsFromMs,
      async *query(query: StoreQuery): AsyncGenerator<PointsPart> {
        await Promise.resolve();
        asked.push(query);
        if (count > 0)
          yield { ...at(0), points: [[1003, 1]] as [number, FieldValue][], cursor: '' };
      },
    });
    expect(await isThere(store(1), at(1003))).toBe(true);
    expect(await isThere(store(0), at(1003))).toBe(false);
    expect(asked[0]).toEqual({
      ...{ measurement: 'm', field: 'value', tags: { id: 'a' } },
      ...{ fromMs: 1003, toMs: 1004 },
    });
    expect(await isThere(store(0, 1000), at(1003))).toBe(true);
  });
});
