/**
 * A log of somebody else's package: see `collector/guard.ts`. A consumer that has given no answer is not asked again: the
 * stage leaves it, and the log fences what it may still do.
 */
import type { Notify } from '../../shared/telemetry/log.ts';
import type { Time } from '../../shared/env/env.ts';
import {
  Guard,
  NOTHING,
  SENTENCES,
  WRITE_MS,
  isListOf,
  isObject,
  isText,
  isTexts,
  isWhole,
  shape,
  type Shape,
} from '../guard.ts';
import type {
  ConsumerOptions,
  GroupStats,
  Health,
  Log,
  LogConsumer,
  LogRecord,
  Optional,
  StoredRecord,
  Watch,
} from './log.ts';

const isRecord = (value: unknown): value is Record<string, unknown> =>
  isObject(value) &&
  isText(value['key']) &&
  Buffer.isBuffer(value['value']) &&
  isTexts(value['headers']);

const RECORDS = shape<LogRecord[]>('a list of records', isListOf(isRecord));
const STORED = shape<StoredRecord[]>(
  'a list of records with partition and offset',
  isListOf((each) => isRecord(each) && isWhole(each['partition']) && isWhole(each['offset'])),
);
const CONSUMER = shape<LogConsumer>('a consumer', (value) => has(value, 'poll', 'commit', 'close'));
const WATCH = shape<Watch>('a watch', (value) => has(value, 'close'));
const GROUPS = shape<GroupStats[]>(
  'a list of groups',
  isListOf(
    (each) =>
      isObject(each) &&
      isText(each['group']) &&
      isText(each['topic']) &&
      (each['lagRecords'] === null || isWhole(each['lagRecords'])),
  ),
);
const HEALTH = shape<Health>(
  'a health',
  (value) =>
    isObject(value) &&
    typeof value['up'] === 'boolean' &&
    Number.isFinite(value['sinceMs']) &&
    isText(value['reason']),
);
const OFFSET = shape<number>('an offset', isWhole);
const OFFSETS = shape<Map<number, number>>(
  'a Map of offsets',
  (value) =>
    value instanceof Map &&
    [...value].every(([partition, at]) => isWhole(partition) && isWhole(at)),
);
const PARTITIONS = shape<ReadonlySet<number>>('a Set', (value) => value instanceof Set);
const COUNT = shape<number>('a number of partitions', (value) => isWhole(value) && value > 0);
const TRUTH = shape<boolean>('true or false', (value) => typeof value === 'boolean');

function has(value: unknown, ...methods: string[]): boolean {
  return isObject(value) && methods.every((name) => typeof value[name] === 'function');
}

export const LOG_METHODS = [
  ...(['open', 'append', 'consumer', 'state', 'watch', 'groups', 'forget', 'health'] as const),
  ...(['warnings', 'close'] as const),
] as const;

/** Those that it has, guarded. */
function optionalOf(log: Log, guard: Guard): Partial<Optional> {
  const all: Optional = {
    first: (topic, at) => guard.call('first', () => log.first?.(topic, at), OFFSET),
    next: (topic, at) => guard.call('next', () => log.next?.(topic, at), OFFSET),
    committedBy: (group, topic) =>
      guard.call('committedBy', () => log.committedBy?.(group, topic), OFFSETS),
    groupNames: () => guard.call('groupNames', () => log.groupNames?.(), SENTENCES),
    hasLost: (of) =>
      guard.answer(
        'hasLost',
        () => log.hasLost?.(of),
        TRUTH,
        () => false,
      ),
    madeUp: (of) => guard.write('madeUp', () => log.madeUp?.(of)),
  };
  const has = (name: string): boolean => log[name as keyof Optional] !== undefined;
  return Object.fromEntries(Object.entries(all).filter(([name]) => has(name)));
}

export class GuardedLog implements Log {
  readonly kind: string;
  private readonly log: Log;
  private readonly guard: Guard;
  private readonly notify: Notify;

