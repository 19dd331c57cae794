/** The lake on a real log, DuckDB and disk: every row once, through crashes, moves, replays and merging. */
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Lake } from '../../collector/lake/lake.ts';
import { LocalObjects } from '../../collector/lake/local.ts';
import { current, encodeName, parseKey } from '../../collector/lake/layout.ts';
import { seriesText } from '../../collector/lake/rows.ts';
import { LakeStage } from '../../collector/lake/stage.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { topics } from '../../collector/log/topics.ts';
import {
  HEADER_AGAIN,
  TOPIC_READINGS,
  TOPIC_RESULTS,
  TOPIC_STATE,
  type LogRecord,
} from '../../collector/log/log.ts';
import type { ObjectStore } from '../../collector/lake/object-store.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import { objectStoreContract } from '../contract/object-store.ts';
import { temporaryFolder, until } from '../support/process.ts';

const local = temporaryFolder();
objectStoreContract('local', () => Promise.resolve(new LocalObjects(local)), 40);

const T0 = Date.UTC(2026, 4, 1, 12);

const reading = (sequence: number, value: number, more: Partial<Reading> = {}): Reading => ({
  measurement: 'm',
  tags: { id: 'a' },
  fields: { value },
  sequence,
  index: 0,
  timeMs: T0 + sequence * 1000,
  ns: 7,
  ...more,
});

const record = (
  readings: Reading[],
  more: { again?: boolean; removed?: Reading[]; revision?: number; gateway?: string } = {},
): LogRecord => {
  const { again = false, removed = [], revision, gateway = 'gw' } = more;
  const batch = { gateway, epoch: 'e', arrivedMs: T0, readings, removed };
  return {
    key: gateway,
    headers: again ? { [HEADER_AGAIN]: 'true' } : {},
    value: encodeReadings(revision === undefined ? batch : { ...batch, revision }),
  };
};

interface Site {
  log: EmbeddedLog;
  lake: Lake;
  stages: LakeStage[];
  said: string[];
  close(): Promise<void>;
}

async function site(
  folder: string,
  wrap: (store: LocalObjects) => ObjectStore = (store) => store,
): Promise<Site> {
  const said: string[] = [];
  const notify = ({ text }: { text: string }): void => void said.push(text);
  const log = new EmbeddedLog(
    { folder, cacheBytes: 1 << 20, topics: topics(Infinity), now: () => T0 },
    notify,
  );
  await log.open();
  const lake = new Lake(wrap(new LocalObjects(join(folder, 'lake'))), {
    folder,
    memoryBytes: 128 << 20,
    cacheBytes: 1 << 20,
  });
  await lake.open();
  const stages = (['raw', 'readings', 'results'] as const).map(
    (zone) => new LakeStage({ zone, log, lake, flushMs: 1, flushBytes: 1 << 20, notify }),
  );
  for (const stage of stages) stage.start();
  return {
    log,
    lake,
    stages,
    said,
    close: async () => {
      await Promise.all(stages.map((stage) => stage.close()));
      await lake.close();
      await log.close();
    },
  };
}

const caughtUp = ({ log }: Site): Promise<true> =>
  until('the lake to have everything', () => {
    const groups = log.groups().filter(({ group }) => group.startsWith('headwater-lake'));
    // One that has not begun is not there yet.
    return (groups.length === 3 && groups.every(({ lagRecords }) => lagRecords === 0)) || undefined;
  });

async function rows(lake: Lake, sql: string): Promise<unknown[][]> {
  return await lake.query({}, async (connection) =>
    (await connection.runAndReadAll(sql)).getRows(),
  );
}

const values = async (lake: Lake, zone = 'readings'): Promise<unknown[][]> =>
  (
    await rows(
      lake,
      `SELECT sequence, fields['value'], epoch_ms(time) FROM ${zone} ORDER BY sequence, time`,
    )
  ).map(([sequence, value, time]) => [Number(sequence), value, Number(time)]);

const expected = (numbers: number[]): unknown[][] => numbers.map((n) => [n, n * 10, T0 + n * 1000]);

const stateOf = (state: object): LogRecord => ({
  key: 'lake/readings/0',
  headers: {},
  value: Buffer.from(JSON.stringify(state)),
});

