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

/** Frames from a position on; all of them without one. */
export function framesFrom(position: Buffer | undefined): KvRange {
  return { gte: position ?? PREFIX, lt: after(PREFIX) };
}
