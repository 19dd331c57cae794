import { expect, it } from 'vitest';
import { EMBEDDED_SUPPORTS, EmbeddedLog } from '../../collector/log/embedded.ts';
import type { CollectorContext } from '../../collector/part.ts';
import { Site } from '../../shared/parts/site.ts';
import { logPart } from '../../collector/log/part.ts';
import { topics } from '../../collector/log/topics.ts';
import { TOPIC_LEDGER, TOPIC_READINGS } from '../../collector/log/log.ts';
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
  // The slow group has read some 400 records: nothing behind them is gone.
  expect(await firstOffset()).toBe((some.at(-1)?.offset ?? 0) + 1);
  await slow.commit({ produce: [], offsets: new Map([[0, 2000]]) });
  expect(await firstOffset()).toBe(1900);
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
  expect(await log.end('another')).toBe(0);
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
