/**
 * Write errors, each on a real file system or a real system call: when the fault ends the gateway accepts again within
 * five seconds, without a person, and nothing acknowledged is lost.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { start, temporaryFolder, until, type Child } from '../support/process.ts';
import { Site, wait, type Chance, type Result } from './site.ts';

const ACCEPT_MS = 5000;

/** A tmpfs of its own; unmounted by `free`. */
export function mount(options: string): { folder: string; free: () => void } {
  const folder = join(temporaryFolder(), 'disk');
  mkdirSync(folder);
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', folder]);
  return {
    folder,
    free: () => {
      execFileSync('umount', ['-l', folder]);
    },
  };
}

/** A real ext4 on a loop device: what LevelDB meets on a card. */
function mountExt4(megabytes: number): { folder: string; free: () => void } {
  const base = temporaryFolder();
  const image = join(base, 'image');
  const folder = join(base, 'disk');
  mkdirSync(folder);
  execFileSync('truncate', ['-s', `${megabytes}M`, image]);
  execFileSync('mkfs.ext4', ['-q', '-F', '-m', '0', image]);
  execFileSync('mount', ['-o', 'loop', image, folder]);
  return {
    folder,
    free: () => {
      execFileSync('umount', ['-l', folder]);
    },
  };
}

interface Fault {
  on: () => void;
  off: () => void;
}

async function trial(
  folder: string,
  fault: (site: Site) => Fault,
  chance: Chance,
): Promise<Result> {
  const site = new Site([], folder);
  try {
    await site.startCollector();
    await site.startGateway('127.0.0.1:9');
    await site.load(2000);
    const { on, off } = fault(site);
    const during = site.trickle(5);
    await wait(100 + chance() * 300);
    on();
    // It fired when the gateway says so of itself; with some faults only the next file that it opens meets them.
    const fired = await until(
      'the fault to be met',
      async () =>
        (await site.bufferState().catch(() => ({ state: 'away' }))).state !== 'open'
          ? true
          : undefined,
      8000,
    ).catch(() => false);
    await wait(chance() * 1000);
    off();
    const tookMs = await site.accepts(ACCEPT_MS).catch(() => Number.POSITIVE_INFINITY);
    await during.stop();
    await site.load(500);
    // Everything that was acknowledged must be in the buffer's own files: it goes through a kill and a new process.
    await site.gateway?.kill('SIGKILL');
    await site.startGateway();
    const result = await site.reconcile(fired === true);
    if (tookMs > ACCEPT_MS) {
      result.differing++;
      result.note = `accepted again after ${Math.round(tookMs)} ms`;
    }
    return result;
  } finally {
    await site.stop();
  }
}

/** ENOSPC: somebody else fills the disk. */
export async function fullDisk(chance: Chance): Promise<Result> {
  const disk = mountExt4(64);
  try {
    return await trial(
      join(disk.folder, 'data'),
      () => {
        const ballast = join(disk.folder, 'ballast');
        return {
          on: () => {
            try {
              writeFileSync(ballast, Buffer.alloc(64 * 1024 * 1024));
            } catch {
              // As much as went in.
            }
          },
          off: () => rmSync(ballast, { force: true }),
        };
      },
      chance,
    );
  } finally {
    disk.free();
  }
}

/** No inodes: no file can be made, those that are open can be written. */
export async function noInodes(chance: Chance): Promise<Result> {
  const disk = mount('size=96m,nr_inodes=60');
  try {
    return await trial(
      join(disk.folder, 'data'),
      (site) => {
        const ballast = join(disk.folder, 'inodes');
        return {
          on: () => {
            mkdirSync(ballast);
            try {
              for (let i = 0; i < 100; i++) writeFileSync(join(ballast, String(i)), '');
            } catch {
              // None is left.
            }
            // A new file is needed when the log is full: that is soon under load.
            void site.load(30_000, 400, 400);
          },
          off: () => rmSync(ballast, { recursive: true, force: true }),
        };
      },
      chance,
    );
  } finally {
    disk.free();
  }
}

/** EMFILE: the process may open no more files. */
export function noFiles(chance: Chance): Promise<Result> {
  return trial(
    temporaryFolder(),
    (site) => {
      const pid = String(site.gateway?.pid ?? 0);
      const open = readdirSync(`/proc/${pid}/fd`).length;
      return {
        on: () => {
          execFileSync('prlimit', ['--pid', pid, `--nofile=${open}:`]);
          void site.load(30_000, 400, 400);
        },
        off: () => execFileSync('prlimit', ['--pid', pid, '--nofile=4096:']),
      };
    },
    chance,
  );
}

/** Files that LevelDB has and those that it will make next. */
function databaseFiles(folder: string): string[] {
  const names = readdirSync(folder);
  const newest = Math.max(...names.map((name) => Number(/^(\d+)\./.exec(name)?.[1] ?? 0)));
  const next = Array.from({ length: 60 }, (_, i) => String(newest + 1 + i).padStart(6, '0'));
  return [
    ...names.filter((name) => /\.(log|ldb)$|MANIFEST|CURRENT/.test(name)),
    ...next.flatMap((number) => [`${number}.log`, `${number}.ldb`, `${number}.dbtmp`]),
  ].map((name) => join(folder, name));
}

/** Some system calls on the buffer's files fail for a while: strace puts the error there. */
function failingCall(calls: string[], error: string): (chance: Chance) => Promise<Result> {
  return async (chance) => {
    const folder = temporaryFolder();
    return await trial(
      folder,
      (site) => {
        let tracer: Child | undefined;
        return {
          on: () => {
            const buffer = join(folder, 'buffer');
            tracer = start('strace', [
              '-f',
              '-qq',
              '-e',
              `trace=${calls.join(',')}`,
              ...calls.flatMap((call) => ['-e', `inject=${call}:error=${error}`]),
              ...databaseFiles(buffer).flatMap((path) => ['-P', path]),
              '-o',
              '/dev/null',
              '-p',
              String(site.gateway?.pid ?? 0),
            ]);
            // New files are opened when the log is full: soon, under load.
            void site.load(30_000, 400, 400);
          },
          off: () => void tracer?.kill('SIGINT'),
        };
      },
      chance,
    );
  };
}

export const failingFsync = failingCall(['fdatasync'], 'EIO');
export const failingWrite = failingCall(['write'], 'EIO');
export const failingOpen = failingCall(['openat'], 'EIO');
export const failingRename = failingCall(['write', 'rename'], 'EIO');
/** As when the kernel makes a failing card read-only; a real remount is refused while files are open for writing. */
export const readOnly = failingCall(['write', 'openat', 'rename', 'fdatasync'], 'EROFS');
