/**
 * Reads LevelDB's write-ahead logs before LevelDB does, because it swallows damage: one flipped byte lost 135 of 2,000
 * records and the open succeeded (measured). Format: blocks of 32 KiB; a record is masked CRC-32C (4), length (2),
 * type (1: full 1, first 2, middle 3, last 4), data; a block's last bytes too few for a header are zeros.
 * Source: LevelDB doc/log_format.md.
 */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32c } from '../frame/crc32c.ts';

const BLOCK_BYTES = 32768;
const HEADER_BYTES = 7;
const FULL = 1;
const FIRST = 2;
const LAST = 4;

export interface LogDamage {
  file: string;
  /** Offset and length of what cannot be trusted, bytes. */
  offset: number;
  bytes: number;
  /**
   * 'torn': the file ends within a record, as after a power cut during a write that was never acknowledged.
   * 'corrupt': a whole record whose checksum does not match, or good records follow.
   */
  kind: 'torn' | 'corrupt';
}

/** LevelDB's masked checksum as the checksum. */
export function unmask(masked: number): number {
  const rotated = (masked - 0xa282ead8) >>> 0;
  return ((rotated >>> 17) | (rotated << 15)) >>> 0;
}

/** Damages of one log file's bytes. */
export function checkLogBytes(file: string, bytes: Buffer): LogDamage[] {
  const damages: LogDamage[] = [];
  for (let block = 0; block < bytes.length; block += BLOCK_BYTES) {
    const end = Math.min(block + BLOCK_BYTES, bytes.length);
    let offset = block;
    while (end - offset >= HEADER_BYTES) {
      const length = bytes.readUInt16LE(offset + 4);
      const type = bytes[offset + 6] ?? 0;
      const next = offset + HEADER_BYTES + length;
      // Zeros to the end of the block: preallocated and never written.
      if (
        type === 0 &&
        length === 0 &&
        bytes.readUInt32LE(offset) === 0 &&
        isZero(bytes, offset, end)
      )
        break;
      const last = end === bytes.length;
      if (next > end) {
        damages.push({ file, offset, bytes: end - offset, kind: last ? 'torn' : 'corrupt' });
        break;
      }
      if (unmask(bytes.readUInt32LE(offset)) !== crc32c(bytes, offset + 6, next)) {
        // LevelDB drops the rest of the block here, since the length itself may be what is wrong.
        damages.push({ file, offset, bytes: end - offset, kind: 'corrupt' });
        break;
      }
      offset = next;
    }
    if (
      end === bytes.length &&
      end - offset > 0 &&
      end - offset < HEADER_BYTES &&
      !isZero(bytes, offset, end)
    ) {
      damages.push({ file, offset, bytes: end - offset, kind: 'torn' });
    }
  }
  return damages;
}

/** Whole records of a log: fragments are put together, damaged ones left out. */
export function* logRecords(bytes: Buffer): Generator<Buffer> {
  let parts: Buffer[] = [];
  for (let block = 0; block < bytes.length; block += BLOCK_BYTES) {
    const end = Math.min(block + BLOCK_BYTES, bytes.length);
    for (let offset = block; end - offset >= HEADER_BYTES; ) {
      const next = offset + HEADER_BYTES + bytes.readUInt16LE(offset + 4);
      const type = bytes[offset + 6] ?? 0;
      if (
        type === 0 ||
        next > end ||
        unmask(bytes.readUInt32LE(offset)) !== crc32c(bytes, offset + 6, next)
      ) {
        parts = [];
        break;
      }
      const fragment = bytes.subarray(offset + HEADER_BYTES, next);
      if (type === FULL || type === FIRST) parts = [];
      if (type === FULL || type === FIRST || parts.length > 0) parts.push(fragment);
      if ((type === FULL || type === LAST) && parts.length > 0) {
        yield parts.length === 1 ? fragment : Buffer.concat(parts);
        parts = [];
      }
      offset = next;
    }
  }
}

function isZero(bytes: Buffer, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (bytes[i] !== 0) return false;
  return true;
}

/** A log with damages, whole: what LevelDB leaves out may still be of use. */
export interface DamagedLog {
  file: string;
  bytes: Buffer;
  damages: LogDamage[];
}

/** Every `*.log` in a LevelDB folder that has damages; none when the folder does not exist. */
export async function checkLogs(folder: string): Promise<DamagedLog[]> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch {
    return []; // A folder that is not there has no damage.
  }
  const damaged: DamagedLog[] = [];
  for (const file of names.filter((name) => name.endsWith('.log')).sort()) {
    const bytes = await readFile(join(folder, file));
    const damages = checkLogBytes(file, bytes);
    if (damages.length > 0) damaged.push({ file, bytes, damages });
  }
  return damaged;
}
