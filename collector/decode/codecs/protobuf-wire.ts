/** Protocol Buffers' wire format, as far as Sparkplug needs it: fields by number, within bounds. Source: protobuf.dev, Encoding. */
import { Undecodable } from '../../../shared/codecs/codec.ts';

export const VARINT = 0;
export const FIXED64 = 1;
export const BYTES = 2;
export const FIXED32 = 5;

/** A field's value: an integer of 64 bits without a sign for varints, the bytes for all other types. */
export interface WireField {
  number: number;
  type: number;
  integer: bigint;
  bytes: Buffer;
}

const NOTHING = Buffer.alloc(0);

function varint(bytes: Buffer, start: number): { value: bigint; end: number } {
  let value = 0n;
  for (let at = start, shift = 0n; at < bytes.length && shift < 70n; at++, shift += 7n) {
    const byte = bytes[at] as number; // Within the loop's bound.
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return { value: BigInt.asUintN(64, value), end: at + 1 };
  }
  throw new Undecodable('protobuf: an integer is not closed');
}

/** The fields of a message in their order. Throws Undecodable. */
export function* wireFields(bytes: Buffer): Generator<WireField> {
  for (let at = 0; at < bytes.length; ) {
    const key = varint(bytes, at);
    const number = Number(key.value >> 3n);
    const type = Number(key.value & 7n);
    if (number === 0) throw new Undecodable('protobuf: a field has the number 0');
    at = key.end;
    if (type === VARINT) {
      const { value, end } = varint(bytes, at);
      at = end;
      yield { number, type, integer: value, bytes: NOTHING };
      continue;
    }
    let size: number;
    if (type === FIXED64) size = 8;
    else if (type === FIXED32) size = 4;
    else if (type === BYTES) {
      const { value, end } = varint(bytes, at);
      at = end;
      size = value > BigInt(bytes.length) ? bytes.length + 1 : Number(value);
    } else {
      throw new Undecodable(`protobuf: wire type ${type} is not known`);
    }
    if (at + size > bytes.length)
      throw new Undecodable('protobuf: the message ends within a field');
    yield { number, type, integer: 0n, bytes: bytes.subarray(at, at + size) };
    at += size;
  }
}
