/**
 * The loop of a stage: poll, work, commit; and begin again where it was committed after any trouble that passes.
 */
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { ConsumerOptions, Log, LogConsumer, Produced, StoredRecord } from './log.ts';

export interface StageOptions {
  name: string;
  log: Log;
  notify: Notify;
  consumer: ConsumerOptions;
  /** Works on records and returns what to produce. A retryable error is tried again; the records are not skipped. */
  step: (records: StoredRecord[], offsets: Map<number, number>) => Promise<Produced[]>;
}

export interface Stage {
  close(): Promise<void>;
}

const POLL_MS = 500;
const RETRY_MS = { first: 100, most: 5000 };

export function runStage(options: StageOptions): Stage {
  const { name, log, notify } = options;
  let stopping = false;
  let wake: (() => void) | undefined;
  let consumer: LogConsumer | undefined;

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

  const once = async (current: LogConsumer): Promise<void> => {
    const records = await insist('reading the log', () => current.poll(POLL_MS));
    if (records === undefined || records.length === 0) return;
    const offsets = new Map<number, number>();
    for (const { partition, offset } of records) offsets.set(partition, offset + 1);
    let produce: Produced[] | undefined;
    try {
      produce = await insist('working', () => options.step(records, offsets));
    } catch (error) {
      if (!(error instanceof HeadwaterError) || error.code !== 'STORE_RESET') throw error;
      notify({ level: 'warn', event: `${name}_anew`, text: messageOf(error) });
      await current.close();
      // A new member asks the store how far it has come.
      consumer = await insist('joining the log', () => log.consumer(options.consumer));
      return;
    }
    if (produce === undefined) return;
    try {
      await current.commit({ produce, offsets });
    } catch (error) {
      if (!(error instanceof HeadwaterError) || !error.retryable) throw error;
      notify({
        level: 'warn',
        event: `${name}_again`,
        text: `a step was not committed and is done again: ${messageOf(error)}`,
      });
      await rest(RETRY_MS.first);
    }
  };

  const loop = async (): Promise<void> => {
    consumer = await insist('joining the log', () => log.consumer(options.consumer));
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