describe.concurrent('layout', () => {
  it('a gateway of any name is one folder, and comes back as it was', () => {
    for (const name of ['gw-1', '../../etc', 'a/b', 'ü %2F', '..', 'CON', "x'y", '{{x}}']) {
      const folder = `readings/date=2026-01-01/gw=${encodeName(name)}/`;
      expect(encodeName(name)).toMatch(/^[A-Za-z0-9_~%-]+$/);
      const key = `${folder}00ff-0-000000000000-000000000010.parquet`;
      expect(parseKey({ key, bytes: 1, version: '' })?.gateway).toBe(name);
    }
  });

  it('a file within the offsets of another one of its folder, log and partition counts no more; others do', () => {
    const file = (name: string): ReturnType<typeof parseKey> =>
      parseKey({ key: `raw/date=2026-01-01/gw=a/${name}.parquet`, bytes: 1, version: '' });
    const all = [
      'aa-0-000000000000-000000000010',
      'aa-0-000000000000-000000000030',
      'aa-0-000000000010-000000000030',
      'aa-0-000000000030-000000000040',
      'aa-1-000000000010-000000000020',
      'bb-0-000000000010-000000000020',
    ].flatMap((name) => file(name) ?? []);
    const { valid, merged } = current(all);
    expect(merged.map(({ from, to }) => [from, to])).toEqual([
      [0, 10],
      [10, 30],
    ]);
    expect(valid).toHaveLength(4);
  });

  it('what others put beside is not a file of the lake', () => {
    for (const key of [
      'notes.txt',
      'readings/x.parquet',
      'readings/date=2026-01-01/gw=a/mine.parquet',
    ])
      expect(parseKey({ key, bytes: 1, version: '' })).toBeUndefined();
  });

  it('the text of a series is its measurement and tags in order, escaped as in line protocol', () => {
    expect(seriesText('a b', { z: '1', a: 'x,y=z' })).toBe('a\\ b,a=x\\,y\\=z,z=1');
  });
});

