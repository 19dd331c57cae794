import { expect, it } from 'vitest';
import { Topic } from '../../collector/log/embedded-topic.ts';
import { EMBEDDED_SUPPORTS, EmbeddedLog } from '../../collector/log/embedded.ts';
import type { CollectorContext } from '../../collector/part.ts';
import { Site } from '../../shared/parts/site.ts';
import { logPart } from '../../collector/log/part.ts';
import { topics } from '../../collector/log/topics.ts';
import { TOPIC_COMMANDS, TOPIC_LEDGER, TOPIC_READINGS } from '../../collector/log/log.ts';
import { LevelDatabase } from '../../shared/kv/classic-level.ts';
import type { KvOp, KvRange } from '../../shared/kv/kv.ts';
import { logContract } from '../contract/log.ts';
import { temporaryFolder } from '../support/process.ts';

logContract('embedded', () =>
  Promise.resolve({
    supports: EMBEDDED_SUPPORTS,
    create: ({ folder, topics }) =>
      new EmbeddedLog(
        { folder, cacheBytes: 1 << 20, topics, now: () => Date.now() },
        () => undefined,
      ),
    stop: () => Promise.resolve(),
  }),
);

it('a topic with a limit is cut at the front, never beyond what every group has read, and offsets go on', async () => {
  const folder = temporaryFolder();
  const open = async (): Promise<EmbeddedLog> => {
    const log = new EmbeddedLog(
      {
        folder,
        cacheBytes: 64 * 1024,
        topics: topics(100 * 1024),
        now: () => Date.now(),
      },
      () => undefined,
    );
    await log.open();
    return log;
  };
  const log = await open();
  const value = Buffer.alloc(1024);
  const slow = await log.consumer({
    group: 'slow',
    topic: TOPIC_READINGS,
    from: 'start',
    bytesMax: 400 * 1024,
  });
  const fast = await log.consumer({
    group: 'fast',
    topic: TOPIC_READINGS,
    from: 'start',
    bytesMax: 1 << 30,
  });
  await log.append(
    TOPIC_READINGS,
    Array.from({ length: 2000 }, () => ({ key: 'k', value, headers: {} })),
  );
  const firstOffset = async (): Promise<number | undefined> =>
    (await log.read(TOPIC_READINGS, 0, 1))[0]?.offset;
  const some = await slow.poll(10);
  await slow.commit({ produce: [], offsets: new Map([[0, (some.at(-1)?.offset ?? 0) + 1]]) });
  await fast.poll(10);
  await fast.commit({ produce: [], offsets: new Map([[0, 2000]]) });
  // The slow group has read some 400 records: nothing behind them is gone, and what is before them is, but for a portion.
  const read = (some.at(-1)?.offset ?? 0) + 1;
  expect(await firstOffset()).toBeLessThanOrEqual(read);
  expect(await firstOffset()).toBeGreaterThan(read - 8);
  await slow.commit({ produce: [], offsets: new Map([[0, 2000]]) });
  // 100 KiB of records of 1,024 bytes and what the log adds to each.
  expect(await firstOffset()).toBeGreaterThan(1900);
  expect(await firstOffset()).toBeLessThan(1912);
  await log.close();
  const again = await open();
  await again.append(TOPIC_READINGS, [{ key: 'k', value: Buffer.from('next'), headers: {} }]);
  expect((await again.read(TOPIC_READINGS, 2000, 1 << 20)).map(({ offset }) => offset)).toEqual([
    2000,
  ]);
  await again.close();
});

