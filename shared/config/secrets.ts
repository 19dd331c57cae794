/**
 * Secrets and credentials from files. A secret's file must be private (no permission for group or others); passwords
 * are kept as scrypt hashes (RFC 7914), one `user:scrypt:N:salt:hash` a line.
 */
import { createHash, randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import type { Stats } from 'node:fs';
import { HeadwaterError } from '../errors.ts';
import { linesOf, readSettingFile } from './user-file.ts';

/**
 * RFC 7914's N; with r = 8 a hash works in 32 MiB. Not less, also for memory's sake: glibc gives blocks of 32 MiB back at
 * once, while those of 16 MiB stayed with each thread of the pool (measured: 65 MB kept after 60 hashes, 0 with this).
 */
const SCRYPT_COST = 32768;
const SCRYPT_BYTES_MAX = 64 * 1024 * 1024;
const HASH_BYTES = 32;

interface Identity {
  uid: number;
  groups: readonly number[];
}

const self = (): Identity => ({
  uid: process.geteuid?.() ?? 0,
  groups: [process.getegid?.() ?? 0, ...(process.getgroups?.() ?? [])],
});

/**
 * The owner's alone; or root's, who gives it to a group of this process to read: so Kubernetes (`fsGroup`) and systemd
 * (`LoadCredential=`) hand secrets to a process that is not root.
 */
export function isPrivate(
  { mode, uid, gid }: Pick<Stats, 'mode' | 'uid' | 'gid'>,
  who = self(),
): boolean {
  if ((mode & 0o077) === 0) return true;
  return (mode & 0o037) === 0 && uid === 0 && who.uid !== 0 && who.groups.includes(gid);
}

/** Content of a private file (`isPrivate`). Throws CONFIG_INVALID, with `what` it is in front. */
export function readPrivateFile(path: string, what: string): Buffer {
  return readSettingFile(path, what, (stat) => {
    if (!isPrivate(stat)) throw new Error(`${path} can be read by others: run chmod 600 ${path}`);
  });
}

/** Content of a private file, trimmed. Throws CONFIG_INVALID when it is missing, empty or readable by others. */
export function readSecretFile(path: string, what: string): string {
  const text = readPrivateFile(path, what).toString('utf8').trim();
  if (text.length < 16) {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `${what}: ${path} holds fewer than 16 characters: put a longer secret there`,
    );
  }
  return text;
}

/** The same for a setting that may be left empty: then there is no secret. */
export function optionalSecret(path: string, what: string): string | undefined {
  return path === '' ? undefined : readSecretFile(path, what);
}

function hash(password: Buffer, salt: Buffer, cost: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(password, salt, HASH_BYTES, { N: cost, maxmem: SCRYPT_BYTES_MAX }, (error, key) =>
      error === null ? resolve(key) : reject(error),
    );
  });
}

/** A line of the password file. */
export async function passwordLine(user: string, password: Buffer): Promise<string> {
  if (!/^[^:\s]{1,128}$/.test(user)) {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `'${user}' cannot be a user name: no colon, no space, 1 to 128 characters`,
    );
  }
  const salt = randomBytes(16);
  const key = await hash(password, salt, SCRYPT_COST);
  return `${user}:scrypt:${SCRYPT_COST}:${salt.toString('base64')}:${key.toString('base64')}`;
}

interface Credential {
  cost: number;
  salt: Buffer;
  key: Buffer;
}

/** Passwords accepted lately, so that a reconnecting fleet does not cost a scrypt each. */
const REMEMBERED_MAX = 10_000;
export class Passwords {
  private users = new Map<string, Credential>();
  private readonly path: string;
  private readonly remembered = new Map<string, Buffer>();
  private readonly decoy: Credential = {
    cost: SCRYPT_COST,
    salt: randomBytes(16),
    key: randomBytes(HASH_BYTES),
  };

  /** Throws CONFIG_INVALID for any line that is not a credential: a mistake must not open the door. */
  constructor(path: string) {
    this.path = path;
    this.users = this.read();
  }

  /** How many users there are. */
  get size(): number {
    return this.users.size;
  }

  has(user: string): boolean {
    return this.users.has(user);
  }

  /** By which one knows later whether a user's password is still the one that it was. Nothing can be guessed from it. */
  markOf(user: string): string | undefined {
    const credential = this.users.get(user);
    if (credential === undefined) return undefined;
    const { salt, key } = credential;
    return createHash('sha256').update(salt).update(key).digest('base64url').slice(0, 16);
  }

  /** Takes the file anew. Returns the users whose credentials are gone or others now. Throws CONFIG_INVALID. */
  reload(): Set<string> {
    const before = this.users;
    this.users = this.read();
    const changed = new Set<string>();
    for (const [user, { key }] of before)
      if (!(this.users.get(user)?.key.equals(key) ?? false)) changed.add(user);
    for (const user of changed) this.remembered.delete(user);
    return changed;
  }

  private read(): Map<string, Credential> {
    const { path } = this;
    const users = new Map<string, Credential>();
    const text = readPrivateFile(path, 'password file').toString('utf8');
    for (const [index, line] of linesOf(text).entries()) {
      const match = /^([^:\s]{1,128}):scrypt:(\d{4,7}):([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$/.exec(
        line,
      );
      const key = Buffer.from(match?.[4] ?? '', 'base64');
      const cost = Number(match?.[2]);
      const isCost = cost >= 1024 && cost <= SCRYPT_COST && (cost & (cost - 1)) === 0;
      if (match === null || key.length !== HASH_BYTES || !isCost) {
        throw new HeadwaterError(
          'CONFIG_INVALID',
          `${path}: line ${index + 1} is not a credential as 'headwater password' prints it`,
        );
      }
      users.set(match[1] as string, {
        cost,
        salt: Buffer.from(match[3] as string, 'base64'),
        key,
      });
    }
    return users;
  }

  /** Whether it was right before: no work. */
  isRemembered(username: string | undefined, password: Buffer | undefined): boolean {
    const known = username === undefined ? undefined : this.remembered.get(username);
    return (
      known !== undefined && known.length === password?.length && timingSafeEqual(known, password)
    );
  }

  /** One scrypt: whoever calls sees to it that there are not many at once. The same work for a user that does not exist, so that time tells nothing. */
  async verify(username: string, password: Buffer): Promise<boolean> {
    const user = this.users.get(username);
    const { cost, salt, key } = user ?? this.decoy;
    const right = timingSafeEqual(await hash(password, salt, cost), key) && user !== undefined;
    // The file may have changed meanwhile.
    if (this.users.get(username) !== user) return false;
    if (right && this.remembered.size < REMEMBERED_MAX)
      this.remembered.set(username, Buffer.from(password));
    return right;
  }
}

/** Compares a presented token in constant time. */
export function sameSecret(presented: string, secret: string): boolean {
  const a = Buffer.from(presented);
  const b = Buffer.from(secret);
  return a.length === b.length && timingSafeEqual(a, b);
}
