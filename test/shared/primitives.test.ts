import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crc32c } from '../../shared/frame/crc32c.ts';
import { LevelDatabase } from '../../shared/kv/classic-level.ts';
import { checkLogBytes, checkLogs } from '../../shared/kv/log-check.ts';
import { topicNames } from '../../gateway/mqtt5/packets.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import { decodeDown, decodeUp, encodeDown, encodeUp } from '../../shared/wire/wire.ts';

describe('CRC-32C', () => {
  it('gives the check values of RFC 3720 B.4', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
    expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
    expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
    expect(crc32c(Buffer.from(Array.from({ length: 32 }, (_, i) => i)))).toBe(0x46dd794e);
  });
  it('can be taken in parts', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), (bytes, at) => {
        const cut = Math.min(at, bytes.length);
        expect(crc32c(bytes, cut, bytes.length, crc32c(bytes, 0, cut))).toBe(crc32c(bytes));
      }),
    );
  });
});

describe('RangeSet', () => {
  it('agrees with a plain set', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(60), fc.nat(8)), { maxLength: 30 }), (adds) => {
        const set = new RangeSet();
        const plain = new Set<number>();
        for (const [from, length] of adds) {
          set.add(from, from + length);
          for (let i = from; i <= from + length; i++) plain.add(i);
        }
        for (let i = 0; i < 75; i++) {
          expect(set.has(i)).toBe(plain.has(i));
          expect(set.touches(i, i + 3)).toBe([0, 1, 2, 3].some((d) => plain.has(i + d)));
          expect(set.covers(i, i + 3)).toBe([0, 1, 2, 3].every((d) => plain.has(i + d)));
        }
        expect(set.count).toBe(plain.size);
        for (const [index, [from]] of set.ranges.entries())
          if (index > 0)
            expect(from).toBeGreaterThan((set.ranges[index - 1] as [number, number])[1] + 1);
      }),
    );
  });
});

describe("LevelDB's log, read before LevelDB opens it (F3)", () => {
  it('is whole as LevelDB writes it, and any flipped byte is found', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'headwater-log-'));
    const db = new LevelDatabase(folder);
    await db.open();
    for (let i = 0; i < 200; i++)
      await db.write([{ type: 'put', key: Buffer.from(`k${i}`), value: Buffer.alloc(900, i) }], {
        sync: false,
      });
    const name = readdirSync(folder).find((file) => file.endsWith('.log')) ?? '';
    const bytes = readFileSync(join(folder, name));
    expect(bytes.length).toBeGreaterThan(150_000);
    expect(checkLogBytes(name, bytes)).toEqual([]);
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), (offset) => {
        const damaged = Buffer.from(bytes);
        damaged[offset] = (damaged[offset] ?? 0) ^ 0x10;
        expect(checkLogBytes(name, damaged).length).toBeGreaterThan(0);
      }),
      { numRuns: 60 },
    );
    // A power cut in the middle of a write leaves a torn tail, which is no damage to what was acknowledged.
    expect(
      checkLogBytes(name, bytes.subarray(0, bytes.length - 5)).map(({ kind }) => kind),
    ).toEqual(['torn']);
    await db.close();
    writeFileSync(join(folder, name), bytes.subarray(0, 100));
    expect(await checkLogs(folder)).toHaveLength(1);
    rmSync(folder, { recursive: true });
  });
});

describe('wire', () => {
  it('acknowledgements come back as they were', () => {
    const acks = [
      {
        epoch: 'ab',
        ranges: [
          [1, 5],
          [9, 9],
        ] as [number, number][],
      },
    ];
    expect(decodeDown(encodeDown({ acks }))).toEqual({
      acks,
      want: [],
      publish: [],
      time: undefined,
      timeless: false,
      ask: false,
      error: undefined,
    });
    const time = { echoUs: 5, wallUs: 7 };
    expect(decodeDown(encodeDown({ want: acks, time }))).toEqual({
      acks: [],
      want: acks,
      publish: [],
      time,
      timeless: false,
      ask: false,
      error: undefined,
    });
  });
  it.each([
    '',
    '{}',
    '{"v":1,"time":{"echoUs":"x"}}',
    '[1]',
    '{"v":2,"acks":[]}',
    '{"v":1,"acks":[{"epoch":1}]}',
    '{"v":1,"acks":[{"epoch":"a","ranges":[[1]]}]}',
    'null',
  ])('refuses %s as an acknowledgement', (text) => {
    expect(() => decodeDown(Buffer.from(text))).toThrow(/acknowledgement|null/);
  });
  it('refuses an uplink message of another version, and one without frames', () => {
    expect(() => decodeUp(Buffer.from([9, 0]))).toThrow(/refused/);
    expect(() => decodeUp(encodeUp(0, []))).toThrow(/no frame/);
  });
});

describe('topic names of a connection', () => {
  it('each is what its bytes say, whatever was said before it', () => {
    const names = topicNames();
    // Few letters: many have the same slot, or the same bytes and another length.
    const one = fc.string({
      unit: fc.constantFrom('a', 'b', '/', 'é', '𝛑'),
      minLength: 1,
      maxLength: 7,
    });
    const long = fc.constant('x'.repeat(300));
    fc.assert(
      fc.property(fc.array(fc.oneof(one, long), { minLength: 1, maxLength: 40 }), (topics) => {
        for (const topic of topics) {
          const text = Buffer.from(topic);
          const packet = Buffer.concat([
            Buffer.from([0xff, text.length >> 8, text.length & 255]),
            text,
            text,
          ]);
          expect(names.at(packet, 1, 3 + text.length)).toBe(topic);
        }
      }),
    );
  });

  it('one that is no name is refused each time', () => {
    const names = topicNames();
    for (let time = 0; time < 3; time++) {
      expect(() => names.at(Buffer.from([0, 2, 0x61, 0]), 0, 4)).toThrow();
      expect(() => names.at(Buffer.from([0, 2, 0xc3, 0x28]), 0, 4)).toThrow();
      expect(() => names.at(Buffer.from([0, 2, 0x61, 0x23]), 0, 4)).toThrow();
    }
  });
});
