/** The data folder says whose it is and which layout it has, so that another version refuses it instead of guessing. */
import { open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { HeadwaterError, codeOf, messageOf } from '../errors.ts';
import { crc32c } from '../frame/crc32c.ts';
import { makeFolder } from './folder.ts';
import { checkKinds } from './folder-kinds.ts';

export const FOLDER_NOTE = 'headwater.json';
const COPY = 'headwater.json.copy';
const LAYOUT = 1;

export interface FolderNote {
  layout: number;
  part: 'gateway' | 'collector';
  /** The gateway's id, for a gateway's folder. */
  id: string;
}

/** With a checksum of the three, so that damage is not taken for another version's folder. */
interface Written extends FolderNote {
  crc: string;
}

const checksum = ({ layout, part, id }: Partial<FolderNote>): string =>
  crc32c(Buffer.from(JSON.stringify([layout, part, id])))
    .toString(16)
    .padStart(8, '0');

/** Undefined for one that is missing or damaged. One without a checksum is of another version. */
function parse(text: string | undefined): Partial<FolderNote> | undefined {
  try {
    const note = JSON.parse(text ?? '') as Partial<Written> | null;
    if (typeof note !== 'object' || note === null) return undefined;
    return note.crc === undefined || note.crc === checksum(note) ? note : undefined;
  } catch {
    return undefined;
  }
}

async function readNote(folder: string, path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw new HeadwaterError(
      'DATA_UNUSABLE',
      `data folder ${folder} cannot be used: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

/**
 * Creates the folder or checks it. A damaged note is made again, from its copy or from what is known (law 7).
 * Throws DATA_VERSION, DATA_UNUSABLE, CONFIG_INVALID (another gateway's folder).
 */
export async function claimFolder(
  folder: string,
  part: FolderNote['part'],
  id: string,
): Promise<void> {
  await create(folder);
  await checkKinds(folder);
  const [first, second] = [join(folder, FOLDER_NOTE), join(folder, COPY)];
  const texts = [await readNote(folder, first), await readNote(folder, second)];
  const own: FolderNote = { layout: LAYOUT, part, id };
  const note = parse(texts[0]) ?? parse(texts[1]) ?? own;
  check(folder, note, own);
  const right = `${JSON.stringify({ ...own, crc: checksum(own) })}\n`;
  if (texts[0] !== right) await write(folder, first, right);
  if (texts[1] !== right) await write(folder, second, right);
}

/** The same check of a folder that may not be there yet, which touches nothing. Throws as `claimFolder`. */
export async function checkFolder(
  folder: string,
  part: FolderNote['part'],
  id: string,
): Promise<void> {
  await checkKinds(folder);
  const own: FolderNote = { layout: LAYOUT, part, id };
  const texts = [FOLDER_NOTE, COPY].map((name) => readNote(folder, join(folder, name)));
  const [first, second] = await Promise.all(texts);
  check(folder, parse(first) ?? parse(second) ?? own, own);
}

function check(folder: string, note: Partial<FolderNote>, { part, id }: FolderNote): void {
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
    await makeFolder(folder, 0o700);
  } catch (error) {
    throw new HeadwaterError(
      'DATA_UNUSABLE',
      `data folder ${folder} cannot be used: ${messageOf(error)}; make it writable, or choose another with --data`,
      { cause: error },
    );
  }
}

async function write(folder: string, path: string, text: string): Promise<void> {
  try {
    const file = await open(`${path}.new`, 'w', 0o600);
    try {
      await file.writeFile(text);
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
