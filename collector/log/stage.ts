/**
 * The loop of a stage: poll, work, commit; and begin again where it was committed after any trouble that passes.
 *
 * A step may keep its records and say so (`undefined`): nothing is committed then, and a later step, or `idle`, answers
 * for all that was gathered. Whoever gathers forgets it when a partition is assigned: it will be read again.
 */
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { ConsumerOptions, Log, LogConsumer, Produced, StoredRecord } from './log.ts';

/** Partition → offset of the next record to read. */
export type Offsets = Map<number, number>;

/**
 * Commits state before the work that it announces, without moving on: fenced like every other step.
 * Throws what `commit` throws; the records at hand are read again then.
 */
export type Announce = (state: Produced[]) => Promise<void>;

export interface StageOptions {
  name: string;
  log: Log;
  notify: Notify;
  consumer: ConsumerOptions;
  /** Works on records and returns what to produce. A retryable error is tried again; the records are not skipped. */
  step: (
    records: StoredRecord[],
    offsets: Offsets,
    announce: Announce,
  ) => Promise<Produced[] | undefined>;
  /** The same without records: at least every half second while none come, and every second else. */
  idle?: (offsets: Offsets, announce: Announce) => Promise<Produced[] | undefined>;
}

export interface Stage {
  close(): Promise<void>;
}

const POLL_MS = 500;
const IDLE_MS = 1000;
const RETRY_MS = { first: 100, most: 5000 };

/** The log has taken the step at hand away: what was read comes again. */
class Overtaken extends Error {}

export function runStage(options: StageOptions): Stage {
  const { name, log, notify } = options;
  let stopping = false;
  let wake: (() => void) | undefined;
  let consumer: LogConsumer | undefined;
  let idleAt = performance.now();
  /** Where this consumer stands, and has committed. */
  const committed: Offsets = new Map();
  /** Read since, and not committed. */
  const gathered: Offsets = new Map();

  const { onAssign, onRevoke } = options.consumer;
  const consumerOptions: ConsumerOptions = {
    ...options.consumer,
    onAssign: async (partition, known) => {
      gathered.delete(partition);
      const own = await onAssign?.(partition, known);
      const at = own ?? known;
      if (at === undefined) committed.delete(partition);
      else committed.set(partition, at);
      return own;
    },
    onRevoke: (partition) => {
      gathered.delete(partition);
      committed.delete(partition);
      onRevoke?.(partition);
    },
  };

  const rest = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  /** Repeats what fails for a passing reason. Undefined when the stage is stopping. */
  const insist = async <T>(what: string, work: () => Promise<T>): Promise<T | undefined> => {
    let waitMs = RETRY_MS.first;
    let told = false;
    while (!stopping) {
      try {
        const result = await work();
        if (told) notify({ level: 'info', event: `${name}_resumed`, text: `${name} goes on` });
        return result;
      } catch (error) {
        if (!(error instanceof HeadwaterError) || !error.retryable) throw error;
        if (!told)
          notify({ level: 'warn', event: `${name}_waits`, text: `${what}: ${messageOf(error)}` });
        told = true;
        await rest(waitMs);
        waitMs = Math.min(waitMs * 2, RETRY_MS.most);
      }
    }
    return undefined;
  };

  const commit = async (produce: Produced[], offsets: Offsets): Promise<boolean> => {
    try {
      await consumer?.commit({ produce, offsets });
      for (const [partition, next] of offsets) committed.set(partition, next);
      return true;
    } catch (error) {
      if (!(error instanceof HeadwaterError) || !error.retryable) throw error;
      gathered.clear();
      notify({
        level: 'warn',
        event: `${name}_again`,
        text: `a step was not committed and is done again: ${messageOf(error)}`,
      });
      await rest(RETRY_MS.first);
      return false;
    }
  };

  /** With the places of the partitions concerned, so that a member that was replaced is found out. */
  const announce: Announce = async (state) => {
    const places: Offsets = new Map();
    for (const { partition } of state)
      if (partition !== undefined) places.set(partition, committed.get(partition) ?? 0);
    if (!(await commit(state, places))) throw new Overtaken();
  };

  const step = async (current: LogConsumer, records: StoredRecord[]): Promise<void> => {
    for (const { partition, offset } of records) gathered.set(partition, offset + 1);
    const work = async (): Promise<Produced[] | undefined> =>
      records.length > 0
        ? await options.step(records, gathered, announce)
        : await options.idle?.(gathered, announce);
    let produce: Produced[] | undefined;
    try {
      produce = await insist('working', work);
    } catch (error) {
      if (error instanceof Overtaken) return;
      if (!(error instanceof HeadwaterError) || error.code !== 'STORE_RESET') throw error;
      notify({ level: 'warn', event: `${name}_anew`, text: messageOf(error) });
      await current.close();
      gathered.clear();
      // A new member asks the store how far it has come.
      consumer = await insist('joining the log', () => log.consumer(consumerOptions));
      return;
    }
    if (produce === undefined) return;
    // Output without records still says where its partitions stand: a member that was replaced is found out by it.
    const offsets = new Map(records.length > 0 ? gathered : [...committed, ...gathered]);
    if (produce.length === 0 && gathered.size === 0) return;
    if (await commit(produce, offsets)) gathered.clear();
  };

  const once = async (current: LogConsumer): Promise<void> => {
    const records = await insist('reading the log', () => current.poll(POLL_MS));
    if (records === undefined) return;
    if (records.length > 0) await step(current, records);
    const isDue = records.length === 0 || performance.now() - idleAt >= IDLE_MS;
    if (options.idle === undefined || !isDue || consumer !== current) return;
    idleAt = performance.now();
    await step(current, []);
  };

  const loop = async (): Promise<void> => {
    consumer = await insist('joining the log', () => log.consumer(consumerOptions));
    while (!stopping && consumer !== undefined) await once(consumer);
  };
  const running = loop();
  running.catch((error: unknown) => {
    // A bug: the process must not go on as if this stage were alive.
    queueMicrotask(() => {
      throw error;
    });
  });
  return {
    close: async () => {
      stopping = true;
      wake?.();
      await running.catch(() => undefined); // Reported above.
      await consumer?.close();
    },
  };
}
