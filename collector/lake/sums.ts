/** Checksums of a Parquet file: of all its bytes, and of each row group, taken in one pass. */
import { open } from 'node:fs/promises';
import { crc32c } from '../../shared/frame/crc32c.ts';
import { hex, type GroupSum, type Sum } from './manifest.ts';

/** Between two chunks everything else has its turn. */
const CHUNK_BYTES = 256 * 1024;

export interface Group {
  at: number;
  bytes: number;
  rows: number;
}

export const sumOf = (bytes: Buffer): Sum => ({ bytes: bytes.length, crc: hex(crc32c(bytes)) });

/** Throws what the disk throws. */
export async function sumFile(
  path: string,
  groups: readonly Group[] = [],
): Promise<Sum & { groups: GroupSum[] }> {
  const handle = await open(path, 'r');
  try {
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    const crcs = groups.map(() => 0);
    let all = 0;
    let at = 0;
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, CHUNK_BYTES, at);
      if (bytesRead === 0) break;
      all = crc32c(buffer, 0, bytesRead, all);
      for (const [index, group] of groups.entries()) {
        const from = Math.max(0, group.at - at);
        const to = Math.min(bytesRead, group.at + group.bytes - at);
        if (from < to) crcs[index] = crc32c(buffer, from, to, crcs[index]);
      }
      at += bytesRead;
    }
    const sums = groups.map(
      ({ at: from, bytes, rows }, index): GroupSum => [from, bytes, rows, hex(crcs[index] ?? 0)],
    );
    return { bytes: at, crc: hex(all), groups: sums };
  } finally {
    await handle.close();
  }
}
