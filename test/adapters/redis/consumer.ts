/**
 * A member of a group on Redis. Partitions are leased: the members that live share them in one order, a lease runs out
 * with its member's sign of life, and a step is written only where the lease is still the writer's (`scripts.ts`).
 */
import { randomUUID } from 'node:crypto';
import {
  AdapterError,
  type ConsumerOptions,
  type GroupStats,
  type LogConsumer,
  type Step,
  type StoredRecord,
} from '@headwater/contracts';
import { texts } from './connection.ts';
import type { RedisLog } from './log.ts';
import { ALIVE, LEASE, RELEASE } from './scripts.ts';

const LOOK_EVERY_MS = 20;
const BALANCE_EVERY_MS = 300;
const READ_RECORDS_MAX = 500;
/** Streams count from here. */
const FIRST = 1;

type Entry = [Buffer, Buffer[]];

export class RedisConsumer implements LogConsumer {
  private readonly log: RedisLog;
  private readonly options: ConsumerOptions;
  private readonly onClose: () => void;
  private readonly token = randomUUID();
  /** Partition → offset of the next record to return. */
  private readonly positions = new Map<number, number>();
  /** Partition → offset of its last record, when it was looked at. */
  private readonly ends = new Map<number, number>();
  private balancedAt = Number.NEGATIVE_INFINITY;
  private heartbeat: NodeJS.Timeout | undefined;
  private bytesPerRecord = 0;
  private closed = false;

  constructor(log: RedisLog, options: ConsumerOptions, onClose: () => void) {
    this.log = log;
    this.options = options;
    this.onClose = onClose;
  }

  private get isWatcher(): boolean {
    return this.options.from === 'end' || this.options.watches === true;
  }

  private lease(partition: number): string {
    return this.log.key('lease', this.options.group, this.options.topic, partition);
  }

  private stream(partition: number): string {
    return this.log.key('stream', this.options.topic, partition);
  }

  private async end(partition: number): Promise<number> {
    return Number(await this.log.connection.call('GET', `${this.stream(partition)}:end`));
  }

  async start(): Promise<void> {
    const { group, topic, from } = this.options;
    if (this.isWatcher) {
      for (let partition = 0; partition < this.log.partitions; partition++)
        this.positions.set(partition, from === 'end' ? (await this.end(partition)) + 1 : FIRST);
      return;
    }
    await this.log.connection.call('SADD', this.log.key('groups', topic), group);
    await this.balance();
    this.heartbeat = setInterval(() => {
      // A sign of life that does not arrive is found out by the next poll or commit.
      this.keep().catch(() => undefined);
    }, this.log.leaseMs / 4);
    this.heartbeat.unref();
  }

  private async alive(): Promise<string[]> {
    const { group, topic } = this.options;
    const key = this.log.key('members', group, topic);
    return texts(
      await this.log.connection.call('EVAL', ALIVE, 0, key, this.token, this.log.leaseMs),
    );
  }

  private async holds(partition: number): Promise<boolean> {
    const { connection, leaseMs } = this.log;
    const lease = this.lease(partition);
    return Number(await connection.call('EVAL', LEASE, 0, lease, this.token, leaseMs)) === 1;
  }

  private async keep(): Promise<void> {
    await this.alive();
    for (const partition of [...this.positions.keys()])
      if (!(await this.holds(partition))) this.lose(partition);
  }

  private lose(partition: number): void {
    if (!this.positions.delete(partition)) return;
    this.ends.delete(partition);
    this.options.onRevoke?.(partition);
  }

  /** Gives up what is another's share, and takes what is this member's and free. */
  private async balance(): Promise<void> {
    if (this.isWatcher || performance.now() - this.balancedAt < BALANCE_EVERY_MS) return;
    const members = await this.alive();
    const mine = members.indexOf(this.token);
    for (let partition = 0; partition < this.log.partitions; partition++) {
      const isMine = partition % members.length === mine;
      if (isMine === this.positions.has(partition)) continue;
      if (isMine) {
        if (await this.holds(partition)) await this.take(partition);
      } else {
        this.lose(partition);
        await this.log.connection.call('EVAL', RELEASE, 0, this.lease(partition), this.token);
      }
    }
    this.balancedAt = performance.now();
  }

