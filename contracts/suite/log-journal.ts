/** The Log suite, its journal: what was appended comes back, whole, in order, once, also after a crash. */
import assert from 'node:assert/strict';
import {
  EVENTS,
  OUTPUT,
  TOPICS,
  all,
  drain,
  numbered,
  offsetsAfter,
  outcome,
  reader,
  record,
  take,
  texts,
  until,
  type LogCase,
} from './log-bench.ts';

export const JOURNAL: readonly LogCase[] = [
  {
    name: 'gives back records with key, value and headers, in the order of their key',
    run: async (bench) => {
      const log = await bench.open();
      const bytes = Buffer.from(Array.from({ length: 256 }, (_, at) => at));
      await log.append(EVENTS, [
        { key: 'a/ü "b"', value: bytes, headers: { lane: '0', 'odd name': 'wert ü' } },
        record('a/ü "b"', '2'),
        record('a/ü "b"', '3'),
      ]);
      await log.append(EVENTS, [record('a/ü "b"', '')]);
      const records = await all(log, EVENTS);
      assert.equal(records.length, 4);
      assert.equal(records[0]?.key, 'a/ü "b"');
      assert.deepEqual(records[0].headers, { lane: '0', 'odd name': 'wert ü' });
      assert.deepEqual([...records[0].value], [...bytes]);
      assert.deepEqual(texts(records.slice(1)), ['2', '3', '']);
    },
  },
  {
    name: 'positions grow within a partition, and every record has one',
    run: async (bench) => {
      const log = await bench.open();
      for (let round = 0; round < 3; round++)
        await log.append(
          EVENTS,
          numbered('a', 10).flatMap((each, at) => [each, record(`k${at}`, 'x')]),
        );
      const last = new Map<number, number>();
      for (const { partition, offset } of await all(log, EVENTS)) {
        assert.ok(partition >= 0 && partition < log.partitions, `partition ${partition}`);
        assert.ok(offset > (last.get(partition) ?? -1), `offset ${offset} after its successor`);
        last.set(partition, offset);
      }
    },
  },
  {
    name: 'the first records of a topic, appended at once, all stay',
    run: async (bench) => {
      const log = await bench.open();
      await Promise.all(
        Array.from({ length: 50 }, (_, at) => log.append(EVENTS, [record(`k${at % 5}`, `${at}`)])),
      );
      assert.equal(new Set(texts(await all(log, EVENTS))).size, 50);
    },
  },
  {
    name: 'a large record and many small ones pass, each key in its order',
    run: async (bench) => {
      const log = await bench.open();
      const size = Math.min(2 * 1024 * 1024, Math.floor(bench.supports.recordBytesMax / 2));
      await log.append(EVENTS, [
        record('big', 'x'.repeat(size)),
        ...Array.from({ length: 2000 }, (_, at) => record(`k${at % 7}`, `${at}`)),
      ]);
      const records = await all(log, EVENTS);
      assert.equal(records.filter(({ value }) => value.length === size).length, 1);
      assert.equal(records.length, 2001);
      for (let key = 0; key < 7; key++) {
        const own = texts(records.filter((each) => each.key === `k${key}`)).map(Number);
        assert.deepEqual(
          own,
          [...own].sort((a, b) => a - b),
        );
      }
    },
  },
  {
    name: 'a poll returns at most bytesMax, a larger record alone, and every record once',
    run: async (bench) => {
      const log = await bench.open();
      const sizes = [100, 3000, 400, 500, 600, 5000, 10, 10, 990, 700];
      await log.append(
        EVENTS,
        sizes.map((size, at) => record('a', `${at}`.padEnd(size, '.'))),
      );
      const consumer = await reader(log, 'bytes', { bytesMax: 1000 });
      const seen: string[] = [];
      await drain(consumer, log.partitions, (records) => {
        const bytes = records.reduce((sum, { value }) => sum + value.length, 0);
        assert.ok(
          bytes <= 1000 || records.length === 1,
          `${records.length} records of ${bytes} bytes in one poll`,
        );
        seen.push(...texts(records).map((text) => text.replaceAll('.', '')));
      });
      assert.deepEqual(
        seen,
        sizes.map((_, at) => `${at}`),
      );
    },
  },
  {
    name: 'what a step gave of a poll with a small bytesMax is gone on from without a gap, in a new life of the log too',
    run: async (bench) => {
      let log = await bench.open();
      await log.append(EVENTS, numbered('a', 40));
      const seen: string[] = [];
      for (let life = 0; life < 3; life++) {
        const consumer = await reader(log, 'small', { bytesMax: 5 });
        for (let step = 0; step < 3; step++) {
          const records = await take(consumer, 1);
          await consumer.commit({ produce: [], offsets: offsetsAfter(records) });
          seen.push(...texts(records));
        }
        await consumer.poll(0); // Read and not committed: it comes again.
        await consumer.close();
        log = await bench.reopen(log);
      }
      seen.push(...texts(await drain(await reader(log, 'small', { bytesMax: 5 }), log.partitions)));
      assert.deepEqual(seen, texts(numbered('a', 40)));
    },
  },
  {
    name: 'topics are apart',
    run: async (bench) => {
      const log = await bench.open();
      await log.append(EVENTS, [record('a', 'one')]);
      await log.append(OUTPUT, [record('a', 'two')]);
      assert.deepEqual(texts(await all(log, EVENTS)), ['one']);
      assert.deepEqual(texts(await all(log, OUTPUT)), ['two']);
    },
  },
  {
    name: 'a new group begins with the oldest that is left, and misses none after it',
    run: async (bench) => {
      const topics = TOPICS.map((each) =>
        each.name === EVENTS ? { ...each, trimBytes: 10_000 } : each,
      );
      const log = await bench.open({ topics });
      const first = await reader(log, 'first');
      for (let round = 0; round < 4; round++) {
        await log.append(
          EVENTS,
          Array.from({ length: 500 }, (_, at) => record('a', `${round * 500 + at}`.padEnd(100))),
        );
        const records = await take(first, 500);
        await first.commit({ produce: [], offsets: offsetsAfter(records) });
      }
      const numbers = texts(await all(log, EVENTS)).map(Number);
      assert.equal(numbers.at(-1), 1999);
      assert.ok(numbers.length >= 100, `${numbers.length} left of 10,000 bytes`);
      assert.deepEqual(
        numbers,
        numbers.map((_, at) => 2000 - numbers.length + at),
      );
      const again = await bench.reopen(log, { topics });
      await again.append(EVENTS, [record('a', 'next')]);
      const later = await all(again, EVENTS);
      assert.deepEqual(texts(later).at(-1), 'next');
      const [oldest] = later;
      if (again.first !== undefined && oldest !== undefined)
        assert.equal(await again.first(EVENTS, oldest.partition), oldest.offset);
      const offsets = later.map(({ offset }) => offset);
      assert.deepEqual(
        offsets,
        [...new Set(offsets)].sort((a, b) => a - b),
      );
    },
  },
  {
    name: 'what a group has not read stays, however much there is that others have read',
    run: async (bench) => {
      const topics = TOPICS.map((each) =>
        each.name === EVENTS ? { ...each, trimBytes: 10_000 } : each,
      );
      const log = await bench.open({ topics });
      await log.append(EVENTS, numbered('a', 3));
      const slow = await reader(log, 'slow');
      const records = await take(slow, 3);
      await slow.commit({ produce: [], offsets: offsetsAfter(records.slice(0, 1)) });
      await slow.close();
      const fast = await reader(log, 'fast');
      for (let round = 0; round < 4; round++) {
        const some = Array.from({ length: 300 }, (_, at) =>
          record('a', `${3 + round * 300 + at}`.padEnd(100)),
        );
        await log.append(EVENTS, some);
        const read = await take(fast, round === 0 ? 303 : 300);
        await fast.commit({ produce: [], offsets: offsetsAfter(read) });
      }
      const again = await bench.reopen(log, { topics });
      const left = await drain(await reader(again, 'slow'), again.partitions);
      assert.deepEqual(
        texts(left).map(Number),
        Array.from({ length: 1202 }, (_, at) => at + 1),
      );
    },
  },
  {
    name: 'a consumer from the end sees what comes after it and nothing before',
    run: async (bench) => {
      const log = await bench.open();
      await log.append(EVENTS, numbered('a', 3));
      const watcher = await reader(log, 'end', { from: 'end' });
      await watcher.poll(500);
      const seen: string[] = [];
      let sent = 0;
      await until('the first record', async () => {
        await log.append(EVENTS, [record('a', `later ${sent++}`)]);
        seen.push(...texts(await watcher.poll(200)));
        return seen.length > 0;
      });
      assert.ok(
        seen.every((text) => text.startsWith('later')),
        `before it: ${seen.join()}`,
      );
    },
  },
  {
    name: 'a record larger than the log takes is refused by LOG_TOO_LARGE, and holds up nothing',
    skip: ({ recordBytesMax }) =>
      recordBytesMax > 64 * 1024 * 1024 ? 'it takes records of any size' : undefined,
    run: async (bench) => {
      const log = await bench.open();
      const large = record('a', 'x'.repeat(bench.supports.recordBytesMax + 1));
      assert.equal(await outcome(log.append(EVENTS, [large])), 'LOG_TOO_LARGE');
      await log.append(EVENTS, [record('a', 'small')]);
      assert.deepEqual(texts(await all(log, EVENTS)), ['small']);
    },
  },
  {
    name: 'what was acknowledged is there after a crash, and what was not may be tried again',
    skip: (_, { canCrash }) => (canCrash ? undefined : 'no way to crash its server was given'),
    run: async (bench) => {
      const log = await bench.open();
      const acknowledged = new Set<string>();
      let crashed = false;
      let at = 0;
      const write = async (): Promise<void> => {
        const text = `${at++}`;
        try {
          await log.append(EVENTS, [record(`k${at % 5}`, text)]);
          acknowledged.add(text);
        } catch {
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      };
      const writers = Array.from({ length: 4 }, async () => {
        const deadline = performance.now() + 30_000;
        let after = 0;
        while (after < 20 && performance.now() < deadline) {
          const before = acknowledged.size;
          await write();
          if (crashed && acknowledged.size > before) after++;
        }
      });
      await until('some records', () => acknowledged.size > 200);
      await bench.crash();
      crashed = true;
      await Promise.all(writers);
      const found = new Set(texts(await all(log, EVENTS)));
      const missing = [...acknowledged].filter((text) => !found.has(text));
      assert.deepEqual(missing, [], `${acknowledged.size} were acknowledged`);
    },
  },
];
