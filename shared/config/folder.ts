/**
 * Folders that must be there. Making one ends, with one error: Node's own `recursive` tries for ever where a file system
 * says "no such entry" for a name that it does not take (/proc). And one that was there may vanish while it is used
 * (deleted, unmounted): what is written into it then goes nowhere, though every call succeeds.
 */
import * as nodeFiles from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { codeOf } from '../errors.ts';

type Calls = Pick<typeof nodeFiles, 'mkdir' | 'stat'>;

/** Makes it, and what is missing above it. Rejects with the error of the file system. */
export async function makeFolder(path: string, mode?: number): Promise<void> {
  await made(resolve(path), Number.POSITIVE_INFINITY, mode, nodeFiles);
}

/**
 * Makes a folder, and those above it up to so many `levels`: where more is missing, what they were in has vanished, and what
 * is written into one that is made anew there goes nowhere. Rejects with the error of the file system.
 */
export async function makeWithin(
  path: string,
  levels: number,
  files: Calls = nodeFiles,
): Promise<void> {
  await made(path, levels, undefined, files);
}

async function made(
  path: string,
  levels: number,
  mode: number | undefined,
  files: Calls,
): Promise<void> {
  const { mkdir, stat } = files;
  const isThere = async (error: unknown): Promise<boolean> => {
    if (codeOf(error) !== 'EEXIST') return false;
    if ((await stat(path)).isDirectory()) return true;
    throw new Error(`${path} is a file, not a folder`, { cause: error });
  };
  try {
    await mkdir(path, mode);
    return;
  } catch (error) {
    if (await isThere(error)) return;
    const above = dirname(path);
    if (codeOf(error) !== 'ENOENT' || levels <= 1 || above === path) throw error;
    // A name that the file system does not take: what is above it is there.
    if ((await stat(above).catch(() => undefined)) !== undefined) throw error;
  }
  await made(dirname(path), levels - 1, mode, files);
  await mkdir(path, mode).catch(async (error: unknown) => {
    // Somebody else was faster.
    if (!(await isThere(error))) throw error;
  });
}

/** Whether a folder is still the one that it was. */
export class FolderWatch {
  private readonly folder: string;
  private identity: string | undefined;

  constructor(folder: string) {
    this.folder = folder;
  }

  private async look(): Promise<string> {
    const { dev, ino } = await nodeFiles.stat(this.folder);
    return `${dev} ${ino}`;
  }

  /** From now on this one counts. */
  async accept(): Promise<void> {
    this.identity = await this.look();
  }

  /** One sentence when it is gone; undefined while it is there. */
  async problem(): Promise<string | undefined> {
    try {
      if (this.identity === undefined || (await this.look()) === this.identity) return undefined;
      return `another folder stands where ${this.folder} was (deleted and made again, or unmounted): what is written is not kept`;
    } catch (error) {
      if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'ENOTDIR') throw error;
      return `${this.folder} is not there any more (deleted, or unmounted): what is written is not kept`;
    }
  }
}
