/**
 * What the data folder takes and what the disk has left. The budget is counted on the directory, not on what was
 * put in, because LevelDB's logs, tombstones and compactions take room of their own.
 */
import { open, readdir, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '../../shared/errors.ts';

/** Bytes of all files in a folder, one level deep. A file that vanishes meanwhile counts nothing. */
export async function folderBytes(folder: string): Promise<number> {
  let total = 0;
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (!entry.isFile()) continue;
    try {
      total += (await stat(join(folder, entry.name))).size;
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
    }
  }
  return total;
}

export async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

/**
 * A file that holds disk space for the moment when there is none: reopening LevelDB after a failed write needs
 * free space (F1), and the reserve gives it.
 */
export class Reserve {
  private readonly path: string;
  private readonly bytes: number;

  constructor(folder: string, bytes: number) {
    this.path = join(folder, 'reserve');
    this.bytes = bytes;
  }

  /** Fills the reserve with real blocks, or leaves none when the disk has no room for it. */
  async fill(): Promise<boolean> {
    try {
      const { size } = await stat(this.path).catch(() => ({ size: 0 }));
      if (size === this.bytes) return true;
      const file = await open(this.path, 'w');
      try {
        const block = Buffer.alloc(64 * 1024, 0x5a);
        for (let written = 0; written < this.bytes; ) {
          const part = block.subarray(0, Math.min(block.length, this.bytes - written));
          written += (await file.write(part)).bytesWritten;
        }
        await file.sync();
      } finally {
        await file.close();
      }
      return true;
    } catch {
      // No room for the reserve: then there must not be half of one either.
      await this.release();
      return false;
    }
  }

  async release(): Promise<void> {
    await rm(this.path, { force: true });
  }
}
