/** What the buffer keeps, for how long, and what gives way when it is full. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { openBuffer, type OpenBufferOptions } from '../../gateway/buffer/open.ts';
import type { MessageBuffer } from '../../gateway/buffer/buffer.ts';
import { Epochs } from '../../gateway/buffer/epochs.ts';
import { positionOf } from '../../gateway/buffer/position.ts';
import type { StoredFrame } from '../../gateway/buffer/stored-frame.ts';
import {
  HISTORY_QUERY,
  History,
  parseHistoryQuery,
  type HistoryMessage,
} from '../../gateway/ops/history.ts';
import { checkParameters } from '../../shared/http/route.ts';
import { realEnv } from '../../shared/env/env.ts';
import {
  KIND_LOSS,
  KIND_RECORDS,
  KIND_SUMMARY,
  checkFrame,
  readRecords,
} from '../../shared/frame/frame.ts';
import { readNote } from '../../shared/frame/notes.ts';
import { LevelDatabase } from '../../shared/kv/classic-level.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import { message, payloads, readAll, refOf } from '../contract/buffer.ts';
import { temporaryFolder, until } from '../support/process.ts';

const MIB = 1024 * 1024;
const opened: MessageBuffer<number>[] = [];
afterEach(async () => {
  for (const buffer of opened.splice(0)) await buffer.close();
});

async function open(
  folder: string,
  more: Partial<OpenBufferOptions> = {},
): Promise<{ buffer: MessageBuffer<number>; durable: number[]; notices: string[] }> {
  const durable: number[] = [];
  const notices: string[] = [];
  const buffer = await openBuffer<number>(
    realEnv(),
    {
      folder,
      gateway: 'gw',
      diskBytesMax: 64 * MIB,
      reserveBytes: MIB,
      historyBytesMax: 32 * MIB,
      policy: 'block',
      frameBytes: 4096,
      pendingBytesMax: MIB,
      cacheBytes: 64 * 1024,
      compress: false,
      ...more,
    },
    {
      onDurable: (tickets) => durable.push(...tickets),
      onFrame: () => undefined,
      onRelief: () => undefined,
      onNotice: ({ event, text }) => notices.push(`${event}: ${text}`),
    },
  );
  opened.push(buffer);
  return { buffer, durable, notices };
}

async function fill(
  { buffer, durable }: { buffer: MessageBuffer<number>; durable: number[] },
  count: number,
  text: (index: number) => string,
  topic: (index: number) => string = () => 't',
): Promise<void> {
  const from = durable.length;
  for (let index = from; index < from + count; ) {
    if (buffer.congested) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      continue;
    }
    buffer.append(message(text(index), { topic: topic(index) }), index++);
  }
  await until('everything durable', () => durable.length === from + count || undefined);
}

/** Waits until upkeep has nothing more to do. */
async function calm({ buffer }: { buffer: MessageBuffer<number> }): Promise<void> {
  let before = '';
  let quiet = 0;
  await until('room', async () => {
    await new Promise((resolve) => setTimeout(resolve, 300));
    const { diskBytes, evictedMessages, droppedMessages, thinnedMessages } = buffer.stats();
    const now = [diskBytes, evictedMessages, droppedMessages, thinnedMessages].join();
    quiet = now === before && buffer.state.kind === 'open' ? quiet + 1 : 0;
    before = now;
    return quiet >= 3 || undefined;
  });
}

async function heldFrames(buffer: MessageBuffer<number>): Promise<StoredFrame[]> {
  const all: StoredFrame[] = [];
  for (let before: Buffer | undefined; ; before = all.at(-1)?.position) {
    const some = await buffer.readNewest('held', before, 64 * 1024);
    if (some.length === 0) return all;
    all.push(...some);
  }
}

