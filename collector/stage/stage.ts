/**
 * The loop of a stage: poll, work, commit; and begin again where it was committed after any trouble.
 *
 * - A stage stops only for a bug that no record explains. Whatever else is thrown, by whatever package, is told, and tried
 *   again after 0.1 to 5 seconds, for ever.
 * - A step that fails in the same way 3 times (8 where the other side says that it passes) is halved, down to the record.
 *   A record that is the reason goes to quarantine with it, and the rest goes on (see `Touches` for how one is known).
 * - A step may keep its records and say so (`undefined`): nothing is committed then, and a later step, or `idle`, answers
 *   for all that was gathered. Whoever gathers forgets it when a partition is assigned: it will be read again.
 */
import { monotonicMs, processTime, wallMs, type Time } from '../../shared/env/env.ts';
import { Backoff } from '../../shared/env/backoff.ts';
import { Rest, type Timer } from '../../shared/env/timers.ts';
import { isRetryable } from '../../contracts/errors.ts';
import { codeOf, isBug, isOfRecord, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { ConsumerOptions, Log, LogConsumer, Produced, StoredRecord } from '../log/log.ts';
import { asideRecord } from './aside.ts';
import { Pace } from './pace.ts';
import { Trouble, wayOf, type StageState } from './state.ts';

/** Partition → offset of the next record to read. */
export type Offsets = Map<number, number>;

/**
 * Commits state before the work that it announces, without moving on: fenced like every other step.
 * Throws what `commit` throws; the records at hand are read again then.
 */
export type Announce = (state: Produced[]) => Promise<void>;

/**
 * What a step touches, which decides how its failure is taken.
 *
 * - nothing: it makes its output of the records and of state that `onAssign` loads. After a failure it begins anew from
 *   what is committed; a record that fails alone is the reason.
 * - elsewhere: it asks another system, and may be done again in any order. It is repeated in place; a record that fails
 *   alone is the reason only if others pass in between.
 * - gathers: like elsewhere, of many steps' records at once. No record is known to be the reason.
 */
export type Touches = 'nothing' | 'elsewhere' | 'gathers';

export interface StageOptions {
  name: string;
  log: Pick<Log, 'consumer' | 'groups'>;
  notify: Notify;
  time?: Time;
  consumer: ConsumerOptions;
  touches: Touches;
  /** Works on records and returns what to produce. When `isCareful`, what fails is being looked for: nothing is gathered. */
  step: (
    records: StoredRecord[],
    offsets: Offsets,
    announce: Announce,
    isCareful: boolean,
  ) => Promise<Produced[] | undefined>;
  /** The same without records: at least every half second while none come, and every second else. */
  idle?: (offsets: Offsets, announce: Announce) => Promise<Produced[] | undefined>;
  /** What is to be committed, too, where a record is passed over: for a stage that keeps its place in its own state. */
  passOver?: (offsets: Offsets) => Produced[];
}

export interface Stage {
  state(): StageState;
  close(): Promise<void>;
}

const POLL_MS = 500;
const IDLE_MS = 1000;
const LOOK_MS = 2000;
const RETRY = { firstMs: 100, mostMs: 5000 };
/** A foreign consumer that does not close is left behind. */
const CLOSE_MS = 3000;
/** A step that fails is begun anew, with a new consumer, each time it has failed so often. */
const ANEW_EVERY = 8;
/** A single record has to fail so often, and others to pass in between, before it is the reason. */
const ALONE_ROUNDS = 5;
/** What asks nobody fails again for the same reason: once more, with state loaded anew, is enough. */
const ALONE_ROUNDS_OF_NOTHING = 2;
const WITNESSES = 4;

const JOIN = 'joining the log';
const READ = 'reading the log';
const WORK = 'working';
const COMMIT = 'committing';
const IDLE = 'finishing what was gathered';

/** The log has taken the step at hand away: what was read comes again. */
class Overtaken extends Error {}

export function runStage(options: StageOptions): Stage {
  const runner = new Runner(options);
  runner.start();
  return runner;
}

class Runner implements Stage {
  private readonly options: StageOptions;
  private readonly time: Time;
  private readonly trouble: Trouble;
  private readonly pace = new Pace();
  private readonly backoff = new Backoff(RETRY);
  private readonly rest: Rest;
  /** Where this consumer stands, and has committed. */
  private readonly committed: Offsets = new Map();
  /** Read since, and not committed. */
  private readonly gathered: Offsets = new Map();
  /** Polled, and not worked on. */
  private pending: StoredRecord[] = [];
  private consumer: LogConsumer | undefined;
  private running: Promise<void> = Promise.resolve();
  private looking: Timer | undefined;
  private stopping = false;
  private idleAt = 0;
  /** `idle` has failed: nothing more is read before it has passed. */
  private idleFailed = false;
  private failures = 0;
  private lastLag: number | null = null;
  private alone: { record: StoredRecord | undefined; rounds: number } = {
    record: undefined,
    rounds: 0,
  };

  constructor(options: StageOptions) {
    this.options = options;
    this.time = options.time ?? processTime;
    this.rest = new Rest(this.time.timers);
    this.trouble = new Trouble({
      name: options.name,
      notify: options.notify,
      wallMs: () => wallMs(this.time),
      monotonicMs: () => monotonicMs(this.time),
      waitingRecords: () => this.lag(),
    });
  }

  start(): void {
    this.idleAt = monotonicMs(this.time);
    this.looking = this.time.timers.every(LOOK_MS, () => this.trouble.look());
    this.running = this.loop();
    this.running.catch((error: unknown) => {
      // A bug: the process must not go on as if this stage were alive.
      queueMicrotask(() => {
        throw error;
      });
    });
  }

  state(): StageState {
    return this.trouble.state;
  }

  private lag(): number | null {
    const { group } = this.options.consumer;
    try {
      const found = this.options.log.groups().find((each) => each.group === group);
      if (found !== undefined) this.lastLag = found.lagRecords;
      // While it has left the log, or has committed nothing, at least these wait.
      else this.lastLag = Math.max(this.lastLag ?? 0, this.pending.length);
    } catch {
      this.lastLag = null; // What the log cannot say now, it cannot say now.
    }
    return this.lastLag;
  }

  private async loop(): Promise<void> {
    while (!this.stopping) {
      try {
        await this.round();
      } catch (error) {
        // `Overtaken` has been told with the commit that failed.
        if (!(error instanceof Overtaken)) throw error;
      }
    }
  }

  private async round(): Promise<void> {
    const consumer = await this.joined();
    if (consumer === undefined) return;
    const hadRecords = this.pending.length > 0 || (!this.idleFailed && (await this.poll(consumer)));
    if (this.consumer !== consumer || this.stopping) return;
    if (this.pending.length > 0 && !this.idleFailed)
      await this.work(consumer, this.pending.slice(0, this.pace.size));
    if (this.consumer === consumer) await this.idle(consumer, !hadRecords);
  }

  // ---- the log ----

  private async joined(): Promise<LogConsumer | undefined> {
    if (this.consumer !== undefined) return this.consumer;
    try {
      const { log } = this.options;
      this.consumer = await this.during(JOIN, () => log.consumer(this.consumerOptions()));
      this.trouble.passed(JOIN);
    } catch (error) {
      this.stopForBug(error);
      await this.wait(JOIN, error);
    }
    return this.consumer;
  }

  private consumerOptions(): ConsumerOptions {
    const { consumer } = this.options;
    const forget = (partition: number): void => {
      this.gathered.delete(partition);
      this.pending = this.pending.filter((record) => record.partition !== partition);
    };
    return {
      ...consumer,
      onAssign: async (partition, known) => {
        forget(partition);
        const own = await consumer.onAssign?.(partition, known);
        const at = own ?? known;
        if (at === undefined) this.committed.delete(partition);
        else this.committed.set(partition, at);
        return own;
      },
      onRevoke: (partition) => {
        forget(partition);
        this.committed.delete(partition);
        consumer.onRevoke?.(partition);
      },
    };
  }

  /** Whether there are records. */
  private async poll(consumer: LogConsumer): Promise<boolean> {
    try {
      const records = await this.during(READ, () => consumer.poll(POLL_MS));
      if (!Array.isArray(records)) throw new TypeError('the log gave no list of records');
      for (const record of records) this.pending.push(record);
      this.trouble.passed(JOIN);
      this.trouble.passed(READ);
    } catch (error) {
      this.stopForBug(error);
      await this.wait(READ, error);
      if (!isRetryable(error) || this.failures % ANEW_EVERY === 0) await this.leave();
      return false;
    }
    if (this.pending.length > 0) return true;
    // What could not be worked on is no more.
    this.trouble.passed(WORK);
    this.trouble.passed(COMMIT);
    return false;
  }

  /** Leaves the log: what comes next begins from what is committed, with state that is loaded anew. */
  private async leave(): Promise<void> {
    const { consumer } = this;
    this.lag();
    this.consumer = undefined;
    this.pending = [];
    this.gathered.clear();
    this.committed.clear();
    if (consumer === undefined) return;
    const timeout = new Rest(this.time.timers);
    try {
      await Promise.race([consumer.close(), timeout.for(CLOSE_MS)]);
    } catch (error) {
      const { name, notify } = this.options;
      const text = `leaving the log: ${messageOf(error)}`;
      notify({ level: 'warn', event: `${name}_left`, text });
    } finally {
      timeout.wake();
    }
  }

  // ---- a step ----

  private async work(consumer: LogConsumer, slice: StoredRecord[]): Promise<void> {
    const { gathered, pace } = this;
    const before = new Map(gathered);
    for (const { partition, offset } of slice) gathered.set(partition, offset + 1);
    let produced: Produced[] | undefined;
    try {
      produced = await this.during(WORK, () =>
        this.options.step(slice, gathered, this.announce, pace.isCareful),
      );
    } catch (error) {
      if (error instanceof Overtaken) throw error;
      gathered.clear();
      for (const [partition, next] of before) gathered.set(partition, next);
      return await this.stepFailed(consumer, error, slice);
    }
    const done = new Set(slice);
    this.pending = this.pending.filter((record) => !done.has(record));
    if (produced !== undefined) {
      const error = await this.commit(produced, new Map(gathered));
      if (error !== undefined) return await this.commitFailed(consumer, error.cause, slice);
      gathered.clear();
    }
    this.forward();
  }

  /** It came forward. */
  private forward(): void {
    this.pace.passed();
    this.settle();
  }

  private settle(): void {
    this.backoff.reset();
    this.failures = 0;
    this.trouble.passed();
  }

  private async idle(consumer: LogConsumer, isDue: boolean): Promise<void> {
    const { idle } = this.options;
    const now = monotonicMs(this.time);
    if (idle === undefined || !(isDue || this.idleFailed || now - this.idleAt >= IDLE_MS)) return;
    this.idleAt = now;
    let produced: Produced[] | undefined;
    try {
      produced = await this.during(IDLE, () => idle(this.gathered, this.announce));
      this.idleFailed = false;
    } catch (error) {
      if (error instanceof Overtaken) throw error;
      this.stopForBug(error);
      this.idleFailed = true;
      return await this.stepFailed(consumer, error, []);
    }
    // Output without records still says where its partitions stand: a member that was replaced is found out by it.
    if (produced !== undefined && (produced.length > 0 || this.gathered.size > 0)) {
      const error = await this.commit(produced, new Map([...this.committed, ...this.gathered]));
      if (error !== undefined) return await this.commitFailed(consumer, error.cause, []);
      this.gathered.clear();
    }
    this.trouble.passed(IDLE);
    if (produced !== undefined) this.settle();
  }

  /** What it failed with, if it did. */
  private async commit(
    produce: Produced[],
    offsets: Offsets,
  ): Promise<{ cause: unknown } | undefined> {
    try {
      await this.during(COMMIT, async () => this.consumer?.commit({ produce, offsets }));
    } catch (cause) {
      return { cause };
    }
    for (const [partition, next] of offsets) this.committed.set(partition, next);
    return undefined;
  }

  /** With the places of the partitions concerned, so that a member that was replaced is found out. */
  private readonly announce: Announce = async (state) => {
    const places: Offsets = new Map();
    for (const { partition } of state)
      if (partition !== undefined) places.set(partition, this.committed.get(partition) ?? 0);
    const { consumer } = this;
    const error = await this.commit(state, places);
    if (error === undefined) return;
    if (consumer !== undefined) await this.commitFailed(consumer, error.cause, []);
    throw new Overtaken();
  };

  // ---- what fails ----

  /** Nothing is committed, and its records come again. */
  private async commitFailed(
    consumer: LogConsumer,
    error: unknown,
    slice: StoredRecord[],
  ): Promise<void> {
    this.gathered.clear();
    this.pending = [];
    await this.failed(COMMIT, error, slice, async (record) => {
      // The log takes a step without it, then, and nothing of this one.
      const place = this.committed.get(record.partition) ?? record.offset;
      return (await this.commit([], new Map([[record.partition, place]]))) === undefined;
    });
    if (!isRetryable(error) && this.consumer === consumer) await this.leave();
  }

  private async stepFailed(
    consumer: LogConsumer,
    error: unknown,
    slice: StoredRecord[],
  ): Promise<void> {
    const { name, notify, touches } = this.options;
    if (codeOf(error) === 'STORE_RESET') {
      notify({ level: 'warn', event: `${name}_anew`, text: messageOf(error) });
      // A new member asks the store how far it has come.
      return await this.leave();
    }
    await this.failed(WORK, error, slice, (record) => this.passesOther(consumer, record));
    const isAnew = touches === 'nothing' || this.failures % ANEW_EVERY === ANEW_EVERY - 1;
    if (!isRetryable(error) && isAnew && this.consumer === consumer) await this.leave();
  }

  /** Tells, splits, sets aside or waits. `others`: whether other records pass now. */
  private async failed(
    what: string,
    error: unknown,
    slice: StoredRecord[],
    others: (record: StoredRecord) => Promise<boolean>,
  ): Promise<void> {
    const isPassing = isRetryable(error);
    const way = wayOf(`${what} ${codeOf(error)} ${messageOf(error)}`);
    const isSmaller = this.pace.failed(way, isPassing, slice);
    const [record] = slice;
    if (record !== undefined && this.pace.isSuspect(isPassing, slice)) {
      this.trouble.failed(what, error);
      if (await this.isReason(what, error, record, others))
        return await this.setAside(record, error);
    }
    if (isSmaller) this.backoff.reset();
    await this.wait(what, error);
  }

  private async isReason(
    what: string,
    error: unknown,
    record: StoredRecord,
    others: (record: StoredRecord) => Promise<boolean>,
  ): Promise<boolean> {
    if (isOfRecord(error)) return true;
    const { touches } = this.options;
    if (touches === 'gathers' || codeOf(error) === 'LOG_FENCED') return false;
    const isAlone = what === WORK && touches === 'nothing';
    if (isAlone && isRetryable(error)) return false;
    const { record: last, rounds } = this.alone;
    const isSame = last?.offset === record.offset && last.partition === record.partition;
    const counts = isAlone || (await others(record));
    const counted = counts ? (isSame ? rounds : 0) + 1 : 0;
    this.alone = { record, rounds: counted };
    return counted >= (isAlone ? ALONE_ROUNDS_OF_NOTHING : ALONE_ROUNDS);
  }

  /** Whether one of the records behind this one passes, without moving on. */
  private async passesOther(consumer: LogConsumer, record: StoredRecord): Promise<boolean> {
    let rest = this.pending.filter((each) => each !== record);
    if (rest.length === 0) {
      await this.poll(consumer);
      rest = this.pending.filter((each) => each !== record);
    }
    const stride = Math.max(1, Math.floor(rest.length / WITNESSES));
    for (let at = 0; at < rest.length; at += stride) {
      const witness = rest[at];
      if (witness === undefined || this.stopping) return false;
      try {
        await this.during(WORK, () => this.options.step([witness], new Map(), this.announce, true));
        return true;
      } catch {
        // Neither does this one: the next may.
      }
    }
    return false;
  }

  /** To quarantine with its reason; the rest goes on. */
  private async setAside(record: StoredRecord, error: unknown): Promise<void> {
    const { name, notify, passOver, consumer } = this.options;
    const { partition, offset } = record;
    const place = `${consumer.topic}/${partition}, offset ${offset}`;
    const reason = `stage '${name}' cannot take this record (${place}): ${messageOf(error)}`;
    const offsets: Offsets = new Map([[partition, offset + 1]]);
    const produced = [...(passOver?.(offsets) ?? []), asideRecord(record, reason)];
    const failure = await this.commit(produced, offsets);
    if (failure !== undefined) return await this.wait(COMMIT, failure.cause);
    this.trouble.asideRecords++;
    notify({ level: 'error', event: `${name}_aside`, text: `${reason}; it is in quarantine` });
    this.pending = this.pending.filter((each) => each !== record);
    this.alone = { record: undefined, rounds: 0 };
    this.forward();
  }

  private async wait(what: string, error: unknown): Promise<void> {
    this.failures++;
    this.trouble.failed(what, error);
    if (!this.stopping) await this.rest.for(this.backoff.next());
  }

  private async during<T>(what: string, work: () => Promise<T>): Promise<T> {
    this.trouble.begin(what);
    try {
      return await work();
    } finally {
      this.trouble.end();
    }
  }

  private stopForBug(error: unknown): void {
    if (isBug(error)) throw error;
  }

  async close(): Promise<void> {
    this.stopping = true;
    this.rest.wake();
    await this.running.catch(() => undefined); // Reported above.
    this.looking?.cancel();
    await this.leave();
  }
}
