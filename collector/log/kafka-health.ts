/** Whether Kafka answers, as it was found last; told when that changes. */
import type { Notify } from '../../shared/telemetry/log.ts';
import type { Health } from './log.ts';

const OF_ACCESS = /ssl|certificate|sasl|authenticat/i;
/** librdkafka of a broker, by the address that it gave of itself. */
const OF_BROKER = /([^\s/]+:\d+)\/\d+: /;
/** A reason that comes and goes is no line each time. */
const NEWS_MS = 10_000;
const FAILURE_MS = 60_000;
/** Without librdkafka's counts and times, which are no news. */
const plain = (reason: string): string => reason.replaceAll(/\s*\(after [^)]*\)+/g, '');

export class KafkaHealth {
  present: Health;
  /** What librdkafka said last of its connections. */
  trouble = '';
  private toldMs = Number.NEGATIVE_INFINITY;
  private toldReason = '';
  private failure: { text: string; at: number } | undefined;
  private readonly now: () => number;
  private readonly explain: () => Promise<string>;
  private readonly notify: Notify;
  private readonly brokers: string;

  /** `explain` finds out why no connection comes about, '' if one does: librdkafka says little of certificates, passwords and brokers that call themselves otherwise. */
  constructor(now: () => number, explain: () => Promise<string>, notify: Notify, brokers = '') {
    this.brokers = brokers;
    this.now = now;
    this.explain = explain;
    this.notify = notify;
    this.present = { up: false, sinceMs: now(), reason: 'not open yet' };
  }

  /** It does not answer, as librdkafka or a request says. */
  async down(reason: string): Promise<void> {
    const why = this.trouble || reason;
    const place = OF_BROKER.exec(why)?.[1] ?? '';
    const isElsewhere = place !== '' && !this.brokers.split(',').includes(place);
    this.mark(OF_ACCESS.test(why) || isElsewhere ? (await this.explain()) || why : why);
  }

  /** Something could not be written, which an answer to a question does not mend; '' when something was. */
  wrote(failure: string): void {
    this.failure = failure === '' ? undefined : { text: failure, at: this.now() };
  }

  /** It answers. `reason`: why it cannot be used as it must be nonetheless, if that is known. */
  answers(reason: string): void {
    const { failure } = this;
    // Nothing is written where nothing comes: an old failure says nothing of now.
    const isFresh = failure !== undefined && this.now() - failure.at < FAILURE_MS;
    this.mark(reason || (isFresh ? failure.text : ''), 'cannot be used');
  }

  /** '' while it is up. Told when it changes, and when the reason does. */
  mark(reason: string, how = 'does not answer'): void {
    const up = reason === '';
    const { present } = this;
    const isSame = present.reason === reason && present.up === up;
    const isUntold =
      !up && plain(reason) !== this.toldReason && this.now() - this.toldMs >= NEWS_MS;
    // Why it cannot be used is told, if it came too soon after another line, once that is over; why it does not answer varies.
    if (isSame && !(isUntold && how !== 'does not answer')) return;
    const wasOpen = present.reason !== 'not open yet';
    const sinceMs = present.up === up ? present.sinceMs : this.now();
    const isNews = present.up !== up || isUntold;
    this.present = { up, sinceMs, reason };
    if (up) this.trouble = '';
    if (!wasOpen && up) return;
    if (up || isNews) {
      this.toldMs = this.now();
      this.toldReason = plain(reason);
    }
    if (up) this.notify({ level: 'info', event: 'log_up', text: 'Kafka answers again' });
    else if (isNews)
      this.notify({ level: 'warn', event: 'log_down', text: `Kafka ${how}: ${reason}` });
  }

  closed(): void {
    this.present = { up: false, sinceMs: this.now(), reason: 'it is closed' };
  }
}
