/**
 * Where the buffer lives: a LevelDB folder and the disk below it, as a seam, so that a simulation can stand in a disk
 * that fills, fails and loses what was not synced. `FolderStorage` is the real one.
 */
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FOLDER_NOTE } from '../../shared/config/data-folder.ts';
import { FolderWatch, makeFolder } from '../../shared/config/folder.ts';
import type { KvDatabase, KvOp } from '../../shared/kv/kv.ts';
import { openRecovering, type Recovery } from '../../shared/kv/recover.ts';
import { Reserve, folderBytes, freeBytes } from './disk.ts';
import { salvageFolder, type Salvaged } from './salvage.ts';

/** A look at the folder is spared for groups that follow each other so closely. */
const LOOK_US = 20_000;

export interface BufferStorage {
  /** Opens or creates the database; what does not open is set aside. `rebuild` sets it aside in any case. */
  open(stamp: string, rebuild: boolean): Promise<Recovery>;
  /** Why what is written is not kept, though no write fails; undefined while all is well. */
  problem?(nowUs: number): Promise<string | undefined> | undefined;
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

/**
 * Resolves when it is durable. A folder that was deleted takes writes and syncs without an error: so it is looked at,
 * beside the write and not after it.
 */
export async function writeKept(
  storage: BufferStorage,
  db: KvDatabase,
  ops: KvOp[],
  nowUs: number,
): Promise<void> {
  const look = storage.problem?.(nowUs);
  await db.write(ops, { sync: true });
  const problem = await look;
  if (problem !== undefined) throw new Error(problem);
}

export class FolderStorage implements BufferStorage {
  private readonly folder: string;
  private readonly database: string;
  private readonly reserve: Reserve;
  private readonly create: (folder: string) => KvDatabase;
  private readonly watch: FolderWatch;
  /** Whether the folder was claimed: then it is known by its note. */
  private hadNote = false;
  private lookedUs = 0;

  /** `folder` is the gateway's data folder; the database is in `buffer/` below it. */
  constructor(folder: string, reserveBytes: number, create: (folder: string) => KvDatabase) {
    this.folder = folder;
    this.database = join(folder, 'buffer');
    this.reserve = new Reserve(folder, reserveBytes);
    this.create = create;
    this.watch = new FolderWatch(this.database);
  }

  /** Never in a folder that stands where the gateway's was: it would begin anew, and what it held were forgotten. */
  async open(stamp: string, rebuild: boolean): Promise<Recovery> {
    if (this.hadNote && !(await this.hasNote()))
      throw new Error(
        `the data folder ${this.folder} is not there any more: was it deleted, or unmounted?`,
      );
    await makeFolder(this.database);
    const recovery = await openRecovering(this.database, stamp, this.create, rebuild);
    await this.watch.accept();
    this.hadNote = await this.hasNote();
    return recovery;
  }

  private async hasNote(): Promise<boolean> {
    return (await stat(join(this.folder, FOLDER_NOTE)).catch(() => undefined)) !== undefined;
  }

  problem(nowUs: number): Promise<string | undefined> | undefined {
    if (nowUs - this.lookedUs < LOOK_US) return undefined;
    this.lookedUs = nowUs;
    return this.watch.problem().catch(() => undefined); // What cannot be looked at is not gone; the write itself tells.
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
    await makeFolder(damaged);
    await writeFile(join(damaged, name), bytes);
  }

  salvage(folder: string): AsyncIterable<Salvaged> {
    return salvageFolder(folder);
  }
}
