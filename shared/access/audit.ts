/**
 * The audit log: who came, who was refused and why, what was changed. JSON, a line each, in `audit.log` of the data
 * folder (mode 0600), with one older file kept beside it. Bounded in size and in lines a second, of which an address has its
 * share: a flood of refusals is counted, not written out. Secrets and payloads are never in it.
 */
import { chmod, open, rename, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../errors.ts';
import { Share, addressGroup } from './shares.ts';
import { printable, type Notify } from '../telemetry/log.ts';

const FILE_BYTES_MAX = 8 * 1024 * 1024;
const LINES_PER_SECOND_MAX = 100;
const TEXT_CHARS_MAX = 256;

export interface AuditEvent {
  event:
    | 'connected'
    | 'refused'
    | 'revoked'
    | 'enroll_tokens'
    | 'enrolled'
    | 'approved'
    | 'renewed'
    | 'declared'
    | 'publish_denied'
    | 'subscribe_denied'
    | 'will_denied'
    | 'http_denied'
    | 'replay'
    | 'rebuild'
    | 'lake_forget'
    | 'audit'
    | 'batch'
    | 'reloaded';
  /** Who it was, as far as is known. */
  user?: string | undefined;
  client?: string | undefined;
  address?: string | undefined;
  /** Topic, path or file that it is about. */
  about?: string | undefined;
  reason?: string | undefined;
}

const cut = (text: string): string => text.slice(0, TEXT_CHARS_MAX);

export class Audit {
  private readonly path: string;
  private readonly nowMs: () => number;
  private readonly notify: Notify;
  private file: FileHandle | undefined;
  private size = 0;
  private waiting: string[] = [];
  private writing: Promise<void> | undefined;
  private second = 0;
  private lines = new Share('audit_lines', LINES_PER_SECOND_MAX);
  private suppressed = 0;
  private failed = false;
  private isClosed = false;

  constructor(folder: string, nowMs: () => number, notify: Notify) {
    this.path = join(folder, 'audit.log');
    this.nowMs = nowMs;
    this.notify = notify;
  }

  say(event: AuditEvent): void {
    if (this.isClosed) return;
    const nowMs = this.nowMs();
    const second = Math.floor(nowMs / 1000);
    if (second !== this.second) {
      this.second = second;
      this.lines = new Share('audit_lines', LINES_PER_SECOND_MAX);
    }
    const { address, user } = event;
    // Who floods hides nobody else's doings.
    if (!this.lines.take(address === undefined ? `user ${user}` : addressGroup(address))) {
      this.suppressed++;
      return;
    }
    const line: Record<string, unknown> = { time: new Date(nowMs).toISOString() };
    for (const [key, value] of Object.entries(event))
      if (typeof value === 'string') line[key] = cut(value);
    if (this.suppressed > 0) line['suppressedBefore'] = this.suppressed;
    this.suppressed = 0;
    // What JSON leaves as it is (C1, directions) is escaped as JSON too: the file is read on terminals.
    this.waiting.push(`${printable(JSON.stringify(line))}\n`);
    this.writing ??= this.write().finally(() => {
      this.writing = undefined;
    });
  }

  private async write(): Promise<void> {
    while (this.waiting.length > 0) {
      const text = this.waiting.splice(0).join('');
      try {
        if (this.file === undefined) await this.open();
        if (this.size + text.length > FILE_BYTES_MAX) await this.rotate();
        await this.file?.appendFile(text);
        this.size += text.length;
        this.failed = false;
      } catch (error) {
        if (!this.failed)
          this.notify({
            level: 'error',
            event: 'audit',
            text: `the audit log ${this.path} cannot be written: ${messageOf(error)}`,
          });
        this.failed = true;
      }
    }
  }

  private async open(): Promise<void> {
    this.file = await open(this.path, 'a', 0o600);
    await chmod(this.path, 0o600);
    this.size = (await stat(this.path)).size;
  }

  private async rotate(): Promise<void> {
    await this.file?.close();
    this.file = undefined;
    await rename(this.path, `${this.path}.1`);
    await this.open();
  }

  async close(): Promise<void> {
    this.isClosed = true;
    await this.writing;
    await this.file?.close();
    this.file = undefined;
  }
}