it('what a failed write of another cuts off is read again after the reopening', async () => {
  let isFailing = false;
  let beforeRead: (() => Promise<unknown>) | undefined;
  class Failing extends LevelDatabase {
    override async write(ops: KvOp[], options: { sync: boolean }): Promise<void> {
      if (isFailing) throw new Error('IO error: No space left on device');
      await super.write(ops, options);
    }
    override async read(range: KvRange, bytesMax: number): Promise<[Buffer, Buffer][]> {
      const first = beforeRead;
      beforeRead = undefined;
      await first?.();
      return await super.read(range, bytesMax);
    }
  }
  const log = new EmbeddedLog(
    {
      folder: temporaryFolder(),
      cacheBytes: 1 << 20,
      topics: topics(Infinity),
      now: () => Date.now(),
      createDatabase: (path) => new Failing(path),
      reopenMs: 5,
    },
    () => undefined,
  );
  await log.open();
  const record = { key: 'k', value: Buffer.from('v'), headers: {} };
  await log.append(TOPIC_LEDGER, [record]);
  await log.append(TOPIC_READINGS, [record]);
  const site = new Site<CollectorContext>({} as CollectorContext, [], new Set(['ingest'])); // Only its role is asked.
  const failMeanwhile = async (): Promise<void> => {
    isFailing = true;
    await expect(log.append(TOPIC_READINGS, [record])).rejects.toThrow('No space left');
    isFailing = false;
    expect(logPart.health?.(log, site)[0]?.why).toMatch(/the log: .*No space left/);
    await log.ready();
    expect(logPart.health?.(log, site)).toEqual([
      { name: 'log', why: undefined, isEssential: true },
    ]);
  };
  beforeRead = failMeanwhile;
  const keys: string[] = [];
  await log.watch(TOPIC_LEDGER, (records) => keys.push(...records.map(({ key }) => key)));
  expect(new Set(keys)).toEqual(new Set(['k']));
  beforeRead = failMeanwhile;
  expect(await log.state(TOPIC_LEDGER, 0, '')).toMatchObject([{ key: 'k' }]);
  beforeRead = failMeanwhile;
  expect(await log.next('another')).toBe(0);
  await log.close();
});

it('a member that is not the one that reads is fenced: what it commits is refused and changes nothing', async () => {
  const log = new EmbeddedLog(
    { folder: temporaryFolder(), cacheBytes: 1 << 20, topics: topics(1 << 20), now: Date.now },
    () => undefined,
  );
  await log.open();
  const options = { group: 'g', topic: TOPIC_READINGS, from: 'start', bytesMax: 1 << 20 } as const;
  const first = await log.consumer(options);
  const second = await log.consumer(options);
  await log.append(TOPIC_READINGS, [{ key: 'k', value: Buffer.from('v'), headers: {} }]);
  expect(await first.poll(10)).toHaveLength(1);
  await expect(second.commit({ produce: [], offsets: new Map([[0, 1]]) })).rejects.toMatchObject({
    code: 'LOG_FENCED',
  });
  expect(log.committed('g', TOPIC_READINGS)).toBeUndefined();
  await first.commit({ produce: [], offsets: new Map([[0, 1]]) });
  expect(log.committed('g', TOPIC_READINGS)).toBe(1);
  await log.close();
});

it('a key or headers longer than its layout holds are LOG_TOO_LARGE, and the next record is taken', async () => {
  const log = new EmbeddedLog(
    {
      folder: temporaryFolder(),
      cacheBytes: 1 << 20,
      topics: topics(Infinity),
      now: () => Date.now(),
    },
    () => undefined,
  );
  await log.open();
  const long = 'x'.repeat(70_000);
  const value = Buffer.from('v');
  for (const record of [
    { key: long, value, headers: {} },
    { key: 'k', value, headers: { long } },
  ])
    for (const topic of [TOPIC_READINGS, TOPIC_LEDGER])
      await expect(log.append(topic, [record])).rejects.toMatchObject({ code: 'LOG_TOO_LARGE' });
  await log.append(TOPIC_READINGS, [{ key: 'k', value, headers: {} }]);
  expect(await log.read(TOPIC_READINGS, 0, 1000)).toHaveLength(1);
  await log.close();
});

