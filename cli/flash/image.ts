/** A stock image: unpacked into a file of its own, and where its partitions are (MBR and GPT). */
import { spawn } from 'node:child_process';
import { constants, createWriteStream } from 'node:fs';
import { copyFile, open, stat, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { HeadwaterError, codeOf, messageOf } from '../../shared/errors.ts';

export interface Partition {
  number: number;
  /** Bytes. */
  offset: number;
  length: number;
}

const SECTOR = 512;
const UNPACKERS: Record<string, string> = { '.xz': 'xz', '.zst': 'zstd', '.gz': 'gzip' };

/** The sentence for a disk of this machine that is full; undefined: it is something else. */
export function noRoom(error: unknown, what: string, path: string): HeadwaterError | undefined {
  if (codeOf(error) !== 'ENOSPC') return undefined;
  const folder = dirname(path);
  const where = folder.startsWith(tmpdir()) ? `${tmpdir()}: set TMPDIR to another folder` : folder;
  return new HeadwaterError('DATA_UNUSABLE', `there is no room for ${what} in ${where}`, {
    cause: error,
  });
}

/** Throws NOT_FOUND, CONFIG_INVALID, and DATA_UNUSABLE where there is no room for it. */
export async function unpack(image: string, to: string): Promise<void> {
  try {
    await unpacked(image, to);
  } catch (error) {
    throw noRoom(error, `the unpacked ${image}`, to) ?? error;
  }
}

async function unpacked(image: string, to: string): Promise<void> {
  const found = await stat(image).catch(() => undefined);
  if (found?.isFile() !== true)
    throw new HeadwaterError('NOT_FOUND', `there is no image ${image}: give the path of an .img`);
  const suffix = Object.keys(UNPACKERS).find((each) => image.endsWith(each));
  if (suffix === undefined) {
    await copyFile(image, to, constants.COPYFILE_FICLONE);
    return;
  }
  const command = UNPACKERS[suffix] ?? '';
  const child = spawn(command, ['-dc', '--', image], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  child.stderr.on('data', (part: Buffer) => (said += part.toString()));
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  try {
    const [code] = await Promise.all([ended, pipeline(child.stdout, createWriteStream(to))]);
    // What was cut short unpacks as well, up to where it was cut: the unpacker's word counts.
    if (code !== 0) throw new Error(said.trim() || `${command} ended with ${code}`);
  } catch (error) {
    if (codeOf(error) === 'ENOSPC') throw error;
    throw new HeadwaterError(
      'CONFIG_INVALID',
      codeOf(error) === 'ENOENT'
        ? `${image}: the command ${command} is not installed, which unpacks it`
        : `${image} cannot be unpacked (a download that was cut?): ${messageOf(error)}`,
      { cause: error },
    );
  }
}

async function at(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset);
  return buffer.subarray(0, bytesRead);
}

/** Entries of a table, and their size: the UEFI specification's 128 bytes, 5.3.2, doubled as often as somebody may want. */
const ENTRIES_MAX = 256;
const ENTRY_BYTES = [128, 256, 512, 1024, 2048, 4096];

async function gpt(file: FileHandle): Promise<Partition[]> {
  const header = await at(file, SECTOR, 92);
  if (header.length < 92 || header.toString('latin1', 0, 8) !== 'EFI PART') return [];
  const [first, count, size] = [
    Number(header.readBigUInt64LE(72)),
    Math.min(header.readUInt32LE(80), ENTRIES_MAX),
    header.readUInt32LE(84),
  ];
  if (!ENTRY_BYTES.includes(size) || !Number.isSafeInteger(first * SECTOR)) return [];
  const table = await at(file, first * SECTOR, count * size);
  const found: Partition[] = [];
  for (let index = 0; (index + 1) * size <= table.length; index++) {
    const entry = table.subarray(index * size, (index + 1) * size);
    if (entry.subarray(0, 16).every((byte) => byte === 0)) continue;
    const [from, to] = [Number(entry.readBigUInt64LE(32)), Number(entry.readBigUInt64LE(40))];
    found.push({ number: index + 1, offset: from * SECTOR, length: (to - from + 1) * SECTOR });
  }
  return found;
}

/** Of an image, or of a card of `cardBytes`; `called`: by whom it was given. Throws CONFIG_INVALID for what has no partitions. */
export async function partitionsOf(
  image: string,
  { cardBytes, called = image }: { cardBytes?: number; called?: string } = {},
): Promise<Partition[]> {
  const file = await open(image, 'r');
  try {
    const size = cardBytes ?? (await file.stat()).size;
    const first = await at(file, 0, SECTOR);
    if (first.length < SECTOR || first.readUInt16LE(510) !== 0xaa55)
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `${called} is no image of a disk: it has no partition table`,
      );
    const found: Partition[] = [];
    for (let index = 0; index < 4; index++) {
      const entry = first.subarray(446 + index * 16, 462 + index * 16);
      const type = entry[4] ?? 0;
      if (type === 0xee) {
        found.push(...(await gpt(file)));
        break;
      }
      const [from, sectors] = [entry.readUInt32LE(8), entry.readUInt32LE(12)];
      if (type !== 0 && sectors > 0)
        found.push({ number: index + 1, offset: from * SECTOR, length: sectors * SECTOR });
    }
    const beyond = found.find(({ offset, length }) => length <= 0 || offset + length > size);
    if (found.length === 0 || beyond !== undefined)
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `${called} is not whole: ${beyond === undefined ? 'it has no partitions' : `partition ${beyond.number} ends behind its end`}`,
      );
    return found;
  } finally {
    await file.close();
  }
}