  constructor(log: Log, name: string, notify: Notify, time?: Time) {
    this.log = log;
    this.kind = name;
    this.notify = notify;
    const guard = new Guard('log', name, 'LOG_UNAVAILABLE', time);
    this.guard = guard;
    Object.assign(this, optionalOf(log, guard));
  }

  get partitions(): number {
    return this.guard.answer(
      'partitions',
      () => this.log.partitions,
      COUNT,
      () => 1,
    );
  }

  async open(): Promise<void> {
    await this.guard.write('open', () => this.log.open());
    const { partitions } = this.log;
    if (!COUNT.fits(partitions)) throw this.guard.failure('it says no number of partitions');
  }

  append(topic: string, records: LogRecord[]): Promise<void> {
    return this.guard.write('append', () => this.log.append(topic, records));
  }

  async consumer(options: ConsumerOptions): Promise<LogConsumer> {
    let isClosed = false;
    const { onAssign, onRevoke } = options;
    const guarded: ConsumerOptions = {
      ...options,
      // A consumer that was closed has no partitions, whatever it still says.
      ...(onAssign === undefined
        ? {}
        : {
            onAssign: async (partition, committed) => {
              const isPlace = isWhole(partition) && (committed === undefined || isWhole(committed));
              if (!isPlace) throw this.guard.failure('it assigns what is no partition');
              return isClosed ? undefined : await onAssign(partition, committed);
            },
          }),
      ...(onRevoke === undefined
        ? {}
        : { onRevoke: (partition) => void (isClosed || onRevoke(partition)) }),
    };
    const { guard } = this;
    const work = (): unknown => this.log.consumer(guarded);
    const consumer = await guard.call('consumer', work, CONSUMER, WRITE_MS);
    let isLost = false;
    const asked = async <T>(name: string, work: () => unknown, gives: Shape<T>): Promise<T> => {
      if (isLost) throw guard.failure('this consumer has given no answer, and is left');
      return await guard.call(name, work, gives, WRITE_MS, () => (isLost = true));
    };
    return {
      poll: (waitMs) => asked('poll', () => consumer.poll(waitMs), STORED),
      commit: async (step) => {
        await asked('commit', () => consumer.commit(step), NOTHING);
      },
      ended: () =>
        guard.answer(
          'ended',
          () => consumer.ended(),
          PARTITIONS,
          () => new Set(),
        ),
      close: async () => {
        isClosed = true;
        await guard.close(() => consumer.close());
      },
    };
  }

  state(topic: string, partition: number, keyPrefix: string): Promise<LogRecord[]> {
    const work = (): unknown => this.log.state(topic, partition, keyPrefix);
    return this.guard.call('state', work, RECORDS, WRITE_MS);
  }

  async watch(topic: string, onRecords: (records: LogRecord[]) => void): Promise<Watch> {
    let isClosed = false;
    let isTold = false;
    const take = (records: unknown): void => {
      if (isClosed) return;
      if (RECORDS.fits(records)) return onRecords(records);
      if (isTold) return;
      isTold = true;
      const { message } = this.guard.failure(`a watch of ${topic} gives what are no records`);
      this.notify({ level: 'error', event: 'log_watch', text: message });
    };
    const watch = await this.guard.call(
      'watch',
      () => this.log.watch(topic, take),
      WATCH,
      WRITE_MS,
    );
    return {
      close: async () => {
        isClosed = true;
        await this.guard.close(() => watch.close());
      },
    };
  }

  groups(): GroupStats[] {
    return this.guard.answer(
      'groups',
      () => this.log.groups(),
      GROUPS,
      () => [],
    );
  }

  forget(group: string): Promise<void> {
    return this.guard.write('forget', () => this.log.forget(group));
  }

  health(): Health {
    const down = (reason: string): Health => ({ up: false, sinceMs: 0, reason });
    return this.guard.answer('health', () => this.log.health(), HEALTH, down);
  }

  warnings(): string[] {
    return this.guard.answer(
      'warnings',
      () => this.log.warnings(),
      SENTENCES,
      (why) => [why],
    );
  }

  close(): Promise<void> {
    return this.guard.close(() => this.log.close());
  }
}
