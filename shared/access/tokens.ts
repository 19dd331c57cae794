/**
 * API tokens with scopes. A file (mode 0600) has one a line: `NAME:SCOPES:GATEWAYS:SHA-256`, as `headwater token` prints
 * it: scopes read, write and admin with commas, gateways with commas or `*`, and the hash of the token, which itself is
 * kept nowhere. A token is 256 random bits, so a plain hash of it cannot be guessed back.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readPrivateFile } from '../config/secrets.ts';
import { linesOf } from '../config/user-file.ts';
import { HeadwaterError } from '../errors.ts';
import { GATEWAY_ID } from '../wire/wire.ts';

export const SCOPES = ['read', 'write', 'admin'] as const;
export type Scope = (typeof SCOPES)[number];

/** Who asks, and what of. */
export interface Identity {
  name: string;
  scopes: ReadonlySet<Scope>;
  /** Undefined: all of them. */
  gateways: ReadonlySet<string> | undefined;
}

/** Where nobody is asked who they are: loopback only, which the configuration ensures. */
export const ANYBODY: Identity = { name: '', scopes: new Set(SCOPES), gateways: undefined };

interface Entry extends Identity {
  hash: Buffer;
}

export const hashOf = (token: string): Buffer => createHash('sha256').update(token).digest();

function wrong(path: string, line: number, why: string): never {
  throw new HeadwaterError(
    'CONFIG_INVALID',
    `${path}: line ${line} is not a token as 'headwater token' prints it: ${why}`,
  );
}

function entryOf(path: string, line: number, text: string): Entry {
  const [name, scopeText, gatewayText, hash, ...rest] = text.split(':');
  if (name === undefined || !/^[\w.-]{1,64}$/.test(name)) wrong(path, line, 'no name');
  if (hash === undefined || !/^[0-9a-f]{64}$/.test(hash) || rest.length > 0)
    wrong(path, line, 'no SHA-256');
  const scopes = (scopeText ?? '').split(',');
  if (!scopes.every((scope) => (SCOPES as readonly string[]).includes(scope)))
    wrong(path, line, `scopes are ${SCOPES.join(', ')}`);
  const gateways = (gatewayText ?? '').split(',');
  if (gatewayText !== '*' && !gateways.every((gateway) => GATEWAY_ID.test(gateway)))
    wrong(path, line, 'gateways are their ids, or *');
  return {
    name,
    scopes: new Set(scopes as Scope[]),
    gateways: gatewayText === '*' ? undefined : new Set(gateways),
    hash: Buffer.from(hash, 'hex'),
  };
}

/** Throws CONFIG_INVALID. An empty file lets nobody in. */
export function readTokens(path: string): Entry[] {
  const text = readPrivateFile(path, 'API tokens').toString('utf8');
  return linesOf(text).flatMap((line, index) =>
    line === '' && text.trim() === '' ? [] : [entryOf(path, index + 1, line)],
  );
}

export class Tokens {
  private readonly master: Buffer | undefined;
  private readonly path: string;
  private entries: Entry[] = [];

  /** `master` is a token that may do everything. `path` is '' for none. Throws CONFIG_INVALID. */
  constructor(master: string | undefined, path: string) {
    this.master = master === undefined ? undefined : hashOf(master);
    this.path = path;
    this.reload();
  }

  /** Whether anybody is asked at all. */
  get areNeeded(): boolean {
    return this.master !== undefined || this.path !== '';
  }

  reload(): void {
    if (this.path !== '') this.entries = readTokens(this.path);
  }

  /** Compares with all of them, in constant time each. */
  identify(presented: string): Identity | undefined {
    if (!this.areNeeded) return ANYBODY;
    const hash = hashOf(presented);
    let found: Identity | undefined;
    for (const entry of this.entries) if (timingSafeEqual(entry.hash, hash)) found = entry;
    if (this.master !== undefined && timingSafeEqual(this.master, hash))
      found = { ...ANYBODY, name: 'token-file' };
    return found;
  }
}
