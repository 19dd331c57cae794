/** A store that begins with less than its source once had is whole again in the end, and says so until then. */
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Lake } from '../../collector/lake/lake.ts';
import { LakeStage } from '../../collector/lake/stage.ts';
import { LocalObjects } from '../../collector/lake/local.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { HEADER_AGAIN, TOPIC_READINGS, TOPIC_RESULTS } from '../../collector/log/log.ts';
import { topics } from '../../collector/log/topics.ts';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { gathered } from '../support/gathered.ts';
import { StoreStage } from '../../collector/store/stage.ts';
import type { Refused, TimeSeriesStore } from '../../collector/store/store.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import { temporaryFolder, until } from '../support/process.ts';

const T0 = Date.UTC(2026, 4, 1, 12);
const TOPIC_BYTES = 1 << 20;
const COUNT = 500;

const reading = (sequence: number, value: number, more: Partial<Reading> = {}): Reading => ({
  measurement: 'm',
  tags: { id: 'a' },
  // Large ones, so that the topic is cut early.
  fields: { value, pad_text: 'x'.repeat(6000) },
  sequence,
  index: 0,
  // Over two days.
  timeMs: T0 + sequence * 320_000,
  ns: 7,
  ...more,
});

interface Site {
  log: EmbeddedLog;
  store: TimeSeriesStore;
  stage: StoreStage;
  said: string[];
  say(
    topic: string,
    readings: Reading[],
    more?: { again?: true; removed?: Reading[]; revision?: number },
  ): Promise<void>;
  caughtUp(): Promise<void>;
  whole(): Promise<void>;
  values(): Promise<number[]>;
  close(): Promise<void>;
}

interface Parts {
  /** Where the store keeps its file, beside the rest unless said otherwise. */
  storeFolder?: string;
  store?: TimeSeriesStore;
  fillRate?: number;
  lake?: boolean;
}

async function site(
  folder: string,
  { storeFolder = folder, store: given, fillRate = 1e6, lake: hasLake = true }: Parts = {},
): Promise<Site> {
  const said: string[] = [];
  const notify = ({ event, text }: { event: string; text: string }): void =>
    void said.push(`${event}: ${text}`);
  const log = new EmbeddedLog(
    {
      folder,
      cacheBytes: 64 << 10,
      topics: topics(TOPIC_BYTES),
      now: () => Date.now(),
    },
    notify,
  );
  await log.open();
  const lake = new Lake(new LocalObjects(join(folder, 'lake')), {
    folder,
    memoryBytes: 128 << 20,
    cacheBytes: 1 << 20,
  });
  await lake.open();
  const lakeStages = (['readings', 'results'] as const).map(
    (zone) => new LakeStage({ zone, log, lake, flushMs: 50, flushBytes: 1 << 20, notify }),
  );
  for (const each of lakeStages) each.start();
  const store =
    given ??
    new DuckDbStore({ folder: storeFolder, memoryBytes: 128 << 20, now: () => Date.now() }, notify);
  await store.open();
  const stage = new StoreStage({ log, store, notify, fillRate });
  if (hasLake) stage.fill.lake = lake;
  stage.start();
  const identity = await store.identity();
  const caughtUp = async (): Promise<void> => {
    await until('every stage to have read everything', () => {
      // Not those of a store that is no more.
      const groups = log
        .groups()
        .filter(({ group }) => group.includes('lake') || group.endsWith(identity));
      return (
        (groups.length === 4 && groups.every(({ lagRecords }) => lagRecords === 0)) || undefined
      );
    });
  };
  return {
    log,
    store,
    stage,
    said,
    say: async (topic, readings, { again, ...more } = {}) => {
      const headers: Record<string, string> = again === undefined ? {} : { [HEADER_AGAIN]: 'true' };
      const records = (readings.length === 0 ? [undefined] : readings).map((each) => ({
        key: 'gw',
        headers,
        value: encodeReadings({
          gateway: 'gw',
          epoch: 'e',
          arrivedMs: T0,
          readings: each === undefined ? [] : [each],
          ...more,
        }),
      }));
      for (let from = 0; from < records.length; from += 50)
        await log.append(topic, records.slice(from, from + 50));
    },
    caughtUp,
    whole: async () => {
      await caughtUp();
      await until('the store to be whole', () => stage.fill.incomplete().length === 0 || undefined);
    },
    values: async () => {
      const [series] = await gathered(store.query({ measurement: 'm', field: 'value' }));
      return (series?.points ?? []).map(([, value]) => Number(value)).sort((a, b) => a - b);
    },
    close: async () => {
      await stage.close();
      await store.close();
      await Promise.all(lakeStages.map((each) => each.close()));
      await lake.close();
      await log.close();
    },
  };
}

