/**
 * A consumer of the embedded log. Of those with one group and topic the first has the topic; the next has it when the
 * first is closed, and reads and commits nothing before.
 */
import { HeadwaterError } from '../../shared/errors.ts';
import type { ConsumerOptions, LogConsumer, Step, StoredRecord } from './log.ts';

const LOOK_EVERY_MS = 20;

/** What a consumer needs of its log. */
export interface ConsumedLog {
  /** Resolves when the database is open. Throws LOG_UNAVAILABLE when it stays closed. */
  ready(): Promise<unknown>;
  next(topic: string): Promise<number>;
  /** Whether it is the first of its group and topic. */
  holds(consumer: LogConsumer, options: ConsumerOptions): boolean;
  leave(consumer: LogConsumer, options: ConsumerOptions): void;
  committed(group: string, topic: string): number | undefined;
  /** A consumer that keeps its progress elsewhere has come so far. */
  noteProgress(group: string, topic: string, next: number): void;
  read(topic: string, from: number, bytesMax: number): Promise<StoredRecord[]>;
  /** Resolves when something was appended, or after `waitMs`. */
  wait(topic: string, waitMs: number): Promise<void>;
  commit(group: string, topic: string, step: Step): Promise<void>;
  /** Offset of the next record when the log was opened: below it nothing comes any more. */
  openedAt(topic: string): Promise<number>;
}

export class EmbeddedConsumer implements LogConsumer {
  private readonly log: ConsumedLog;
  private readonly options: ConsumerOptions;
  private next = 0;
  /** A commit failed: where to go on, and the state that belongs to it, must be read again. */
  private stale = false;
  private atEnd = false;
  private owns = false;
  private closed = false;

  constructor(log: ConsumedLog, options: ConsumerOptions) {
    this.log = log;
    this.options = options;
  }

  async start(): Promise<void> {
    const { topic, from, watches, onAssign } = this.options;
    if (from === 'end' || watches === true) {
      const end = await this.log.next(topic);
      const own = await onAssign?.(0, undefined);
      const beginning = from === 'end' ? end : 0;
      this.next = own === undefined || own > end ? beginning : own;
      this.owns = true;
    } else await this.take();
  }

  /** Takes the topic over when it is this one's turn. */
  private async take(): Promise<boolean> {
    if (this.owns) return true;
    if (this.closed || !this.log.holds(this, this.options)) return false;
    await this.rewind();
    this.owns = true;
    return true;
  }

  private async turn(waitMs: number): Promise<boolean> {
    const deadline = performance.now() + waitMs;
    while (!(await this.take())) {
      if (this.closed || performance.now() >= deadline) return false;
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
    return true;
  }

  private async rewind(): Promise<void> {
    const { group, topic, onAssign } = this.options;
    await this.log.ready();
    const committed = this.log.committed(group, topic);
    const own = await onAssign?.(0, committed);
    // Progress beyond the end belongs to a log that is no longer there: what this one has was not read.
    const valid = own !== undefined && own <= (await this.log.next(topic));
    this.next = valid ? own : (committed ?? 0);
    if (valid) this.log.noteProgress(group, topic, own);
  }

  async poll(waitMs: number): Promise<StoredRecord[]> {
    const { topic, bytesMax } = this.options;
    if (!(await this.turn(waitMs))) return [];
    if (this.stale) {
      await this.rewind();
      this.stale = false;
    }
    let records = await this.log.read(topic, this.next, bytesMax);
    if (records.length === 0 && !this.closed) {
      await this.log.wait(topic, waitMs);
      if (!this.closed) records = await this.log.read(topic, this.next, bytesMax);
    }
    if (records.length === 0 && !this.closed) records = await this.beyondLost();
    const last = records.at(-1);
    if (last !== undefined) this.next = last.offset + 1;
    this.atEnd = this.next >= (await this.log.next(topic));
    return records;
  }

  /** Offsets that were given out before the log was opened and have no record: it is lost, and nobody waits for that. */
  private async beyondLost(): Promise<StoredRecord[]> {
    const { topic, bytesMax } = this.options;
    // One that was given out since may be on its way to the disk, or be written at the next try.
    const end = await this.log.openedAt(topic);
    if (this.next >= end) return [];
    const records = await this.log.read(topic, this.next, bytesMax);
    if (records.length === 0) this.next = end;
    return records;
  }

  async commit(step: Step): Promise<void> {
    const { group, topic } = this.options;
    if (!this.owns)
      throw new HeadwaterError('LOG_FENCED', `${group}: another consumer reads ${topic}`);
    try {
      await this.log.commit(this.options.group, this.options.topic, step);
    } catch (error) {
      // Whether it is on disk after all is known when the log is open again: the next poll begins with that.
      this.stale = true;
      throw error;
    }
  }

  ended(): ReadonlySet<number> {
    return new Set(this.atEnd ? [0] : []);
  }

  close(): Promise<void> {
    this.closed = true;
    this.owns = false;
    this.log.leave(this, this.options);
    return Promise.resolve();
  }
}
