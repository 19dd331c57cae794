/** The data folder says whose it is and which layout it has, so that another version refuses it instead of guessing. */
import { mkdir, open, readFile, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { HeadwaterError, codeOf, messageOf } from '../errors.ts';

const NAME = 'headwater.json';
const LAYOUT = 1;

export interface FolderNote {
  layout: number;
  part: 'gateway' | 'collector';
  /** The gateway's id, for a gateway's folder. */
  id: string;
}

/** Creates the folder or checks it. Throws DATA_VERSION, DATA_UNUSABLE, CONFIG_INVALID (another gateway's folder). */
export async function claimFolder(
  folder: string,
  part: FolderNote['part'],
  id: string,
): Promise<void> {
  const path = join(folder, NAME);
  let text: string | undefined;
  await create(folder);
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') {
      throw new HeadwaterError(
        'DATA_UNUSABLE',
        `data folder ${folder} cannot be used: ${messageOf(error)}`,
        { cause: error },
      );
    }
  }
  if (text === undefined || text.trim() === '')
    return await write(folder, path, { layout: LAYOUT, part, id });
  let note: Partial<FolderNote>;
  try {
    note = JSON.parse(text) as Partial<FolderNote>;
  } catch {
    // Damaged, and all it says is known: what lies beside it tells the rest (law 7).
    return await write(folder, path, { layout: LAYOUT, part, id });
  }
  if (note.layout !== LAYOUT) {
    throw new HeadwaterError(
      'DATA_VERSION',
      `data folder ${folder} has layout ${note.layout}, this version knows ${LAYOUT}: use the version that wrote it, or another folder with --data`,
    );
  }
  if (note.part !== part) {
    throw new HeadwaterError(
      'DATA_VERSION',
      `data folder ${folder} belongs to a ${note.part}, not to a ${part}: choose another with --data`,
    );
  }
  if (note.id !== id) {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `data folder ${folder} belongs to '${note.id}', not to '${id}': choose another with --data, or start with --id ${note.id}`,
    );
  }
}

async function create(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await stat(folder);
  } catch (error) {
    // On a read-only disk the recursive call says "no such file": the plain one says what is wrong.
    const cause = await mkdir(folder).then(
      () => error,
      (plain: unknown) => plain,
    );
    throw new HeadwaterError(
      'DATA_UNUSABLE',
      `data folder ${folder} cannot be used: ${messageOf(cause)}; make it writable, or choose another with --data`,
      { cause },
    );
  }
}

async function write(folder: string, path: string, note: FolderNote): Promise<void> {
  try {
    const file = await open(`${path}.new`, 'w', 0o600);
    try {
      await file.writeFile(`${JSON.stringify(note)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}.new`, path);
    const directory = await open(folder, 'r');
    await directory.sync();
    await directory.close();
  } catch (error) {
    throw new HeadwaterError(
      'DATA_UNUSABLE',
      `data folder ${folder} cannot be written: ${messageOf(error)}`,
      { cause: error },
    );
  }
}
