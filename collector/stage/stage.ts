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
import type { Histogram } from '../../shared/telemetry/histogram.ts';
import type { LogConsumer, Produced, StoredRecord } from '../log/log.ts';
import { asideRecord } from './aside.ts';
import type { Announce, Stage, StageOptions } from './options.ts';
import { Membership, type Offsets } from './membership.ts';
import { Pace } from './pace.ts';
import { Trouble, type StageState } from './state.ts';
import { Suspect } from './suspect.ts';

const POLL_MS = 500;
const IDLE_MS = 1000;
const LOOK_MS = 2000;
const RETRY = { firstMs: 100, mostMs: 5000 };
/** A step that fails is begun anew, with a new consumer, each time it has failed so often. */
const ANEW_EVERY = 8;
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
  private readonly member: Membership;
  private readonly pace: Pace;
  private readonly suspect = new Suspect();
  private readonly backoff = new Backoff(RETRY);
  private readonly rest: Rest;
  private running: Promise<void> = Promise.resolve();
  private looking: Timer | undefined;
  private stopping = false;
  private idleAt = 0;
  /** `idle` has failed: nothing more is read before it has passed, but what a failed commit wants to be read. */
  private idleFailed = false;
  /** The log could not be read when it was last asked. */
  private isDeaf = false;
  /** A commit has failed, and the log was not read since: what the step had made of state is not to be committed. */
  private isStale = false;
  private failures = 0;

  constructor(options: StageOptions) {
    this.options = options;
    this.time = options.time ?? processTime;
    this.pace = new Pace(options.stepMs ?? Infinity, () => monotonicMs(this.time));
    this.rest = new Rest(this.time.timers);
    this.member = new Membership(
      options.log,
      options.consumer,
      this.time,
      (text, lost) => this.trouble.befell(text, lost),
      options.isPlaceOwn === true,
    );
    this.trouble = new Trouble({
      name: options.name,
      notify: options.notify,
      wallMs: () => wallMs(this.time),
      monotonicMs: () => monotonicMs(this.time),
      waitingRecords: () => this.member.lag(),
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

  get latencySeconds(): Histogram {
    return this.member.latency.seconds;
  }

  private async loop(): Promise<void> {
    while (!this.stopping) {
      try {
        await this.round();
      } catch (error) {
        // `Overtaken` has been told with the commit that failed.
        if (error instanceof Overtaken) continue;
        this.stopForBug(error);
        // Thrown where nothing should throw: it begins again, as after any trouble.
        this.member.forget();
        await this.leave();
        await this.wait(WORK, error);
      }
    }
  }

  private async round(): Promise<void> {
    const { member } = this;
    const consumer = await this.joined();
    if (consumer === undefined) return;
    const reads = !this.idleFailed || this.isStale;
    const hadRecords = member.pending.length > 0 || (reads && (await this.poll()));
    if (member.consumer !== consumer || this.stopping) return;
    if (member.pending.length > 0 && !this.idleFailed)
      await this.work(consumer, member.pending.slice(0, this.pace.next));
    if (member.consumer === consumer) await this.idle(consumer, !hadRecords);
  }

  // ---- the log ----

  private async joined(): Promise<LogConsumer | undefined> {
    if (this.member.consumer !== undefined) return this.member.consumer;
    try {
      await this.during(JOIN, () => this.member.join());
      this.trouble.passed(JOIN);
    } catch (error) {
      this.stopForBug(error);
      await this.wait(JOIN, error);
    }
    return this.member.consumer;
  }

  /** Whether there are records. */
  private async poll(): Promise<boolean> {
    try {
      await this.during(READ, () => this.member.poll(POLL_MS));
      this.isStale = false;
      this.trouble.passed(JOIN);
      this.trouble.passed(READ);
      this.isDeaf = false;
    } catch (error) {
      // It was closed under it.
      if (this.stopping) return false;
      this.isDeaf = true;
      this.stopForBug(error);
      await this.wait(READ, error);
      if (!isRetryable(error) || this.failures % ANEW_EVERY === 0) await this.leave();
      return false;
    }
    if (this.member.pending.length > 0) return true;
    // What could not be worked on is no more.
    this.trouble.passed(WORK);
    this.trouble.passed(COMMIT);
    return false;
  }

  private async leave(): Promise<void> {
    try {
      await this.member.leave();
    } catch (error) {
      const { name, notify } = this.options;
      const text = `leaving the log: ${messageOf(error)}`;
      notify({ level: 'warn', event: `${name}_left`, text });
    }
  }

  // ---- a step ----

  private async work(consumer: LogConsumer, slice: StoredRecord[]): Promise<void> {
    const { member, pace } = this;
    const { gathered } = member;
    const before = new Map(gathered);
    for (const { partition, offset } of slice) gathered.set(partition, offset + 1);
    let produced: Produced[] | undefined;
    try {
      const step = () => this.options.step(slice, gathered, this.announce, pace.isCareful);
      produced = await this.during(WORK, () => pace.timed(slice, step));
    } catch (error) {
      if (error instanceof Overtaken) throw error;
      gathered.clear();
      for (const [partition, next] of before) gathered.set(partition, next);
      return await this.stepFailed(consumer, error, slice);
    }
    member.done(slice);
    member.latency.worked(slice);
    if (produced !== undefined) {
      const error = await this.commit(produced, new Map(gathered));
      if (error !== undefined) return await this.commitFailed(consumer, error.cause, slice);
      member.settled();
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
    const { gathered, committed } = this.member;
    const now = monotonicMs(this.time);
    if (idle === undefined || this.isStale) return;
    if (!isDue && !this.idleFailed && now - this.idleAt < IDLE_MS) return;
    this.idleAt = now;
    let produced: Produced[] | undefined;
    try {
      produced = await this.during(IDLE, () => idle(gathered, this.announce));
      this.idleFailed = false;
    } catch (error) {
      if (error instanceof Overtaken) throw error;
      this.stopForBug(error);
      this.idleFailed = true;
      return await this.stepFailed(consumer, error, []);
    }
    // Output without records still says where its partitions stand: a member that was replaced is found out by it.
    if (produced !== undefined && (produced.length > 0 || gathered.size > 0)) {
      const error = await this.commit(produced, new Map([...committed, ...gathered]));
      if (error !== undefined) return await this.commitFailed(consumer, error.cause, []);
      this.member.settled();
    }
    this.trouble.passed(IDLE);
    // While records wait that cannot be read, worked on, or committed, that trouble is not over by it.
    if (produced !== undefined && this.member.pending.length === 0 && !this.isDeaf) this.settle();
  }

  /** What it failed with, if it did. */
  private async commit(
    produce: Produced[],
    offsets: Offsets,
  ): Promise<{ cause: unknown } | undefined> {
    try {
      await this.during(COMMIT, () => this.member.commit(produce, offsets));
      return undefined;
    } catch (cause) {
      return { cause };
    }
  }

  /** With the places of the partitions concerned, so that a member that was replaced is found out. */
  private readonly announce: Announce = async (state) => {
    const places: Offsets = new Map();
    for (const { partition } of state)
      if (partition !== undefined) places.set(partition, this.member.committed.get(partition) ?? 0);
    const { consumer } = this.member;
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
    this.member.forget();
    this.isStale = true;
    await this.failed(COMMIT, error, slice, async ({ partition, offset }) => {
      // The log takes a step without it, then, and nothing of this one.
      const place = this.member.committed.get(partition) ?? offset;
      return (await this.commit([], new Map([[partition, place]]))) === undefined;
    });
    if (!isRetryable(error) && this.member.consumer === consumer) await this.leave();
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
    await this.failed(WORK, error, slice, (record) => this.passesOther(record));
    const isAnew = touches === 'nothing' || this.failures % ANEW_EVERY === ANEW_EVERY - 1;
    if (!isRetryable(error) && isAnew && this.member.consumer === consumer) await this.leave();
  }

  /** Tells, splits, sets aside or waits. `others`: whether other records pass now. */
  private async failed(
    what: string,
    error: unknown,
    slice: StoredRecord[],
    others: (record: StoredRecord) => Promise<boolean>,
  ): Promise<void> {
    const { touches } = this.options;
    const isPassing = isRetryable(error);
    const way = `${what} ${codeOf(error)} ${messageOf(error)}`;
    const isSmaller = this.pace.failed(way, isPassing, slice, isOfRecord(error));
    const [record] = slice;
    if (record !== undefined && this.pace.isSuspect(isPassing, slice) && touches !== 'gathers') {
      this.trouble.failed(what, error);
      const asksNobody = what === WORK && touches === 'nothing';
      if (await this.suspect.isReason(error, record, asksNobody, others))
        return await this.setAside(record, error);
    }
    if (isSmaller) this.backoff.reset();
    await this.wait(what, error);
  }

  /** Whether one of the records behind this one passes, without moving on. */
  private async passesOther(record: StoredRecord): Promise<boolean> {
    const { member } = this;
    if (member.pending.every((each) => each === record)) await this.poll();
    const rest = member.pending.filter((each) => each !== record);
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
    this.member.done([record]);
    this.suspect.cleared();
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
    // What it waits for would be worked on by nobody.
    if (this.member.isReading) await this.leave();
    await this.running.catch(() => undefined); // Reported above.
    this.looking?.cancel();
    await this.leave();
  }
}
