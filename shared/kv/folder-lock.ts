/**
 * One process at a time in a data folder that has no database of ours which would see to it: a LevelDB without entries, whose
 * lock the kernel takes back with the process, however that ends. What is damaged of it is made again: nothing is in it.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { HeadwaterError, codeOf } from '../errors.ts';
import { LevelDatabase } from './classic-level.ts';

export const LOCK = 'lock';

export class FolderLock {
  private readonly db: LevelDatabase;

  private constructor(db: LevelDatabase) {
    this.db = db;
  }

  /** Throws DATA_LOCKED, and what the file system throws. */
  static async take(data: string): Promise<FolderLock> {
    const folder = join(data, LOCK);
    const take = async (): Promise<FolderLock> => {
      const db = new LevelDatabase(folder, { cacheBytes: 0, writeBufferBytes: 64 * 1024 });
      await db.open();
      return new FolderLock(db);
    };
    try {
      return await take();
    } catch (error) {
      if (error instanceof Error && codeOf(error.cause) === 'LEVEL_LOCKED')
        throw new HeadwaterError(
          'DATA_LOCKED',
          `another process has ${data} open: stop it, or choose another folder with --data`,
          { cause: error },
        );
      await rm(folder, { recursive: true, force: true });
      return await take();
    }
  }

  close(): Promise<void> {
    return this.db.close();
  }
}
