/**
 * A log on another machine, which may be away when a collector starts. Everything else opens all the same: the log is tried
 * again until it is there, and meanwhile every question to it is LOG_UNAVAILABLE with the present reason. So whoever uses a log
 * meets at a start what it would meet when the log goes away later.
 *
 * - `open` resolves when the log is open, or cannot be opened now: after `PATIENCE_MS` at the latest. It rejects only for what
 *   waiting does not mend, as a setting that is not accepted.
 * - Each try is a log of its own, made of the configuration, so that files with secrets are read anew.
 * - A reason is told when it is found, again when it changes, and that the log is there.
 */
import { isRetryable } from '../../contracts/errors.ts';
import { Backoff } from '../../shared/env/backoff.ts';
import { monotonicMs, processTime, wallMs, type Time } from '../../shared/env/env.ts';
import { Rest, within } from '../../shared/env/timers.ts';
import { adapterName } from '../../shared/config/spec.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { Told } from '../../shared/telemetry/told.ts';
import type {
  ConsumerOptions,
  GroupStats,
  Health,
  Log,
  LogConsumer,
  LogRecord,
  Optional,
  Watch,
} from './log.ts';

export interface AwaitedParts {
  /** As it is configured: `kafka://HOST:PORT`. */
  address: string;
  make: () => Promise<Log>;
  notify: Notify;
  time?: Time;
}

/** A start waits no longer for a log that gives no answer. */
const PATIENCE_MS = 5000;
const AGAIN = { firstMs: 500, mostMs: 5000 };
const MEANWHILE =
  'it is tried again; until it answers nothing is taken in, and gateways keep what they have';

/**
 * Until it is open nobody knows whether it has what a log need not have: whoever asks hears that, but for what is no question
 * before there was a log.
 */
const UNKNOWN: Record<keyof Optional, boolean> = {
  ...{ first: true, next: true, committedBy: true, groupNames: true },
  ...{ hasLost: false, madeUp: false },
};

export class AwaitedLog implements Log {
  /** Resolves once it is open; never where it is closed before. */
  readonly opened: Promise<void>;
  private resolveOpened: () => void = () => undefined;
  private readonly parts: AwaitedParts;
  private readonly time: Time;
  private readonly rest: Rest;
  private log: Log | undefined;
  /** The one that is being tried. */
  private tried: Log | undefined;
  private waiting: Health;
  private readonly told = new Told();
  private trying: Promise<void> = Promise.resolve();
  private isClosed = false;

  constructor(parts: AwaitedParts) {
    this.parts = parts;
    this.time = parts.time ?? processTime;
    this.rest = new Rest(this.time.timers);
    for (const [name, isAsked] of Object.entries(UNKNOWN))
      if (isAsked) Object.assign(this, { [name]: () => this.notYet() });
    this.waiting = { up: false, sinceMs: wallMs(this.time), reason: 'it has not answered yet' };
    this.opened = new Promise((resolve) => {
      this.resolveOpened = resolve;
    });
  }

  /** Throws CONFIG_INVALID, ADAPTER_MISSING, ADAPTER_CONTRACT. */
  async open(): Promise<void> {
    const first = this.attempt();
    // What is wrong with the settings is known before anybody is asked, so it does not come later.
    const failure = await within(this.time.timers, PATIENCE_MS, first);
    if (failure !== undefined && !isRetryable(failure)) throw failure;
    if (this.log !== undefined) return;
    if (failure === undefined) this.tell(`it has given no answer in ${PATIENCE_MS / 1000} s`);
    this.trying = this.again(first);
  }

  private async again(first: Promise<unknown>): Promise<void> {
    const backoff = new Backoff(AGAIN);
    let failure = await first;
    while (this.log === undefined && !this.isClosed) {
      this.tell(messageOf(failure));
      await this.rest.for(backoff.next());
      if (!this.isClosed) failure = await this.attempt();
    }
  }

  /** What it failed with. */
  private async attempt(): Promise<unknown> {
    try {
      const log = await this.parts.make();
      this.tried = log;
      await log.open();
      if (this.isClosed) throw new HeadwaterError('LOG_UNAVAILABLE', 'it was closed');
      this.tried = undefined;
      this.there(log);
      return undefined;
    } catch (error) {
      const { tried } = this;
      this.tried = undefined;
      await tried?.close();
      return error;
    }
  }

  private there(log: Log): void {
    const { notify } = this.parts;
    this.log = log;
    this.takeOptional(log);
    for (const text of log.warnings()) notify({ level: 'warn', event: 'log', text });
    if (this.told.isTold) {
      const seconds = Math.round((wallMs(this.time) - this.waiting.sinceMs) / 1000);
      const text = `${this.where} answers, after ${seconds} s`;
      notify({ level: 'info', event: 'log_up', text });
    }
    this.resolveOpened();
  }

  private takeOptional(log: Log): void {
    const own = this as Partial<Optional>;
    for (const name of Object.keys(UNKNOWN) as (keyof Optional)[]) {
      if (log[name] === undefined) delete own[name];
      else Object.assign(own, { [name]: log[name].bind(log) });
    }
  }

  private get where(): string {
    return `the log at ${this.parts.address}`;
  }

  private tell(why: string): void {
    if (this.isClosed) return;
    this.waiting = { ...this.waiting, reason: why };
    if (!this.told.isDue(why, monotonicMs(this.time))) return;
    const text = `${this.where} cannot be used: ${why}; ${MEANWHILE}`;
    this.parts.notify({ level: 'warn', event: 'log_down', text });
  }

  private get unavailable(): HeadwaterError {
    const text = `the log is not open yet: ${this.waiting.reason}`;
    return new HeadwaterError('LOG_UNAVAILABLE', text);
  }

  private async notYet(): Promise<never> {
    return await Promise.reject(this.unavailable);
  }

  /** Throws LOG_UNAVAILABLE. */
  private get present(): Log {
    if (this.log === undefined) throw this.unavailable;
    return this.log;
  }

  // ---- the log ----

  get kind(): string {
    return this.log?.kind ?? adapterName(this.parts.address);
  }

  /** Until it is known it is one. */
  get partitions(): number {
    return this.log?.partitions ?? 1;
  }

  async append(topic: string, records: LogRecord[]): Promise<void> {
    await this.present.append(topic, records);
  }

  async consumer(options: ConsumerOptions): Promise<LogConsumer> {
    return await this.present.consumer(options);
  }

  async state(topic: string, partition: number, keyPrefix: string): Promise<LogRecord[]> {
    return await this.present.state(topic, partition, keyPrefix);
  }

  async watch(topic: string, onRecords: (records: LogRecord[]) => void): Promise<Watch> {
    return await this.present.watch(topic, onRecords);
  }

  async forget(group: string): Promise<void> {
    await this.present.forget(group);
  }

  groups(): GroupStats[] {
    return this.log?.groups() ?? [];
  }

  health(): Health {
    return this.log?.health() ?? this.waiting;
  }

  warnings(): string[] {
    return this.log?.warnings() ?? [];
  }

  async close(): Promise<void> {
    this.isClosed = true;
    this.rest.wake();
    await this.tried?.close();
    await this.trying;
    await this.log?.close();
  }
}
