/**
 * A log of somebody else's package, so that nothing it throws is more than an operating error: by its code where it has
 * one of ours, else as LOG_UNAVAILABLE with the adapter's name. The stage waits, says so and tries again.
 */
import { CONTRACT_ERRORS, operatingError, type ContractErrorCode } from '../../contracts/errors.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type {
  ConsumerOptions,
  GroupStats,
  Health,
  Log,
  LogConsumer,
  LogRecord,
  Watch,
} from './log.ts';

export class GuardedLog implements Log {
  private readonly log: Log;
  private readonly name: string;
  /** What a log need not have is there where it has it. */
  first?: NonNullable<Log['first']>;
  next?: NonNullable<Log['next']>;
  committedBy?: NonNullable<Log['committedBy']>;
  groupNames?: NonNullable<Log['groupNames']>;
  hasLost?: NonNullable<Log['hasLost']>;

  constructor(log: Log, name: string) {
    this.log = log;
    this.name = name;
    const { first, next, committedBy, groupNames, hasLost } = log;
    if (first !== undefined)
      this.first = (topic, partition) => this.guard(() => first.call(log, topic, partition));
    if (next !== undefined)
      this.next = (topic, partition) => this.guard(() => next.call(log, topic, partition));
    if (hasLost !== undefined)
      this.hasLost = () =>
        this.answer(
          () => hasLost.call(log),
          () => false,
        );
    if (groupNames !== undefined) this.groupNames = () => this.guard(() => groupNames.call(log));
    if (committedBy !== undefined)
      this.committedBy = (group, topic) => this.guard(() => committedBy.call(log, group, topic));
  }

  get kind(): string {
    return this.name;
  }

  get partitions(): number {
    return this.log.partitions;
  }

  private error(error: unknown): HeadwaterError {
    if (error instanceof HeadwaterError) return error;
    const known = operatingError(error)?.code ?? '';
    const code = Object.hasOwn(CONTRACT_ERRORS, known)
      ? (known as ContractErrorCode)
      : 'LOG_UNAVAILABLE';
    return new HeadwaterError(code, `log ${this.name}: ${messageOf(error)}`, { cause: error });
  }

  private async guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw this.error(error);
    }
  }

  /** What is asked for a page or a metric has an answer, whatever the adapter does. */
  private answer<T>(work: () => T, otherwise: (text: string) => T): T {
    try {
      return work();
    } catch (error) {
      return otherwise(this.error(error).message);
    }
  }

  open(): Promise<void> {
    return this.guard(() => this.log.open());
  }

  append(topic: string, records: LogRecord[]): Promise<void> {
    return this.guard(() => this.log.append(topic, records));
  }

  async consumer(options: ConsumerOptions): Promise<LogConsumer> {
    const consumer = await this.guard(() => this.log.consumer(options));
    return {
      poll: (waitMs) => this.guard(() => consumer.poll(waitMs)),
      commit: (step) => this.guard(() => consumer.commit(step)),
      ended: () =>
        this.answer(
          () => consumer.ended(),
          () => new Set<number>(),
        ),
      close: () => this.guard(() => consumer.close()),
    };
  }

  state(topic: string, partition: number, keyPrefix: string): Promise<LogRecord[]> {
    return this.guard(() => this.log.state(topic, partition, keyPrefix));
  }

  watch(topic: string, onRecords: (records: LogRecord[]) => void): Promise<Watch> {
    return this.guard(() => this.log.watch(topic, onRecords));
  }

  groups(): GroupStats[] {
    return this.answer(
      () => this.log.groups(),
      () => [],
    );
  }

  forget(group: string): Promise<void> {
    return this.guard(() => this.log.forget(group));
  }

  health(): Health {
    return this.answer(
      () => this.log.health(),
      (reason) => ({ up: false, sinceMs: 0, reason }),
    );
  }

  warnings(): string[] {
    return this.answer(
      () => this.log.warnings(),
      (text) => [text],
    );
  }

  close(): Promise<void> {
    return this.guard(() => this.log.close());
  }
}
