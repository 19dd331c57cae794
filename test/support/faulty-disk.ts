/** A disk whose calls fail on purpose, for processes that a test starts: `faulty-disk.c` by LD_PRELOAD. */
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, temporaryFolder } from './process.ts';

export type DiskCall = 'open' | 'read' | 'write' | 'fsync' | 'rename' | 'mkdir' | 'readdir';

export const ERRNO = { EIO: 5, EACCES: 13, EMFILE: 24, ENOSPC: 28, EROFS: 30 } as const;

export interface FaultyDisk {
  environment: Record<string, string>;
  /** The next `count` calls on paths that contain `part` fail, until `heal`. */
  fail(call: DiskCall, error: keyof typeof ERRNO, part: string, count?: number): void;
  heal(): void;
}

/** Undefined where there is no compiler. */
export function faultyDisk(): FaultyDisk | undefined {
  const folder = temporaryFolder();
  const library = join(folder, 'faulty-disk.so');
  const source = join(ROOT, 'test', 'support', 'faulty-disk.c');
  const { status, stderr, error } = spawnSync(
    'gcc',
    ['-O2', '-shared', '-fPIC', '-o', library, source, '-ldl'],
    { encoding: 'utf8' },
  );
  if (error !== undefined) return undefined;
  if (status !== 0) throw new Error(`${source}: ${stderr}`);
  const file = join(folder, 'fault');
  let number = 0;
  return {
    environment: { LD_PRELOAD: library, HEADWATER_FAULT: file },
    fail: (call, name, part, count = 1_000_000) =>
      writeFileSync(file, `${++number} ${call} ${ERRNO[name]} ${count} ${part}\n`),
    heal: () => rmSync(file, { force: true }),
  };
}
