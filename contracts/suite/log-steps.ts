/** The Log suite, its steps: what one gives, and how far it has read, is there together or not at all. */
import assert from 'node:assert/strict';
import type { LogConsumer } from '../log.ts';
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

/** From the end of the crash on. */
const CRASH_MS_MAX = 120_000;

export const STEPS: readonly LogCase[] = [
  {
    name: 'a step commits output, state and offsets together',
    run: async (bench) => {
      let log = await bench.open();
      await log.append(EVENTS, numbered('a', 4));
      const consumer = await reader(log, 'step');
      const records = await take(consumer, 4);
      const partition = records[0]?.partition ?? 0;
      await consumer.commit(
        step(records, [
          produced(OUTPUT, 'a', 'output'),
          produced(STATE, 'state/a', 'one', partition),
          produced(STATE, 'state/a', 'two', partition),
          produced(STATE, 'other/a', 'no', partition),
        ]),
      );
      await consumer.close();
      log = await bench.reopen(log);
      assert.deepEqual(
        (await log.state(STATE, partition, 'state/')).map(({ key, value }) => [
          key,
          value.toString(),
        ]),
        [['state/a', 'two']],
      );
      assert.deepEqual(texts(await all(log, OUTPUT)), ['output']);
      const same = await reader(log, 'step');
      assert.deepEqual(await drain(same, log.partitions), []);
    },
  },
  {
    name: 'steps one after the other give each record once, in order, through restarts in the middle',
    run: async (bench) => {
      let log = await bench.open();
      const keys = ['a', 'b', 'c', 'd'];
      await log.append(
        EVENTS,
        Array.from({ length: 60 }, (_, at) => record(keys[at % 4] ?? 'a', String(at))),
      );
      for (let life = 0; life < 3; life++) {
        const consumer = await reader(log, 'copy', { bytesMax: 20 });
        for (let steps = 0; steps < (life === 2 ? 60 : 4); steps++) {
          const records = await consumer.poll(life === 2 ? 50 : 2000);
          if (records.length === 0) {
            if (consumer.ended().size >= log.partitions) break;
            continue;
          }
          const copies = records.map(({ key, value }) => produced(OUTPUT, key, value.toString()));
          await consumer.commit(step(records, copies));
        }
        await consumer.poll(0);
        await consumer.close();
        log = await bench.reopen(log);
      }
      const rest = await reader(log, 'copy');
      await drain(rest, log.partitions, async (records) => {
        const copies = records.map(({ key, value }) => produced(OUTPUT, key, value.toString()));
        await rest.commit(step(records, copies));
      });
      const output = await all(log, OUTPUT);
      for (const key of keys) {
        const own = texts(output.filter((each) => each.key === key)).map(Number);
        assert.deepEqual(
          own,
          Array.from({ length: 15 }, (_, at) => at * 4 + keys.indexOf(key)),
        );
      }
    },
  },
  {
    name: 'a step of which one record is too large leaves nothing of it behind',
    skip: ({ recordBytesMax }) =>
      recordBytesMax > 64 * 1024 * 1024 ? 'it takes records of any size' : undefined,
    run: async (bench) => {
      let log = await bench.open();
      await log.append(EVENTS, numbered('a', 3));
      const consumer = await reader(log, 'large');
      const records = await take(consumer, 3);
      const partition = records[0]?.partition ?? 0;
      const large = 'x'.repeat(bench.supports.recordBytesMax + 1);
      const output = [
        produced(OUTPUT, 'a', 'small'),
        produced(STATE, 'state/a', 'new', partition),
        produced(OUTPUT, 'a', large),
      ];
      assert.equal(await outcome(consumer.commit(step(records, output))), 'LOG_TOO_LARGE');
      await consumer.close();
      log = await bench.reopen(log);
      assert.deepEqual(texts(await all(log, OUTPUT)), []);
      assert.deepEqual(await log.state(STATE, partition, 'state/'), []);
      assert.deepEqual(texts(await take(await reader(log, 'large'), 3)), ['0', '1', '2']);
    },
  },
  {
    name: 'a step that a crash cuts off is there as a whole or not at all',
    skip: (_, { canCrash }) => (canCrash ? undefined : 'no way to crash its server was given'),
    run: async (bench) => {
      const log = await bench.open();
      const count = 100;
      await log.append(EVENTS, numbered('a', count));
      let steps = 0;
      let deadline = Number.POSITIVE_INFINITY;
      let isOver = false;
      const copying = (async () => {
        let consumer: LogConsumer | undefined;
        while (!isOver && performance.now() < deadline) {
          try {
            consumer ??= await reader(log, 'cut', { bytesMax: 6 });
            const records = await consumer.poll(200);
            const last = records.at(-1);
            if (last === undefined) isOver = consumer.ended().size >= log.partitions;
            else {
              const copies = records.map(({ key, value }) =>
                produced(OUTPUT, key, value.toString()),
              );
              const state = produced(STATE, 'last', last.value.toString(), last.partition);
              await consumer.commit(step(records, [...copies, state]));
              steps++;
            }
          } catch {
            // As a stage does: it begins again from what is committed.
            await consumer?.close().catch(() => undefined);
            consumer = undefined;
            await new Promise((resolve) => setTimeout(resolve, 50));
          }
        }
        await consumer?.close();
      })();
      await until('some steps', () => steps > 5);
      await bench.crash();
      deadline = performance.now() + CRASH_MS_MAX;
      await copying;
      assert.ok(isOver, `after the crash it did not come to the end (${steps} steps)`);
      const output = await all(log, OUTPUT);
      assert.deepEqual(texts(output), texts(numbered('a', count)));
    },
  },
];
