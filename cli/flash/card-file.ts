/** The file of one card: the stock image, with what makes it this gateway. */
import { renameSync, rmSync } from 'node:fs';
import { chmod, copyFile, open, stat } from 'node:fs/promises';
import { constants } from 'node:fs';
import { noRoom } from './image.ts';
import { provision, stockOf, type Card, type Payload } from './provision.ts';
import { whileUnfinished } from './scratch.ts';

/** Whole or not there. Throws DATA_UNUSABLE where there is no room for it. */
export async function makeFile(
  base: string,
  to: string,
  payload: Payload,
  card: Card,
  sizeBytes: number,
): Promise<void> {
  const path = `${to}.unfinished`;
  await whileUnfinished(path, async () => {
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
      throw noRoom(error, `the image of '${card.name}'`, to) ?? error;
    }
  });
}
