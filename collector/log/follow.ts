/** Follows a topic for a view of it: commits nothing, and begins again after any trouble until it is closed. */
import { messageOf } from '../../shared/errors.ts';
import { Rest, processTimers } from '../../shared/env/timers.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { ConsumerOptions, Log, LogConsumer, StoredRecord } from './log.ts';

export interface FollowOptions {
  log: Log;
  notify: Notify;
  /** Names its troubles. */
  event: string;
  topic: string;
  from: 'start' | 'end';
  /** This process's own, so that every process sees everything. */
  group: string;
  onRecords: (records: StoredRecord[]) => void;
  /** Where it begins, and again after a trouble, as `ConsumerOptions` has it. */
  onAssign?: NonNullable<ConsumerOptions['onAssign']>;
}

const POLL_MS = 500;
const POLL_BYTES_MAX = 1024 * 1024;
const RETRY_MS = 1000;

export class Follower {
  /** Resolves once everything that was in the topic has been seen, for the first time. */
  readonly caughtUp: Promise<void>;
  private readonly options: FollowOptions;
  private readonly running: Promise<void>;
  private consumer: LogConsumer | undefined;
  private readonly rest = new Rest(processTimers);
  private stopped = false;

  constructor(options: FollowOptions) {
    this.options = options;
    let caughtUp = (): void => undefined;
    this.caughtUp = new Promise((resolve) => {
      caughtUp = resolve;
    });
    this.running = this.run(caughtUp);
  }

  private async run(caughtUp: () => void): Promise<void> {
    const { log, notify, event, topic, from, group, onRecords, onAssign } = this.options;
    let told = '';
    while (!this.stopped) {
      try {
        this.consumer ??= await log.consumer({
          group,
          topic,
          from,
          watches: true,
          ...(onAssign === undefined ? {} : { onAssign }),
          bytesMax: POLL_BYTES_MAX,
        });
        onRecords(await this.consumer.poll(POLL_MS));
        if (this.consumer.ended().size >= log.partitions) caughtUp();
        told = '';
      } catch (error) {
        const text = messageOf(error);
        // A poll that it was closed under: a stop has many of these to wait for.
        if (this.stopped) return;
        // A trouble is told when it begins, and not each time that it is found again; of one of its own the log speaks.
        if (text !== told && log.health().up) notify({ level: 'warn', event, text });
        told = text;
        await this.rest.for(RETRY_MS);
      }
    }
  }

  async close(): Promise<void> {
    this.stopped = true;
    this.rest.wake();
    await this.consumer?.close();
    await this.running;
  }
}
