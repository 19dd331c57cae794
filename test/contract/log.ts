/** The suite of the Log contract: every adapter passes it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  TOPIC_LEDGER,
  TOPIC_COMMANDS,
  TOPIC_QUARANTINE,
  TOPIC_RAW,
  TOPIC_READINGS,
  type Log,
  type LogConsumer,
  type LogRecord,
  type StoredRecord,
} from '../../collector/log/log.ts';

const record = (key: string, value: string, headers: Record<string, string> = {}): LogRecord => ({
  key,
  value: Buffer.from(value),
  headers,
});
const texts = (records: StoredRecord[]): string[] => records.map(({ value }) => value.toString());

async function take(consumer: LogConsumer, count: number): Promise<StoredRecord[]> {
  const records: StoredRecord[] = [];
  for (let tries = 0; records.length < count && tries < 60; tries++)
    records.push(...(await consumer.poll(500)));
  return records;
}

function offsetsAfter(records: StoredRecord[]): Map<number, number> {
  const offsets = new Map<number, number>();
  for (const { partition, offset } of records)
    offsets.set(partition, Math.max(offsets.get(partition) ?? 0, offset + 1));
  return offsets;
}

export interface LogHarness {
  /** A log on the harness's storage; again the same storage when called again. */
  create(): Promise<Log>;
  stop(): Promise<void>;
}

