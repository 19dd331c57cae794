/** The Log suite, its state: last values, removals, and watches that know when they have caught up. */
import assert from 'node:assert/strict';
import type { LogRecord } from '../log.ts';
import {
  EVENTS,
  STATE,
  offsetsAfter,
  produced,
  reader,
  record,
  take,
  texts,
  until,
  type LogCase,
} from './log-bench.ts';

/** What a watcher makes of what it is told. */
function view(): { values: Map<string, string>; onRecords: (records: LogRecord[]) => void } {
  const values = new Map<string, string>();
  const onRecords = (records: LogRecord[]): void => {
    for (const { key, value } of records) {
      if (value.length === 0) values.delete(key);
      else values.set(key, value.toString());
    }
  };
  return { values, onRecords };
}

export const STATES: readonly LogCase[] = [
  {
    name: 'state is the last value of each key, by prefix, in a new life of the log too',
    run: async (bench) => {
      let log = await bench.open({ partitions: 1 });
      await log.append(STATE, [record('a/1', 'x'), record('a/2', 'x'), record('b/1', 'x')]);
      await log.append(STATE, [record('a/1', 'y')]);
      for (let life = 0; life < 2; life++) {
        const values = await log.state(STATE, 0, 'a/');
        assert.deepEqual(values.map(({ key, value }) => `${key}=${value.toString()}`).sort(), [
          'a/1=y',
          'a/2=x',
        ]);
        log = await bench.reopen(log, { partitions: 1 });
      }
    },
  },
  {
    name: 'a removed key stays removed, in a new life of the log too',
    run: async (bench) => {
      let log = await bench.open({ partitions: 1 });
      await log.append(STATE, [record('kept', 'x'), record('gone', 'x'), record('stepped', 'x')]);
      await log.append(STATE, [record('gone', '')]);
      await log.append(EVENTS, [record('a', '1')]);
      const consumer = await reader(log, 'remover');
      const records = await take(consumer, 1);
      await consumer.commit({
        produce: [produced(STATE, 'stepped', '', 0)],
        offsets: offsetsAfter(records),
      });
      await consumer.close();
      for (let life = 0; life < 2; life++) {
        assert.deepEqual(
          (await log.state(STATE, 0, '')).map(({ key }) => key),
          ['kept'],
        );
        const { values, onRecords } = view();
        const watch = await log.watch(STATE, onRecords);
        assert.deepEqual([...values.keys()], ['kept']);
        await watch.close();
        log = await bench.reopen(log, { partitions: 1 });
      }
    },
  },
  {
    name: 'state is its partition’s',
    skip: ({ partitions }) => (partitions ? undefined : 'it has one partition'),
    run: async (bench) => {
      const log = await bench.open({ partitions: 3 });
      await log.append(EVENTS, [record('a', '1')]);
      const consumer = await reader(log, 'places');
      const records = await take(consumer, 1);
      await consumer.commit({
        produce: [0, 1, 2].map((at) => produced(STATE, `p${at}`, `${at}`, at)),
        offsets: offsetsAfter(records),
      });
      await consumer.close();
      for (const at of [0, 1, 2])
        assert.deepEqual(texts(await log.state(STATE, at, '')), [`${at}`]);
      const { values, onRecords } = view();
      await (await log.watch(STATE, onRecords)).close();
      assert.equal(values.size, 3);
    },
  },
  {
    name: 'a watch of nothing resolves, and sees what comes',
    run: async (bench) => {
      const log = await bench.open();
      const { values, onRecords } = view();
      const watch = await log.watch(STATE, onRecords);
      assert.equal(values.size, 0);
      await log.append(STATE, [record('a', '1')]);
      await until('the value', () => values.get('a') === '1');
      await watch.close();
    },
  },
  {
    name: 'a watch resolves only when everything that was there has been handed on',
    run: async (bench) => {
      let log = await bench.open();
      await log.append(
        STATE,
        Array.from({ length: 500 }, (_, at) => record(`k${at}`, 'old')),
      );
      await log.append(
        STATE,
        Array.from({ length: 500 }, (_, at) => record(`k${at}`, at % 50 === 0 ? '' : 'new')),
      );
      for (let life = 0; life < 2; life++) {
        const { values, onRecords } = view();
        const watch = await log.watch(STATE, onRecords);
        assert.equal(values.size, 490);
        assert.ok([...values.values()].every((value) => value === 'new'));
        await watch.close();
        log = await bench.reopen(log);
      }
    },
  },
  {
    name: 'a watch sees every later change and removal, by whomever, until it is closed',
    run: async (bench) => {
      const log = await bench.open();
      const other = await bench.beside(log);
      const { values, onRecords } = view();
      const watch = await other.watch(STATE, onRecords);
      await log.append(STATE, [record('a', '1'), record('b', '1')]);
      await until('two values', () => values.size === 2);
      await log.append(EVENTS, [record('x', '1')]);
      const consumer = await reader(log, 'changer');
      const records = await take(consumer, 1);
      await consumer.commit({
        produce: [produced(STATE, 'c', '3')],
        offsets: offsetsAfter(records),
      });
      await log.append(STATE, [record('a', ''), record('b', '2')]);
      await until('the removal', () => !values.has('a') && values.get('b') === '2');
      // It may be in another partition, and partitions are in no order.
      await until('the value of a step', () => values.get('c') === '3');
      await watch.close();
      await log.append(STATE, [record('b', 'after')]);
      const second = view();
      await (await other.watch(STATE, second.onRecords)).close();
      assert.equal(second.values.get('b'), 'after');
      assert.equal(values.get('b'), '2');
    },
  },
  {
    name: 'a watch goes on after a crash',
    skip: (_, { canCrash }) => (canCrash ? undefined : 'no way to crash its server was given'),
    run: async (bench) => {
      const log = await bench.open();
      const { values, onRecords } = view();
      const watch = await log.watch(STATE, onRecords);
      await bench.crash();
      let sent = 0;
      await until('a value after the crash', async () => {
        await log.append(STATE, [record('a', `${sent++}`)]).catch(() => undefined); // Tried again.
        return values.has('a');
      });
      await watch.close();
    },
  },
];
