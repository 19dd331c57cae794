/**
 * What a process knows of a compacted topic: it is read once, and followed from then on. A log that is away when that begins, or
 * goes away meanwhile, is waited for behind everybody's back: until it has been read, `check` says so to whoever asks.
 */
import { isRetryable } from '../../contracts/errors.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { Log, LogRecord, Watch } from './log.ts';

/** How often it is looked whether the log is there. */
const LOOK_MS = 250;
const AGAIN_MS = 1000;

export class View {
  /** Everything that was in the topic has been handed on. */
  isRead = false;
  /** Resolves then; never where it is closed before. */
  readonly whenRead: Promise<void>;
  private resolveRead: () => void = () => undefined;
  private readonly log: Log;
  private readonly topic: string;
  /** What is made of it, as in `the ledger`. */
  private readonly what: string;
  private watch: Watch | undefined;
  private isClosed = false;
  /** The start waits for it: what is no trouble of the log's ends that. */
  private isStarting = true;
  /** With what the last try failed. */
  private failure = '';

  constructor(log: Log, topic: string, what: string) {
    this.log = log;
    this.topic = topic;
    this.what = what;
    this.whenRead = new Promise((resolve) => {
      this.resolveRead = resolve;
    });
  }

  /** Resolves when it has been read, or the log cannot be read now. Throws what is no trouble of the log's. */
  async start(onRecords: (records: LogRecord[]) => void): Promise<void> {
    const reading = this.read(onRecords);
    // Who waits no longer hears nothing of it; it is tried until it is read.
    reading.catch(() => undefined);
    let timer: NodeJS.Timeout | undefined;
    const away = new Promise<void>((resolve) => {
      timer = setInterval(() => {
        if (!this.log.health().up) resolve();
      }, LOOK_MS);
    });
    try {
      await Promise.race([reading, away]);
    } finally {
      clearInterval(timer);
      this.isStarting = false;
    }
  }

  private async read(onRecords: (records: LogRecord[]) => void): Promise<void> {
    while (!this.isClosed && this.watch === undefined) {
      try {
        const watch = await this.log.watch(this.topic, onRecords);
        if (this.isClosed) return await watch.close();
        this.watch = watch;
      } catch (error) {
        if (!isRetryable(error) && this.isStarting) throw error;
        this.failure = messageOf(error);
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS).unref());
      }
    }
    if (this.isClosed) return;
    this.isRead = true;
    this.resolveRead();
  }

  /** Throws LOG_UNAVAILABLE until it has been read. */
  check(): void {
    if (this.isRead) return;
    const { up, reason } = this.log.health();
    const why = up ? this.failure : reason;
    throw new HeadwaterError(
      'LOG_UNAVAILABLE',
      `${this.what} is not known yet: it is ${why === '' ? 'still being read from the log: ask again in some seconds' : `read from the log, and ${why}`}`,
    );
  }

  async close(): Promise<void> {
    this.isClosed = true;
    await this.watch?.close();
  }
}
