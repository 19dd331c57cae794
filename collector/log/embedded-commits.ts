/** What waits to be written to the embedded log, and its group commit. What a failed write took with it is failed. */
import { GroupCommit } from '../../shared/kv/group-commit.ts';
import type { KvOp } from '../../shared/kv/kv.ts';

export interface Pending {
  ops: KvOp[];
  /** After the fsync. */
  done: () => void;
  failed: (error: unknown) => void;
}

const GROUP_BYTES_MAX = 4 * 1024 * 1024;

export class Commits {
  private waiting: Pending[] = [];
  private readonly groups: GroupCommit<Pending[]>;

  /** `write` syncs. `onFailure` takes the database away before it returns. Nothing is written until `resume()`. */
  constructor(
    write: (ops: KvOp[]) => Promise<void>,
    onFailure: (waiting: Pending[], error: unknown) => void,
  ) {
    this.groups = new GroupCommit({
      take: () => this.take(),
      write: (group) => write(group.flatMap(({ ops }) => ops)),
      committed: (group) => {
        for (const { done } of group) done();
      },
      failed: (error, group = []) => onFailure([...group, ...this.waiting.splice(0)], error),
    });
  }

  add(pending: Pending): void {
    this.waiting.push(pending);
    this.groups.pump();
  }

  /** The oldest, up to a group's size. */
  private take(): Pending[] | undefined {
    let count = 0;
    for (let bytes = 0; count < this.waiting.length && bytes < GROUP_BYTES_MAX; count++)
      for (const op of this.waiting[count]?.ops ?? [])
        bytes += op.type === 'put' ? op.value.length : 0;
    return count === 0 ? undefined : this.waiting.splice(0, count);
  }

  /** The database is open again. */
  resume(): void {
    this.groups.resume();
  }

  /** Resolves when nothing waits, or when nothing can be written. */
  quiet(): Promise<void> {
    return this.groups.quiet();
  }
}
