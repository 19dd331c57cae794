import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameBuilder, type FrameMessage } from '../../shared/frame/builder.ts';
import { noteFrame } from '../../shared/frame/notes.ts';
import {
  checkFrame,
  frameBody,
  readHeader,
  readRecords,
  splitFrames,
  KIND_LOSS,
} from '../../shared/frame/frame.ts';
import { codeOf } from '../../shared/errors.ts';

const identity = {
  gateway: 'gw-1',
  epoch: Buffer.from('0011223344556677', 'hex'),
  bootId: Buffer.from('8899aabbccddeeff', 'hex'),
};

const message = fc.record({
  client: fc.string({ maxLength: 20 }),
  topic: fc.string({ minLength: 1, maxLength: 40, unit: 'grapheme' }),
  qos: fc.constantFrom(0, 1, 2),
  retain: fc.boolean(),
  dup: fc.boolean(),
  payload: fc.uint8Array({ maxLength: 300 }),
});

function build(messages: FrameMessage[], times: number[], compress: boolean, first = 1): Buffer {
  const builder = new FrameBuilder(16);
  for (const [index, each] of messages.entries())
    builder.add(each, times[index] ?? 0, 5_000_000_000 + index);
  return builder.finish(identity, first, 2, compress);
}

describe('frame', () => {
  it('gives back every message, in order, with its identity', () => {
    fc.assert(
      fc.property(
        fc.array(message, { minLength: 1, maxLength: 200 }),
        fc.boolean(),
        fc.integer({ min: 1, max: 2 ** 40 }),
        (messages, compress, first) => {
          const start = 1_700_000_000_000_000;
          const times = messages.map((_, index) => start + index * 37);
          const frame = build(messages, times, compress, first);
          const header = checkFrame(frame);
          expect(header).toMatchObject({
            gateway: 'gw-1',
            epoch: '0011223344556677',
            bootId: '8899aabbccddeeff',
            firstSequence: first,
            count: messages.length,
            wallUs: start,
            monotonicUs: 5_000_000_000,
          });
          const records = readRecords(frame, header);
          expect(records.map(({ sequence }) => sequence)).toEqual(
            messages.map((_, index) => first + index),
          );
          for (const [index, record] of records.entries()) {
            const sent = messages[index] as FrameMessage;
            expect({ ...record, payload: Buffer.from(record.payload) }).toMatchObject({
              client: sent.client,
              topic: sent.topic,
              qos: sent.qos,
              retain: sent.retain,
              dup: sent.dup,
              receivedUs: times[index],
            });
            expect(Buffer.compare(record.payload, Buffer.from(sent.payload))).toBe(0);
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  it('any changed byte is found, and no damage is more than an error', () => {
    const frame = build(
      Array.from({ length: 50 }, (_, i) => ({
        client: 'c',
        topic: `t/${i % 5}`,
        qos: 1,
        retain: false,
        dup: false,
        payload: Buffer.from(`{"v":${i}}`),
      })),
      [],
      true,
    );
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: frame.length - 1 }),
        fc.integer({ min: 1, max: 255 }),
        (offset, flip) => {
          const damaged = Buffer.from(frame);
          damaged[offset] = (damaged[offset] ?? 0) ^ flip;
          let code = '';
          try {
            checkFrame(damaged);
          } catch (error) {
            code = codeOf(error);
          }
          expect(code).toBe('FRAME_INVALID');
        },
      ),
    );
    for (let length = 0; length < frame.length; length++)
      expect(() => checkFrame(frame.subarray(0, length))).toThrow(/frame refused/);
  });

  it('random bytes are refused, never anything else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        const magic = Buffer.concat([Buffer.from('HWF1'), Buffer.from([1]), Buffer.from(bytes)]);
        for (const each of [Buffer.from(bytes), magic])
          expect(() => splitFrames(Buffer.concat([each, Buffer.alloc(1)]))).toThrow(
            /frame refused/,
          );
      }),
    );
  });

  it('a body that expands beyond what it declares is refused before it is there', () => {
    const frame = build(
      [
        {
          client: 'c',
          topic: 't',
          qos: 0,
          retain: false,
          dup: false,
          payload: Buffer.alloc(100_000),
        },
      ],
      [0],
      true,
    );
    const header = readHeader(frame);
    expect(frame.length).toBeLessThan(2000);
    expect(() => frameBody(frame, { ...header, bodyBytes: 50 })).toThrow(/frame refused/);
  });

  it('time within a frame never moves back, also when the clock does', () => {
    const messages = [1, 2, 3].map((i) => ({
      client: 'c',
      topic: 't',
      qos: 1,
      retain: false,
      dup: false,
      payload: Buffer.from([i]),
    }));
    const frame = build(messages, [1000, 500, 2000], false);
    expect(readRecords(frame, checkFrame(frame)).map(({ receivedUs }) => receivedUs)).toEqual([
      1000, 1000, 2000,
    ]);
  });

  it('is byte for byte what the golden vectors say, and they are read back', () => {
    const golden = JSON.parse(
      readFileSync(new URL('../vectors/frames.json', import.meta.url), 'utf8'),
    ) as Record<string, string>;
    const plain = build(
      [
        {
          client: 'dev-1',
          topic: 'home/kitchen',
          qos: 1,
          retain: false,
          dup: false,
          payload: Buffer.from('21.5'),
        },
        {
          client: 'dev-1',
          topic: 'home/kitchen',
          qos: 2,
          retain: true,
          dup: true,
          payload: Buffer.alloc(0),
        },
      ],
      [1_700_000_000_000_000, 1_700_000_000_000_300],
      false,
    );
    const loss = noteFrame(
      KIND_LOSS,
      { cause: 'damaged', where: 'buffer', reason: 'gone', epoch: 'ab', ranges: [[3, 4]] },
      identity,
      7,
      { wallUs: 1_700_000_000_000_000, monotonicUs: 12, clockQuality: 0 },
    );
    expect({ plain: plain.toString('hex'), loss: loss.toString('hex') }).toEqual({
      plain: golden['plain'],
      loss: golden['loss'],
    });
    const compressed = Buffer.from(golden['compressed'] ?? '', 'hex');
    const records = readRecords(compressed, checkFrame(compressed));
    expect(records).toHaveLength(40);
    expect(records[39]?.payload.toString()).toBe('{"temperature":39}');
  });
});