it('what a topic keeps in memory is within its limit, however small its values and wherever they lie', () => {
  const cacheBytes = 1 << 20;
  const topic = new Topic(0, undefined, cacheBytes, undefined);
  for (let offset = 0; offset < 8000; offset++) {
    // Between two of them the shared piece of memory is used by others.
    Buffer.from('x'.repeat(3000));
    const value = Buffer.from(`{"n":${offset}}`);
    topic.remember({ key: 'k', value, headers: {}, partition: 0, offset });
  }
  const from = 8000 - cacheBytes / 512;
  const kept = topic.read(from, Infinity) ?? [];
  expect(kept.length).toBe(8000 - from);
  const memory = new Set(kept.map(({ value }) => value.buffer));
  const bytes = [...memory].reduce((sum, each) => sum + each.byteLength, 0);
  expect(bytes).toBeLessThan(cacheBytes);
});

const MIB = 1024 * 1024;
/** What the database has of a topic, bytes and records. */
async function kept(log: EmbeddedLog, topic: string): Promise<{ bytes: number; records: number }> {
  let bytes = 0;
  let records = 0;
  for (let from = 0; ; ) {
    const some = await log.read(topic, from, 4 * MIB);
    const last = some.at(-1);
    if (last === undefined) return { bytes, records };
    for (const { value } of some) bytes += value.length;
    records += some.length;
    from = last.offset + 1;
  }
}

async function limited(folder = temporaryFolder(), notices: string[] = []): Promise<EmbeddedLog> {
  const options = { folder, cacheBytes: 0, topics: topics(MIB), now: () => Date.now() };
  const log = new EmbeddedLog(options, ({ text }) => void notices.push(text));
  await log.open();
  return log;
}

it.each([
  ['small', 200, 20_000],
  ['of 3 kB', 3000, 1300],
  ['of 100 kB', 100_000, 60],
  ['of 2 MiB', 2 * MIB, 6],
])('the smallest limit of readings holds with records %s', async (_, size, count) => {
  const log = await limited();
  const group = { group: 'g', topic: TOPIC_READINGS, from: 'start' as const, bytesMax: MIB };
  const consumer = await log.consumer(group);
  const value = Buffer.alloc(size);
  for (let done = 0; done < count; done += Math.ceil(count / 20)) {
    const length = Math.min(Math.ceil(count / 20), count - done);
    await log.append(
      TOPIC_READINGS,
      Array.from({ length }, () => ({ key: 'k', value, headers: {} })),
    );
    const offsets = new Map([[0, done + length]]);
    await consumer.commit({ produce: [], offsets });
  }
  const { bytes, records } = await kept(log, TOPIC_READINGS);
  // A record that is larger than the limit stays alone.
  expect(records === 1 || bytes <= MIB).toBe(true);
  expect(bytes).toBeGreaterThan(Math.min(MIB * 0.8, size - 1));
  await log.close();
});

it('what was there before the open counts for the limit, also where it is too much to be looked at', async () => {
  const folder = temporaryFolder();
  const unlimited = new EmbeddedLog(
    { folder, cacheBytes: 0, topics: topics(Infinity), now: () => Date.now() },
    () => undefined,
  );
  await unlimited.open();
  const value = Buffer.alloc(30_000);
  const some = Array.from({ length: 100 }, () => ({ key: 'k', value, headers: {} }));
  for (let round = 0; round < 10; round++) await unlimited.append(TOPIC_READINGS, some);
  await unlimited.close();
  const log = await limited(folder);
  const group = { group: 'g', topic: TOPIC_READINGS, from: 'start' as const, bytesMax: MIB };
  const consumer = await log.consumer(group);
  await consumer.commit({ produce: [], offsets: new Map([[0, 1000]]) });
  const { bytes } = await kept(log, TOPIC_READINGS);
  expect(bytes).toBeLessThanOrEqual(MIB);
  expect(bytes).toBeGreaterThan(MIB * 0.8);
  await log.append(TOPIC_READINGS, [{ key: 'k', value, headers: {} }]);
  expect(await log.next(TOPIC_READINGS)).toBe(1001);
  await log.close();
});

