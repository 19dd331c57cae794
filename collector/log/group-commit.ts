/**
 * Group commit of the embedded log: one synced batch at a time, in order; what arrives during it forms the next one, so that one
 * fsync serves everybody who waits. After a failed write nothing more is written here until it is open again (F1): what waited is failed.
 */
import type { KvDatabase, KvOp } from '../../shared/kv/kv.ts';

export interface Pending {
  ops: KvOp[];
  /** After the fsync. */
  done: () => void;
  failed: (error: unknown) => void;
}

const BATCH_BYTES_MAX = 4 * 1024 * 1024;

export class GroupCommit {
  private readonly database: () => KvDatabase | undefined;
  private readonly onFailure: (waiting: Pending[], error: unknown) => void;
  private queue: Pending[] = [];
  private writing = false;

  /** `onFailure` takes the database away before it returns. */
  constructor(
    database: () => KvDatabase | undefined,
    onFailure: (waiting: Pending[], error: unknown) => void,
  ) {
    this.database = database;
    this.onFailure = onFailure;
  }

  get isIdle(): boolean {
    return !this.writing && this.queue.length === 0;
  }

  add(pending: Pending): void {
    this.queue.push(pending);
    if (!this.writing) void this.drain();
  }

  private async drain(): Promise<void> {
    this.writing = true;
    for (
      let db = this.database();
      this.queue.length > 0 && db !== undefined;
      db = this.database()
    ) {
      const group = this.take();
      try {
        await db.write(
          group.flatMap(({ ops }) => ops),
          { sync: true },
        );
        for (const { done } of group) done();
      } catch (error) {
        this.onFailure([...group, ...this.queue.splice(0)], error);
        break;
      }
    }
    this.writing = false;
  }

  private take(): Pending[] {
    const group: Pending[] = [];
    for (let bytes = 0; bytes < BATCH_BYTES_MAX; ) {
      const next = this.queue.shift();
      if (next === undefined) break;
      group.push(next);
      for (const op of next.ops) bytes += op.type === 'put' ? op.value.length : 0;
    }
    return group;
  }
}
