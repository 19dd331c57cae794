/**
 * What a gateway is by enrolment: its name, its collectors, its key and certificate, in `identity/` of the data folder,
 * which no update touches. Before it is enrolled the join token says name and collectors, so that messages are taken and
 * kept from the first second on. What it took before it had a token goes out under the name that the token gives it; one that
 * was enrolled keeps its name, for its collector knows its readings by it.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseJoinToken, type JoinToken } from '../shared/access/join-token.ts';
import { readUserFile } from '../shared/config/user-file.ts';
import { writeWhole } from '../shared/config/whole-file.ts';
import { HeadwaterError, codeOf, messageOf } from '../shared/errors.ts';

/** What is written when it is enrolled. */
interface Enrolled {
  gateway: string;
  urls: string[];
  collectors: string[];
  /** SHA-256 of the token that brought it in: what is left of it on a card is not used again. */
  token: string;
}

export interface Standing {
  gateway: string;
  urls: string[];
  collectors: string[];
  /** To be traded in; undefined: that is done. */
  token: JoinToken | undefined;
  /** It was never enrolled. */
  isFirst: boolean;
  /** Why a token that is there is not traded in: one sentence. */
  notTaken: string | undefined;
  paths: IdentityPaths;
}

export interface IdentityPaths {
  folder: string;
  /** The collector's authority. */
  authority: string;
  /** Key and certificate in one file, so that they change together. */
  own: string;
  /** The key whose certificate is asked for. */
  nextKey: string;
  note: string;
  tokenFile: string;
}

const hashOf = ({ secret }: JoinToken): string => createHash('sha256').update(secret).digest('hex');

function pathsOf(data: string, tokenFile: string): IdentityPaths {
  const folder = join(data, 'identity');
  const at = (name: string): string => join(folder, name);
  return {
    folder,
    authority: at('ca.pem'),
    own: at('own.pem'),
    nextKey: at('next.key'),
    note: at('enrolled.json'),
    tokenFile,
  };
}

function readNote({ note, own, authority }: IdentityPaths): Enrolled | undefined {
  // Written last: without the others there is nothing that it speaks of.
  if (!existsSync(note) || !existsSync(own) || !existsSync(authority)) return undefined;
  try {
    return JSON.parse(readUserFile(note).toString('utf8')) as Enrolled;
  } catch (error) {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `${note} cannot be read (${messageOf(error)}): give this gateway a new join token with --join FILE`,
      { cause: error },
    );
  }
}

function readToken(path: string): JoinToken | undefined {
  if (path === '') return undefined;
  let text: string;
  try {
    text = readUserFile(path).toString('utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw new HeadwaterError('CONFIG_INVALID', `join token: ${messageOf(error)}`, { cause: error });
  }
  // Wiped after its use.
  return text.replaceAll('\0', '').trim() === '' ? undefined : parseJoinToken(text, path);
}

/** The token that may be traded in, or why the one that is there is not: one sentence. Throws CONFIG_INVALID. */
function offered(
  tokenFile: string,
  data: string,
  note: Enrolled | undefined,
): { token?: JoinToken; notTaken?: string } {
  let token: JoinToken | undefined;
  try {
    token = readToken(tokenFile);
  } catch (error) {
    // Who is enrolled needs none.
    if (note === undefined) throw error;
    return { notTaken: `${messageOf(error)}; it goes on as '${note.gateway}'` };
  }
  if (token === undefined || note?.token === hashOf(token)) return {};
  if (note === undefined || note.gateway === token.gateway) return { token };
  return {
    notTaken: `the join token in ${tokenFile} is for '${token.gateway}', and the readings in ${data} are those of '${note.gateway}', as which it goes on; to give it the other name, stop it when nothing waits to be sent, move ${data} away, and start it again`,
  };
}

/** Undefined: this gateway is set up by hand. Throws CONFIG_INVALID. */
export function standingOf(data: string, tokenFile: string, id: string): Standing | undefined {
  const paths = pathsOf(data, tokenFile);
  const note = readNote(paths);
  const { token, notTaken } = offered(tokenFile, data, note);
  const of = token ?? note;
  if (of === undefined) return undefined;
  const { gateway, urls, collectors } = of;
  if (id !== '' && id !== gateway)
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `${token === undefined ? `the certificate in ${paths.folder}` : `the join token in ${tokenFile}`} is of '${gateway}', and the configuration says '${id}': leave the id out`,
    );
  return { gateway, urls, collectors, token, isFirst: note === undefined, notTaken, paths };
}

/** It is enrolled: what is needed from now on is on stable storage before the token goes. */
export async function keepStanding(
  { gateway, urls, collectors, paths }: Standing,
  token: JoinToken,
  own: string,
  authority: string,
): Promise<void> {
  await writeWhole(paths.authority, authority);
  await writeWhole(paths.own, own);
  const note: Enrolled = { gateway, urls, collectors, token: hashOf(token) };
  await writeWhole(paths.note, `${JSON.stringify(note)}\n`);
  await rm(paths.nextKey, { force: true });
}

/** In place first: on a card a file that is only deleted can be read for long. Rejects where it cannot be. */
export async function wipe(path: string): Promise<void> {
  try {
    const file = await open(path, 'r+');
    try {
      const { size } = await file.stat();
      await file.write(Buffer.alloc(size), 0, size, 0);
      await file.sync();
      await file.truncate(0);
      await file.sync();
    } finally {
      await file.close();
    }
    await rm(path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
}
