/**
 * Values with a checksum of their own. LevelDB's tables are read without verifying (F3), so whatever is not a frame,
 * which has one, is stored as CRC-32C (4 bytes, little endian) and the value.
 */
import { crc32c } from '../frame/crc32c.ts';

export function seal(value: Buffer): Buffer {
  const sealed = Buffer.allocUnsafe(4 + value.length);
  value.copy(sealed, 4);
  sealed.writeUInt32LE(crc32c(sealed, 4), 0);
  return sealed;
}

/** The value, or undefined when it is not what was stored. */
export function unseal(sealed: Buffer): Buffer | undefined {
  if (sealed.length < 4 || sealed.readUInt32LE(0) !== crc32c(sealed, 4)) return undefined;
  return sealed.subarray(4);
}
