import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { BufferEvents, MessageBuffer } from '../../gateway/buffer/buffer.ts';
import { LevelBuffer, type LevelBufferOptions } from '../../gateway/buffer/level-buffer.ts';
import { EPOCH_NOTES } from '../../gateway/buffer/epochs.ts';
import { FolderStorage } from '../../gateway/buffer/storage.ts';
import { realEnv } from '../../shared/env/env.ts';
import { checkFrame, readRecords } from '../../shared/frame/frame.ts';
import { LevelDatabase } from '../../shared/kv/classic-level.ts';
import type { KvDatabase, KvOp, KvRange } from '../../shared/kv/kv.ts';
import { unseal } from '../../shared/kv/sealed.ts';
import { bufferContract, message, payloads, readAll, refOf, watch } from '../contract/buffer.ts';
import { temporaryFolder, until } from '../support/process.ts';

const MIB = 1024 * 1024;

function opener(
  folder: string,
  more: Partial<LevelBufferOptions> = {},
  create: (path: string) => KvDatabase = (path) => new LevelDatabase(path),
): (events: BufferEvents<number>) => Promise<MessageBuffer<number>> {
  return async (events) => {
    const buffer = new LevelBuffer<number>(
      realEnv(),
      {
        storage: new FolderStorage(folder, MIB, create),
        gateway: 'gw',
        diskBytesMax: 64 * MIB,
        reserveBytes: MIB,
        frameBytes: 16 * 1024,
        pendingBytesMax: MIB,
        cacheBytes: 32 * 1024,
        historyBytesMax: 32 * MIB,
        policy: 'block',
        compress: true,
        ...more,
      },
      events,
    );
    await buffer.open();
    return buffer;
  };
}

bufferContract('LevelDB', () => ({ open: opener(temporaryFolder()) }));

/** LevelDB whose writes fail when told to. Reads and opens are real. */
class Failing implements KvDatabase {
  static fail: ((ops: KvOp[]) => Error | undefined) | undefined;
  static writes = 0;
  static opens = 0;
  private readonly real: LevelDatabase;
  constructor(path: string) {
    this.real = new LevelDatabase(path);
  }
  open(): Promise<void> {
    Failing.opens++;
    return this.real.open();
  }
  close = (): Promise<void> => this.real.close();
  get = (key: Buffer): Promise<Buffer | undefined> => this.real.get(key);
  read = (...args: Parameters<KvDatabase['read']>): Promise<[Buffer, Buffer][]> =>
    this.real.read(...args);
  clear = (range: KvRange): Promise<void> => this.real.clear(range);
  compact = (from: Buffer, to: Buffer): Promise<void> => this.real.compact(from, to);
  async write(ops: KvOp[], options: { sync: boolean }): Promise<void> {
    Failing.writes++;
    const error = Failing.fail?.(ops);
    if (error !== undefined) throw error;
    await this.real.write(ops, options);
  }
}

/** Three messages in a frame each, then `damage` puts other bytes in the place of some. */
async function withDamage(
  folder: string,
  damage: (frames: [Buffer, Buffer][]) => [Buffer, Buffer][],
): Promise<void> {
  const { buffer, durable } = await watch({ open: opener(folder) });
  for (let i = 0; i < 3; i++) {
    buffer.append(message(`m${i}`), i);
    await until('ticket', () => durable.length === i + 1 || undefined);
  }
  await buffer.close();
  const db = new LevelDatabase(join(folder, 'buffer'));
  await db.open();
  const frames = await db.read({ gte: Buffer.from('f'), lt: Buffer.from('g') }, MIB);
  for (const [key, value] of damage(frames))
    await db.write([{ type: 'put', key, value }], { sync: true });
  await db.close();
}

