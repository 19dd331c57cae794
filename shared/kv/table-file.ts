/**
 * Reads LevelDB's tables (`.ldb`) block by block, checked, because LevelDB does not check them: three flipped bits gave
 * three wrong values without an error, and another made it abort the whole process on an assertion (measured).
 *
 * Format: data blocks, a meta index block, an index block, and a footer of 48 bytes: handles of the two index blocks
 * (offset and size as LEB128), padding, magic. Each block is followed by its type (1 byte, 0: not compressed) and masked
 * CRC-32C (4) over both. A block's entries: shared key length, key length, value length (LEB128), key, value; at its end
 * the restart points (4 bytes each) and their number. A key ends with sequence and type (8 bytes: type 1 is a value, 0 a
 * deletion). Source: LevelDB doc/table_format.md.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { crc32c } from '../frame/crc32c.ts';
import { unmask } from './log-check.ts';

const FOOTER_BYTES = 48;
const TRAILER_BYTES = 5;
const MAGIC = 0xdb4775248b80fb57n;
const READ_BYTES = 1024 * 1024;

/** One version of a key. */
export interface KeyVersion {
  key: Buffer;
  /** Undefined: deleted. */
  value: Buffer | undefined;
  sequence: bigint;
}

interface Handle {
  offset: number;
  size: number;
}

export function varint(bytes: Buffer, at: number): [value: number, next: number] {
  let value = 0;
  let scale = 1;
  for (let next = at; next < bytes.length && next < at + 8; next++) {
    const byte = bytes[next] as number; // Below the length.
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return [value, next + 1];
    scale *= 128;
  }
  throw new Error('an integer runs over the end');
}

function handleAt(bytes: Buffer, at: number): [handle: Handle, next: number] {
  const [offset, middle] = varint(bytes, at);
  const [size, next] = varint(bytes, middle);
  return [{ offset, size }, next];
}

const isWhole = (block: Buffer): boolean =>
  unmask(block.readUInt32LE(block.length - 4)) === crc32c(block, 0, block.length - 4);

/** Entries of a block's bytes without trailer. */
function* entriesOf(block: Buffer): Generator<[key: Buffer, value: Buffer]> {
  const end = block.length - 4 - block.readUInt32LE(block.length - 4) * 4;
  let key: Buffer = Buffer.alloc(0);
  for (let at = 0; at < end; ) {
    const [shared, afterShared] = varint(block, at);
    const [keyBytes, afterKey] = varint(block, afterShared);
    const [valueBytes, start] = varint(block, afterKey);
    key = Buffer.concat([key.subarray(0, shared), block.subarray(start, start + keyBytes)]);
    at = start + keyBytes + valueBytes;
    yield [key, block.subarray(start + keyBytes, at)];
  }
}

/** A table's key as user key, sequence and type. */
export function splitKey(internal: Buffer, value: Buffer): KeyVersion {
  const tail = internal.readBigUInt64LE(internal.length - 8);
  return {
    key: Buffer.from(internal.subarray(0, -8)),
    value: (tail & 0xffn) === 1n ? Buffer.from(value) : undefined,
    sequence: tail >> 8n,
  };
}

async function blocksOf(file: FileHandle, size: number): Promise<Handle[] | undefined> {
  const read = async (offset: number, bytes: number): Promise<Buffer | undefined> => {
    if (bytes < 0 || offset < 0 || offset + bytes > size) return undefined;
    const buffer = Buffer.allocUnsafe(bytes);
    const { bytesRead } = await file.read(buffer, 0, bytes, offset);
    return bytesRead === bytes ? buffer : undefined;
  };
  try {
    const footer = await read(size - FOOTER_BYTES, FOOTER_BYTES);
    if (footer === undefined || footer.readBigUInt64LE(40) !== MAGIC) return undefined;
    const [meta, next] = handleAt(footer, 0);
    const [indexHandle] = handleAt(footer, next);
    const index = await read(indexHandle.offset, indexHandle.size + TRAILER_BYTES);
    const metaBlock = await read(meta.offset, meta.size + TRAILER_BYTES);
    for (const block of [index, metaBlock])
      if (block === undefined || block.length < 4 + TRAILER_BYTES || !isWhole(block))
        return undefined;
    const handles: Handle[] = [];
    for (const [, value] of entriesOf((index as Buffer).subarray(0, -TRAILER_BYTES)))
      handles.push(handleAt(value, 0)[0]);
    return handles;
  } catch {
    return undefined; // Its own numbers lead nowhere.
  }
}

export interface TableScan {
  /** Bytes of blocks that are not what was written; the whole file when its index is damaged. */
  damagedBytes: number;
}

/** Reads a table through; `onBlock` gets the bytes of each whole block. */
export async function scanTable(
  path: string,
  onBlock?: (entries: Iterable<[key: Buffer, value: Buffer]>) => Promise<void>,
): Promise<TableScan> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const handles = await blocksOf(file, size);
    if (handles === undefined) return { damagedBytes: size };
    let damagedBytes = 0;
    let chunk: Buffer = Buffer.alloc(0);
    let chunkAt = 0;
    for (const { offset, size: bytes } of handles) {
      const end = offset + bytes + TRAILER_BYTES;
      if (offset < chunkAt || end > chunkAt + chunk.length) {
        chunkAt = offset;
        chunk = Buffer.allocUnsafe(Math.min(size - offset, Math.max(READ_BYTES, end - offset)));
        await file.read(chunk, 0, chunk.length, offset);
      }
      const block = chunk.subarray(offset - chunkAt, end - chunkAt);
      // Compressed blocks are none of ours: our databases are written without.
      if (block.length < TRAILER_BYTES + 4 || !isWhole(block) || block.at(-TRAILER_BYTES) !== 0)
        damagedBytes += bytes;
      else await onBlock?.(entriesOf(block.subarray(0, -TRAILER_BYTES)));
    }
    return { damagedBytes };
  } finally {
    await file.close();
  }
}
