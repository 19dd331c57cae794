/** What a topic takes of one record. */
import { HeadwaterError } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { MESSAGE_BYTES_MAX } from './kafka-client.ts';
import { mendCommand } from './kafka-topics.ts';
import type { LogRecord } from './log.ts';

const TELL_EVERY_MS = 60_000;
/** What Kafka adds to a record and its batch, bytes. */
const RECORD_OVERHEAD_BYTES = 128;

export class RecordSize {
  /** Largest record that a topic takes, where Kafka has said so. */
  bytesMax: ReadonlyMap<string, number> = new Map();
  private readonly brokers: string;
  private readonly now: () => number;
  private readonly notify: Notify;
  private readonly told = new Map<string, number>();

  constructor(brokers: string, now: () => number, notify: Notify) {
    this.brokers = brokers;
    this.now = now;
    this.notify = notify;
  }

  /**
   * Before it is sent: a record that is refused in a transaction takes the transaction with it. `name` is the topic with
   * its prefix. Throws LOG_TOO_LARGE.
   */
  check(topic: string, name: string, { key, value, headers }: LogRecord): void {
    const limit = this.bytesMax.get(topic) ?? MESSAGE_BYTES_MAX;
    if (value.length < limit / 2) return;
    const bytes =
      Buffer.byteLength(key) + value.length + Buffer.byteLength(JSON.stringify(headers));
    if (bytes + RECORD_OVERHEAD_BYTES <= limit) return;
    const text = `a record of ${bytes} bytes is larger than topic ${name} takes: its max.message.bytes is ${limit}`;
    const now = this.now();
    if (limit < MESSAGE_BYTES_MAX && now - (this.told.get(topic) ?? 0) >= TELL_EVERY_MS) {
      this.told.set(topic, now);
      const mend = mendCommand(this.brokers, name, 'max.message.bytes', MESSAGE_BYTES_MAX);
      this.notify({ level: 'warn', event: 'log_too_large', text: `${text}; mend it: ${mend}` });
    }
    throw new HeadwaterError('LOG_TOO_LARGE', text);
  }
}