/** Sequences that are accounted for: held as messages, in loss reports, in summaries. */
function account(frames: StoredFrame[]): {
  messages: RangeSet;
  lost: RangeSet;
  thinned: RangeSet;
  notes: number;
} {
  const sets = {
    messages: new RangeSet(),
    lost: new RangeSet(),
    thinned: new RangeSet(),
    notes: 0,
  };
  for (const { frame } of frames) {
    const header = checkFrame(frame);
    if (header.kind === KIND_RECORDS)
      for (const { sequence } of readRecords(frame, header)) sets.messages.add(sequence, sequence);
    else sets.notes++;
    if (header.kind === KIND_LOSS)
      for (const [from, to] of readNote(KIND_LOSS, frame, header).ranges ?? [])
        sets.lost.add(from, to ?? from);
    if (header.kind === KIND_SUMMARY)
      for (const [from, to] of readNote(KIND_SUMMARY, frame, header).replaces)
        sets.thinned.add(from, to);
  }
  return sets;
}

describe('history', () => {
  it('stays after the acknowledgement, through a restart, and can be made to wait again', async () => {
    const folder = temporaryFolder();
    const first = await open(folder);
    await fill(first, 500, (i) => `m${i}`);
    const epoch = first.buffer.epoch;
    await first.buffer.release((await readAll(first.buffer)).map(refOf));
    expect(await readAll(first.buffer)).toEqual([]);
    expect(first.buffer.epochs.holdings()).toEqual([
      { epoch, next: 501, waiting: [], history: [[1, 500]], lost: [] },
    ]);
    await first.buffer.close();
    const second = await open(folder);
    await until('the count', () => second.buffer.stats().waitingMessages === 0 || undefined);
    expect(payloads(await readAll(second.buffer))).toEqual([]);
    expect(payloads((await heldFrames(second.buffer)).toReversed())).toHaveLength(500);
    // In whole frames, each of its messages waits.
    const recalled = await second.buffer.recall(epoch, [[200, 300]]);
    expect(recalled).toBeGreaterThanOrEqual(101);
    const [{ waiting } = { waiting: [] }] = second.buffer.epochs.holdings();
    expect(waiting.reduce((sum, [from, to]) => sum + to - from + 1, 0)).toBe(recalled);
    const again = payloads(await readAll(second.buffer));
    expect(again).toContain('m199');
    expect(again).toContain('m299');
    expect(second.buffer.stats().losses).toBe(0);
  });

  it('is answered by topic, client and time, newest first', async () => {
    const near = await open(temporaryFolder());
    await fill(
      near,
      300,
      (i) => `{"n":${i}}`,
      (i) => `hall/${i % 3}`,
    );
    await near.buffer.release((await readAll(near.buffer)).slice(0, 1).map(refOf));
    const ask = async (text: string) => {
      const query = parseHistoryQuery(new URLSearchParams(text), Date.now());
      const history = new History(near.buffer, query);
      const messages: HistoryMessage[] = [];
      for await (const message of history.messages()) messages.push(message);
      return { messages, more: history.more };
    };
    const all = await ask('topic=hall/%23&limit=10000');
    expect(all.messages.map(({ fields }) => fields?.['n'])).toEqual(
      Array.from({ length: 300 }, (_, i) => 299 - i),
    );
    const some = await ask('topic=hall/1&limit=5');
    expect(some.messages.map(({ payload }) => payload)).toEqual(
      [298, 295, 292, 289, 286].map((n) => `{"n":${n}}`),
    );
    expect(some.more).toBe(true);
    expect((await ask('client=nobody')).messages).toEqual([]);
    expect((await ask('to=now-1h')).messages).toEqual([]);
    const check = (text: string) => () => checkParameters(HISTORY_QUERY, new URLSearchParams(text));
    expect(check('limit=0')).toThrow(/limit/);
    expect(check('nope=0')).toThrow(/'nope' is not known here/);
  });

  it('of more pieces than a status names none goes unnamed: what is held is never called missing', () => {
    const epochs = new Epochs();
    const epoch = epochs.begin(1, 'aaaaaaaaaaaaaaaa', 'b'.repeat(32), {
      wallUs: 0,
      monotonicUs: 0,
    });
    epoch.next = 1001;
    for (let sequence = 1; sequence <= 1000; sequence += 2)
      epochs.release(positionOf(1, sequence), 1);
    const [held] = epochs.holdings();
    const named = new RangeSet();
    for (const [from, to] of [...(held?.waiting ?? []), ...(held?.history ?? [])])
      named.add(from, to);
    expect(held?.waiting.length).toBe(200);
    expect(held?.history.length).toBe(200);
    expect(named.ranges).toEqual([[1, 1000]]);
  });

  it('what expired is reported, stays to be asked for here, and is not offered to a collector', async () => {
    const { buffer, durable, notices } = await open(temporaryFolder());
    await fill({ buffer, durable }, 20, (i) => `m${i}`);
    const { epoch } = buffer;
    await buffer.expire(await readAll(buffer));
    expect(notices.join()).toMatch(/older than uplink.backlogAgeMaxMs/);
    expect(buffer.epochs.holdings()[0]).toMatchObject({ epoch, history: [], lost: [[1, 20]] });
    expect(payloads(await heldFrames(buffer))).toHaveLength(20);
    const lost = await until('the report', async () => {
      const { ranges } = account(await readAll(buffer)).lost;
      return ranges.length > 0 ? ranges : undefined;
    });
    expect(lost).toEqual([[1, 20]]);
  });

  it('gives way first: the disk stays within its budget, and what waits is all there', async () => {
    const near = await open(temporaryFolder(), {
      diskBytesMax: 8 * MIB,
      historyBytesMax: 64 * MIB,
    });
    for (let round = 0; round < 8; round++) {
      await fill(near, 1000, (i) => `m${i}`.padEnd(2000, 'x'));
      // All but the newest round is acknowledged.
      if (round < 7) await near.buffer.release((await readAll(near.buffer)).map(refOf));
    }
    await calm(near);
    const stats = near.buffer.stats();
    expect(stats.evictedMessages).toBeGreaterThan(0);
    expect(stats.diskBytes).toBeLessThan(8 * MIB);
    expect(stats.losses).toBe(0);
    expect(payloads(await readAll(near.buffer))).toHaveLength(1000);
  });

  it('a damaged note makes frames wait again, and nothing else', async () => {
    const folder = temporaryFolder();
    const first = await open(folder);
    await fill(first, 100, (i) => `m${i}`);
    await first.buffer.release((await readAll(first.buffer)).map(refOf));
    await first.buffer.close();
    const db = new LevelDatabase(join(folder, 'buffer'));
    await db.open();
    for (const [key, value] of await db.read(
      { gte: Buffer.from('e'), lt: Buffer.from('f') },
      MIB,
    )) {
      value[8] = (value[8] ?? 0) ^ 1;
      await db.write([{ type: 'put', key, value }], { sync: true });
    }
    await db.close();
    const second = await open(folder);
    expect(payloads(await readAll(second.buffer))).toHaveLength(100);
    expect(second.buffer.stats().losses).toBe(0);
  });
});