describe.concurrent('lake stage', () => {
  it('writes each reading once, by date and gateway, and goes on after a restart', async () => {
    const folder = temporaryFolder();
    let at = await site(folder);
    await at.log.append(TOPIC_READINGS, [record([reading(1, 10), reading(2, 20)])]);
    await at.log.append(TOPIC_READINGS, [record([reading(3, 30)], { gateway: 'a/b' })]);
    await caughtUp(at);
    await at.close();
    at = await site(folder);
    await at.log.append(TOPIC_READINGS, [record([reading(4, 40, { timeMs: T0 + 4000 })])]);
    await caughtUp(at);
    expect(await values(at.lake)).toEqual(expected([1, 2, 3, 4]));
    const folders = readdirSync(join(folder, 'lake/readings/date=2026-05-01'));
    expect(folders.sort()).toEqual(['gw=a%2Fb', 'gw=gw']);
    await at.close();
  });

  it('keeps numbers, texts, truth, tags and times as they are', async () => {
    const at = await site(temporaryFolder());
    const odd = reading(1, 0.1 + 0.2, {
      tags: { 'na"me': "it's ü" },
      fields: {
        value: 0.1 + 0.2,
        tiny: 5e-324,
        big: 1.7976931348623157e308,
        s_text: 'a\n"b"',
        on_bool: true,
      },
      ns: 999_999,
      late: true,
    });
    await at.log.append(TOPIC_READINGS, [record([odd])]);
    await caughtUp(at);
    const [row] = await rows(
      at.lake,
      `SELECT fields['value'], fields['tiny'], fields['big'], texts['s_text'], bools['on_bool'], tags['na"me'], time_ns, late FROM readings`,
    );
    expect(row).toEqual([
      0.30000000000000004,
      5e-324,
      1.7976931348623157e308,
      'a\n"b"',
      true,
      "it's ü",
      BigInt(T0 + 1000) * 1_000_000n + 999_999n,
      true,
    ]);
    await at.close();
  });

  it('what DuckDB takes apart by itself and what is looked at here are the same rows', async () => {
    const tables: unknown[][][] = [];
    const odd = [
      reading(1, 0.1 + 0.2, { tags: { 'b=b': 'x,y z', a: 'back\\slash', ü: '"quoted"' } }),
      reading(2, 5e-324, { measurement: 'a b,c=d', tags: {}, index: 3, ns: 999_999, late: true }),
      reading(3, -1e300, { fields: { value: -1e300, other: 7, big: 9007199254740991 } }),
      reading(4, 1, { timeMs: T0 + 86_400_000 * 40, tags: { '': '', "it's": '{}' } }),
      reading(5, 1, { timeMs: -1000, ns: 0 }),
    ];
    for (const again of [false, true]) {
      const at = await site(temporaryFolder());
      await at.log.append(TOPIC_READINGS, [record(odd, { again, gateway: "g'w" })]);
      await caughtUp(at);
      tables.push(await rows(at.lake, 'SELECT * EXCLUDE (log) FROM readings ORDER BY sequence'));
      await at.close();
    }
    expect(tables[0]).toHaveLength(5);
    expect(tables[0]).toEqual(tables[1]);
  });

  it('a reading that moved, was removed or is said again replaces its row: within a step and in files', async () => {
    const at = await site(temporaryFolder());
    await at.log.append(TOPIC_READINGS, [
      record([reading(1, 10), reading(2, 20), reading(3, 30), reading(4, 40)]),
      // In the same step: moved to the next day.
      record([reading(2, 20, { timeMs: T0 + 86_400_000, was: { timeMs: T0 + 2000, ns: 7 } })]),
    ]);
    await caughtUp(at);
    await at.log.append(TOPIC_READINGS, [record([reading(1, 11)], { again: true })]);
    await at.log.append(TOPIC_READINGS, [record([], { removed: [reading(3, 30)], again: true })]);
    await at.log.append(TOPIC_READINGS, [
      record([reading(4, 40, { timeMs: T0 + 5000, was: { timeMs: T0 + 4000, ns: 7 } })]),
    ]);
    await caughtUp(at);
    expect(await values(at.lake)).toEqual([
      [1, 11, T0 + 1000],
      [2, 20, T0 + 86_400_000],
      [4, 40, T0 + 5000],
    ]);
    await at.close();
  });

  it('results keep every revision; the newest counts, and one that was taken back does not', async () => {
    const at = await site(temporaryFolder());
    const append = async (
      readings: Reading[],
      revision: number,
      removed: Reading[] = [],
    ): Promise<void> =>
      await at.log.append(TOPIC_RESULTS, [record(readings, { revision, removed })]);
    await append([reading(1, 10), reading(2, 20)], 1);
    await append([reading(1, 11)], 2);
    await append([], 3, [reading(2, 20)]);
    // A rebuild says again what the lake has.
    await at.log.append(TOPIC_RESULTS, [record([reading(1, 11)], { revision: 2, again: true })]);
    await caughtUp(at);
    expect(await values(at.lake, 'results')).toEqual([[1, 11, T0 + 1000]]);
    const [all] = (await at.lake.summary()).filter(({ zone }) => zone === 'results');
    expect(all?.files).toBeGreaterThan(0);
    await at.close();
  });

  it('many small files become one, rows as before, and a crash between writing and deleting counts none twice', async () => {
    const folder = temporaryFolder();
    let at = await site(folder);
    const numbers = Array.from({ length: 20 }, (_, n) => n + 1);
    for (const n of numbers) {
      await at.log.append(TOPIC_READINGS, [record([reading(n, n * 10)])]);
      await caughtUp(at);
    }
    const kept = join(folder, 'kept');
    mkdirSync(kept);
    const lakeFolder = join(folder, 'lake/readings/date=2026-05-01/gw=gw');
    await until('files to be merged', () => readdirSync(lakeFolder).length < 16 || undefined);
    expect(await values(at.lake)).toEqual(expected(numbers));
    await at.close();
    // As if the crash had come before the last deletion: a merged file is there once more.
    const [merged = ''] = readdirSync(lakeFolder).sort();
    const [log, partition, from] = merged.split('-');
    copyFileSync(
      join(lakeFolder, merged),
      join(
        lakeFolder,
        `${log}-${partition}-${from}-${String(Number(from) + 1).padStart(12, '0')}.parquet`,
      ),
    );
    at = await site(folder);
    expect(await values(at.lake)).toEqual(expected(numbers));
    await at.close();
  });

  it.each([
    ['manifests and all', false],
    ['and before its manifests', true],
  ])('killed after its files %s and before its offsets, no row is twice', async (_, isEarly) => {
    const folder = temporaryFolder();
    let at = await site(folder);
    await at.log.append(TOPIC_READINGS, [record([reading(1, 10)]), record([reading(2, 20)])]);
    await caughtUp(at);
    const [state] = await at.log.state(TOPIC_STATE, 0, 'lake/readings/0');
    await at.close();
    const { log, step } = JSON.parse(String(state?.value)) as { log: string; step: number };
    // The announcement as it stood before the commit; the file of it is there.
    at = await site(folder);
    await Promise.all(at.stages.map((stage) => stage.close()));
    const announced = { log, step: step - 1, next: 0, writing: ['2026-05-01'] };
    await at.log.append(TOPIC_STATE, [stateOf(announced)]);
    await at.log.append(TOPIC_READINGS, [record([reading(3, 30)])]);
    await at.close();
    if (isEarly) await rm(join(folder, 'lake/_manifest/readings'), { recursive: true });
    if (isEarly) await rm(join(folder, 'lake/_manifest/roots/readings'), { recursive: true });
    at = await site(folder);
    await until('the third reading', async () => (await values(at.lake)).length >= 3 || undefined);
    expect(await values(at.lake)).toEqual(expected([1, 2, 3]));
    expect(at.lake.check.found).toBe(0);
    await at.close();
  });

  it('a lake whose files are named by offsets, and that has no manifests, is read and written on, also in the middle of a step', async () => {
    const folder = temporaryFolder();
    let at = await site(folder);
    await at.log.append(TOPIC_READINGS, [record([reading(1, 10)]), record([reading(2, 20)])]);
    await caughtUp(at);
    await Promise.all(at.stages.map((stage) => stage.close()));
    await at.log.append(TOPIC_STATE, [stateOf({ log: 'aabbccdd', next: 0, to: 2 })]);
    await at.log.append(TOPIC_READINGS, [
      record([reading(2, 21, { was: { timeMs: T0 + 2000, ns: 7 } })]),
      record([reading(3, 30)]),
    ]);
    await at.close();
    const day = join(folder, 'lake/readings/date=2026-05-01/gw=gw');
    const [file = ''] = readdirSync(day);
    renameSync(join(day, file), join(day, 'aabbccdd-0-000000000000-000000000002.parquet'));
    await rm(join(folder, 'lake/_manifest'), { recursive: true });
    at = await site(folder);
    await until('the third reading', async () => (await values(at.lake)).length >= 3 || undefined);
    expect(await values(at.lake)).toEqual([
      [1, 10, T0 + 1000],
      [2, 21, T0 + 2000],
      [3, 30, T0 + 3000],
    ]);
    await at.close();
  });

  it('while the store is away or full it says so in one sentence, keeps everything and goes on by itself', async () => {
    const folder = temporaryFolder();
    let away = true;
    const at = await site(folder, (store) => {
      const put = store.put.bind(store);
      store.put = async (key, file) => {
        if (away)
          throw new HeadwaterError(
            'LAKE_UNAVAILABLE',
            'the lake in X: writing: ENOSPC: no space left on device',
          );
        await put(key, file);
      };
      return store;
    });
    await at.log.append(TOPIC_READINGS, [record([reading(1, 10)])]);
    await until(
      'it to say so',
      () => at.said.some((text) => text.includes('no space left')) || undefined,
    );
    await at.log.append(TOPIC_READINGS, [record([reading(2, 20)])]);
    away = false;
    await until('both readings', async () => (await values(at.lake)).length === 2 || undefined);
    const work = readdirSync(join(folder, 'lake-work'));
    expect(work.filter((name) => name.endsWith('.parquet'))).toEqual([]);
    expect(at.said.filter((text) => text.includes('no space left'))).toHaveLength(1);
    expect(at.said.some((text) => text.includes('goes on'))).toBe(true);
    await at.close();
  });

  it('a record that is none is left to the store stage, and holds up nobody', async () => {
    const at = await site(temporaryFolder());
    await at.log.append(TOPIC_READINGS, [
      { key: 'x', headers: {}, value: Buffer.from('{') },
      record([reading(9, 90, { timeMs: T0 + 0.5 })]),
      record([reading(9, 90, { timeMs: 9e15 })]),
      record([reading(9, 90, { ns: -1 })]),
      record([reading(1, 10)]),
    ]);
    await caughtUp(at);
    expect(await values(at.lake)).toEqual(expected([1]));
    await at.close();
  });

  it('work files do not pile up', async () => {
    const folder = temporaryFolder();
    const at = await site(folder);
    for (const n of [1, 2, 3]) {
      await at.log.append(TOPIC_READINGS, [record([reading(n, n * 10)])]);
      await caughtUp(at);
    }
    expect(
      readdirSync(join(folder, 'lake-work')).filter((name) => name.endsWith('.parquet')),
    ).toEqual([]);
    await at.close();
    await rm(dirname(join(folder, 'x')), { recursive: true, force: true });
    expect(existsSync(folder)).toBe(false);
  });
});

describe('a record that the lake cannot take', () => {
  it('goes to quarantine with its place, and what is around it is in the lake', async () => {
    const here = await site(temporaryFolder());
    const { parquet } = here.lake;
    const real = parquet.writeReadings.bind(parquet);
    // What DuckDB cannot convert, whatever it is.
    parquet.writeReadings = (zone, rows, plain) =>
      JSON.stringify(
        [rows, plain?.records.map(({ value }) => value.toString())],
        (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value),
      ).includes('poison')
        ? Promise.reject(new HeadwaterError('LAKE_UNAVAILABLE', 'Conversion Error'))
        : real(zone, rows, plain);
    await here.log.append(
      TOPIC_READINGS,
      [1, 2, 3].map((n) => record([reading(n, n * 10, n === 2 ? { tags: { id: 'poison' } } : {})])),
    );
    await caughtUp(here);
    expect(await values(here.lake)).toEqual(expected([1, 3]));
    expect(here.said.join()).toMatch(/the lake cannot take this record \(readings\/0, offset 1\)/);
    await here.close();
  });
});