/** Takes nothing until it is released. */
class HeldStore extends DuckDbStore {
  release: () => void = () => undefined;
  private readonly released = new Promise<void>((resolve) => (this.release = resolve));

  override async apply(...given: Parameters<DuckDbStore['apply']>): Promise<Refused[]> {
    await this.released;
    return await super.apply(...given);
  }
}

const numbers = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, at) => from + at);
const readings = (from: number, to: number): Reading[] =>
  numbers(from, to).map((sequence) => reading(sequence, sequence));

/** A site whose topic has been cut: its front is beyond what a new store needs. */
async function cut(folder: string): Promise<void> {
  const first = await site(folder);
  await first.say(TOPIC_READINGS, readings(0, COUNT));
  await first.caughtUp();
  // A cut takes a later step.
  await first.say(TOPIC_READINGS, readings(COUNT, COUNT + 1));
  await first.caughtUp();
  expect(await first.log.first(TOPIC_READINGS, 0)).toBeGreaterThan(200);
  expect(await first.values()).toEqual(numbers(0, COUNT + 1));
  expect(first.stage.fill.incomplete()).toEqual([]);
  await first.close();
}

function flip(file: string, at: number[]): void {
  const bytes = readFileSync(file);
  for (const offset of at) bytes[offset] = (bytes[offset] ?? 0) ^ 0x10;
  writeFileSync(file, bytes);
}

