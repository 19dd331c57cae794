/** The suite of the Buffer contract: every adapter passes it. */
import { afterEach, describe, expect, it } from 'vitest';
import type { BufferEvents, MessageBuffer } from '../../gateway/buffer/buffer.ts';
import type { FrameRef, StoredFrame } from '../../gateway/buffer/stored-frame.ts';
import type { FrameMessage } from '../../shared/frame/builder.ts';
import { checkFrame, readRecords } from '../../shared/frame/frame.ts';
import { until } from '../support/process.ts';

export interface BufferHarness {
  open(events: BufferEvents<number>): Promise<MessageBuffer<number>>;
}

export const message = (text: string, more: Partial<FrameMessage> = {}): FrameMessage => ({
  client: 'c',
  topic: 't',
  qos: 1,
  retain: false,
  dup: false,
  payload: Buffer.from(text),
  ...more,
});

export interface Watched {
  buffer: MessageBuffer<number>;
  durable: number[];
  frames: StoredFrame[];
  notices: string[];
}

export async function watch(harness: BufferHarness): Promise<Watched> {
  const durable: number[] = [];
  const frames: StoredFrame[] = [];
  const notices: string[] = [];
  const buffer = await harness.open({
    onDurable: (tickets) => durable.push(...tickets),
    onFrame: (frame) => frames.push(frame),
    onRelief: () => undefined,
    onNotice: ({ event, text }) => notices.push(`${event}: ${text}`),
  });
  return { buffer, durable, frames, notices };
}

export function payloads(frames: StoredFrame[]): string[] {
  return frames.flatMap(({ frame }) => {
    const header = checkFrame(frame);
    return header.kind === 0
      ? readRecords(frame, header).map(({ payload }) => payload.toString())
      : [];
  });
}

export async function readAll(buffer: MessageBuffer<number>): Promise<StoredFrame[]> {
  const all: StoredFrame[] = [];
  for (let from: Buffer | undefined; ; from = all.at(-1)?.end) {
    const some = await buffer.read(from, 64 * 1024);
    if (some.length === 0) return all;
    all.push(...some);
  }
}

export const refOf = ({ position, frame }: StoredFrame): FrameRef => ({
  position,
  bytes: frame.length,
  count: checkFrame(frame).count,
});

export function bufferContract(name: string, makeHarness: () => BufferHarness): void {
  describe(`Buffer contract: ${name}`, () => {
    const opened: MessageBuffer<number>[] = [];
    const start = async (harness: BufferHarness): Promise<Watched> => {
      const watched = await watch(harness);
      opened.push(watched.buffer);
      return watched;
    };
    afterEach(async () => {
      for (const buffer of opened.splice(0)) await buffer.close();
    });

    it('tickets come after the frame is stored, in the order of their messages', async () => {
      const { buffer, durable } = await start(makeHarness());
      for (let i = 0; i < 5000; i++) buffer.append(message(`m${i}`), i);
      expect(durable).toEqual([]);
      await until('all tickets', () => durable.length === 5000 || undefined);
      expect(durable).toEqual(Array.from({ length: 5000 }, (_, i) => i));
      expect(payloads(await readAll(buffer))).toEqual(durable.map((i) => `m${i}`));
    });

    it('a barrier comes after what was appended before it, and its operations are stored', async () => {
      const { buffer, durable } = await start(makeHarness());
      buffer.append(message('a'), 1, [
        { type: 'put', key: Buffer.from('qone'), value: Buffer.from('1') },
      ]);
      buffer.barrier(2, [{ type: 'put', key: Buffer.from('qtwo'), value: Buffer.from('2') }]);
      await until('tickets', () => durable.length === 2 || undefined);
      expect(durable).toEqual([1, 2]);
      buffer.barrier(3, [{ type: 'del', key: Buffer.from('qone') }]);
      await until('ticket', () => durable.length === 3 || undefined);
      expect((await buffer.entries(Buffer.from('q'))).map(([key]) => key.toString())).toEqual([
        'qtwo',
      ]);
    });

    it('what was acknowledged is there after a new open, under the identity that it had', async () => {
      const harness = makeHarness();
      const first = await start(harness);
      for (let i = 0; i < 100; i++) first.buffer.append(message(`m${i}`), i);
      await until('tickets', () => first.durable.length === 100 || undefined);
      const before = await readAll(first.buffer);
      await first.buffer.close();
      const second = await start(harness);
      expect(second.buffer.epoch).not.toBe(first.buffer.epoch);
      second.buffer.append(message('later'), 0);
      await until('ticket', () => second.durable.length === 1 || undefined);
      const after = await readAll(second.buffer);
      expect(after.slice(0, before.length).map(({ frame }) => frame.toString('hex'))).toEqual(
        before.map(({ frame }) => frame.toString('hex')),
      );
      expect(payloads(after)).toEqual([...Array.from({ length: 100 }, (_, i) => `m${i}`), 'later']);
      await until(
        'the count of what an earlier run left',
        () => second.buffer.stats().waitingMessages === 101 || undefined,
      );
    });

    it('released frames are gone, others stay, and the counts agree', async () => {
      const harness = makeHarness();
      const { buffer, durable } = await start(harness);
      for (let round = 0; round < 5; round++) {
        buffer.append(message(`r${round}`), round);
        await until('ticket', () => durable.length === round + 1 || undefined);
      }
      const frames = await readAll(buffer);
      expect(frames).toHaveLength(5);
      await buffer.release(frames.slice(0, 2).map(refOf));
      await buffer.release([frames[3] as StoredFrame].map(refOf));
      expect(buffer.stats().waitingMessages).toBe(2);
      await buffer.close();
      const again = await start(harness);
      expect(payloads(await readAll(again.buffer))).toEqual(['r2', 'r4']);
    });

    it('frames released in any order leave no gap that would be called a loss', async () => {
      const { buffer, durable, notices } = await start(makeHarness());
      let appended = 0;
      const add = async (): Promise<void> => {
        buffer.append(message(`m${appended}`), appended++);
        await until('ticket', () => durable.length === appended || undefined);
      };
      for (let i = 0; i < 6; i++) await add();
      const frames = await readAll(buffer);
      await buffer.release([frames[1], frames[3]].map((frame) => refOf(frame as StoredFrame)));
      expect(payloads(await readAll(buffer))).toEqual(['m0', 'm2', 'm4', 'm5']);
      await add();
      // Some from memory, some from disk, from the start again: as an uplink does after it was cut.
      await buffer.read(frames[4]?.end, 1024);
      await buffer.release(
        [frames[0], frames[2], frames[4]].map((frame) => refOf(frame as StoredFrame)),
      );
      expect(payloads(await readAll(buffer))).toEqual(['m5', 'm6']);
      expect(notices).toEqual([]);
      expect(buffer.stats().losses).toBe(0);
    });

    it('closing commits what is pending', async () => {
      const harness = makeHarness();
      const { buffer, durable } = await start(harness);
      buffer.append(message('last'), 1);
      await buffer.close();
      expect(durable).toEqual([1]);
      expect(payloads(await readAll((await start(harness)).buffer))).toEqual(['last']);
    });
  });
}
