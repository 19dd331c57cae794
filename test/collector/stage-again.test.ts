/** A commit that fails: nothing that was read since the last one counts, and all of it is worked on again, in order. */
import { expect, it } from 'vitest';
import type { Log, LogConsumer, StoredRecord } from '../../collector/log/log.ts';
import { runStage } from '../../collector/stage/stage.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { fastTime } from '../support/fast-time.ts';
import { until } from '../support/process.ts';

const COUNT = 40;

/** Its one partition is assigned at once. */
const logOf = (consumer: Partial<LogConsumer>): Pick<Log, 'groups' | 'consumer'> => ({
  groups: () => [],
  consumer: ({ onAssign }) => {
    void onAssign?.(0, undefined);
    return Promise.resolve(consumer as LogConsumer); // What a stage asks of it.
  },
});

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
  const stage = runStage({
    name: 'again',
    touches: 'nothing',
    log: logOf(consumer),
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

it('what was gathered and committed without its step is not worked on again', async () => {
  const took: number[] = [];
  const committed: number[] = [];
  let gathered: number[] = [];
  let isFailing = true;
  let read = 0;
  const consumer: Partial<LogConsumer> = {
    poll: async () => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      return read++ === 0
        ? [{ partition: 0, offset: 0, key: 'k', headers: {}, value: Buffer.from('0') }]
        : [];
    },
    commit: ({ offsets }) => {
      committed.push(offsets.get(0) ?? -1);
      return Promise.resolve();
    },
    ended: () => new Set(),
    close: () => Promise.resolve(),
  };
  // As the lake's stages do it: taken in, and kept when what is made of it fails.
  const flush = (offsets: Map<number, number>): Promise<[]> => {
    if (isFailing) return Promise.reject(new HeadwaterError('LAKE_UNAVAILABLE', 'no space'));
    for (const offset of gathered.splice(0)) offsets.set(0, offset + 1);
    return Promise.resolve([]);
  };
  const stage = runStage({
    name: 'gathers',
    touches: 'gathers',
    log: { groups: () => [], consumer: () => Promise.resolve(consumer as LogConsumer) },
    notify: () => undefined,
    time: fast,
    consumer: { group: 'gathers', topic: 'raw', from: 'start', bytesMax: 1 << 20 },
    step: (records, offsets) => {
      took.push(...records.map(({ offset }) => offset));
      gathered = [...new Set([...gathered, ...records.map(({ offset }) => offset)])];
      return flush(offsets);
    },
    idle: (offsets) => {
      // What failed in a step passes here.
      isFailing = took.length === 0;
      return gathered.length === 0 ? Promise.resolve(undefined) : flush(offsets);
    },
  });
  await until('a commit', () => committed.length > 0 || undefined);
  const before = took.length;
  const polls = read;
  await until('more polls', () => read > polls + 3 || undefined);
  expect(took.length).toBe(before);
  expect(committed).toEqual([1]);
  await stage.close();
});

it('what a failed commit has left in memory is committed by no idle look before the log was read again', async () => {
  // State that counts records, as a window does; reloaded when the log is read after a failure.
  let stored = { next: 0, count: 0 };
  let state = { ...stored };
  let isStale = false;
  let commitFailures = 1;
  let pollFailures = 0;
  const consumer: Partial<LogConsumer> = {
    poll: async () => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (pollFailures > 0) {
        pollFailures--;
        throw new HeadwaterError('LOG_UNAVAILABLE', 'it is being reopened');
      }
      if (isStale) state = { ...stored };
      isStale = false;
      const from = state.next;
      return Array.from({ length: COUNT - from }, (_, at) => ({
        ...{ partition: 0, offset: from + at, key: 'k', headers: {} },
        value: Buffer.from('1'),
      }));
    },
    commit: ({ offsets }) => {
      if (commitFailures > 0) {
        commitFailures--;
        pollFailures = 3;
        isStale = true;
        return Promise.reject(new HeadwaterError('LOG_UNAVAILABLE', 'not now'));
      }
      stored = { next: offsets.get(0) ?? stored.next, count: state.count };
      state.next = stored.next;
      return Promise.resolve();
    },
    ended: () => new Set(),
    close: () => Promise.resolve(),
  };
  const stage = runStage({
    name: 'idle',
    touches: 'nothing',
    log: logOf(consumer),
    notify: () => undefined,
    time: fast,
    consumer: { group: 'g', topic: 't', from: 'start', bytesMax: 1000 },
    step: (records) => {
      state.count += records.length;
      return Promise.resolve([]);
    },
    idle: () =>
      Promise.resolve([{ topic: 's', key: 'count', headers: {}, value: Buffer.from('n') }]),
  });
  await until('all to be committed', () => stored.next === COUNT || undefined);
  await stage.close();
  expect(stored.count).toBe(COUNT);
});

it('a step takes as many records as have their time, and more again once they are quick; each step is committed whole', async () => {
  let nowMs = 0;
  let msEach = 10;
  const steps: number[] = [];
  const committed: number[] = [];
  let read = 0;
  const consumer: Partial<LogConsumer> = {
    poll: async () => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      const from = read;
      read += read < 400 ? 100 : 0;
      return Array.from({ length: read - from }, (_, at) => ({
        ...{ partition: 0, offset: from + at, key: 'k', headers: {}, value: Buffer.from('x') },
      }));
    },
    commit: ({ offsets }) => {
      committed.push(offsets.get(0) ?? 0);
      return Promise.resolve();
    },
    ended: () => new Set(),
    close: () => Promise.resolve(),
  };
  const stage = runStage({
    name: 'slow',
    touches: 'nothing',
    log: logOf(consumer),
    notify: () => undefined,
    time: { ...fast, clock: { ...fast.clock, monotonicUs: () => nowMs * 1000 } },
    consumer: { group: 'g', topic: 't', from: 'start', bytesMax: 1000 },
    stepMs: 40,
    step: (records) => {
      steps.push(records.length);
      nowMs += records.length * msEach;
      if (committed.at(-1) === 196) msEach = 0.01;
      return Promise.resolve([]);
    },
  });
  await until('all to be committed', () => (committed.at(-1) === 400 ? true : undefined));
  await stage.close();
  expect(steps.slice(0, 4)).toEqual([100, 4, 4, 4]);
  const quick = steps.lastIndexOf(4) + 1;
  expect(steps.slice(quick, quick + 3)).toEqual([8, 16, 32]);
  let sum = 0;
  expect(committed).toEqual(steps.map((length) => (sum += length)));
});

it.each(['ends', 'rejects'])(
  'a stop does not wait until a record comes: what is being read %s when its consumer is closed, and that is no trouble',
  { timeout: 10_000 },
  async (how) => {
    let end = (): void => undefined;
    let polls = 0;
    const consumer: Partial<LogConsumer> = {
      poll: () =>
        new Promise((resolve, reject) => {
          polls++;
          end = () =>
            how === 'ends'
              ? resolve([])
              : reject(new HeadwaterError('LOG_UNAVAILABLE', 'the consumer is closed'));
        }),
      ended: () => new Set(),
      close: () => Promise.resolve(end()),
    };
    const said: string[] = [];
    const stage = runStage({
      name: 'reading',
      touches: 'nothing',
      log: logOf(consumer),
      notify: ({ text }) => void said.push(text),
      consumer: { group: 'g', topic: 't', from: 'start', bytesMax: 1000 },
      step: () => Promise.resolve([]),
    });
    await until('it to read', () => polls > 0 || undefined);
    await stage.close();
    expect([polls, said]).toEqual([1, []]);
  },
);