export function logContract(name: string, makeHarness: () => Promise<LogHarness>): void {
  describe(`Log contract: ${name}`, () => {
    let harness: LogHarness;
    let log: Log;
    const reader = (group: string, topic: string, more: object = {}): Promise<LogConsumer> =>
      log.consumer({ group, topic, from: 'start', bytesMax: 1 << 20, ...more });

    beforeAll(async () => {
      harness = await makeHarness();
      log = await harness.create();
      await log.open();
    });
    afterAll(async () => {
      await log.close();
      await harness.stop();
    });

    it('a lag is what is left, or not known: never zero while there is something', async () => {
      await log.append(TOPIC_COMMANDS, [record('l', '1'), record('l', '2')]);
      const consumer = await reader('lagging', TOPIC_COMMANDS);
      const lag = (): number | null | undefined =>
        log.groups().find(({ group }) => group === 'lagging')?.lagRecords;
      const records: StoredRecord[] = [];
      for (let tries = 0; records.length < 2 && tries < 60; tries++) {
        expect(lag()).not.toBe(0);
        records.push(...(await consumer.poll(500)));
      }
      await consumer.commit({ produce: [], offsets: offsetsAfter(records) });
      for (let tries = 0; lag() !== 0 && tries < 60; tries++) await consumer.poll(500);
      expect(lag()).toBe(0);
      await consumer.close();
    });

    it('a consumer knows when it has returned everything, and no longer once there is more', async () => {
      const consumer = await reader('ended', TOPIC_COMMANDS);
      await log.append(TOPIC_COMMANDS, [record('e', '1')]);
      const partition = (await take(consumer, 1))[0]?.partition ?? -1;
      for (let tries = 0; !consumer.ended().has(partition) && tries < 60; tries++)
        expect(await consumer.poll(500)).toEqual([]);
      expect(consumer.ended().has(partition)).toBe(true);
      await log.append(TOPIC_COMMANDS, [record('e', '2')]);
      expect(texts(await take(consumer, 1))).toEqual(['2']);
      await consumer.close();
    });

    it('gives back records with key, value and headers, in the order of their key', async () => {
      await log.append(TOPIC_RAW, [
        record('a', '1', { lane: '0' }),
        record('a', '2'),
        record('a', '3'),
      ]);
      const consumer = await reader('order', TOPIC_RAW);
      const records = await take(consumer, 3);
      expect(texts(records)).toEqual(['1', '2', '3']);
      expect(records[0]).toMatchObject({ key: 'a', headers: { lane: '0' } });
      await consumer.close();
    });

    it('the first records of a topic, appended at once, all stay', async () => {
      const fresh = await harness.create();
      await log.close();
      log = fresh;
      await log.open();
      await Promise.all(
        Array.from({ length: 20 }, (_, i) =>
          log.append(TOPIC_QUARANTINE, [record('first', `f${i}`)]),
        ),
      );
      const consumer = await reader('first', TOPIC_QUARANTINE);
      expect(new Set(texts(await take(consumer, 20))).size).toBe(20);
      await consumer.close();
    });

    it('a group goes on after its last commit, in a new life of the log too', async () => {
      const consumer = await reader('resume', TOPIC_RAW);
      const first = await take(consumer, 3);
      await consumer.commit({ produce: [], offsets: offsetsAfter(first) });
      await log.append(TOPIC_RAW, [record('a', '4')]);
      await consumer.close();
      await log.close();
      log = await harness.create();
      await log.open();
      const again = await reader('resume', TOPIC_RAW);
      expect(texts(await take(again, 1))).toEqual(['4']);
      await again.close();
    });

    it('what was polled and not committed comes again', async () => {
      const consumer = await reader('again', TOPIC_RAW);
      expect(await take(consumer, 4)).toHaveLength(4);
      await consumer.close();
      const second = await reader('again', TOPIC_RAW);
      expect(await take(second, 4)).toHaveLength(4);
      await second.close();
    });

    it('a step commits output, state and offsets together', async () => {
      const consumer = await reader('step', TOPIC_RAW);
      const records = await take(consumer, 4);
      const partition = records[0]?.partition ?? 0;
      await consumer.commit({
        produce: [
          { ...record('a', 'output'), topic: TOPIC_READINGS },
          { ...record('state/a', 'one'), topic: TOPIC_LEDGER, partition },
          { ...record('state/a', 'two'), topic: TOPIC_LEDGER, partition },
          { ...record('other/a', 'no'), topic: TOPIC_LEDGER, partition },
        ],
        offsets: offsetsAfter(records),
      });
      await consumer.close();
      expect(
        (await log.state(TOPIC_LEDGER, partition, 'state/')).map(({ key, value }) => [
          key,
          value.toString(),
        ]),
      ).toEqual([['state/a', 'two']]);
      const output = await reader('output', TOPIC_READINGS);
      expect(texts(await take(output, 1))).toEqual(['output']);
      await output.close();
      const same = await reader('step', TOPIC_RAW);
      expect(await same.poll(1500)).toEqual([]);
      await same.close();
    });

    it('a consumer that keeps its own progress begins where it says', async () => {
      const consumer = await reader('own', TOPIC_RAW, {
        onAssign: (partition: number) => Promise.resolve(partition >= 0 ? 3 : undefined),
      });
      expect(texts(await take(consumer, 1))).toEqual(['4']);
      await consumer.close();
    });

    it('a watcher sees what comes after it and nothing before', async () => {
      const watcher = await reader('watch', TOPIC_QUARANTINE, { from: 'end' });
      await log.append(TOPIC_QUARANTINE, [record('x', 'warm')]);
      let seen: StoredRecord[] = await watcher.poll(2000);
      await log.append(TOPIC_QUARANTINE, [record('x', 'new')]);
      for (let i = 0; i < 20 && !texts(seen).includes('new'); i++)
        seen = [...seen, ...(await watcher.poll(500))];
      expect(texts(seen)).toContain('new');
      await watcher.close();
    });

    it('a large record and many small ones pass', async () => {
      const large = 'x'.repeat(2 * 1024 * 1024);
      await log.append(TOPIC_QUARANTINE, [
        record('big', large),
        ...Array.from({ length: 2000 }, (_, i) => record(`k${i % 7}`, `v${i}`)),
      ]);
      const consumer = await reader('many', TOPIC_QUARANTINE);
      const records = await take(consumer, 2023);
      expect(records.filter(({ value }) => value.length === large.length)).toHaveLength(1);
      for (let key = 0; key < 7; key++) {
        const own = records
          .filter((each) => each.key === `k${key}`)
          .map(({ value }) => Number(value.toString().slice(1)));
        expect(own).toEqual([...own].sort((a, b) => a - b));
      }
      await consumer.close();
    });

    it('many appends at once all become durable', async () => {
      await Promise.all(
        Array.from({ length: 50 }, (_, i) => log.append(TOPIC_RAW, [record('many', `m${i}`)])),
      );
      const consumer = await reader('burst', TOPIC_RAW);
      const records = await take(consumer, 54);
      expect(new Set(texts(records).filter((text) => text.startsWith('m'))).size).toBe(50);
      await consumer.close();
    });
  });
}
