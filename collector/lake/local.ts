/** The lake on a local disk, or any mounted file system that renames atomically: a file is written beside and renamed. */
import { constants } from 'node:fs';
import * as nodeFiles from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeFolder, makeWithin } from '../../shared/config/folder.ts';
import { operatingError } from '../../contracts/errors.ts';
import { HeadwaterError, codeOf, messageOf } from '../../shared/errors.ts';
import { PART, isLeft, type ObjectInfo, type ObjectStore } from './object-store.ts';

const { O_NONBLOCK, O_RDONLY } = constants;

/** What is asked of the file system: Node's own, or one that is watched. */
export type FileCalls = Pick<
  typeof nodeFiles,
  'copyFile' | 'mkdir' | 'open' | 'readFile' | 'readdir' | 'rename' | 'rm' | 'rmdir' | 'stat'
>;

export class LocalObjects implements ObjectStore {
  readonly kind = 'local';
  readonly address: string;
  private readonly folder: string;
  private readonly files: FileCalls;
  /** Folders whose names are on stable storage. */
  private readonly durable = new Set<string>();
  /** Folders whose names may be nowhere but in memory, after an fsync that failed. */
  private doubtful: string[] = [];
  private making: Promise<unknown> = Promise.resolve();
  /** So many fsyncs of folders have failed. */
  private failedSyncs = 0;

  constructor(folder: string, files: FileCalls = nodeFiles) {
    this.folder = folder;
    this.files = files;
    this.address = folder;
  }

  private async sync(path: string): Promise<void> {
    const handle = await this.files.open(path, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  /** What failed once says yes the next time, whatever became of what it was asked for. */
  private async syncFolder(path: string): Promise<void> {
    try {
      await this.sync(path);
    } catch (error) {
      this.failedSyncs++;
      throw error;
    }
  }

  async open(): Promise<void> {
    await this.guard('opening', async () => {
      await makeFolder(this.folder);
      const probe = join(this.folder, `.probe${PART}`);
      await this.files.rm(probe, { force: true });
      await (await this.files.open(probe, 'w')).close();
      await this.files.rm(probe);
    });
  }

  private async guard<T>(doing: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (operatingError(error) !== undefined) throw error;
      const hint = codeOf(error) === 'ENOSPC' ? '; free some space, it goes on by itself' : '';
      throw new HeadwaterError(
        'LAKE_UNAVAILABLE',
        `the lake in ${this.folder}: ${doing}: ${messageOf(error)}${hint}`,
        { cause: error },
      );
    }
  }

  path(key: string): string {
    return join(this.folder, key);
  }

  async put(key: string, file: string): Promise<void> {
    const target = this.path(key);
    const part = `${target}${PART}`;
    await this.guard(`writing ${key}`, async () => {
      await this.folderOf(target, key.split('/').length);
      try {
        await this.files.rename(file, part);
      } catch (error) {
        // A folder has vanished: the next attempt makes it again.
        if (codeOf(error) === 'ENOENT') this.durable.clear();
        if (codeOf(error) !== 'EXDEV') throw error;
        await this.files.copyFile(file, part);
      }
      await this.sync(part);
      const before = this.failedSyncs;
      await this.files.rename(part, target);
      await this.syncFolder(dirname(target));
      // This name may have been among what another one's should have written: it is put once more.
      if (this.failedSyncs !== before) throw new Error('an fsync beside it has failed');
    });
  }

  /**
   * Makes the folder of a file. Folders have names in folders as well: those that this process has not seen on stable
   * storage are synced up to the lake's own, and so that an attempt that failed half way is not taken for done.
   */
  private async folderOf(target: string, levels: number): Promise<void> {
    const folder = dirname(target);
    if (this.durable.has(folder)) return;
    // One at a time: nobody puts anything into one that is to be made anew.
    const run = this.making.then(() => this.makeDurable(folder, levels));
    this.making = run.catch(() => undefined); // The caller sees it; the next one takes its turn.
    await run;
  }

  private async makeDurable(folder: string, levels: number): Promise<void> {
    if (this.durable.has(folder)) return;
    await this.unmake();
    // The lake's own at most: where what it lay in is gone as well, a disk is not mounted.
    await makeWithin(folder, levels, this.files);
    const made = [folder];
    for (let at = folder; at !== this.folder && at !== dirname(at); made.push((at = dirname(at))))
      if (this.durable.has(dirname(at))) break;
    try {
      for (const each of made.toReversed()) await this.syncFolder(dirname(each));
    } catch (error) {
      this.doubtful = made;
      throw error;
    }
    for (const each of made) this.durable.add(each);
  }

  /** Only a name that is given anew is written: folders that are in doubt, and empty, are made once more. */
  private async unmake(): Promise<void> {
    for (const each of this.doubtful)
      await this.files.rmdir(each).catch((error: unknown) => {
        if (!['ENOTEMPTY', 'EEXIST', 'ENOENT', 'EBUSY'].includes(codeOf(error))) throw error;
      });
    this.doubtful = [];
  }

  async get(key: string): Promise<Buffer> {
    return await this.guard(`reading ${key}`, async () => {
      try {
        // A pipe in its place would be waited for, for ever: so it is an empty file, which is none that was written.
        return await this.files.readFile(this.path(key), { flag: O_RDONLY | O_NONBLOCK });
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') throw error;
        throw new HeadwaterError('NOT_FOUND', `the lake has no ${key}`, { cause: error });
      }
    });
  }

  async list(prefix: string): Promise<ObjectInfo[]> {
    return await this.guard(`listing ${prefix}`, async () => {
      const found: ObjectInfo[] = [];
      await this.walk(prefix.replace(/\/$/, ''), found);
      return found.sort((a, b) => (a.key < b.key ? -1 : 1));
    });
  }

  private async walk(at: string, found: ObjectInfo[]): Promise<void> {
    const entries = await this.files
      .readdir(this.path(at), { withFileTypes: true })
      .catch((error: unknown) => {
        if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return [];
        throw error;
      });
    for (const entry of entries) {
      const key = at === '' ? entry.name : `${at}/${entry.name}`;
      if (entry.isDirectory()) await this.walk(key, found);
      else if (entry.isFile()) {
        const facts = await this.files.stat(this.path(key)).catch((error: unknown) => {
          if (codeOf(error) === 'ENOENT') return undefined; // Compacted away meanwhile.
          throw error;
        });
        if (facts === undefined) continue;
        const { size, mtimeMs, ino } = facts;
        if (!key.endsWith(PART))
          found.push({ key, bytes: size, version: `${size}-${mtimeMs}-${ino}` });
        // Of a folder that may only be read it stays.
        else if (isLeft(mtimeMs)) await this.files.rm(this.path(key)).catch(() => undefined);
      }
    }
  }

  async remove(key: string): Promise<void> {
    await this.guard(`removing ${key}`, async () => {
      const target = this.path(key);
      const isThere = await this.files.stat(target).then(
        () => true,
        (error: unknown) => {
          if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return false;
          throw error;
        },
      );
      if (!isThere) return;
      await this.files.rm(target, { force: true });
      // Else it may be there again after a power cut, with rows that others have by now.
      await this.syncFolder(dirname(target));
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
