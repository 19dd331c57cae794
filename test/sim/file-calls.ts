/**
 * Puts the model of a disk in the place of `node:fs/promises` for paths below `ROOT`, and seeded chance in that of
 * `node:crypto`: the product asks Node for both by their names, and so it is the product's own calls that are tried, one
 * by one, those of its libraries as well. All other paths are the real disk's.
 */
import crypto from 'node:crypto';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { FileNode, FolderNode, failure, type Entry, type SimFiles } from './files.ts';

export const ROOT = '/headwater-sim';

/** The disk of the world that runs. */
let files: SimFiles | undefined;

export function mount(disk: SimFiles | undefined): void {
  files = disk;
  disk?.mkdirs(ROOT);
  disk?.settle();
}

/** A call takes its time, and is done in one moment; a dead process never sees the end of it. */
function call<T>(disk: SimFiles, work: () => T): Promise<T> {
  return new Promise((resolve, reject) =>
    setTimeout(() => {
      try {
        resolve(work());
      } catch (error) {
        reject(error);
      }
    }, disk.chance()),
  );
}

const stats = (entry: Entry): object => ({
  size: entry instanceof FileNode ? entry.data.length : 4096,
  mtimeMs: entry.mtimeMs,
  ino: entry.ino,
  dev: 1,
  isFile: () => entry instanceof FileNode,
  isDirectory: () => entry instanceof FolderNode,
});

const bytesOf = (data: unknown): Buffer =>
  typeof data === 'string' ? Buffer.from(data) : (data as Buffer);

async function writeFile(disk: SimFiles, path: string, data: unknown): Promise<void> {
  const file = await call(disk, () => {
    disk.fail('open', path, true);
    return disk.create(path);
  });
  await call(disk, () => {
    // A short write, and then the error.
    const bytes = bytesOf(data);
    try {
      disk.fail('write', path, true);
    } catch (error) {
      disk.write(file, bytes.subarray(0, Math.floor(disk.chance() * bytes.length)));
      throw error;
    }
    disk.write(file, bytes);
  });
}

async function open(disk: SimFiles, path: string, flags: unknown = 'r'): Promise<object> {
  const entry = await call(disk, () => {
    disk.fail('open', path, flags === 'w');
    return flags === 'w' ? disk.create(path) : disk.get('open', path);
  });
  return {
    stat: () => call(disk, () => stats(entry)),
    sync: () => call(disk, () => disk.sync(entry, path)),
    close: () => call(disk, () => undefined),
    read: (buffer: Buffer, offset: number, length: number, position: number) =>
      call(disk, () => {
        disk.fail('read', path, false);
        const data = entry instanceof FileNode ? entry.data : Buffer.alloc(0);
        return { bytesRead: data.copy(buffer, offset, position, position + length), buffer };
      }),
  };
}

type Calls = Record<string, (disk: SimFiles, path: string, ...rest: never[]) => Promise<unknown>>;

const CALLS = {
  writeFile,
  open,
  readFile: (disk: SimFiles, path: string) =>
    call(disk, () => {
      disk.fail('read', path, false);
      return Buffer.from(disk.file('open', path).data);
    }),
  mkdir: (disk: SimFiles, path: string, options?: { recursive?: boolean }) =>
    call(disk, () => {
      disk.fail('mkdir', path, true);
      if (options?.recursive === true) disk.mkdirs(path);
      else disk.mkdir(path);
    }),
  readdir: (disk: SimFiles, path: string, options?: { withFileTypes?: boolean }) =>
    call(disk, () => {
      disk.fail('scandir', path, false);
      const entries = [...disk.folder(path).entries];
      if (options?.withFileTypes !== true) return entries.map(([name]) => name);
      return entries.map(([name, entry]) => ({ name, ...stats(entry) }));
    }),
  stat: (disk: SimFiles, path: string) => call(disk, () => stats(disk.get('stat', path))),
  access: (disk: SimFiles, path: string) => call(disk, () => void disk.get('access', path)),
  utimes: (disk: SimFiles, path: string) => call(disk, () => void disk.get('utime', path)),
  rename: (disk: SimFiles, path: string, to: string) =>
    call(disk, () => {
      disk.fail('rename', path, false);
      disk.rename(path, to);
    }),
  copyFile: async (disk: SimFiles, path: string, to: string) =>
    await writeFile(disk, to, disk.file('open', path).data),
  rmdir: (disk: SimFiles, path: string) =>
    call(disk, () => {
      disk.fail('rmdir', path, false);
      if (disk.folder(path).entries.size > 0) throw failure('ENOTEMPTY', 'rmdir', path);
      disk.remove(path);
    }),
  rm: (disk: SimFiles, path: string, options?: { force?: boolean }) =>
    call(disk, () => {
      if (options?.force === true && disk.find(path) === undefined) return;
      disk.fail('rm', path, false);
      disk.remove(path);
    }),
} satisfies Calls;

/** Once for the process. */
export function installFiles(): void {
  const promises = fs.promises as unknown as Record<string, (...args: unknown[]) => unknown>;
  for (const [name, simulated] of Object.entries(CALLS)) {
    const real = promises[name] as (...args: unknown[]) => unknown;
    const own = simulated as (disk: SimFiles, ...args: unknown[]) => unknown;
    promises[name] = (...args: unknown[]) =>
      files !== undefined && typeof args[0] === 'string' && args[0].startsWith(ROOT)
        ? own(files, ...args)
        : real(...args);
  }
  const random = crypto.randomBytes as (size: number) => Buffer;
  Object.assign(crypto, {
    randomBytes: (size: number): Buffer => {
      const disk = files;
      if (disk === undefined) return random(size);
      return Buffer.from(Array.from({ length: size }, () => Math.floor(disk.chance() * 256)));
    },
  });
  syncBuiltinESMExports();
}
