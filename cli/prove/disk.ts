/** What the disk does: how long an fsync takes, whether that can be true, and what reaches it of a load. */
import { readFileSync, statSync } from 'node:fs';
import { open, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { rmSync } from 'node:fs';

const FSYNCS = 300;
const BLOCK = 4096;
/** No card, and no disk without a capacitor behind its cache, has brought 4 KiB to flash by then. */
const TOO_FAST_MS = 0.1;
/** statfs: tmpfs and ramfs. */
const MEMORY_TYPES = new Set([0x01021994, 0x858458f6]);
const SECTOR = 512;

export interface FsyncFigures {
  p50Ms: number;
  p99Ms: number;
  /** One after another. */
  perSecond: number;
  /** Why it may not be kept; undefined: nothing speaks against it. */
  doubt: string | undefined;
}

function doubtOf(p50Ms: number, isMemory: boolean): string | undefined {
  if (isMemory) return 'this is memory (tmpfs), no disk: a power cut takes all of it';
  if (p50Ms >= TOO_FAST_MS) return undefined;
  return `an fsync in ${p50Ms.toFixed(3)} ms is faster than flash can be written: this disk or its controller may not write through (a cache with a capacitor or battery may). headwater prove --cut tells`;
}

/** 4 KiB behind one another in one file, each with fdatasync. Rejects with the file system's error. */
export async function fsyncFigures(folder: string): Promise<FsyncFigures> {
  const path = join(folder, 'fsync');
  const file = await open(path, 'w');
  const times: number[] = [];
  try {
    for (let i = 0; i < FSYNCS; i++) {
      await file.write(Buffer.alloc(BLOCK, i));
      const before = performance.now();
      await file.datasync();
      times.push(performance.now() - before);
    }
  } finally {
    await file.close();
    rmSync(path, { force: true });
  }
  const total = times.reduce((sum, ms) => sum + ms, 0);
  times.sort((a, b) => a - b);
  const p50Ms = times[Math.floor(FSYNCS / 2)] ?? 0;
  const p99Ms = times[Math.floor(FSYNCS * 0.99)] ?? 0;
  const { type } = await statfs(folder);
  const doubt = doubtOf(p50Ms, MEMORY_TYPES.has(type));
  return { p50Ms, p99Ms, perSecond: Math.round((1000 * FSYNCS) / total), doubt };
}

function readOr(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined; // Not Linux, or a file system without a device of its own.
  }
}

export interface Written {
  /** By the process, in bytes; undefined where the system does not tell. */
  byProcess: number | undefined;
  /** To the block device, whoever wrote it: the journal as well. */
  toDevice: number | undefined;
}

export function written(pid: number, folder: string): Written {
  const io = /^write_bytes: (\d+)$/m.exec(readOr(`/proc/${pid}/io`) ?? '')?.[1];
  const { dev } = statSync(folder);
  // As glibc's major() and minor() have them.
  const [major, minor] = [(dev >>> 8) & 0xfff, (dev & 0xff) | ((dev >>> 12) & 0xfff00)];
  const sectors = readOr(`/sys/dev/block/${major}:${minor}/stat`)?.trim().split(/\s+/)[6];
  return {
    byProcess: io === undefined ? undefined : Number(io),
    toDevice: sectors === undefined ? undefined : Number(sectors) * SECTOR,
  };
}

/** The file system's size, bytes. */
export async function sizeOf(folder: string): Promise<number> {
  const { blocks, bsize } = await statfs(folder);
  return blocks * bsize;
}
