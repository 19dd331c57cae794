/** The Log suite, its groups: positions, members, fencing. */
import assert from 'node:assert/strict';
import type { LogConsumer, Step, StoredRecord } from '../log.ts';
import {
  EVENTS,
  OUTPUT,
  STATE,
  all,
  drain,
  numbered,
  outcome,
  produced,
  reader,
  record,
  step,
  take,
  texts,
  until,
  type LogCase,
} from './log-bench.ts';

const POSITIONS: readonly LogCase[] = [
  {
    name: 'groups are apart: each reads everything',
    run: async (bench) => {
      const log = await bench.open();
      await log.append(EVENTS, numbered('a', 5));
      for (const group of ['one', 'two']) {
        const consumer = await reader(log, group);
        const records = await drain(consumer, log.partitions);
        assert.equal(records.length, 5);
        await consumer.commit(step(records));
        await consumer.close();
      }
    },
  },
  {
    name: 'a group goes on after its last commit, in a new life of the log too',
    run: async (bench) => {
      let log = await bench.open();
      await log.append(EVENTS, numbered('a', 3));
      const consumer = await reader(log, 'resume');
      await consumer.commit(step(await take(consumer, 3)));
      await log.append(EVENTS, [record('a', '3')]);
      await consumer.close();
      log = await bench.reopen(log);
      const again = await reader(log, 'resume');
      assert.deepEqual(texts(await drain(again, log.partitions)), ['3']);
    },
  },
  {
    name: 'what was polled and not committed comes again, also from the middle of a poll',
    run: async (bench) => {
      const log = await bench.open();
      await log.append(EVENTS, numbered('a', 6));
      const consumer = await reader(log, 'again');
      const records = await take(consumer, 6);
      await consumer.commit(step(records.slice(0, 2)));
      await consumer.close();
      const second = await reader(log, 'again');
      assert.deepEqual(texts(await drain(second, log.partitions)), ['2', '3', '4', '5']);
    },
  },
  {
    name: 'a consumer that keeps its own progress is told the committed one, and begins where it says',
    run: async (bench) => {
      const log = await bench.open();
      await log.append(EVENTS, numbered('a', 6));
      const [first] = await all(log, EVENTS);
      assert.ok(first);
      const told = new Map<number, number | undefined>();
      const onAssign = (partition: number, committed?: number): Promise<number | undefined> => {
        told.set(partition, committed);
        return Promise.resolve(partition === first.partition ? first.offset + 3 : undefined);
      };
      const consumer = await reader(log, 'own', { onAssign });
      assert.deepEqual(texts(await drain(consumer, log.partitions)), ['3', '4', '5']);
      assert.equal(told.get(first.partition), undefined);
      await consumer.commit({
        produce: [],
        offsets: new Map([[first.partition, first.offset + 5]]),
      });
      await consumer.close();
      const second = await reader(log, 'own', { onAssign });
      await drain(second, log.partitions);
      assert.equal(told.get(first.partition), first.offset + 5);
    },
  },
  {
    name: 'a log that tells its next offset lets a watcher begin where it says, and commits nothing for it',
    run: async (bench) => {
      const log = await bench.open();
      if (log.next === undefined) return;
      await log.append(EVENTS, numbered('a', 6));
      const [first] = await all(log, EVENTS);
      assert.ok(first);
      const end = await log.next(EVENTS, first.partition);
      assert.ok(end >= first.offset + 6);
      const watcher = async (begin: number): Promise<LogConsumer> =>
        await log.consumer({
          group: 'watcher',
          topic: EVENTS,
          from: 'end',
          watches: true,
          bytesMax: 1 << 20,
          onAssign: (partition, committed) => {
            assert.equal(committed, undefined);
            return Promise.resolve(partition === first.partition ? begin : undefined);
          },
        });
      const behind = await watcher(first.offset + 3);
      assert.deepEqual(texts(await take(behind, 3)), ['3', '4', '5']);
      await behind.close();
      const at = await watcher(end);
      await log.append(EVENTS, numbered('a', 1));
      assert.deepEqual(texts(await take(at, 1)), ['0']);
      await at.close();
      assert.equal((await log.committedBy?.('watcher', EVENTS))?.size ?? 0, 0);
    },
  },
  {
    name: 'a position beyond the end is of another log: what this one has is read',
    run: async (bench) => {
      const log = await bench.open();
      await log.append(EVENTS, numbered('a', 4));
      const onAssign = (): Promise<number> => Promise.resolve(1_000_000);
      const consumer = await reader(log, 'beyond', { onAssign });
      assert.deepEqual(texts(await take(consumer, 4)), ['0', '1', '2', '3']);
    },
  },
  {
    name: 'a lag is what is left, or not known: never zero while there is something',
    run: async (bench) => {
      const log = await bench.open();
      await log.append(EVENTS, numbered('a', 2));
      const consumer = await reader(log, 'lagging');
      const lag = (): number | null | undefined =>
        log.groups().find(({ group }) => group === 'lagging')?.lagRecords;
      const records: StoredRecord[] = [];
      await until('two records', async () => {
        assert.notEqual(lag(), 0);
        records.push(...(await consumer.poll(200)));
        return records.length === 2;
      });
      await consumer.commit(step(records));
      await until('a lag of 0', async () => {
        await consumer.poll(200);
        return lag() === 0;
      });
    },
  },
  {
    name: 'a consumer knows when it has returned everything, and no longer once there is more',
    run: async (bench) => {
      const log = await bench.open();
      await log.append(EVENTS, [record('a', '1')]);
      const consumer = await reader(log, 'ended');
      const [first] = await take(consumer, 1);
      assert.ok(first);
      await drain(consumer, log.partitions);
      await log.append(EVENTS, [record('a', '2')]);
      assert.deepEqual(texts(await take(consumer, 1)), ['2']);
    },
  },
  {
    name: 'a group that is forgotten holds no position, and begins anew when it is back',
    run: async (bench) => {
      let log = await bench.open();
      await log.append(EVENTS, numbered('a', 3));
      const consumer = await reader(log, 'gone');
      await consumer.commit(step(await take(consumer, 3)));
      await consumer.close();
      await log.forget('gone');
      assert.equal(
        log.groups().some(({ group }) => group === 'gone'),
        false,
      );
      log = await bench.reopen(log);
      const again = await reader(log, 'gone');
      assert.equal((await drain(again, log.partitions)).length, 3);
    },
  },
  {
    name: 'a poll that waits ends when the consumer is closed',
    run: async (bench) => {
      const log = await bench.open();
      const consumer = await reader(log, 'closing');
      await consumer.poll(0);
      const polling = consumer.poll(20_000).catch(() => []);
      // It waits by then.
      await new Promise((resolve) => setTimeout(resolve, 500));
      await consumer.close();
      const deadline = performance.now() + 10_000;
      await polling;
      assert.ok(performance.now() < deadline);
    },
  },
];

