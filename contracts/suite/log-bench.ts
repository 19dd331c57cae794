/** What a case of the Log suite works with: logs on a place of its own, and the words to say what it means. */
import assert from 'node:assert/strict';
import { operatingError } from '../errors.ts';
import type {
  ConsumerOptions,
  Log,
  LogConsumer,
  LogRecord,
  LogSupports,
  Produced,
  Step,
  StoredRecord,
  TopicSpec,
} from '../log.ts';
import { inPlace, within, type Case } from './runner.ts';

/** Their names are nobody's: an adapter knows no topic by name. */
export const EVENTS = 'suite-events';
export const OUTPUT = 'suite-output';
export const STATE = 'suite-state';
export const TOPICS: readonly TopicSpec[] = [
  { name: EVENTS, compacted: false },
  { name: OUTPUT, compacted: false },
  { name: STATE, compacted: true },
];

/** How the suite gets at what is tested. */
export interface LogUnderTest {
  supports: LogSupports;
  /** Makes a log; `open()` is the suite's. The same namespace and folder are the same storage. */
  create(place: LogPlace): Log | Promise<Log>;
  /** Ends the server as a power cut would, and starts it again. */
  crash?: () => Promise<void>;
}

export interface LogPlace {
  namespace: string;
  folder: string;
  topics: readonly TopicSpec[];
  partitions: number;
}

export type LogCase = Case<LogBench, LogSupports>;

const WAIT_MS = 30_000;
const POLL_MS = 200;
const CLOSE_MS = 15_000;

export class LogBench {
  readonly supports: LogSupports;
  /** Of topics that are made, unless a case says otherwise. */
  readonly partitions: number;
  private readonly tested: LogUnderTest;
  private readonly place: { folder: string; namespace: string };
  private readonly opened: Log[] = [];

  private constructor(tested: LogUnderTest, place: { folder: string; namespace: string }) {
    this.tested = tested;
    this.place = place;
    this.supports = tested.supports;
    this.partitions = tested.supports.partitions ? 3 : 1;
  }

  /** Runs one case, and closes what it has left open. */
  static async use(tested: LogUnderTest, run: (bench: LogBench) => Promise<void>): Promise<void> {
    await inPlace(async (place) => {
      const bench = new LogBench(tested, place);
      try {
        await run(bench);
      } finally {
        for (const log of bench.opened)
          await within(CLOSE_MS, 'closing the log', log.close()).catch(() => undefined); // The case has its result.
      }
    });
  }

  /** A log on this case's storage: the same one as before, in another life or another process. */
  async open(more: Partial<LogPlace> = {}): Promise<Log> {
    const place = { ...this.place, topics: TOPICS, partitions: this.partitions, ...more };
    const log = await this.tested.create(place);
    this.opened.push(log);
    await log.open();
    return log;
  }

  /** Closes it and opens the storage again. */
  async reopen(log: Log, more: Partial<LogPlace> = {}): Promise<Log> {
    await log.close();
    return await this.open(more);
  }

  /** A second process on the same storage, or the same log where it is one process's own. */
  async beside(log: Log): Promise<Log> {
    return this.supports.processes ? await this.open() : log;
  }

  async crash(): Promise<void> {
    assert.ok(this.tested.crash, 'a case that crashes is skipped without a way to');
    await this.tested.crash();
  }
}

export const record = (
  key: string,
  value: string,
  headers: Record<string, string> = {},
): LogRecord => ({ key, value: Buffer.from(value), headers });

export const produced = (
  topic: string,
  key: string,
  value: string,
  partition?: number,
): Produced => ({
  ...record(key, value),
  topic,
  ...(partition === undefined ? {} : { partition }),
});

export const numbered = (key: string, count: number): LogRecord[] =>
  Array.from({ length: count }, (_, at) => record(key, String(at)));

export const texts = (records: readonly LogRecord[]): string[] =>
  records.map(({ value }) => value.toString());

export const reader = (
  log: Log,
  group: string,
  more: Partial<ConsumerOptions> = {},
): Promise<LogConsumer> =>
  log.consumer({ group, topic: EVENTS, from: 'start', bytesMax: 1 << 20, ...more });

/** Polls until so many have come. */
export async function take(consumer: LogConsumer, count: number): Promise<StoredRecord[]> {
  const records: StoredRecord[] = [];
  const deadline = performance.now() + WAIT_MS;
  while (records.length < count && performance.now() < deadline)
    records.push(...(await consumer.poll(POLL_MS)));
  assert.ok(
    records.length >= count,
    `${records.length} of ${count} records came within ${WAIT_MS} ms`,
  );
  return records;
}

/** Polls until everything that is there was returned. */
export async function drain(
  consumer: LogConsumer,
  partitions: number,
  onRecords: (records: StoredRecord[]) => Promise<void> | void = () => undefined,
): Promise<StoredRecord[]> {
  const records: StoredRecord[] = [];
  const deadline = performance.now() + WAIT_MS;
  while (consumer.ended().size < partitions) {
    assert.ok(performance.now() < deadline, `the end was not reached within ${WAIT_MS} ms`);
    const some = await consumer.poll(POLL_MS);
    records.push(...some);
    if (some.length > 0) await onRecords(some);
  }
  return records;
}

/** Everything in a topic, as a new group finds it. */
export async function all(log: Log, topic: string): Promise<StoredRecord[]> {
  const consumer = await reader(log, `all-${topic}-${readers++}`, { topic });
  const records = await drain(consumer, log.partitions);
  await consumer.close();
  return records;
}
let readers = 0;

export function offsetsAfter(records: readonly StoredRecord[]): Map<number, number> {
  const offsets = new Map<number, number>();
  for (const { partition, offset } of records)
    offsets.set(partition, Math.max(offsets.get(partition) ?? 0, offset + 1));
  return offsets;
}

/** What is given of these records, and the place behind them. */
export const step = (records: StoredRecord[], produce: Step['produce'] = []): Step => ({
  produce,
  offsets: offsetsAfter(records),
});

/** Waits until something holds. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WAIT_MS;
  while (!(await holds())) {
    assert.ok(performance.now() < deadline, `${what}: not within ${WAIT_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The code that work was refused with, 'done' when it was not. */
export async function outcome(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'done';
  } catch (error) {
    return operatingError(error)?.code ?? `no code: ${String(error)}`;
  }
}
