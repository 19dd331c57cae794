/**
 * The data folder says whose it is and which layout it has, so that another version refuses it instead of guessing. Whatever a later
 * layout says more: `layout`, `part`, `id` and the checksum over these three stay as they are here, in both files, and both
 * say the later layout before anything of it is written (docs/decisions/0039-a-second-layout-of-a-data-folder.md).
 */
import { readFileSync } from 'node:fs';
import { open, readFile, readdir, rename } from 'node:fs/promises';
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
      `data folder ${folder} cannot be used: ${messageOf(error)}; give it to this user, or choose another with --data`,
      { cause: error },
    );
  }
}

/** What only one of the two keeps in its folder. */
const KEEPS: Record<FolderNote['part'], readonly string[]> = {
  gateway: ['buffer'],
  collector: ['log', 'store', 'lake', 'enroll'],
};

/** Whose data lie in the folder, by what is there; undefined: nothing of ours is. */
async function keeperOf(folder: string): Promise<FolderNote['part'] | undefined> {
  const names = new Set(await readdir(folder).catch((): string[] => []));
  return (Object.keys(KEEPS) as FolderNote['part'][]).find((part) =>
    KEEPS[part].some((name) => names.has(name)),
  );
}

/** The gateway that a folder says it is of; undefined: none, or it cannot be said. */
export function gatewayOf(folder: string): string | undefined {
  for (const name of [FOLDER_NOTE, COPY]) {
    try {
      const { part, id } = parse(readFileSync(join(folder, name), 'utf8')) ?? {};
      if (part === 'gateway' && typeof id === 'string') return id;
    } catch {
      // Who claims the folder says what is wrong with it.
    }
  }
  return undefined;
}

/** Neither a note nor anything of ours lies in it: a new one, or one whose disk is not mounted. */
export async function isNewFolder(folder: string): Promise<boolean> {
  const names = await readdir(folder).catch((): string[] => []);
  return !names.some((name) => name === FOLDER_NOTE || name === COPY) && !(await keeperOf(folder));
}

/** Of the two the one that says the later layout: a change of the layout that was cut between them has begun. */
function later(
  first: Partial<FolderNote> | undefined,
  second: Partial<FolderNote> | undefined,
): Partial<FolderNote> | undefined {
  if (first === undefined || second === undefined) return first ?? second;
  return Number(second.layout) > Number(first.layout) ? second : first;
}

interface Found {
  /** Of the note and of its copy. */
  texts: (string | undefined)[];
  /** What is wrong with them, one sentence; undefined: nothing, or the folder is new. */
  trouble: string | undefined;
}

/** Reads both, and checks whose the folder is. `owner`: the id that the data themselves name, where both are lost. */
async function look(
  folder: string,
  own: FolderNote,
  owner: () => Promise<string | undefined>,
  mayRename: boolean,
): Promise<Found> {
  await checkKinds(folder);
  const names = [FOLDER_NOTE, COPY];
  const texts = await Promise.all(names.map((name) => readNote(folder, join(folder, name))));
  const notes = texts.map(parse);
  const [first, second] = notes;
  const wrong = names.flatMap((name, at) =>
    notes[at] !== undefined ? [] : [`${name} is ${texts[at] === undefined ? 'gone' : 'damaged'}`],
  );
  const note = later(first, second);
  if (note !== undefined) {
    check(folder, mayRename ? { ...note, id: own.id } : note, own);
    // Versions before kept neither checksum nor copy.
    const isOlder = (note as Partial<Written>).crc === undefined;
    const trouble =
      wrong.length === 0 || isOlder
        ? undefined
        : `data folder ${folder}: ${wrong.join(', ')}; it is made again from the other of the two`;
    return { texts, trouble };
  }
  const keeper = await keeperOf(folder);
  if (keeper === undefined && texts.every((text) => text === undefined))
    return { texts, trouble: undefined };
  const id = keeper === own.part && !mayRename ? await owner() : undefined;
  check(folder, { ...own, part: keeper ?? own.part, id: id ?? own.id }, own);
  const whose = `${own.part}${own.id === '' ? '' : ` '${own.id}'`}`;
  const why =
    keeper === undefined
      ? 'nothing in it says otherwise'
      : id === undefined
        ? `a ${own.part}'s data lie in it`
        : `the messages in it say so`;
  const trouble = `data folder ${folder}: ${wrong.join(', ')}: nothing says any more whose it is; it is taken for the ${whose}'s, since ${why}, and both are made again: if it is another's, stop and choose another with --data`;
  return { texts, trouble };
}

const nobody = (): Promise<undefined> => Promise.resolve(undefined);

/**
 * Creates the folder or checks it. A damaged note is made again, from its copy or from what is known (law 7); gives what was
 * wrong then, one sentence. `owner`: the id that the data in the folder name, asked when both notes are lost. `mayRename`: it
 * is this gateway's whatever it was called. Throws DATA_VERSION, DATA_UNUSABLE, CONFIG_INVALID (another gateway's folder).
 */
export async function claimFolder(
  folder: string,
  part: FolderNote['part'],
  id: string,
  owner: () => Promise<string | undefined> = nobody,
  mayRename = false,
): Promise<string | undefined> {
  await create(folder);
  const own: FolderNote = { layout: LAYOUT, part, id };
  const { texts, trouble } = await look(folder, own, owner, mayRename);
  const right = `${JSON.stringify({ ...own, crc: checksum(own) })}\n`;
  for (const [at, name] of [FOLDER_NOTE, COPY].entries())
    if (texts[at] !== right) await write(folder, join(folder, name), right);
  return trouble;
}

/** The same check of a folder that may not be there yet, which touches nothing. Throws as `claimFolder`. */
export async function checkFolder(
  folder: string,
  part: FolderNote['part'],
  id: string,
): Promise<string | undefined> {
  return (await look(folder, { layout: LAYOUT, part, id }, nobody, false)).trouble;
}

function check(folder: string, note: Partial<FolderNote>, { part, id }: FolderNote): void {
  if (note.layout !== LAYOUT) {
    throw new HeadwaterError(
      'DATA_VERSION',
      `data folder ${folder} has layout ${note.layout}, this version knows ${LAYOUT}: use the version that wrote it, or another folder with --data; nothing in it was changed`,
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
