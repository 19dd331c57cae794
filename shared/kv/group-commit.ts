/**
 * Group commit: one synced write at a time, in order; what comes during it forms the next group, so that one fsync
 * serves everybody who waits. After a failed write nothing more is written until the host has opened its database
 * again and said so: a write after a failed one seems to succeed and is gone with the next open (F1).
 *
 * The buffer of the gateway writes the failed group once more, under its own keys; the log fails it, and its callers
 * try again.
 */
import { assert } from '../errors.ts';

export interface GroupHost<Group> {
  /** Everything that waits, as one group; undefined when nothing does, or when it has to wait. */
  take(): Group | undefined;
  /** Resolves after the fsync. */
  write(group: Group): Promise<void>;
  /** Its fsync is over. */
  committed(group: Group): void;
  /** Nothing more is written until `resume()`; without a group nothing was being written. */
  failed(error: unknown, group: Group | undefined): void;
}

type Mode<Group> =
  | { kind: 'idle' }
  /** At the end of this turn of the event loop. */
  | { kind: 'due' }
  /** `doubt`: a write beside it has failed since, so its own is not believed, however it ends. */
  | { kind: 'writing'; group: Group; doubt?: { error: unknown } }
  /** Not open yet, or after a failed write: that of `group`, which is not on the disk for all that is known. */
  | { kind: 'halted'; group: Group | undefined };

export class GroupCommit<Group> {
  private readonly host: GroupHost<Group>;
  private mode: Mode<Group> = { kind: 'halted', group: undefined };
  private waiting: (() => void)[] = [];

  /** Halted until `resume()`. */
  constructor(host: GroupHost<Group>) {
    this.host = host;
  }

  /** The group that was taken and is not durable yet. */
  get group(): Group | undefined {
    return 'group' in this.mode ? this.mode.group : undefined;
  }

  /** Something waits: it is written at the end of this turn, together with all else that comes in it. */
  schedule(): void {
    if (this.mode.kind !== 'idle') return;
    this.mode = { kind: 'due' };
    setImmediate(this.pump);
  }

  /** Something waits: it is written now, unless something is being written. */
  readonly pump = (): void => {
    if (this.mode.kind !== 'idle' && this.mode.kind !== 'due') return;
    const group = this.host.take();
    if (group === undefined) {
      this.mode = { kind: 'idle' };
      this.tell();
      return;
    }
    this.mode = { kind: 'writing', group };
    this.host.write(group).then(this.written, this.failed);
  };

  private readonly written = (): void => {
    const { mode } = this;
    assert(mode.kind === 'writing', 'a commit ended that had not begun');
    if (mode.doubt !== undefined) return this.failed(mode.doubt.error);
    this.mode = { kind: 'idle' };
    this.host.committed(mode.group);
    this.pump();
  };

  private readonly failed = (error: unknown): void => {
    const { group } = this;
    this.halt();
    this.host.failed(error, group);
  };

  /** A write beside the groups has failed: neither the group that is being written is believed nor any after it. */
  doubt(error: unknown): void {
    if (this.mode.kind === 'writing') this.mode = { ...this.mode, doubt: { error } };
    else if (this.mode.kind !== 'halted') this.failed(error);
  }

  /** Writes nothing more until `resume()`. */
  halt(): void {
    this.mode = { kind: 'halted', group: this.group };
    this.tell();
  }

  /**
   * Writes the group that failed once more, before anything new. Resolves when it is durable, with false when there
   * was none; throws what the write throws, and may be called again then.
   */
  async again(): Promise<boolean> {
    const { group } = this;
    if (group === undefined) return false;
    await this.host.write(group);
    this.mode = { kind: 'halted', group: undefined };
    this.host.committed(group);
    return true;
  }

  /** The database can be believed again. What failed and was not written again is forgotten. */
  resume(): void {
    if (this.mode.kind === 'halted') this.mode = { kind: 'idle' };
    this.pump();
  }

  /** Resolves when nothing is being written and nothing waits, or when nothing can be written. */
  quiet(): Promise<void> {
    if (this.mode.kind === 'halted') return Promise.resolve();
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      this.pump();
    });
  }

  private tell(): void {
    for (const resolve of this.waiting.splice(0)) resolve();
  }
}
