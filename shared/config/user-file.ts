/**
 * Files that a person names in the settings. What is no file (a pipe, a device, a folder) is said at once: opening a pipe
 * waits for its writer, for ever, and a device may have no end.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats } from 'node:fs';
import { HeadwaterError, messageOf } from '../errors.ts';

/** Generous for certificates, mappings and rules; a file that is larger was named by mistake. */
const BYTES_MAX = 64 * 1024 * 1024;

/** In words, of what is no file. */
export function kindOf(stat: Stats): string {
  if (stat.isDirectory()) return 'a folder';
  if (stat.isFIFO()) return 'a pipe';
  if (stat.isSocket()) return 'a socket';
  return 'a device';
}

/** As editors and shells of Windows begin a text. Throws Error, with the path, for what is no UTF-8. */
function withoutMark(path: string, bytes: Buffer): Buffer {
  const [first, second, third] = bytes;
  if ((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff))
    throw new Error(`${path} is UTF-16 text, as PowerShell writes it: save it as UTF-8`);
  return first === 0xef && second === 0xbb && third === 0xbf ? bytes.subarray(3) : bytes;
}

/** Lines of a text, however they end; the last one may have no end. */
export const linesOf = (text: string): string[] => text.replace(/\r?\n$/, '').split(/\r?\n/);

/**
 * Content of a regular file, through links, without a byte order mark. `allow` looks at what was opened before it is read, and throws.
 * Throws Error, with the path and the reason.
 */
export function readUserFile(path: string, allow?: (stat: Stats) => void): Buffer {
  // Looked at when it is open, so that nothing can be put in its place between the look and the reading.
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) throw new Error(`${path} is ${kindOf(stat)}, not a file`);
    if (stat.size > BYTES_MAX) throw new Error(`${path} has more than 64 MiB`);
    allow?.(stat);
    return withoutMark(path, readFileSync(file));
  } finally {
    closeSync(file);
  }
}

/** The same. Throws CONFIG_INVALID, with `what` it is in front. */
export function readSettingFile(path: string, what: string, allow?: (stat: Stats) => void): Buffer {
  try {
    return readUserFile(path, allow);
  } catch (error) {
    throw new HeadwaterError('CONFIG_INVALID', `${what}: ${messageOf(error)}`, { cause: error });
  }
}