const MEMBERS: readonly LogCase[] = [
  {
    name: 'of two members that have the same record, one commits: a lease cannot be stolen',
    run: async (bench) => {
      const log = await bench.open({ partitions: 1 });
      const other = bench.supports.processes ? await bench.open({ partitions: 1 }) : log;
      await log.append(EVENTS, [record('a', '1')]);
      const first = await reader(log, 'fenced');
      const mine = await take(first, 1);
      const second = await reader(other, 'fenced');
      let theirs: StoredRecord[] = [];
      const deadline = performance.now() + 3000;
      while (theirs.length === 0 && performance.now() < deadline) theirs = await second.poll(200);
      const copy = (name: string, records: StoredRecord[]): Step =>
        step(records, [produced(OUTPUT, 'a', name), produced(STATE, 'owner', name, 0)]);
      const outcomes = [
        await outcome(first.commit(copy('first', mine))),
        theirs.length === 0 ? 'LOG_FENCED' : await outcome(second.commit(copy('second', theirs))),
      ];
      assert.deepEqual([...outcomes].sort(), ['LOG_FENCED', 'done'], outcomes.join());
      await first.close();
      await second.close();
      const written = texts(await all(log, OUTPUT));
      assert.equal(written.length, 1, `both were written: ${written.join()}`);
      assert.deepEqual(texts(await log.state(STATE, 0, 'owner')), written);
    },
  },
  {
    name: 'when a member leaves, another goes on from what it has committed',
    run: async (bench) => {
      const log = await bench.open({ partitions: 1 });
      const other = bench.supports.processes ? await bench.open({ partitions: 1 }) : log;
      await log.append(EVENTS, numbered('a', 4));
      const first = await reader(log, 'heirs');
      const records = await take(first, 4);
      await first.commit(step(records.slice(0, 2)));
      const second = await reader(other, 'heirs');
      await first.close();
      assert.deepEqual(texts(await take(second, 2)), ['2', '3']);
    },
  },
  {
    name: 'members share the partitions, each partition is one member’s, and what moves is told',
    skip: ({ partitions }) => (partitions ? undefined : 'it has one partition'),
    run: async (bench) => {
      const log = await bench.open({ partitions: 4 });
      const other = bench.supports.processes ? await bench.open({ partitions: 4 }) : log;
      const keys = Array.from({ length: 40 }, (_, at) => `key ${at}`);
      await log.append(
        EVENTS,
        keys.map((key) => record(key, '0')),
      );
      const member = async (on: typeof log): Promise<{ has: Set<number>; one: LogConsumer }> => {
        const has = new Set<number>();
        const one = await reader(on, 'shared', {
          onAssign: (partition) => {
            has.add(partition);
            return Promise.resolve(undefined);
          },
          onRevoke: (partition) => void has.delete(partition),
        });
        return { has, one };
      };
      const copyAll = async ({ one }: { one: LogConsumer }): Promise<void> => {
        const records = await one.poll(100);
        if (records.length === 0) return;
        const copies = records.map(({ key, value }) => produced(OUTPUT, key, value.toString()));
        const told = await outcome(one.commit(step(records, copies)));
        assert.ok(['done', 'LOG_FENCED', 'LOG_UNAVAILABLE'].includes(told), told);
      };
      const first = await member(log);
      await until('all are the first’s', async () => {
        await copyAll(first);
        return first.has.size === 4;
      });
      const second = await member(other);
      await until('both have a part', async () => {
        await Promise.all([copyAll(first), copyAll(second)]);
        const both = new Set([...first.has, ...second.has]);
        return first.has.size > 0 && second.has.size > 0 && both.size === 4;
      });
      assert.equal(first.has.size + second.has.size, 4, 'a partition is with both');
      await log.append(
        EVENTS,
        keys.map((key) => record(key, '1')),
      );
      const copied = async (): Promise<number> => (await all(log, OUTPUT)).length;
      for (let round = 0; round < 20 && (await copied()) < 80; round++)
        await Promise.all([copyAll(first), copyAll(second)]);
      await second.one.close();
      await until('everything is copied', async () => {
        await copyAll(first);
        return (await copied()) >= 80;
      });
      const output = await all(log, OUTPUT);
      for (const key of keys)
        assert.deepEqual(texts(output.filter((each) => each.key === key)), ['0', '1'], key);
    },
  },
  {
    name: 'a key stays in its partition when more partitions are asked for',
    skip: ({ partitions }) => (partitions ? undefined : 'it has one partition'),
    run: async (bench) => {
      let log = await bench.open({ partitions: 2 });
      const keys = Array.from({ length: 20 }, (_, at) => `key ${at}`);
      const append = async (): Promise<void> =>
        await log.append(
          EVENTS,
          keys.map((key) => record(key, 'x')),
        );
      await append();
      log = await bench.reopen(log, { partitions: 5 });
      await append();
      const places = new Map<string, Set<number>>();
      for (const { key, partition } of await all(log, EVENTS))
        places.set(key, (places.get(key) ?? new Set()).add(partition));
      for (const [key, partitions] of places) assert.equal(partitions.size, 1, key);
      assert.equal(places.size, 20);
    },
  },
];

export const GROUPS: readonly LogCase[] = [...POSITIONS, ...MEMBERS];
