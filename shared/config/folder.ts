/**
 * Folders that must be there. Making one ends, with one error: Node's own `recursive` tries for ever where a file system
 * says "no such entry" for a name that it does not take (/proc). And one that was there may vanish while it is used
 * (deleted, unmounted): what is written into it then goes nowhere, though every call succeeds.
 */
import { mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { codeOf } from '../errors.ts';

/** Makes it, and what is missing above it. Rejects with the error of the file system. */
export async function makeFolder(path: string, mode?: number): Promise<void> {
  const full = resolve(path);
  try {
    await mkdir(full, mode);
    return;
  } catch (error) {
    const code = codeOf(error);
    if (code === 'EEXIST') {
      if ((await stat(full)).isDirectory()) return;
      throw new Error(`${full} is a file, not a folder`, { cause: error });
    }
    if (code !== 'ENOENT' || dirname(full) === full) throw error;
    const above = await stat(dirname(full)).catch(() => undefined);
    if (above !== undefined) throw error;
  }
  await makeFolder(dirname(full), mode);
  await mkdir(full, mode).catch((error: unknown) => {
    // Somebody else was faster.
    if (codeOf(error) !== 'EEXIST') throw error;
  });
}

/**
 * Makes a folder, and those above it up to so many `levels`: where more is missing, what they were in has vanished, and what
 * is written into one that is made anew there goes nowhere. Rejects with the error of the file system.
 */
export async function makeWithin(path: string, levels: number): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || levels <= 1) throw error;
    await makeWithin(dirname(path), levels - 1);
    await makeWithin(path, 1);
  }
}

/** Whether a folder is still the one that it was. */
export class FolderWatch {
  private readonly folder: string;
  private identity: string | undefined;

  constructor(folder: string) {
    this.folder = folder;
  }

  private async look(): Promise<string> {
    const { dev, ino } = await stat(this.folder);
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