  /** Where this consumer goes on in a partition that it holds. */
  private async take(partition: number): Promise<void> {
    const { group, topic, onAssign } = this.options;
    const field = `${topic}/${partition}`;
    const found: unknown = await this.log.connection.call(
      'HGET',
      this.log.key('offsets', group),
      field,
    );
    const committed = found === null ? undefined : Number(found);
    const own = await onAssign?.(partition, committed);
    const end = await this.end(partition);
    this.ends.set(partition, end);
    // Beyond the end it is of another log: what this one has was not read.
    const valid = [own, committed].find((each) => each !== undefined && each <= end + 1);
    this.positions.set(partition, Math.max(FIRST, valid ?? FIRST));
  }

  async poll(waitMs: number): Promise<StoredRecord[]> {
    const deadline = performance.now() + waitMs;
    for (;;) {
      if (this.closed) return [];
      await this.balance();
      for (const partition of [...this.positions.keys()]) {
        const records = await this.read(partition);
        if (records.length > 0) return records;
      }
      if (performance.now() >= deadline) return [];
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
  }

  private async read(partition: number): Promise<StoredRecord[]> {
    const { connection } = this.log;
    const from = this.positions.get(partition) ?? FIRST;
    // First: what is appended meanwhile is not counted as read.
    this.ends.set(partition, await this.end(partition));
    const entries = (await connection.call(
      'XRANGE',
      this.stream(partition),
      `${from}-0`,
      '+',
      'COUNT',
      READ_RECORDS_MAX,
    )) as Entry[];
    const records: StoredRecord[] = [];
    let bytes = 0;
    for (const [id, [, key, , headers, , value]] of entries) {
      bytes += value?.length ?? 0;
      if (records.length > 0 && bytes > this.options.bytesMax) break;
      records.push({
        key: String(key),
        value: value as Buffer,
        headers: JSON.parse(String(headers)) as Record<string, string>,
        partition,
        offset: Number(String(id).split('-')[0]),
      });
    }
    const last = records.at(-1);
    // Another may have taken it over while it was read.
    if (last === undefined || !this.positions.has(partition)) return [];
    this.bytesPerRecord = bytes / records.length;
    this.positions.set(partition, last.offset + 1);
    return records;
  }

  async commit({ produce, offsets }: Step): Promise<void> {
    const { group, topic } = this.options;
    try {
      for (const partition of offsets.keys())
        if (!this.positions.has(partition))
          throw new AdapterError('LOG_FENCED', `Redis: partition ${partition} is another's now`);
      await this.log.write(produce, { token: this.token, group, topic, offsets });
    } catch (error) {
      // Where it goes on, and the state that belongs to it, are read again.
      for (const partition of [...this.positions.keys()]) this.lose(partition);
      this.balancedAt = Number.NEGATIVE_INFINITY;
      throw error;
    }
    for (const partition of offsets.keys())
      await this.log.trim(topic, partition, this.bytesPerRecord);
  }

  ended(): ReadonlySet<number> {
    return new Set(
      [...this.positions].flatMap(([partition, next]) =>
        next > (this.ends.get(partition) ?? Infinity) ? [partition] : [],
      ),
    );
  }

  stats(): GroupStats | undefined {
    const { group, topic } = this.options;
    if (this.isWatcher) return undefined;
    let lagRecords: number | null = this.positions.size === 0 ? null : 0;
    for (const [partition, next] of this.positions) {
      const end = this.ends.get(partition);
      if (lagRecords === null || end === undefined) lagRecords = null;
      else lagRecords += Math.max(0, end + 1 - next);
    }
    return { group, topic, lagRecords };
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.onClose();
    clearInterval(this.heartbeat);
    if (this.isWatcher) return;
    const { connection } = this.log;
    const members = this.log.key('members', this.options.group, this.options.topic);
    try {
      for (const partition of this.positions.keys())
        await connection.call('EVAL', RELEASE, 0, this.lease(partition), this.token);
      await connection.call('ZREM', members, this.token);
    } catch {
      // Redis is away: the leases run out by themselves.
    }
    this.positions.clear();
  }
}