describe.concurrent('a store that begins with less than its source once had', () => {
  it('deleted: it is filled from the log and the lake, and says what it lacks until then', async () => {
    const folder = temporaryFolder();
    await cut(folder);
    rmSync(join(folder, 'store'), { recursive: true });
    // Slowly, so that it can be seen.
    const again = await site(folder, { fillRate: 400 });
    await again.caughtUp();
    const [said] = again.stage.fill.incomplete();
    expect(said).toMatchObject({ of: 'readings', from: null });
    await until('days to be done', () => {
      const [now] = again.stage.fill.incomplete();
      return now === undefined || now.to !== null || undefined;
    });
    // What comes in meanwhile goes first.
    await again.say(TOPIC_READINGS, readings(COUNT + 1, COUNT + 2));
    await again.caughtUp();
    expect(await again.values()).toContain(COUNT + 1);
    await again.whole();
    expect(await again.values()).toEqual(numbers(0, COUNT + 2));
    expect(again.said.some((text) => text.startsWith('store_whole'))).toBe(true);
    await again.close();
    // Whole for good: the next start has nothing to do.
    const third = await site(folder);
    await third.caughtUp();
    expect(third.stage.fill.incomplete()).toEqual([]);
    expect(await third.values()).toEqual(numbers(0, COUNT + 2));
    await third.close();
  });

  it.each([
    'deleted',
    'an older copy',
  ])('%s: of what the log still has it says as well that it lacks it, until it is read', async (how) => {
    const folder = temporaryFolder();
    let sequence = 0;
    const filled = async (count: number): Promise<void> => {
      const each = await site(folder);
      // In two steps: the log has its name by the second.
      for (let step = 0; step < 2; step++) {
        await each.say(TOPIC_READINGS, readings(sequence, (sequence += count / 2)));
        await each.caughtUp();
        expect(each.stage.fill.incomplete()).toEqual([]);
      }
      await each.close();
    };
    await filled(20);
    cpSync(join(folder, 'store'), join(folder, 'old'), { recursive: true });
    await filled(40);
    rmSync(join(folder, 'store'), { recursive: true });
    if (how !== 'deleted') cpSync(join(folder, 'old'), join(folder, 'store'), { recursive: true });
    const store = new HeldStore(
      { folder, memoryBytes: 128 << 20, now: () => Date.now() },
      () => undefined,
    );
    const again = await site(folder, { store });
    await until('it to be said', () => again.stage.fill.incomplete().length > 0 || undefined);
    expect(again.stage.fill.incomplete()).toMatchObject([
      { of: 'readings', from: null, to: null, reason: 'the store is being filled from the log' },
    ]);
    expect(again.said.some((text) => text.startsWith('store_incomplete: the store has less'))).toBe(
      true,
    );
    store.release();
    await again.whole();
    expect(await again.values()).toEqual(numbers(0, 60));
    await again.close();
    const third = await site(folder);
    await third.caughtUp();
    expect(third.said.filter((text) => text.startsWith('store_incomplete'))).toEqual([]);
    await third.close();
  });

  it('damaged by two flipped bits: it is set aside and filled', async () => {
    const folder = temporaryFolder();
    await cut(folder);
    flip(join(folder, 'store', 'readings.duckdb'), [4096 + 20, 8192 + 20]);
    const again = await site(folder);
    await again.whole();
    expect(again.said.filter((text) => text.startsWith('store_set_aside'))).toHaveLength(1);
    expect(existsSync(join(folder, 'damaged'))).toBe(true);
    expect(await again.values()).toEqual(numbers(0, COUNT + 1));
    await again.close();
  });

  it('an older copy restored: what was corrected since is as it was said last', async () => {
    const folder = temporaryFolder();
    const first = await site(folder);
    // In two steps: the log has its name by the second.
    await first.say(TOPIC_READINGS, readings(0, 50));
    await first.caughtUp();
    await first.say(TOPIC_READINGS, readings(50, 100));
    await first.caughtUp();
    await first.close();
    cpSync(join(folder, 'store'), join(folder, 'old'), { recursive: true });
    const second = await site(folder);
    const moved = reading(10, 5000, { timeMs: T0 + 1, was: { timeMs: T0 + 10 * 320_000, ns: 7 } });
    await second.say(TOPIC_READINGS, [moved], { again: true });
    await second.say(TOPIC_READINGS, readings(100, COUNT - 1));
    await second.caughtUp();
    await second.say(TOPIC_READINGS, readings(COUNT - 1, COUNT));
    await second.caughtUp();
    await second.close();
    rmSync(join(folder, 'store'), { recursive: true });
    cpSync(join(folder, 'old'), join(folder, 'store'), { recursive: true });
    const again = await site(folder);
    await again.whole();
    expect(again.said.some((text) => text.includes('from offset 100 to'))).toBe(true);
    const expected = [...numbers(0, COUNT).filter((value) => value !== 10), 5000];
    expect(await again.values()).toEqual(expected);
    await again.close();
  });

  it('one that was filled from another log, in its place: it has nothing of this one, whatever its offsets say', async () => {
    const folder = temporaryFolder();
    await cut(folder);
    const elsewhere = temporaryFolder();
    const other = await site(elsewhere);
    // In two steps: the log has its name by the second.
    await other.say(TOPIC_READINGS, readings(9000, 9020));
    await other.caughtUp();
    await other.say(TOPIC_READINGS, readings(9020, 9040));
    await other.caughtUp();
    await other.close();
    rmSync(join(folder, 'store'), { recursive: true });
    cpSync(join(elsewhere, 'store'), join(folder, 'store'), { recursive: true });
    const again = await site(folder);
    await again.whole();
    expect(again.said.filter((text) => text.startsWith('store_other_log'))).toHaveLength(1);
    // Nothing that was there is thrown away: an audit names it.
    expect(await again.values()).toEqual([...numbers(0, COUNT + 1), ...numbers(9000, 9040)]);
    await again.close();
  });

  it('deleted together with the log: the lake alone fills it, and it says so until then', async () => {
    const folder = temporaryFolder();
    await cut(folder);
    for (const name of ['store', 'log']) rmSync(join(folder, name), { recursive: true });
    const again = await site(folder);
    await until(
      'it to be said',
      () => again.said.some((text) => text.includes('the log is new beside a lake')) || undefined,
    );
    await until(
      'the store to be whole',
      () => again.stage.fill.incomplete().length === 0 || undefined,
    );
    expect(await again.values()).toEqual(numbers(0, COUNT + 1));
    await again.close();
  });

  it('another store beside the first is filled, and what is corrected meanwhile is right', async () => {
    const folder = temporaryFolder();
    await cut(folder);
    const other = temporaryFolder();
    const again = await site(folder, { storeFolder: other, fillRate: 300 });
    await again.caughtUp();
    // The lake still has these as they were, when the store has been given them anew.
    const was = { timeMs: T0 + 3 * 320_000, ns: 7 };
    await again.say(TOPIC_READINGS, [reading(3, 9003, { timeMs: T0 + 5, was })]);
    await again.say(TOPIC_READINGS, [], { removed: [reading(4, 4)] });
    await again.whole();
    const expected = [...numbers(0, COUNT + 1).filter((value) => value !== 3 && value !== 4), 9003];
    expect(await again.values()).toEqual(expected);
    await again.close();
  });

  it('interrupted again and again while it is filled, it is whole in the end', async () => {
    const folder = temporaryFolder();
    await cut(folder);
    rmSync(join(folder, 'store'), { recursive: true });
    for (let life = 0; life < 3; life++) {
      const again = await site(folder, { fillRate: 800 });
      await again.caughtUp();
      await until('some of it', () => again.stage.fill.filledReadings > 50 || undefined);
      await again.close();
    }
    const last = await site(folder);
    await last.whole();
    expect(await last.values()).toEqual(numbers(0, COUNT + 1));
    await last.close();
  });

  it('results are filled in their newest revisions', async () => {
    const folder = temporaryFolder();
    const first = await site(folder);
    await first.say(TOPIC_RESULTS, readings(0, COUNT), { revision: 1 });
    await first.say(TOPIC_RESULTS, [reading(2, 7002)], { revision: 2 });
    await first.say(TOPIC_RESULTS, [], { removed: [reading(5, 5)], revision: 3 });
    await first.caughtUp();
    await first.close();
    rmSync(join(folder, 'store'), { recursive: true });
    const again = await site(folder);
    await again.whole();
    const expected = [...numbers(0, COUNT).filter((value) => value !== 2 && value !== 5), 7002];
    expect(await again.values()).toEqual(expected);
    await again.close();
  });

  it('without a lake it stays incomplete, and never says that it is whole', async () => {
    const folder = temporaryFolder();
    await cut(folder);
    rmSync(join(folder, 'store'), { recursive: true });
    const again = await site(folder, { lake: false });
    await again.caughtUp();
    await until(
      'the reason',
      () => again.stage.fill.incomplete()[0]?.reason.includes('there is no lake') || undefined,
    );
    await again.close();
  });
});

