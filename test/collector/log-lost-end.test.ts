/** A log that has lost something: its newest records, while groups remember that they had been there; and for whom it is remembered. */
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { recordKey } from '../../collector/log/embedded-records.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import type { KvDatabase } from '../../shared/kv/kv.ts';
import { temporaryFolder, until } from '../support/process.ts';

async function opened(folder: string): Promise<EmbeddedLog> {
  const options = { folder, cacheBytes: 1 << 20, topics: [], now: Date.now };
  const log = new EmbeddedLog(options, () => undefined);
  await log.open();
  return log;
}

const record = (n: number) => ({ key: 'k', headers: {}, value: Buffer.from(String(n)) });

it('who reads it from the start comes to its end, and what is appended then gets offsets beyond', async () => {
  const folder = temporaryFolder();
  const log = await opened(folder);
  await log.append('t', [0, 1, 2, 3, 4].map(record));
  await log.commit('g', 't', { produce: [], offsets: new Map([[0, 5]]) });
  const { db } = log as unknown as { db: KvDatabase };
  const ops = [2, 3, 4].map((n) => ({ type: 'del', key: recordKey('t', n) }) as const);
  await db.write(ops, { sync: true });
  await log.close();
  const again = await opened(folder);
  const consumer = await again.consumer({ group: 'h', topic: 't', from: 'start', bytesMax: 1e6 });
  const read: string[] = [];
  const look = async (isOver: () => boolean): Promise<true | undefined> => {
    for (const { offset, value } of await consumer.poll(10)) read.push(`${offset} ${value}`);
    return isOver() || undefined;
  };
  await until('the end', () => look(() => consumer.ended().has(0)), 10_000);
  expect(read).toEqual(['0 0', '1 1']);
  await again.append('t', [record(5)]);
  await until('what is new', () => look(() => read.length > 2), 10_000);
  expect(read.at(-1)).toBe('5 5');
  await again.close();
});

it('that a log was damaged is known to each who may lack something, over restarts, until that one has made up for it', async () => {
  const folder = temporaryFolder();
  const log = await opened(folder);
  await log.append('t', [0, 1].map(record));
  expect(log.hasLost('lake')).toBe(false);
  await log.close();
  const name = readdirSync(join(folder, 'log')).find((each) => /^\d+\.log$/.test(each)) ?? '';
  const path = join(folder, 'log', name);
  const bytes = readFileSync(path);
  bytes[bytes.length - 3] = (bytes[bytes.length - 3] ?? 0) ^ 4;
  writeFileSync(path, bytes);
  const all = ['ledger', 'lake', 'settings'] as const;
  const again = await opened(folder);
  expect(all.filter((of) => again.hasLost(of))).toEqual(all);
  await again.madeUp('lake');
  await again.close();
  const third = await opened(folder);
  expect(all.filter((of) => third.hasLost(of))).toEqual(['ledger', 'settings']);
  for (const of of all) await third.madeUp(of);
  expect(existsSync(join(folder, 'log.lost'))).toBe(false);
  await third.close();
  const last = await opened(folder);
  expect(all.filter((of) => last.hasLost(of))).toEqual([]);
  await last.close();
});
