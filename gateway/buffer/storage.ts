/**
 * Where the buffer lives: a LevelDB folder and the disk below it, as a seam, so that a simulation can stand in a disk
 * that fills, fails and loses what was not synced. `FolderStorage` is the real one.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { KvDatabase } from '../../shared/kv/kv.ts';
import { openRecovering, type Recovery } from '../../shared/kv/recover.ts';
import { Reserve, folderBytes, freeBytes } from './disk.ts';
import { salvageFolder, type Salvaged } from './salvage.ts';

export interface BufferStorage {
  /** Opens or creates the database; what does not open is set aside. `rebuild` sets it aside in any case. */
  open(stamp: string, rebuild: boolean): Promise<Recovery>;
  /** Bytes that the database takes, and that are left on its disk. */
  bytes(): Promise<number>;
  freeBytes(): Promise<number>;
  fillReserve(): Promise<boolean>;
  releaseReserve(): Promise<void>;
  /** Keeps bytes that are not what they should be, for a person. */
  setAside(name: string, bytes: Buffer): Promise<void>;
  /** Whole frames in a folder that was set aside. */
  salvage(folder: string): AsyncIterable<Salvaged>;
}

export class FolderStorage implements BufferStorage {
  private readonly folder: string;
  private readonly database: string;
  private readonly reserve: Reserve;
  private readonly create: (folder: string) => KvDatabase;

  /** `folder` is the gateway's data folder; the database is in `buffer/` below it. */
  constructor(folder: string, reserveBytes: number, create: (folder: string) => KvDatabase) {
    this.folder = folder;
    this.database = join(folder, 'buffer');
    this.reserve = new Reserve(folder, reserveBytes);
    this.create = create;
  }

  async open(stamp: string, rebuild: boolean): Promise<Recovery> {
    await mkdir(this.database, { recursive: true });
    return await openRecovering(this.database, stamp, this.create, rebuild);
  }

  bytes(): Promise<number> {
    return folderBytes(this.database);
  }

  freeBytes(): Promise<number> {
    return freeBytes(this.folder);
  }

  fillReserve(): Promise<boolean> {
    return this.reserve.fill();
  }

  releaseReserve(): Promise<void> {
    return this.reserve.release();
  }

  async setAside(name: string, bytes: Buffer): Promise<void> {
    const damaged = join(this.folder, 'damaged');
    await mkdir(damaged, { recursive: true });
    await writeFile(join(damaged, name), bytes);
  }

  salvage(folder: string): AsyncIterable<Salvaged> {
    return salvageFolder(folder);
  }
}
