/** Frames of gateways whose clock is not known: of what is held each gateway has its share. */
import { expect, it } from 'vitest';
import { BootClocks, HELD_BYTES_MAX } from '../../collector/decode/boot-clocks.ts';
import { holdFrame } from '../../collector/decode/held-frames.ts';
import type { FrameHeader } from '../../shared/frame/frame.ts';

const MIB = 1024 * 1024;

it('one gateway that never learns the time takes no room from another, nor moves what it has written', () => {
  const clocks = new BootClocks();
  const state = { clocks, entry: () => ({}) } as never; // What holding looks at.
  const aside: string[] = [];
  const decoder = {
    aside: (_frame: Buffer, { gateway }: FrameHeader, reason: string) => {
      aside.push(`${gateway}: ${reason}`);
      return [];
    },
  } as never; // The same.
  const value = Buffer.alloc(MIB);
  const hold = (gateway: string, firstSequence: number, usedUs?: number): void => {
    const header = { gateway, bootId: 'b', epoch: 'e', firstSequence } as FrameHeader; // The same.
    const record = { value, headers: {} } as never; // The same.
    holdFrame(state, record, { header, isFresh: () => true }, usedUs, decoder, []);
  };
  for (let at = 1; at <= 5; at++) hold('good', at, 1000);
  for (let at = 1; at <= 100; at++) hold('bad', at);
  expect(clocks.heldOf('good', 'b')).toHaveLength(5);
  expect(clocks.heldBytes.of('bad')).toBeLessThanOrEqual(HELD_BYTES_MAX / 2);
  expect(aside).toHaveLength(100 - clocks.heldOf('bad', 'b').length);
  expect(aside[0]).toMatch(/^bad: its clock is not known, and \d+ bytes of its frames are held/);
  for (let at = 6; at <= 15; at++) hold('good', at);
  expect(clocks.heldOf('good', 'b').filter(({ usedUs }) => usedUs === undefined)).toHaveLength(10);
  expect(clocks.heldBytes.used).toBe(clocks.heldBytes.of('good') + clocks.heldBytes.of('bad'));
  for (const frame of clocks.heldOf('bad', 'b')) clocks.drop(frame);
  expect(clocks.heldBytes.of('bad')).toBe(0);
});
