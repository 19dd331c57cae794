/**
 * What of a damaged file is as it was written: its row groups, each by its own checksum. A group is believed only where
 * everything else of the file, its footer above all, is as it was: checksums of parts make that of the whole, so what
 * lies between the groups is proven by what the manifest says of groups and file.
 */
import { open } from 'node:fs/promises';
import { crc32c, crc32cCombine } from '../../shared/frame/crc32c.ts';
import { hex, type FileEntry } from './manifest.ts';

/** Rows from and up to without, as they lie in the file. */
export type RowRange = [from: number, to: number];

/** Row groups that are whole; none when the rest of the file is not. Throws what the disk throws. */
export async function wholeGroups(path: string, entry: FileEntry): Promise<RowRange[]> {
  const groups = entry.groups.toSorted(([a], [b]) => a - b);
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    if (size !== entry.bytes || groups.length < 2) return [];
    const sum = async (from: number, to: number): Promise<number> => {
      const buffer = Buffer.alloc(to - from);
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, from);
      return crc32c(buffer, 0, bytesRead);
    };
    const whole: RowRange[] = [];
    let crc = 0;
    let at = 0;
    let row = 0;
    for (const [from, bytes, rows, was] of groups) {
      crc = crc32cCombine(crc, await sum(at, from), from - at);
      crc = crc32cCombine(crc, Number.parseInt(was, 16), bytes);
      if (hex(await sum(from, from + bytes)) === was) whole.push([row, row + rows]);
      at = from + bytes;
      row += rows;
    }
    crc = crc32cCombine(crc, await sum(at, size), size - at);
    return hex(crc) === entry.crc ? whole : [];
  } finally {
    await handle.close();
  }
}
