/**
 * Who may be a gateway here: join tokens, members and their certificates, in `registry.jsonl` of the authority's folder and,
 * the same, in `registry.jsonl.copy`. A line is what one of them is from then on (the last counts), on stable storage in both
 * before anybody is answered.
 *
 * A line has its number `n`, the number `from` of the first line of the file as it was written anew (at each open), and a
 * checksum. So lines of an older copy are known for what they are, one that is damaged, cut off or gone in one file is taken
 * from the other, and what both have lost is told (law 7). A last line that a power cut has cut is left out. Versions before
 * kept neither numbers nor a copy; they read these lines.
 */
import { copyFile, open, readFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { writeWhole } from '../../shared/config/whole-file.ts';
import { codeOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { believe, textOf } from './registry-lines.ts';

export interface TokenRecord {
  /** SHA-256 of its secret, hex: the secret itself is kept nowhere. */
  hash: string;
  gateway: string;
  site: string;
  labels: Record<string, string>;
  /** Undefined: by a version that did not note it. */
  madeMs?: number;
  expiresMs: number;
  /** Set with its use: SHA-256 of the public key that it brought in. */
  usedMs?: number;
  key?: string;
  /** Set where a person decides: who has asked with it, the oldest first, and the key that was let in. */
  approval?: { asked: Asked[]; key?: string };
}

/** A machine that waits to be let in. */
export interface Asked {
  /** SHA-256 of its public key. */
  key: string;
  atMs: number;
  address: string;
}

export interface Certificate {
  /** Hex, as Node writes it. */
  serial: string;
  /** SHA-256 of the public key. */
  key: string;
  fromMs: number;
  toMs: number;
  pem: string;
  /** When it was first shown on an uplink. */
  seenMs?: number;
}

export interface Member {
  gateway: string;
  site: string;
  labels: Record<string, string>;
  enrolledMs: number;
  revokedMs?: number;
  /** The newest last. */
  certificates: Certificate[];
  /** Two machines have shown its identity: how that was seen. */
  doubled?: { atMs: number; why: string };
}

type Line = { token: TokenRecord } | { gone: string } | { member: Member };

const CERTIFICATES_MAX = 4;
/** Tokens that are over stay for a while, so that who uses one hears why. */
const OVER_MS = 90 * 86_400_000;

export class Registry {
  readonly tokens = new Map<string, TokenRecord>();
  readonly members = new Map<string, Member>();
  private readonly paths: readonly [string, string];
  private readonly notify: Notify;
  private files: FileHandle[] = [];
  /** Number of the next line, and of the first one of the files as they were written anew. */
  private n = 1;
  private from = 1;
  private turn: Promise<void> = Promise.resolve();
  /** What the next write takes along, and that write. */
  private readonly waiting: Line[] = [];
  private next: Promise<void> | undefined;
  private isTorn = false;

  constructor(folder: string, notify: Notify) {
    const path = join(folder, 'registry.jsonl');
    this.paths = [path, `${path}.copy`];
    this.notify = notify;
  }

  /** `isNew`: the authority is, and knows nobody yet. Rejects with the error of the file system. */
  async open(nowMs: number, isNew: boolean): Promise<void> {
    const [path, copy] = this.paths;
    const texts = [await textOfFile(path), await textOfFile(copy)] as const;
    const found = believe([...texts]);
    for (const line of found.lines) this.take(line as Line); // Sealed, or of a version before.
    const isGone = !isNew && texts.every((text) => text === undefined);
    if (found.lost > 0 || isGone) await this.tellLost(nowMs, texts);
    else if (texts.some((text) => text !== undefined)) this.tellMended(found.wrong);
    for (const [hash, { expiresMs }] of this.tokens)
      if (expiresMs + OVER_MS < nowMs) this.tokens.delete(hash);
    this.n = found.next;
    await this.anew();
  }

  /** Both files as everything is now: what stood in them before counts no more. */
  private async anew(): Promise<void> {
    await this.closeFiles();
    const lines = this.whole();
    this.from = this.n;
    this.n += lines.length;
    const text = textOf(lines, this.from, this.from);
    // One after the other: a power cut leaves one of them whole.
    for (const path of this.paths) await writeWhole(path, text);
    for (const path of this.paths) this.files.push(await open(path, 'a', 0o600));
    this.isTorn = false;
  }

  private tellMended(wrong: readonly (string | undefined)[]): void {
    for (const [at, why] of wrong.entries())
      if (why !== undefined)
        this.notify({
          level: 'warn',
          event: 'registry_damaged',
          text: `${this.paths[at]} ${why}: it is made again from the other of the two`,
        });
  }

  private async tellLost(nowMs: number, texts: readonly (string | undefined)[]): Promise<void> {
    const kept: string[] = [];
    for (const [at, path] of this.paths.entries()) {
      if (texts[at] === undefined) continue;
      const aside = `${path}.damaged-${Math.round(nowMs)}`;
      await copyFile(path, aside);
      kept.push(aside);
    }
    const where = kept.length === 0 ? '' : `: copies are in ${kept.join(' and ')}`;
    this.notify({
      level: 'error',
      event: 'registry_damaged',
      text: `${kept.length === 0 ? `${this.paths[0]} and its copy are gone` : `some lines of ${this.paths[0]} cannot be read, nor in its copy`}${where}; gateways with certificates come in as before, and a revocation that stood there has to be said again`,
    });
  }

  private take(line: Line): void {
    if ('token' in line) this.tokens.set(line.token.hash, line.token);
    else if ('gone' in line) this.tokens.delete(line.gone);
    else this.members.set(line.member.gateway, line.member);
  }

  private whole(): Line[] {
    return [
      ...[...this.tokens.values()].map((token) => ({ token })),
      ...[...this.members.values()].map((member) => ({ member })),
    ];
  }

  /** In force when it resolves: on stable storage. What could not be written is not in force. One fsync serves all that wait. */
  private async write(lines: readonly Line[]): Promise<void> {
    this.waiting.push(...lines);
    const before = this.turn;
    this.next ??= (async () => {
      await before.catch(() => undefined);
      this.next = undefined;
      const group = this.waiting.splice(0);
      // A write that failed may stand in one of the two.
      if (this.isTorn) await this.anew();
      this.isTorn = true;
      const text = textOf(group, this.n, this.from);
      this.n += group.length;
      await Promise.all(
        this.files.map(async (file) => {
          await file.appendFile(text);
          await file.datasync();
        }),
      );
      this.isTorn = false;
      for (const line of group) this.take(line);
    })();
    this.turn = this.next;
    await this.next;
  }

  async addTokens(tokens: readonly TokenRecord[]): Promise<void> {
    await this.write(tokens.map((token) => ({ token })));
  }

  /** `tokens`: what has become of its own, with it. */
  async put(member: Member, ...tokens: readonly TokenRecord[]): Promise<void> {
    const kept = { ...member, certificates: member.certificates.slice(-CERTIFICATES_MAX) };
    await this.write([{ member: kept }, ...tokens.map((token) => ({ token }))]);
  }

  /** Takes a member's unused tokens back with it. */
  async revoke(member: Member, nowMs: number): Promise<void> {
    const own = [...this.tokens.values()].filter(
      ({ gateway, usedMs }) => gateway === member.gateway && usedMs === undefined,
    );
    await this.write([
      { member: { ...member, revokedMs: nowMs } },
      ...own.map(({ hash }) => ({ gone: hash })),
    ]);
  }

  async close(): Promise<void> {
    await this.turn.catch(() => undefined);
    await this.closeFiles();
  }

  private async closeFiles(): Promise<void> {
    for (const file of this.files.splice(0)) await file.close();
  }
}

async function textOfFile(path: string): Promise<string | undefined> {
  return await readFile(path, 'utf8').catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  });
}
