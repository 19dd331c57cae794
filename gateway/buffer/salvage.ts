/**
 * Finds whole frames in damaged LevelDB files. A frame names itself (magic, length) and proves itself (CRC-32C), so it
 * can be found without LevelDB: in a table (`.ldb`), whose blocks are not compressed, a value lies in one piece; in a
 * log (`.log`) it is interrupted by the seven-byte header of each record fragment at every 32 KiB.
 * Sources: LevelDB doc/log_format.md, doc/table_format.md.
 */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  HEADER_BYTES,
  checkFrame,
  readHeader,
  type FrameHeader,
} from '../../shared/frame/frame.ts';

const MAGIC = Buffer.from('HWF1');
const BLOCK_BYTES = 32768;
const RECORD_HEADER_BYTES = 7;

export interface Salvaged {
  header: FrameHeader;
  frame: Buffer;
}

/** The `length` bytes at `offset` of a log, without the record headers between them. */
function gather(bytes: Buffer, offset: number, length: number): Buffer {
  const parts: Buffer[] = [];
  let at = offset;
  for (let left = length; left > 0 && at < bytes.length; ) {
    const blockEnd = (Math.floor(at / BLOCK_BYTES) + 1) * BLOCK_BYTES;
    const part = bytes.subarray(at, Math.min(blockEnd, at + left));
    parts.push(part);
    left -= part.length;
    at = blockEnd + RECORD_HEADER_BYTES;
  }
  return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
}

/** Whole frames in a file's bytes. */
export function* salvage(bytes: Buffer, isLog: boolean): Generator<Salvaged> {
  for (let at = bytes.indexOf(MAGIC); at !== -1; at = bytes.indexOf(MAGIC, at + 1)) {
    const take = (length: number): Buffer =>
      isLog ? gather(bytes, at, length) : bytes.subarray(at, at + length);
    const head = take(HEADER_BYTES);
    if (head.length < HEADER_BYTES) continue;
    try {
      const length = head.readUInt32LE(12);
      if (length > bytes.length) continue;
      const frame = take(length);
      readHeader(frame);
      yield { header: checkFrame(frame), frame: Buffer.from(frame) };
    } catch {
      // Not a frame, or not a whole one.
    }
  }
}

/** Whole frames of all files in a LevelDB folder, file by file. */
export async function* salvageFolder(folder: string): AsyncGenerator<Salvaged> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch {
    return; // Nothing there, nothing to find.
  }
  for (const name of names.sort()) {
    const isLog = name.endsWith('.log');
    if (!isLog && !name.endsWith('.ldb')) continue;
    yield* salvage(await readFile(join(folder, name)), isLog);
  }
}
