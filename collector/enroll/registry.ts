/**
 * Who may be a gateway here: join tokens, members and their certificates, in `registry.jsonl` of the authority's folder.
 * A line is what one of them is from then on (the last counts), on stable storage before anybody is answered. A last line
 * that a power cut has cut is left out; a damaged one elsewhere is set aside with the whole file (law 7).
 */
import { copyFile, open, readFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { writeWhole } from '../../shared/config/whole-file.ts';
import { codeOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';

export interface TokenRecord {
  /** SHA-256 of its secret, hex: the secret itself is kept nowhere. */
  hash: string;
  gateway: string;
  site: string;
  labels: Record<string, string>;
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

const textOf = (lines: readonly Line[]): string =>
  lines.map((line) => `${JSON.stringify(line)}\n`).join('');

const CERTIFICATES_MAX = 4;
/** Tokens that are over stay for a while, so that who uses one hears why. */
const OVER_MS = 90 * 86_400_000;

export class Registry {
  readonly tokens = new Map<string, TokenRecord>();
  readonly members = new Map<string, Member>();
  private readonly path: string;
  private readonly notify: Notify;
  private file: FileHandle | undefined;
  private turn: Promise<void> = Promise.resolve();
  /** What the next write takes along, and that write. */
  private readonly waiting: Line[] = [];
  private next: Promise<void> | undefined;
  private isTorn = false;

  constructor(folder: string, notify: Notify) {
    this.path = join(folder, 'registry.jsonl');
    this.notify = notify;
  }

  async open(nowMs: number): Promise<void> {
    const text = await readFile(this.path, 'utf8').catch((error: unknown) => {
      if (codeOf(error) === 'ENOENT') return '';
      throw error;
    });
    let isDamaged = false;
    const lines = text.split('\n');
    for (const [index, line] of lines.entries()) {
      if (line === '') continue;
      try {
        this.take(JSON.parse(line) as Line);
      } catch {
        // What was cut was never answered.
        if (index < lines.length - 1) isDamaged = true;
      }
    }
    if (isDamaged) {
      const aside = `${this.path}.damaged-${Math.round(nowMs)}`;
      await copyFile(this.path, aside);
      this.notify({
        level: 'error',
        event: 'registry_damaged',
        text: `some lines of ${this.path} cannot be read: a copy is in ${aside}; gateways with certificates come in as before, and a revocation that stood there has to be said again`,
      });
    }
    for (const [hash, { expiresMs }] of this.tokens)
      if (expiresMs + OVER_MS < nowMs) this.tokens.delete(hash);
    await writeWhole(this.path, this.whole());
    this.file = await open(this.path, 'a', 0o600);
  }

  private take(line: Line): void {
    if ('token' in line) this.tokens.set(line.token.hash, line.token);
    else if ('gone' in line) this.tokens.delete(line.gone);
    else this.members.set(line.member.gateway, line.member);
  }

  private whole(): string {
    return textOf([
      ...[...this.tokens.values()].map((token) => ({ token })),
      ...[...this.members.values()].map((member) => ({ member })),
    ]);
  }

  /** In force when it resolves: on stable storage. What could not be written is not in force. One fsync serves all that wait. */
  private async write(lines: readonly Line[]): Promise<void> {
    this.waiting.push(...lines);
    const before = this.turn;
    this.next ??= (async () => {
      await before.catch(() => undefined);
      this.next = undefined;
      const group = this.waiting.splice(0);
      // After a write that failed half a line may stand there.
      const begin = this.isTorn ? '\n' : '';
      this.isTorn = true;
      await this.file?.appendFile(begin + textOf(group));
      await this.file?.datasync();
      this.isTorn = false;
      for (const line of group) this.take(line);
    })();
    this.turn = this.next;
    await this.next;
  }

  async addTokens(tokens: readonly TokenRecord[]): Promise<void> {
    await this.write(tokens.map((token) => ({ token })));
  }

  async put(member: Member, token?: TokenRecord): Promise<void> {
    const kept = { ...member, certificates: member.certificates.slice(-CERTIFICATES_MAX) };
    await this.write([{ member: kept }, ...(token === undefined ? [] : [{ token }])]);
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
    await this.file?.close();
    this.file = undefined;
  }
}
