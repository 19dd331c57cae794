/**
 * A stage's place in the log: the partitions that are its own, how far it has committed them, and what it has read since.
 * Everything here throws what the log throws; whoever uses it waits and tries again.
 */
import type { Time } from '../../shared/env/env.ts';
import { Rest } from '../../shared/env/timers.ts';
import type { ConsumerOptions, Log, LogConsumer, Produced, StoredRecord } from '../log/log.ts';
import { Latency } from './latency.ts';

/** Partition → offset of the next record to read. */
export type Offsets = Map<number, number>;

/** A foreign consumer that does not close is left behind. */
const CLOSE_MS = 3000;

export class Membership {
  /** Where this consumer stands, and has committed. */
  readonly committed: Offsets = new Map();
  /** Read since, and not committed. */
  readonly gathered: Offsets = new Map();
  /** Polled, and not worked on. */
  pending: StoredRecord[] = [];
  consumer: LogConsumer | undefined;
  readonly latency = new Latency();
  private readonly log: Pick<Log, 'consumer' | 'groups'>;
  private readonly options: ConsumerOptions;
  private readonly time: Time;
  private lastLag: number | null = null;

  constructor(log: Pick<Log, 'consumer' | 'groups'>, options: ConsumerOptions, time: Time) {
    this.log = log;
    this.options = options;
    this.time = time;
  }

  async join(): Promise<LogConsumer> {
    return (this.consumer ??= await this.log.consumer(this.watched()));
  }

  /** The same options; what is assigned and revoked is known here, too. */
  private watched(): ConsumerOptions {
    const { options } = this;
    const forget = (partition: number): void => {
      this.gathered.delete(partition);
      this.latency.forget(partition);
      this.pending = this.pending.filter((record) => record.partition !== partition);
    };
    return {
      ...options,
      onAssign: async (partition, known) => {
        forget(partition);
        const own = await options.onAssign?.(partition, known);
        const at = own ?? known;
        if (at === undefined) this.committed.delete(partition);
        else this.committed.set(partition, at);
        return own;
      },
      onRevoke: (partition) => {
        forget(partition);
        this.committed.delete(partition);
        options.onRevoke?.(partition);
      },
    };
  }

  /** Adds what has come to what is pending. */
  async poll(waitMs: number): Promise<void> {
    const records = await this.consumer?.poll(waitMs);
    if (!Array.isArray(records)) throw new TypeError('the log gave no list of records');
    for (const record of records) this.pending.push(record);
  }

  async commit(produce: Produced[], offsets: Offsets): Promise<void> {
    await this.consumer?.commit({ produce, offsets });
    for (const [partition, next] of offsets) this.committed.set(partition, next);
  }

  /** These have been worked on. */
  done(records: readonly StoredRecord[]): void {
    const gone = new Set(records);
    this.pending = this.pending.filter((record) => !gone.has(record));
  }

  /** Nothing of what was read since is committed: it comes again. */
  forget(): void {
    this.gathered.clear();
    this.latency.forget();
    this.pending = [];
  }

  /** What comes next begins from what is committed, with a new consumer. Rejects when the old one does not close well. */
  async leave(): Promise<void> {
    const { consumer } = this;
    this.lag();
    this.consumer = undefined;
    this.forget();
    this.committed.clear();
    if (consumer === undefined) return;
    const timeout = new Rest(this.time.timers);
    try {
      await Promise.race([consumer.close(), timeout.for(CLOSE_MS)]);
    } finally {
      timeout.wake();
    }
  }

  /** Records of the log that wait, as far as is known. */
  lag(): number | null {
    try {
      const found = this.log.groups().find(({ group }) => group === this.options.group);
      if (found !== undefined) this.lastLag = found.lagRecords;
      // While it has left the log, or has committed nothing, at least these wait.
      else this.lastLag = Math.max(this.lastLag ?? 0, this.pending.length);
    } catch {
      this.lastLag = null; // What the log cannot say now, it cannot say now.
    }
    return this.lastLag;
  }
}
