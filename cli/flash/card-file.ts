/** The file of one card: the stock image, with what makes it this gateway. */
import { renameSync, rmSync } from 'node:fs';
import { chmod, copyFile, open, stat } from 'node:fs/promises';
import { constants } from 'node:fs';
import { provision, stockOf, type Card, type Payload } from './provision.ts';

/** Whole or not there. */
export async function makeFile(
  base: string,
  to: string,
  payload: Payload,
  card: Card,
  sizeBytes: number,
): Promise<void> {
  const unfinished = `${to}.unfinished`;
  try {
    await copyFile(base, unfinished, constants.COPYFILE_FICLONE);
    // It has the token in it.
    await chmod(unfinished, 0o600);
    if (sizeBytes > (await stat(unfinished)).size) {
      const file = await open(unfinished, 'r+');
      await file.truncate(sizeBytes);
      await file.close();
    }
    await provision(await stockOf(unfinished), payload, card);
    const file = await open(unfinished, 'r+');
    await file.sync();
    await file.close();
    renameSync(unfinished, to);
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw error;
  }
}
