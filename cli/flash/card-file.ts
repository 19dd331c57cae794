/** The file of one card: the stock image, with what makes it this gateway. */
import { renameSync, rmSync } from 'node:fs';
import { chmod, copyFile, open, stat } from 'node:fs/promises';
import { constants } from 'node:fs';
import { provision, stockOf, type Card, type Payload } from './provision.ts';

/** Files that are being made. */
export const unfinished = new Set<string>();

/** Whole or not there. */
export async function makeFile(
  base: string,
  to: string,
  payload: Payload,
  card: Card,
  sizeBytes: number,
): Promise<void> {
  const path = `${to}.unfinished`;
  unfinished.add(path);
  try {
    await copyFile(base, path, constants.COPYFILE_FICLONE);
    // It has the token in it.
    await chmod(path, 0o600);
    if (sizeBytes > (await stat(path)).size) {
      const file = await open(path, 'r+');
      await file.truncate(sizeBytes);
      await file.close();
    }
    await provision(await stockOf(path), payload, card);
    const file = await open(path, 'r+');
    await file.sync();
    await file.close();
    renameSync(path, to);
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  } finally {
    unfinished.delete(path);
  }
}
