/** A commit that fails: nothing that was read since the last one counts, and all of it is worked on again, in order. */
import { expect, it } from 'vitest';
import type { Log, LogConsumer, StoredRecord } from '../../collector/log/log.ts';
import { runStage } from '../../collector/stage/stage.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { fastTime } from '../support/fast-time.ts';
import { until } from '../support/process.ts';

const COUNT = 40;

/** A second passes in 10 ms. */
const fast = fastTime(100);

it('no commit passes over a record whose step was not committed', async () => {
  let committed = 0;
  let read = 0;
  // More than a stage waits for before it splits its step.
  let failures = 12;
  const broken: string[] = [];
  let worked: number[] = [];
  const record = (offset: number): StoredRecord => ({
    partition: 0,
    offset,
    key: 'k',
    headers: {},
    value: Buffer.from(String(offset)),
  });
  const consumer: Partial<LogConsumer> = {
    poll: async () => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      const from = read;
      read = COUNT;
      return Array.from({ length: COUNT - from }, (_, at) => record(from + at));
    },
    commit: ({ offsets }) => {
      const next = offsets.get(0) ?? committed;
      const own = worked;
      worked = [];
      if (failures-- > 0) {
        read = committed;
        return Promise.reject(new HeadwaterError('LOG_UNAVAILABLE', 'not now'));
      }
      const expected = Array.from({ length: next - committed }, (_, at) => committed + at);
      if (own.join() !== expected.join()) broken.push(`up to ${next}: ${own.join()}`);
      committed = next;
      return Promise.resolve();
    },
    ended: () => new Set(),
    close: () => Promise.resolve(),
  };
  const log: Pick<Log, 'groups' | 'consumer'> = {
    groups: () => [],
    consumer: ({ onAssign }) => {
      void onAssign?.(0, undefined);
      return Promise.resolve(consumer as LogConsumer); // What a stage asks of it.
    },
  };
  const stage = runStage({
    name: 'again',
    touches: 'nothing',
    log,
    notify: () => undefined,
    time: fast,
    consumer: { group: 'g', topic: 't', from: 'start', bytesMax: 1000 },
    step: (records) => {
      worked.push(...records.map(({ offset }) => offset));
      return Promise.resolve([]);
    },
  });
  await until('all to be committed', () => (committed === COUNT ? true : undefined));
  await stage.close();
  expect(broken).toEqual([]);
});
