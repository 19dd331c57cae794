/** What is decoded again keeps nobody else waiting: between some messages and the next the event loop has its turn; and it takes no hours. */
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { openDuckDb } from '../../collector/duckdb/database.ts';
import { partOf } from '../../collector/lake/gather.ts';
import { Lake } from '../../collector/lake/lake.ts';
import { LocalObjects } from '../../collector/lake/local.ts';
import { aliveOf, deadOf, stageDead } from '../../collector/lake/parquet-rows.ts';
import { Rows } from '../../collector/lake/replace.ts';
import { Writer } from '../../collector/lake/write.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import type { ConsumerOptions, LogConsumer } from '../../collector/log/log.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import type { ReadingBatch } from '../../shared/model/reading.ts';
import { LakeSite, frameOf } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

const FRAMES = 6;
const MESSAGES = 600;
const T0 = Date.UTC(2026, 4, 1);

const originalAdd = Rows.prototype.add;

const batchOf = (first: number, value: number): ReadingBatch => ({
  ...{ gateway: 'gw', epoch: '0102030405060708', arrivedMs: T0 },
  readings: Array.from({ length: MESSAGES }, (_, at) => ({
    ...{ measurement: 'm', tags: { gateway: 'gw' }, fields: { value }, ns: 0, index: 0 },
    ...{ sequence: first + at + 1, timeMs: T0 + first + at },
  })),
});

/** Turns of the event loop so far, and how many there were between the records of a replay and their commit. */
let turns = 0;
const between: number[] = [];

class Watched extends EmbeddedLog {
  override async consumer(options: ConsumerOptions): Promise<LogConsumer> {
    const consumer = await super.consumer(options);
    if (!options.group.startsWith('headwater-replay-')) return consumer;
    let from = 0;
    return {
      poll: async (waitMs) => {
        const records = await consumer.poll(waitMs);
        from = turns;
        return records;
      },
      commit: async (step) => {
        between.push(turns - from);
        await consumer.commit(step);
      },
      ended: () => consumer.ended(),
      close: () => consumer.close(),
    };
  }
}

it('a replay gives others their turn while it decodes', async () => {
  const site = new LakeSite(temporaryFolder(), { Log: Watched });
  await site.open();
  let isOver = false;
  const count = (): void => {
    turns++;
    if (!isOver) setImmediate(count);
  };
  try {
    const frames = Array.from({ length: FRAMES }, (_, n) => frameOf(1 + n * MESSAGES, MESSAGES));
    await site.append(frames);
    count();
    const { id } = await site.jobs.create({ which: 'all' });
    await until('the replay', () => site.jobs.isFinished(id) || undefined);
    expect(between.reduce((sum, each) => sum + each, 0)).toBeGreaterThanOrEqual(FRAMES - 1);
  } finally {
    isOver = true;
    await site.close();
  }
});

/** What was done in each turn of the event loop, at most. */
class Busiest {
  private turn = -1;
  private own = 0;
  most = 0;

  add(count: number): void {
    if (this.turn !== turns) this.own = 0;
    this.turn = turns;
    this.own += count;
    this.most = Math.max(this.most, this.own);
  }
}

it('a step of the lake over what was decoded again gives others their turn', async () => {
  const RECORDS = 8;
  const folder = temporaryFolder();
  const lake = new Lake(new LocalObjects(join(folder, 'lake')), {
    ...{ folder, memoryBytes: 256 << 20, cacheBytes: 1 << 24 },
  });
  await lake.open();
  let isOver = false;
  const count = (): void => {
    turns++;
    if (!isOver) setImmediate(count);
  };
  const taken = new Busiest();
  const given = new Busiest();
  const add = vi.spyOn(Rows.prototype, 'add').mockImplementation(function (this: Rows, rows, said) {
    taken.add(rows.length);
    originalAdd.call(this, rows, said);
  });
  const instance = await openDuckDb(':memory:', { memoryBytes: 64 << 20, files: false });
  const connection = await instance.connect();
  await connection.run('CREATE TABLE one (a INTEGER)');
  const appender = Object.getPrototypeOf(await connection.createAppender('one')) as {
    endRow(): void;
  };
  const { endRow } = appender;
  appender.endRow = function (): void {
    given.add(1);
    endRow.call(this);
  };
  try {
    count();
    const writer = new Writer(lake, 'readings');
    for (const [step, headers] of [{}, { again: '1' }].entries()) {
      const part = partOf(undefined, () => 'abcd0123');
      part.state.step = step + 1;
      const records = Array.from({ length: RECORDS }, (_, n) => ({
        ...{ topic: 'readings', partition: 0, offset: step * RECORDS + n, key: 'gw', headers },
        value: encodeReadings(batchOf(n * MESSAGES, step)),
      }));
      await writer.commit(part, 0, await writer.prepare(part, 0, records));
    }
    expect(writer.rewrittenFiles).toBe(1);
    expect(taken.most).toBeLessThanOrEqual(2000 + MESSAGES);
    // With the rows that those of one record share.
    expect(given.most).toBeLessThanOrEqual(2000 + 2 * RECORDS);
    expect(Math.min(taken.most, given.most)).toBeGreaterThan(MESSAGES);
  } finally {
    isOver = true;
    add.mockRestore();
    appender.endRow = endRow;
    connection.closeSync();
    instance.closeSync();
    await lake.close();
  }
});

it('rows that are replaced are found by hashes, and not each compared with each: of an identity, or of one time alone', async () => {
  const instance = await openDuckDb(':memory:', { memoryBytes: 64 << 20, files: false });
  const connection = await instance.connect();
  try {
    await connection.run(
      `CREATE TABLE f AS SELECT 'e' AS epoch, n // 2 AS sequence, 0 AS "index", n AS time_ns FROM range(20) AS t(n)`,
    );
    // Two times of each sequence: both go, one does, neither at that time, one for two reasons, and of another epoch.
    const dead = [[1], [2, 4], [3, 99], [4, 8], [4], [4], [5, 10], [5, 11]] as const;
    await stageDead(connection, [
      ...dead.map(([sequence, time]) => ({
        ...{ epoch: 'e', sequence, index: 0 },
        timeNs: time === undefined ? undefined : BigInt(time),
      })),
      { epoch: 'other', sequence: 6, index: 0, timeNs: undefined },
    ]);
    const times = async (sql: string): Promise<number[]> =>
      (await connection.runAndReadAll(sql)).getRows().map(([time]) => Number(time));
    expect(await times(`SELECT file.time_ns FROM ${aliveOf('f')} ORDER BY 1`)).toEqual([
      0, 1, 5, 6, 7, 12, 13, 14, 15, 16, 17, 18, 19,
    ]);
    expect(await times(`SELECT DISTINCT file.time_ns FROM ${deadOf('f')} ORDER BY 1`)).toEqual([
      2, 3, 4, 8, 9, 10, 11,
    ]);
    for (const relation of [aliveOf('f'), deadOf('f')]) {
      const plan = await connection.runAndReadAll(`EXPLAIN SELECT * FROM ${relation}`);
      expect(String(plan.getRows()[0]?.[1])).toContain('HASH_JOIN');
      expect(String(plan.getRows()[0]?.[1])).not.toMatch(/NL_JOIN|NESTED_LOOP/);
    }
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
});
