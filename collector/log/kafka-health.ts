/** Whether Kafka answers, as it was found last; told when that changes. */
import type { Notify } from '../../shared/telemetry/log.ts';
import type { Health } from './log.ts';

export class KafkaHealth {
  present: Health;
  /** What librdkafka said last of its connections. */
  trouble = '';
  private readonly now: () => number;
  private readonly notify: Notify;

  constructor(now: () => number, notify: Notify) {
    this.now = now;
    this.notify = notify;
    this.present = { up: false, sinceMs: now(), reason: 'not open yet' };
  }

  /** '' while it is up. Told when it changes. */
  mark(reason: string): void {
    const up = reason === '';
    if (this.present.reason === reason && this.present.up === up) return;
    const wasOpen = this.present.reason !== 'not open yet';
    const sinceMs = this.present.up === up ? this.present.sinceMs : this.now();
    const change = this.present.up !== up;
    this.present = { up, sinceMs, reason };
    if (!wasOpen && up) return;
    if (up) this.notify({ level: 'info', event: 'log_up', text: 'Kafka answers again' });
    else if (change)
      this.notify({ level: 'warn', event: 'log_down', text: `Kafka does not answer: ${reason}` });
  }

  closed(): void {
    this.present = { up: false, sinceMs: this.now(), reason: 'it is closed' };
  }
}