describe.concurrent('a log that is not the one that was read before', () => {
  it('made anew, restored, or grown beyond the place again: the store stays as it was, and gets what is new', async () => {
    const folder = temporaryFolder();
    const first = await site(folder);
    await first.say(TOPIC_READINGS, readings(0, 100));
    await first.caughtUp();
    await first.close();
    cpSync(join(folder, 'log'), join(folder, 'log-old'), { recursive: true });
    const second = await site(folder);
    await second.say(TOPIC_READINGS, readings(100, 150));
    await second.caughtUp();
    await second.close();
    // Restored from a copy, then filled by somebody else beyond where the store stood.
    rmSync(join(folder, 'log'), { recursive: true });
    cpSync(join(folder, 'log-old'), join(folder, 'log'), { recursive: true });
    const bare = new EmbeddedLog(
      { folder, cacheBytes: 1 << 20, topics: topics(Infinity), now: () => Date.now() },
      () => undefined,
    );
    await bare.open();
    for (const each of readings(150, 250))
      await bare.append(TOPIC_READINGS, [
        {
          key: 'gw',
          headers: {},
          value: encodeReadings({ gateway: 'gw', epoch: 'e', arrivedMs: T0, readings: [each] }),
        },
      ]);
    await bare.close();
    const third = await site(folder);
    await third.whole();
    await until('all of it', async () => (await third.values()).length === 250 || undefined);
    expect(await third.values()).toEqual(numbers(0, 250));
    expect(third.said.some((text) => text.startsWith('store_other_log'))).toBe(true);
    await third.close();
    // Made anew, with a part of what there was.
    rmSync(join(folder, 'log'), { recursive: true });
    const fourth = await site(folder);
    await fourth.say(TOPIC_READINGS, readings(240, 260));
    await until('what is new', async () => (await fourth.values()).length === 260 || undefined);
    expect(await fourth.values()).toEqual(numbers(0, 260));
    await fourth.close();
  });
});
