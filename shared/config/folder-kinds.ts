/**
 * What lies in a data folder under a file's name is a file, and under a folder's name a folder. A pipe keeps whoever opens
 * it waiting for ever (LevelDB and DuckDB in threads that nothing can interrupt), a device may have no end: so the start
 * looks first, opens nothing, and ends with one sentence. What we do not know at the top of the folder is not ours, and
 * what was set aside (`damaged/`) is not read.
 */
import type { Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { HeadwaterError } from '../errors.ts';
import { kindOf } from './user-file.ts';

const TOP_FILES =
  /^(headwater\.json(\.copy)?(\.new)?|reserve|(sample|served)\.json(\.new)?|audit\.log(\.1)?|(buffer|log)\.opened)$/;
const LEVEL_FILE = /^(CURRENT|LOCK|LOG(\.old)?|MANIFEST-\d+|\d+\.(log|ldb|sst|dbtmp))$/;
const STORE_FILE = /^readings\.duckdb(\.wal)?$/;
/** Of the lake; folders there are called `key=value` or by a zone or a job. */
const LAKE_FILE = /^[^=]*\.(parquet|json|part)$/;
/** Our folders, and what in each of them may be no folder. */
const FOLDERS: Readonly<Record<string, RegExp | undefined>> = {
  buffer: LEVEL_FILE,
  log: LEVEL_FILE,
  lock: LEVEL_FILE,
  'buffer.carried': LEVEL_FILE,
  'log.carried': LEVEL_FILE,
  identity: /\.(pem|key|json)$/,
  enroll: /\.(pem|key|jsonl)(\.copy)?$/,
  store: STORE_FILE,
  lake: LAKE_FILE,
  'lake-work': undefined,
  'lake-cache': undefined,
  'batch-work': undefined,
  damaged: undefined,
};

/** Throws DATA_UNUSABLE. */
function refuse(path: string, is: string, wanted: 'file' | 'folder'): never {
  throw new HeadwaterError(
    'DATA_UNUSABLE',
    `${path} is ${is}, not a ${wanted}: move it away, or choose another folder with --data`,
  );
}

interface Found {
  isFile: boolean;
  isFolder: boolean;
  kind: () => string;
}

/** Through links; undefined for what is gone, leads nowhere, or cannot be looked at now. */
async function look(path: string, entry?: Dirent): Promise<Found | undefined> {
  if (entry !== undefined && (entry.isFile() || entry.isDirectory())) {
    const isFolder = entry.isDirectory();
    return { isFile: !isFolder, isFolder, kind: () => (isFolder ? 'a folder' : 'a file') };
  }
  try {
    const facts = await stat(path);
    return {
      isFile: facts.isFile(),
      isFolder: facts.isDirectory(),
      kind: () => (facts.isFile() ? 'a file' : kindOf(facts)),
    };
  } catch {
    return undefined;
  }
}

/** None of what cannot be read now: whoever opens it tells, and waits or sets it aside. */
const entriesOf = async (folder: string): Promise<Dirent[]> =>
  await readdir(folder, { withFileTypes: true }).catch((): Dirent[] => []);

/** Everything below one of our folders. `files` says what may be no folder. */
async function checkTree(folder: string, files: RegExp | undefined): Promise<void> {
  for (const entry of await entriesOf(folder)) {
    const path = join(folder, entry.name);
    const found = await look(path, entry);
    if (found === undefined) continue;
    if (!found.isFile && !found.isFolder) refuse(path, found.kind(), 'file');
    if (found.isFolder && files?.test(entry.name) === true) refuse(path, 'a folder', 'file');
    // A link to a folder may lead back to here.
    if (found.isFolder && !entry.isSymbolicLink()) await checkTree(path, files);
  }
}

/** A data folder, which may not be there yet. Throws DATA_UNUSABLE with path, kind and what to do. */
export async function checkKinds(data: string): Promise<void> {
  for (const entry of await entriesOf(data)) {
    const { name } = entry;
    const path = join(data, name);
    const isFolder = Object.hasOwn(FOLDERS, name);
    if (!isFolder && !TOP_FILES.test(name)) continue;
    const found = await look(path, entry);
    if (found === undefined) continue;
    if (isFolder && !found.isFolder) refuse(path, found.kind(), 'folder');
    if (!isFolder && !found.isFile) refuse(path, found.kind(), 'file');
    if (isFolder && name !== 'damaged') await checkTree(path, FOLDERS[name]);
  }
}

/** A lake in a folder of its own, which may not be one yet. Throws DATA_UNUSABLE. */
export async function checkLakeKinds(lake: string): Promise<void> {
  await checkTree(lake, LAKE_FILE);
}