describe('a full buffer', () => {
  it('dropOldest: every message is there or in a loss report with its range', async () => {
    const near = await open(temporaryFolder(), { diskBytesMax: 4 * MIB, policy: 'dropOldest' });
    await fill(near, 6000, (i) => `m${i}`.padEnd(2000, 'x'));
    await calm(near);
    const { messages, lost } = account(await readAll(near.buffer));
    const stats = near.buffer.stats();
    expect(stats.droppedMessages).toBeGreaterThan(3000);
    expect(stats.diskBytes).toBeLessThan(4 * MIB);
    expect(lost.count).toBe(stats.droppedMessages);
    expect(messages.count).toBe(6000 - stats.droppedMessages);
    for (const [from, to] of lost.ranges) expect(messages.touches(from, to)).toBe(false);
    // The oldest went, and the newest is there.
    const left = payloads(await readAll(near.buffer));
    expect(left.at(-1)?.startsWith('m5999')).toBe(true);
    expect(left.some((text) => text.startsWith('m0x'))).toBe(false);
  });

  it('shed: the fastest series is thinned to summaries that name what they stand for; the slow one keeps everything', async () => {
    const near = await open(temporaryFolder(), { diskBytesMax: 16 * MIB, policy: 'shed' });
    const isSlow = (i: number): boolean => i % 50 === 0;
    await fill(
      near,
      24_000,
      (i) => JSON.stringify({ n: i, pad: 'x'.repeat(isSlow(i) ? 10 : 900) }),
      (i) => (isSlow(i) ? 'slow' : 'fast'),
    );
    await calm(near);
    const frames = await readAll(near.buffer);
    const { messages, lost, thinned } = account(frames);
    expect(near.buffer.stats().thinnedMessages).toBe(thinned.count);
    expect(thinned.count).toBeGreaterThan(10_000);
    expect(lost.count).toBe(0);
    expect(messages.count + thinned.count).toBe(24_000);
    const slow = payloads(frames).filter(
      (text) => (JSON.parse(text) as { n: number }).n % 50 === 0,
    );
    expect(slow).toHaveLength(480);
    // The summaries say of the thinned messages exactly what these had said.
    let count = 0;
    let sum = 0;
    for (const { frame } of frames) {
      const header = checkFrame(frame);
      if (header.kind !== KIND_SUMMARY) continue;
      for (const { topic, numbers } of readNote(KIND_SUMMARY, frame, header).series) {
        expect(topic).toBe('fast');
        const [n, min, max, mean] = numbers['n'] ?? [0, 0, 0, 0];
        expect(min).toBeLessThanOrEqual(mean);
        expect(max).toBeGreaterThanOrEqual(mean);
        count += n;
        sum += n * mean;
      }
    }
    const keptSum = payloads(frames).reduce(
      (total, text) => total + (JSON.parse(text) as { n: number }).n,
      0,
    );
    expect(count).toBe(thinned.count);
    expect(Math.round(sum + keptSum)).toBe((23_999 * 24_000) / 2);
  });

  it('shed: what cannot be decoded goes whole, oldest first, and is reported', async () => {
    const near = await open(temporaryFolder(), { diskBytesMax: 4 * MIB, policy: 'shed' });
    await fill(near, 5000, (i) => `\u0000binary ${i}`.padEnd(2000, '\u0001'));
    await calm(near);
    const { messages, lost, thinned } = account(await readAll(near.buffer));
    expect(thinned.count).toBe(0);
    expect(lost.count).toBeGreaterThan(1000);
    expect(messages.count + lost.count).toBe(5000);
  });
});

describe('a database that cannot be read', () => {
  it('is set aside and rebuilt from what is whole in it, while messages come', async () => {
    const folder = temporaryFolder();
    const first = await open(folder);
    await fill(first, 2000, (i) => `m${i}`.padEnd(1000, 'x'));
    await first.buffer.close();
    // A compaction puts the frames into tables.
    const db = new LevelDatabase(join(folder, 'buffer'));
    await db.open();
    await db.compact(Buffer.from('a'), Buffer.from('z'));
    await db.close();
    const tables = readdirSync(join(folder, 'buffer')).filter((name) => name.endsWith('.ldb'));
    expect(tables.length).toBeGreaterThan(0);
    rmSync(join(folder, 'buffer', 'CURRENT'));
    const second = await open(folder);
    expect(second.notices.join()).toMatch(/set aside .* whole entries of it were carried over/);
    await fill(second, 10, (i) => `new${i}`);
    const found = new Set(payloads(await readAll(second.buffer)));
    for (let i = 0; i < 2000; i++) expect(found.has(`m${i}`.padEnd(1000, 'x')), `m${i}`).toBe(true);
    expect(found.has('new9')).toBe(true);
  });
});
