/** A frame's place in the order of commits, which is its key: 'f', ordinal of the open (8 bytes), first sequence (8 bytes). */
import { after, type KvRange } from '../../shared/kv/kv.ts';

const PREFIX = Buffer.from('f');

export function positionOf(ordinal: number, sequence: number): Buffer {
  const key = Buffer.alloc(17);
  PREFIX.copy(key);
  key.writeBigUInt64BE(BigInt(ordinal), 1);
  key.writeBigUInt64BE(BigInt(sequence), 9);
  return key;
}

/** Opens are counted from 1 and sequences within one too: both stay far below 2^53. */
export const ordinalOf = (position: Buffer): number => Number(position.readBigUInt64BE(1));
export const sequenceOf = (position: Buffer): number => Number(position.readBigUInt64BE(9));

/** Frames after a position; all of them without one. */
export function framesAfter(position: Buffer | undefined): KvRange {
  return { ...(position === undefined ? { gte: PREFIX } : { gt: position }), lt: after(PREFIX) };
}

/** Edges of the positions before `oldest`, none of which is a frame's; of all positions without it. */
export function edgesBefore(oldest: Buffer | undefined): [low: Buffer, high: Buffer] {
  const low = Buffer.concat([PREFIX, Buffer.alloc(16)]);
  if (oldest === undefined) return [low, Buffer.concat([PREFIX, Buffer.alloc(16, 0xff)])];
  // Sequences begin at 1, so that there is one before; it is no frame's, since `oldest` is the first.
  const high = Buffer.from(oldest);
  high.writeBigUInt64BE(high.readBigUInt64BE(9) - 1n, 9);
  return [low, high];
}
