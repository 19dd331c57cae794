/**
 * What follows when the database fails. A failed write: nothing is acknowledged until it was closed, opened again and
 * the failed group written (F1), under its own keys, so that it is there once if it is on the disk after all (F2).
 * A database that cannot be read is set aside, and what is whole in it is put back.
 */
import { messageOf } from '../../shared/errors.ts';
import type { GroupCommit } from '../../shared/kv/group-commit.ts';
import type { Account } from './account.ts';
import type { BufferDatabase } from './database.ts';
import type { Gate } from './gate.ts';
import { reopen } from './reopen.ts';
import type { BufferStorage } from './storage.ts';

export interface MendingParts {
  storage: BufferStorage;
  reserveBytes: number;
  database: BufferDatabase;
  commits: GroupCommit<unknown>;
  gate: Gate;
  account: Account;
  isClosing: () => boolean;
  /** It can be written again, before what waited is. */
  onMended: () => void;
}

export class Mending {
  private readonly parts: MendingParts;
  private running: Promise<void> | undefined;
  private rebuilding = false;

  constructor(parts: MendingParts) {
    this.parts = parts;
  }

  get isRunning(): boolean {
    return this.running !== undefined;
  }

  /** Resolves when nothing is being mended. */
  async ended(): Promise<void> {
    await this.running;
  }

  /** A write failed. */
  failed(error: unknown): void {
    const { account, gate } = this.parts;
    account.totals.writeErrors++;
    gate.block(
      `the buffer cannot be written (${messageOf(error)}); nothing is acknowledged until it can be again`,
    );
    this.start(error);
  }

  /** A write besides the groups failed: none that succeeds after it is to be believed before a reopen (F1). */
  distrust(error: unknown): void {
    if (!this.isRunning && !this.parts.isClosing()) this.parts.commits.doubt(error);
  }

  /** Its reads give errors. */
  rebuild(error: unknown): void {
    const { commits, gate } = this.parts;
    if (this.isRunning || this.parts.isClosing()) return;
    this.rebuilding = true;
    gate.block(`the buffer's database is damaged (${messageOf(error)}) and is being rebuilt`);
    // A group that is being written ends first, one way or the other.
    if (commits.group === undefined) this.start(error);
  }

  /** A group has become durable. */
  committed(): void {
    if (this.rebuilding && !this.isRunning) this.start(undefined);
  }

  private start(error: unknown): void {
    const { commits, isClosing, onMended } = this.parts;
    commits.halt();
    this.running ??= this.mend(error).finally(() => {
      this.running = undefined;
      if (isClosing()) return;
      onMended();
      commits.resume();
    });
  }

  private mend(cause: unknown): Promise<void> {
    const { storage, reserveBytes, database, commits, gate, account, isClosing } = this.parts;
    return reopen(storage, reserveBytes, cause, {
      stopped: isClosing,
      close: () => database.abandon(),
      open: async () => {
        await database.begin(this.rebuilding);
        this.rebuilding = false;
        if (await commits.again()) account.totals.reopens++;
      },
      failed: (error) => {
        account.totals.writeErrors++;
        gate.block(`the buffer cannot be written (${messageOf(error)})`);
      },
    });
  }
}
