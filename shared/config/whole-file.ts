/** Files that are there whole or not at all, through a power cut too. */
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Under another name first, on stable storage, then under its own. Rejects with the error of the file system. */
export async function writeWhole(
  path: string,
  content: string | Buffer,
  mode = 0o600,
): Promise<void> {
  const file = await open(`${path}.new`, 'w', mode);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(`${path}.new`, path);
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
