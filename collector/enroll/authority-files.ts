/**
 * Key and certificate of the authority, on disk: `ca.key` and `ca.pem`, and a copy of each, `.copy`. Nothing else could make them
 * again, and without them no gateway that was enrolled is known any more: so one that is damaged or gone is made from its copy.
 */
import {
  X509Certificate,
  createPrivateKey,
  randomBytes,
  sign,
  verify,
  type KeyObject,
} from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readPrivateFile } from '../../shared/config/secrets.ts';
import { readUserFile } from '../../shared/config/user-file.ts';
import { writeWhole } from '../../shared/config/whole-file.ts';
import { messageOf } from '../../shared/errors.ts';

const COPY = '.copy';
export const CA_KEY = 'ca.key';
export const CA_CERTIFICATE = 'ca.pem';
/** The certificate is written after the key, and who is a member after both. */
const LATER = [CA_CERTIFICATE, 'registry.jsonl'];

/** Whether there ever was an authority; a key alone is a start that was cut short. */
export const hadAuthority = (folder: string): boolean =>
  LATER.flatMap((name) => [name, name + COPY]).some((name) => existsSync(join(folder, name)));

/** A damaged one may have its public part right: what it signs is looked at. */
export function belongTogether(key: KeyObject, certificate: X509Certificate): boolean {
  try {
    const probe = randomBytes(32);
    return verify('sha256', probe, certificate.publicKey, sign('sha256', probe, key));
  } catch {
    return false;
  }
}

interface Found<T> {
  /** Undefined: gone or damaged. */
  value: T | undefined;
  text: string | undefined;
}

/** Throws for what is there and cannot be read, or is no file. */
function find<T>(
  path: string,
  read: (path: string) => Buffer,
  parse: (bytes: Buffer) => T,
): Found<T> {
  if (!existsSync(path)) return { value: undefined, text: undefined };
  const bytes = read(path);
  const text = bytes.toString('latin1');
  try {
    return { value: parse(bytes), text };
  } catch {
    return { value: undefined, text };
  }
}

function certificateOf(bytes: Buffer): X509Certificate {
  const certificate = new X509Certificate(bytes);
  if (!certificate.verify(certificate.publicKey)) throw new Error('it is not as it was signed');
  return certificate;
}

export interface Kept {
  key: KeyObject;
  certificate: X509Certificate;
  /** What was damaged or gone and is made again, a sentence each. */
  mended: string[];
}

/** Throws where nothing of it is whole. */
export async function keptAuthority(folder: string): Promise<Kept> {
  const of = (name: string): [string, string] => [join(folder, name), join(folder, name + COPY)];
  const keys = of(CA_KEY).map((path) =>
    find(path, (at) => readPrivateFile(at, 'key of the authority'), createPrivateKey),
  );
  const certificates = of(CA_CERTIFICATE).map((path) => find(path, readUserFile, certificateOf));
  for (const key of keys)
    for (const certificate of certificates) {
      if (key.value === undefined || certificate.value === undefined) continue;
      if (!belongTogether(key.value, certificate.value)) continue;
      const mended = [
        ...(await same(of(CA_KEY), keys, key.text)),
        ...(await same(of(CA_CERTIFICATE), certificates, certificate.text)),
      ];
      return { key: key.value, certificate: certificate.value, mended };
    }
  const gone = [...keys, ...certificates].some(({ text }) => text === undefined);
  throw new Error(
    `key and certificate ${gone ? 'are gone or damaged' : 'do not match'}, and so their copies`,
  );
}

/** Both files have this text from here on. */
async function same(
  paths: readonly string[],
  found: readonly Found<unknown>[],
  text = '',
): Promise<string[]> {
  const mended: string[] = [];
  const [main] = found;
  for (const [at, path] of paths.entries()) {
    const is = found[at]?.text;
    if (is === text) continue;
    // Versions before kept no copy.
    if (at === 0 || is !== undefined || main?.text !== text)
      mended.push(
        `${path} is ${is === undefined ? 'gone' : 'damaged'}: it is made again from ${paths[1 - at]}`,
      );
    try {
      await writeWhole(path, Buffer.from(text, 'latin1'));
    } catch (error) {
      mended.push(`${path} cannot be written: ${messageOf(error)}`);
    }
  }
  return mended;
}

/** The certificate last: before it there is none. */
export async function keepAuthority(
  folder: string,
  key: string,
  certificate: string,
): Promise<void> {
  for (const [name, text] of [
    [CA_KEY, key],
    [CA_CERTIFICATE, certificate],
  ] as const)
    for (const path of [name + COPY, name]) await writeWhole(join(folder, path), text);
}