it('commands, which no group reads, are cut at their limit and nobody is told of a loss', async () => {
  const notices: string[] = [];
  const log = await limited(undefined, notices);
  const group = { group: 'live', topic: TOPIC_COMMANDS, from: 'end' as const, bytesMax: MIB };
  const watcher = await log.consumer(group);
  const command = { key: 'gw', value: Buffer.alloc(50_000), headers: { topic: 't' } };
  for (let round = 0; round < 10; round++)
    await log.append(
      TOPIC_COMMANDS,
      Array.from({ length: 10 }, () => command),
    );
  // Decoders ask for them in the steps of other topics.
  const decoder = await log.consumer({ ...group, group: 'decode', topic: 'raw', from: 'start' });
  const produce = Array.from({ length: 20 }, () => ({ ...command, topic: TOPIC_COMMANDS }));
  await decoder.commit({ produce, offsets: new Map() });
  const { bytes } = await kept(log, TOPIC_COMMANDS);
  expect(bytes).toBeLessThanOrEqual(MIB);
  expect((await watcher.poll(10)).length).toBeGreaterThan(0);
  expect(notices).toEqual([]);
  await log.close();
});

it('a block that cannot be read when a topic is counted does not keep the log from taking records', async () => {
  const folder = temporaryFolder();
  const record = { key: 'k', value: Buffer.alloc(1000), headers: {} };
  const before = await limited(folder);
  await before.append(TOPIC_READINGS, [record, record, record]);
  await before.close();
  let refused = 0;
  class Unreadable extends LevelDatabase {
    override async read(range: KvRange, bytesMax: number): Promise<[Buffer, Buffer][]> {
      if (range.reverse === true && range.limit === undefined) {
        refused++;
        throw new Error('Corruption: block checksum mismatch');
      }
      return await super.read(range, bytesMax);
    }
  }
  const createDatabase = (path: string): LevelDatabase => new Unreadable(path);
  const options = { folder, cacheBytes: 0, topics: topics(MIB), now: () => Date.now() };
  const log = new EmbeddedLog({ ...options, createDatabase }, () => undefined);
  await log.open();
  await log.append(TOPIC_READINGS, [record]);
  expect(refused).toBe(1);
  expect((await kept(log, TOPIC_READINGS)).records).toBe(4);
  await log.close();
});

it('what a group has not read is told from the open on, also of a topic that nobody has asked for yet', async () => {
  const folder = temporaryFolder();
  const log = await limited(folder);
  const record = { key: 'k', value: Buffer.from('v'), headers: {} };
  await log.append(TOPIC_READINGS, [record, record, record]);
  await log.commit('g', TOPIC_READINGS, { produce: [], offsets: new Map([[0, 1]]) });
  await log.close();
  const again = await limited(folder);
  expect(again.groups()).toEqual([{ group: 'g', topic: TOPIC_READINGS, lagRecords: 2 }]);
  await again.close();
});

it('a topic with a limit is not cut ahead of a member that has committed nothing yet', async () => {
  const log = await limited(temporaryFolder());
  const record = { key: 'k', value: Buffer.alloc(1024), headers: {} };
  const reads = { topic: TOPIC_READINGS, from: 'start', bytesMax: 1 << 30 } as const;
  const late = await log.consumer({ group: 'late', ...reads });
  const fast = await log.consumer({ group: 'fast', ...reads });
  await log.append(
    TOPIC_READINGS,
    Array.from({ length: 4000 }, () => record),
  );
  await fast.poll(10);
  await fast.commit({ produce: [], offsets: new Map([[0, 4000]]) });
  expect((await late.poll(10))[0]?.offset).toBe(0);
  await late.commit({ produce: [], offsets: new Map([[0, 4000]]) });
  expect(await log.first(TOPIC_READINGS, 0)).toBeGreaterThan(0);
  await log.close();
});

it('offsets that somebody has read are not given again by a log that was made anew', async () => {
  const log = await limited(temporaryFolder());
  // A store keeps its progress with itself: it survives the log's folder.
  log.noteProgress('store', TOPIC_READINGS, 2000);
  await log.append(TOPIC_READINGS, [{ key: 'k', value: Buffer.from('v'), headers: {} }]);
  expect(await log.first(TOPIC_READINGS, 0)).toBe(2000);
  await log.close();
});
