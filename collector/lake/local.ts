/** The lake on a local disk, or any mounted file system that renames atomically: a file is written beside and renamed. */
import { copyFile, mkdir, open, readFile, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeFolder } from '../../shared/config/folder.ts';
import { operatingError } from '../../contracts/errors.ts';
import { HeadwaterError, codeOf, messageOf } from '../../shared/errors.ts';
import type { ObjectInfo, ObjectStore } from './object-store.ts';

/** Beside the file it becomes; never listed. */
const PART = '.part';

async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export class LocalObjects implements ObjectStore {
  readonly kind = 'local';
  readonly address: string;
  private readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
    this.address = folder;
  }

  async open(): Promise<void> {
    await this.guard('opening', async () => {
      await makeFolder(this.folder);
      const probe = join(this.folder, `.probe${PART}`);
      await rm(probe, { force: true });
      await (await open(probe, 'w')).close();
      await rm(probe);
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
      const made = await mkdir(dirname(target), { recursive: true });
      try {
        await rename(file, part);
      } catch (error) {
        if (codeOf(error) !== 'EXDEV') throw error;
        await copyFile(file, part);
      }
      await sync(part);
      await rename(part, target);
      await sync(dirname(target));
      // Folders that are new have names in folders as well.
      for (let at = dirname(target); made !== undefined && at.length >= made.length; )
        await sync((at = dirname(at)));
    });
  }

  async get(key: string): Promise<Buffer> {
    return await this.guard(`reading ${key}`, async () => {
      try {
        return await readFile(this.path(key));
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
    const entries = await readdir(this.path(at), { withFileTypes: true }).catch(
      (error: unknown) => {
        if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return [];
        throw error;
      },
    );
    for (const entry of entries) {
      const key = at === '' ? entry.name : `${at}/${entry.name}`;
      if (entry.isDirectory()) await this.walk(key, found);
      else if (entry.isFile() && !key.endsWith(PART)) {
        const facts = await stat(this.path(key)).catch((error: unknown) => {
          if (codeOf(error) === 'ENOENT') return undefined; // Compacted away meanwhile.
          throw error;
        });
        if (facts !== undefined) {
          const { size, mtimeMs, ino } = facts;
          found.push({ key, bytes: size, version: `${size}-${mtimeMs}-${ino}` });
        }
      }
    }
  }

  async remove(key: string): Promise<void> {
    await this.guard(`removing ${key}`, () => rm(this.path(key), { force: true }));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