describe('trouble', () => {
  it('F1: after a failed write nothing is acknowledged before a reopen, and then everything, once', async () => {
    const folder = temporaryFolder();
    const { buffer, durable, notices } = await watch({
      open: opener(folder, {}, (path) => new Failing(path)),
    });
    buffer.append(message('before'), 0);
    await until('ticket', () => durable.length === 1 || undefined);
    const opensBefore = Failing.opens;
    const epoch = buffer.epoch;
    let failures = 3;
    Failing.fail = () =>
      failures-- > 0
        ? Object.assign(new Error('IO error: Input/output error'), { code: 'EIO' })
        : undefined;
    for (let i = 1; i <= 100; i++) buffer.append(message(`m${i}`), i);
    await until('blocked', () => buffer.state.kind === 'blocked' || undefined);
    expect(durable).toEqual([0]);
    expect(buffer.congested).toBe(true);
    await until('all tickets', () => durable.length === 101 || undefined);
    expect(Failing.opens).toBeGreaterThan(opensBefore);
    expect(buffer.epoch).not.toBe(epoch);
    expect(durable).toEqual(Array.from({ length: 101 }, (_, i) => i));
    expect(payloads(await readAll(buffer))).toEqual([
      'before',
      ...Array.from({ length: 100 }, (_, i) => `m${i + 1}`),
    ]);
    await until('open', () => buffer.state.kind === 'open' || undefined);
    expect(notices.join('\n')).toMatch(/cannot be written.*\n[^]*acknowledges again/);
    Failing.fail = undefined;
    await buffer.close();
  });

  it('F1: an epoch whose note could not be written at a reopen has it after the next one', async () => {
    const folder = temporaryFolder();
    const { buffer, durable } = await watch({
      open: opener(folder, {}, (path) => new Failing(path)),
    });
    const error = new Error('IO error: Input/output error');
    const left = { frames: 1, notes: 1 };
    const has = (ops: KvOp[], first: string): boolean =>
      ops.some(({ key }) => key[0] === first.charCodeAt(0));
    Failing.fail = (ops) => {
      if (has(ops, 'f')) return left.frames-- > 0 ? error : undefined;
      return left.frames < 1 && has(ops, 'e') && left.notes-- > 0 ? error : undefined;
    };
    buffer.append(message('m'), 0);
    await until('ticket', () => durable.length === 1 || undefined);
    Failing.fail = undefined;
    expect(left.notes).toBeLessThan(1);
    const { epoch } = buffer;
    await buffer.close();
    const db = new LevelDatabase(join(folder, 'buffer'));
    await db.open();
    const notes = await db.read(EPOCH_NOTES, MIB);
    await db.close();
    const named = notes.map(([, value]) => unseal(value)?.toString() ?? '');
    expect(named.filter((note) => note.includes(epoch))).toHaveLength(1);
  });

  it('what commits late after a reopen is not before a head that a reader has seen', async () => {
    const { buffer, durable } = await watch({
      open: opener(temporaryFolder(), {}, (path) => new Failing(path)),
    });
    const heads: Buffer[] = [];
    let failures = 3;
    Failing.fail = (ops) => {
      if (!ops.some(({ key }) => key[0] === 'f'.charCodeAt(0))) return undefined;
      heads.push(buffer.head);
      return failures-- > 0 ? new Error('IO error: Input/output error') : undefined;
    };
    buffer.append(message('late'), 0);
    await until('ticket', () => durable.length === 1 || undefined);
    Failing.fail = undefined;
    expect(heads).toHaveLength(4);
    for (const head of heads) expect(payloads(await buffer.read(head, MIB))).toEqual(['late']);
    await buffer.close();
  });

  it('F2: a write that failed but is on disk all the same is there once', async () => {
    const folder = temporaryFolder();
    class Liar extends Failing {
      static armed = false;
      override async write(ops: KvOp[], options: { sync: boolean }): Promise<void> {
        await super.write(ops, options);
        if (Liar.armed) {
          Liar.armed = false;
          throw new Error('IO error: reported as failed');
        }
      }
    }
    const { buffer, durable } = await watch({
      open: opener(folder, {}, (path) => new Liar(path)),
    });
    Liar.armed = true;
    buffer.append(message('once'), 1);
    await until('ticket', () => durable.length === 1 || undefined);
    expect(payloads(await readAll(buffer))).toEqual(['once']);
    await buffer.close();
  });

  it('F3: a damaged log record is found before LevelDB hides it, copied aside and reported as a frame', async () => {
    const folder = temporaryFolder();
    const first = await watch({ open: opener(folder) });
    for (let i = 0; i < 40; i++) {
      first.buffer.append(message(`m${i}`.padEnd(500, 'x')), i);
      await until('ticket', () => first.durable.length === i + 1 || undefined);
    }
    await first.buffer.close();
    const log = readdirSync(join(folder, 'buffer')).find((name) => name.endsWith('.log')) ?? '';
    const bytes = readFileSync(join(folder, 'buffer', log));
    bytes[Math.floor(bytes.length / 2)] = (bytes[Math.floor(bytes.length / 2)] ?? 0) ^ 1;
    writeFileSync(join(folder, 'buffer', log), bytes);
    const second = await watch({ open: opener(folder) });
    await until('the report is durable', () => second.frames.length > 0 || undefined);
    expect(second.notices.join()).toMatch(/damaged log record/);
    const reports = (await readAll(second.buffer)).filter(
      ({ frame }) => checkFrame(frame).kind === 1,
    );
    expect(reports.length).toBeGreaterThan(0);
    expect(readdirSync(join(folder, 'damaged')).length).toBeGreaterThan(0);
    const left = payloads(await readAll(second.buffer));
    // LevelDB would leave out the rest of the block: what is whole in it is put back.
    expect(left).toHaveLength(39);
    await until('the exact loss', () =>
      second.notices.some((text) => /sequences (\d+) to \1 are gone/.test(text)) ? true : undefined,
    );
    await second.buffer.close();
  });

  it('F3: a damaged value in the database is set aside and reported, its neighbours are read', async () => {
    const folder = temporaryFolder();
    await withDamage(folder, (frames) => {
      const [key, frame] = frames[1] as [Buffer, Buffer];
      const damaged = Buffer.from(frame);
      damaged[70] = (damaged[70] ?? 0) ^ 4;
      return [[key, damaged]];
    });
    const second = await watch({ open: opener(folder) });
    expect(payloads(await readAll(second.buffer))).toEqual(['m0', 'm2']);
    expect(second.notices.join()).toMatch(/sequence 2 set aside/);
    await second.buffer.close();
  });

  it('F3: a damaged frame at the head holds up nothing behind it', async () => {
    const folder = temporaryFolder();
    await withDamage(folder, (frames) =>
      frames.slice(0, 2).map(([key]) => [key, Buffer.from('rot')]),
    );
    const second = await watch({ open: opener(folder) });
    // As small a read as there is: it must not come back empty because all it saw was damaged.
    expect(payloads(await second.buffer.read(undefined, 1))).toEqual(['m2']);
    expect(second.buffer.stats().losses).toBe(2);
    await second.buffer.close();
  });

  it('F4: a database that does not open is set aside whole, and the buffer starts', async () => {
    const folder = temporaryFolder();
    const first = await watch({ open: opener(folder) });
    first.buffer.append(message('a'), 1);
    await until('ticket', () => first.durable.length === 1 || undefined);
    await first.buffer.close();
    for (const name of readdirSync(join(folder, 'buffer')))
      if (name.startsWith('MANIFEST')) rmSync(join(folder, 'buffer', name));
    const second = await watch({ open: opener(folder) });
    expect(second.notices.join()).toMatch(/set aside/);
    second.buffer.append(message('b'), 2);
    await until('ticket', () => second.durable.length === 1 || undefined);
    expect(readdirSync(join(folder, 'damaged')).some((name) => name.endsWith('-whole'))).toBe(true);
    await second.buffer.close();
  });

  it('a group with many operations is full: a burst is written in several, in order, also after a failed one', async () => {
    const { buffer, durable } = await watch({
      open: opener(temporaryFolder(), {}, (path) => new Failing(path)),
    });
    const copy = (at: number): KvOp => ({
      type: 'put',
      key: Buffer.from(`x/${at}`),
      value: Buffer.from('copy'),
    });
    const sizes: number[] = [];
    let failures = 2;
    Failing.fail = (ops) => {
      if (!ops.some(({ key }) => key[0] === 'f'.charCodeAt(0))) return undefined;
      sizes.push(ops.length);
      return sizes.length > 1 && failures-- > 0 ? new Error('IO error: no') : undefined;
    };
    // Each for three hundred sessions that are away, at once.
    for (let at = 0; at < 40; at++)
      buffer.append(
        message(`m${at}`),
        at,
        Array.from({ length: 300 }, (_, n) => copy(at * 300 + n)),
      );
    await until('all tickets', () => durable.length === 40 || undefined);
    Failing.fail = undefined;
    expect(durable).toEqual(Array.from({ length: 40 }, (_, at) => at));
    expect(sizes.length).toBeGreaterThan(5);
    expect(Math.max(...sizes)).toBeLessThan(2400);
    expect(payloads(await readAll(buffer))).toEqual(durable.map((at) => `m${at}`));
    expect(await buffer.entries(Buffer.from('x/'))).toHaveLength(12_000);
    await buffer.close();
  });

  it.each([
    0, 300,
  ])('a full buffer holds acknowledgements back and goes on when frames are released: %i operations with each', async (each) => {
    const copies = (): KvOp[] =>
      Array.from({ length: each }, (_, at) => ({
        ...{ type: 'put', key: Buffer.from(`x/${next % 40}/${at}`), value: Buffer.from('copy') },
      }));
    const folder = temporaryFolder();
    const { buffer, durable } = await watch({
      open: opener(folder, { diskBytesMax: 2 * MIB, compress: false }),
    });
    let next = 0;
    await until('full', () => {
      if (buffer.state.kind === 'blocked') return true;
      for (let i = 0; i < 20 && !buffer.congested; i++)
        buffer.append(message('x'.repeat(4000)), next++, copies());
      return undefined;
    });
    const acknowledged = durable.length;
    buffer.append(message('waits'), next++, copies());
    await new Promise((resolve) => setTimeout(resolve, 1200));
    expect(durable.length).toBeLessThan(next);
    expect(durable.length - acknowledged).toBeLessThan(600);
    const frames = await readAll(buffer);
    await buffer.release(frames.map(refOf));
    await until('all tickets', () => durable.length === next || undefined, 20_000);
    expect(durable).toEqual(Array.from({ length: next }, (_, i) => i));
    await buffer.close();
  });

  it('a disk that fails while the buffer closes does not hold the close up, and acknowledges nothing', async () => {
    const { buffer, durable } = await watch({
      open: opener(temporaryFolder(), {}, (path) => new Failing(path)),
    });
    Failing.fail = () => new Error('IO error: Input/output error');
    buffer.append(message('a'), 1);
    await buffer.close();
    Failing.fail = undefined;
    expect(durable).toEqual([]);
  });

  it('what comes while it closes is not acknowledged, and nobody is told of a trouble', async () => {
    const { buffer, durable, notices } = await watch({ open: opener(temporaryFolder()) });
    buffer.append(message('in time'), 1);
    let isClosed = false;
    const closing = buffer.close().then(() => (isClosed = true));
    // From before it is quiet to after the database is closed.
    for (let late = 2; !isClosed; late++) {
      buffer.append(message('late'), late);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await closing;
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(durable).toEqual([1]);
    expect(notices).toEqual([]);
  });

  it('a message that comes during a long write has its own time of arrival', async () => {
    const holds: (() => void)[] = [];
    let isSlow = false;
    class Slow extends Failing {
      override async write(ops: KvOp[], options: { sync: boolean }): Promise<void> {
        if (isSlow) await new Promise<void>((resolve) => holds.push(resolve));
        await super.write(ops, options);
      }
    }
    const { buffer, durable, frames } = await watch({
      open: opener(temporaryFolder(), {}, (path) => new Slow(path)),
    });
    isSlow = true;
    buffer.append(message('first'), 0);
    await until('a write', () => holds.length > 0 || undefined);
    isSlow = false;
    buffer.append(message('second'), 1);
    const startedMs = performance.now();
    await until('a while', () => performance.now() - startedMs > 50 || undefined);
    buffer.append(message('third'), 2);
    for (const resume of holds) resume();
    await until('tickets', () => durable.length === 3 || undefined);
    const records = frames.flatMap(({ frame }) => readRecords(frame, checkFrame(frame)));
    const at = (text: string): number =>
      records.find(({ payload }) => payload.toString() === text)?.receivedUs ?? 0;
    expect(at('third') - at('second')).toBeGreaterThan(40_000);
    await buffer.close();
  });

  it('a second process is told that the folder is in use', async () => {
    const folder = temporaryFolder();
    const { buffer } = await watch({ open: opener(folder) });
    await expect(watch({ open: opener(folder) })).rejects.toThrow(/another process has .* open/);
    await buffer.close();
  });
});
