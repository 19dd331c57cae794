/** Views of compacted topics: each is a watcher of its own, and ends with the log. */
import { randomBytes } from 'node:crypto';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { Follower } from './follow.ts';
import { joined } from './kafka-parts.ts';
import type { Log, LogRecord, StoredRecord, Watch } from './log.ts';

export class Watches {
  private readonly log: Log;
  private readonly notify: Notify;
  /** Caught up or not. */
  private readonly followers = new Set<Follower>();
  /** Resolves when the log is closed, for whoever waits to be caught up. */
  private readonly ended: Promise<void>;
  private end: () => void = () => undefined;
  private isClosed = false;

  constructor(log: Log, notify: Notify) {
    this.log = log;
    this.notify = notify;
    this.ended = new Promise((resolve) => {
      this.end = resolve;
    });
  }

  /** `join`: see `Parts`. Throws LOG_UNAVAILABLE. */
  async watch(
    topic: string,
    join: (record: StoredRecord) => StoredRecord | undefined,
    onRecords: (records: LogRecord[]) => void,
  ): Promise<Watch> {
    const follower = new Follower({
      log: this.log,
      notify: this.notify,
      event: 'log_watch',
      topic,
      from: 'start',
      group: `headwater-watch-${randomBytes(6).toString('hex')}`,
      onRecords: (records) => onRecords(joined(join, records)),
    });
    this.followers.add(follower);
    await Promise.race([follower.caughtUp, this.ended]);
    if (this.isClosed)
      throw new HeadwaterError('LOG_UNAVAILABLE', `the log was closed before ${topic} was read`);
    return {
      close: async () => {
        this.followers.delete(follower);
        await follower.close();
      },
    };
  }

  async close(): Promise<void> {
    this.isClosed = true;
    this.end();
    for (const follower of this.followers) await follower.close();
  }
}
