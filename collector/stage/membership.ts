/**
 * A stage's place in the log: the partitions that are its own, how far it has committed them, and what it has read since.
 * Everything here throws what the log throws; whoever uses it waits and tries again.
 */
import { wallMs, type Time } from '../../shared/env/env.ts';
import { Rest } from '../../shared/env/timers.ts';
import type { ConsumerOptions, Log, LogConsumer, Produced, StoredRecord } from '../log/log.ts';
import { Latency } from './latency.ts';

/** Partition → offset of the next record to read. */
export type Offsets = Map<number, number>;

/** What a stage needs of its log. */
export type StageLog = Pick<Log, 'consumer' | 'groups' | 'first' | 'next'>;

/** What somebody else has done to a stage's place, one sentence, and how many offsets nobody will read. */
export type Befell = (text: string, lost: number) => void;

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
  /** It waits for records. */
  isReading = false;
  readonly latency = new Latency();
  private readonly log: StageLog;
  private readonly options: ConsumerOptions;
  private readonly time: Time;
  private readonly befell: Befell;
  private readonly isOwn: boolean;
  private lastLag: number | null = null;
  private hasJoined = false;

  /** `isOwn`: what `onAssign` says is committed with each step, so where its group stands elsewhere, somebody has moved that. */
  constructor(log: StageLog, options: ConsumerOptions, time: Time, befell: Befell, isOwn: boolean) {
    this.log = log;
    this.options = options;
    this.time = time;
    this.befell = befell;
    this.isOwn = isOwn;
  }

  async join(): Promise<LogConsumer> {
    this.consumer ??= await this.log.consumer(this.watched());
    this.hasJoined = true;
    return this.consumer;
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
        const begins = await this.standing(partition, own, known);
        const at = begins ?? known;
        if (at === undefined) this.committed.delete(partition);
        else this.committed.set(partition, at);
        return begins;
      },
      onRevoke: (partition) => {
        forget(partition);
        this.committed.delete(partition);
        options.onRevoke?.(partition);
      },
    };
  }

  /** Where it goes on; what has become of its place meanwhile, by somebody else, is told. */
  private async standing(
    partition: number,
    own: number | undefined,
    known: number | undefined,
  ): Promise<number | undefined> {
    const { log } = this;
    const { topic, group } = this.options;
    const at = own ?? known;
    if (at === undefined || log.first === undefined || log.next === undefined) return own;
    const [first, next] = [await log.first(topic, partition), await log.next(topic, partition)];
    const place = `${topic}/${partition}`;
    if (at > next) {
      const text = `${place} ends at offset ${next}, and ${at} was to come: the topic was made anew, or put back from a copy; it is read from its beginning`;
      this.befell(text, 0);
      return first;
    }
    if (first > at) {
      const text = `${place}: records from offset ${at} to ${first - 1} were deleted (by a retention, or by hand) before they were read here; headwater ledger says what is missing, gateways that still hold it are asked for it, and what the lake has of it headwater rebuild puts back`;
      this.befell(text, first - at);
      return first;
    }
    // One that is read once more to be compared is no move, and neither is a beginning.
    const isMoved =
      known === undefined ? own !== undefined && own - first > 1 : Math.abs(known - at) > 1;
    if (this.isOwn && isMoved && at !== first) {
      const stood = known === undefined ? 'is gone' : `was moved to offset ${known}`;
      const text = `what consumer group ${group} had committed in ${place} ${stood}, by none of Headwater's: it goes on from its own place, offset ${at}, so nothing is skipped or comes twice`;
      this.befell(text, 0);
    }
    return own;
  }

  /** Adds what has come to what is pending. */
  async poll(waitMs: number): Promise<void> {
    let records: StoredRecord[] | undefined;
    this.isReading = true;
    try {
      records = await this.consumer?.poll(waitMs);
    } finally {
      this.isReading = false;
    }
    if (!Array.isArray(records)) throw new TypeError('the log gave no list of records');
    for (const record of records) this.pending.push(record);
  }

  async commit(produce: Produced[], offsets: Offsets): Promise<void> {
    await this.consumer?.commit({ produce, offsets });
    for (const [partition, next] of offsets) this.committed.set(partition, next);
    // A step that failed had gathered them, and what was gathered was committed since: done twice they would be said twice.
    this.pending = this.pending.filter(
      ({ partition, offset }) => offset >= (offsets.get(partition) ?? 0),
    );
  }

  /** All that was gathered is committed. */
  settled(): void {
    this.gathered.clear();
    this.latency.committed(wallMs(this.time));
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
      // While it has left the log, or has committed nothing, at least these wait; before it has joined it nobody knows.
      else if (this.hasJoined) this.lastLag = Math.max(this.lastLag ?? 0, this.pending.length);
    } catch {
      this.lastLag = null; // What the log cannot say now, it cannot say now.
    }
    return this.lastLag;
  }
}
