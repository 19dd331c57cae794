import { expect, it } from 'vitest';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { TOPIC_READINGS } from '../../collector/log/log.ts';
import { logContract } from '../contract/log.ts';
import { temporaryFolder } from '../support/process.ts';

logContract('embedded', () => {
  const folder = temporaryFolder();
  return Promise.resolve({
    create: () =>
      Promise.resolve(
        new EmbeddedLog(
          { folder, cacheBytes: 1 << 20, trim: {}, now: () => Date.now() },
          () => undefined,
        ),
      ),
    stop: () => Promise.resolve(),
  });
});

it('a topic with a limit is cut at the front, never beyond what every group has read, and offsets go on', async () => {
  const folder = temporaryFolder();
  const open = async (): Promise<EmbeddedLog> => {
    const log = new EmbeddedLog(
      {
        folder,
        cacheBytes: 64 * 1024,
        trim: { [TOPIC_READINGS]: 100 * 1024 },
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
