/**
 * A member of a group in PostgreSQL. Members that live share the partitions in one order; each has a lease, which the
 * transaction of a step locks and looks at.
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
import { toRecord, type PostgresLog, type Row } from './log.ts';

const LOOK_EVERY_MS = 20;
const BALANCE_EVERY_MS = 300;
const READ_RECORDS_MAX = 500;

export class PostgresConsumer implements LogConsumer {
  private readonly log: PostgresLog;
  private readonly options: ConsumerOptions;
  private readonly onClose: () => void;
  private readonly token = randomUUID();
  /** Partition → offset of the next record to return. */
  private readonly positions = new Map<number, number>();
  /** Partition → offset that its next record will have, when it was looked at. */
  private readonly ends = new Map<number, number>();
  private balancedAt = Number.NEGATIVE_INFINITY;
  private heartbeat: NodeJS.Timeout | undefined;
  private closed = false;

  constructor(log: PostgresLog, options: ConsumerOptions, onClose: () => void) {
    this.log = log;
    this.options = options;
    this.onClose = onClose;
  }

  private get isWatcher(): boolean {
    return this.options.from === 'end' || this.options.watches === true;
  }

  private async end(partition: number): Promise<number> {
    const [row] = await this.log.database.run<{ next: string }>(
      'SELECT next FROM ends WHERE topic = $1 AND part = $2',
      [this.options.topic, partition],
    );
    return Number(row?.next ?? 0);
  }

  async start(): Promise<void> {
    if (this.isWatcher) {
      for (let partition = 0; partition < this.log.partitions; partition++)
        this.positions.set(partition, this.options.from === 'end' ? await this.end(partition) : 0);
      return;
    }
    await this.balance();
    this.heartbeat = setInterval(() => {
      // A sign of life that does not arrive is found out by the next poll or commit.
      this.keep().catch(() => undefined);
    }, this.log.leaseMs / 4);
    this.heartbeat.unref();
  }

  /** A sign of life. All members that live, in one order. */
  private async alive(): Promise<string[]> {
    const { group, topic } = this.options;
    const { database, leaseMs } = this.log;
    await database.run(
      `INSERT INTO members VALUES ($1, $2, $3, now() + $4 * interval '1 ms')
       ON CONFLICT (grp, topic, token) DO UPDATE SET until = excluded.until`,
      [group, topic, this.token, leaseMs],
    );
    await database.run('DELETE FROM members WHERE until < now()');
    const rows = await database.run<{ token: string }>(
      'SELECT token FROM members WHERE grp = $1 AND topic = $2 ORDER BY token',
      [group, topic],
    );
    return rows.map(({ token }) => token);
  }

  /** Takes or keeps a lease: it is this member's afterwards, or another's that lives. */
  private async holds(partition: number): Promise<boolean> {
    const { group, topic } = this.options;
    const rows = await this.log.database.run(
      `INSERT INTO leases AS l VALUES ($1, $2, $3, $4, now() + $5 * interval '1 ms')
       ON CONFLICT (grp, topic, part) DO UPDATE SET token = $4, until = excluded.until
         WHERE l.token = $4 OR l.until < now()
       RETURNING 1`,
      [group, topic, partition, this.token, this.log.leaseMs],
    );
    return rows.length > 0;
  }

  private async release(partition: number): Promise<void> {
    const { group, topic } = this.options;
    await this.log.database.run(
      'DELETE FROM leases WHERE grp = $1 AND topic = $2 AND part = $3 AND token = $4',
      [group, topic, partition, this.token],
    );
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
      if (!isMine) {
        this.lose(partition);
        await this.release(partition);
      } else if (await this.holds(partition)) await this.take(partition);
    }
    this.balancedAt = performance.now();
  }

  /** Where this consumer goes on in a partition that it holds. */
  private async take(partition: number): Promise<void> {
    const { group, topic, onAssign } = this.options;
    const [row] = await this.log.database.run<{ next: string }>(
      'SELECT next FROM positions WHERE grp = $1 AND topic = $2 AND part = $3',
      [group, topic, partition],
    );
    const committed = row === undefined ? undefined : Number(row.next);
    const own = await onAssign?.(partition, committed);
    const end = await this.end(partition);
    this.ends.set(partition, end);
    // Beyond the end it is of another log: what this one has was not read.
    this.positions.set(
      partition,
      [own, committed].find((each) => each !== undefined && each <= end) ?? 0,
    );
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
    const from = this.positions.get(partition) ?? 0;
    // First: what is appended meanwhile is not counted as read.
    const end = await this.end(partition);
    this.ends.set(partition, end);
    if (from >= end) return [];
    // The running sum is the server's, so that no more crosses the network than may be returned.
    const rows = await this.log.database.run<Row & { before: string }>(
      `SELECT * FROM (
         SELECT pos, key, headers, value, sum(length(value)) OVER (ORDER BY pos) AS through, row_number() OVER (ORDER BY pos) AS at
         FROM (SELECT * FROM journal WHERE topic = $1 AND part = $2 AND pos >= $3 ORDER BY pos LIMIT ${READ_RECORDS_MAX}) AS page
       ) AS summed WHERE through <= $4 OR at = 1 ORDER BY pos`,
      [this.options.topic, partition, from, this.options.bytesMax],
    );
    const records = rows.map((row) => ({ ...toRecord(row), partition, offset: Number(row.pos) }));
    const last = records.at(-1);
    // Another may have taken it over while it was read.
    if (last === undefined || !this.positions.has(partition)) return [];
    this.positions.set(partition, last.offset + 1);
    return records;
  }

  async commit(step: Step): Promise<void> {
    const { group, topic } = this.options;
    try {
      for (const partition of step.offsets.keys())
        if (!this.positions.has(partition))
          throw new AdapterError(
            'LOG_FENCED',
            `PostgreSQL: partition ${partition} is another's now`,
          );
      await this.log.commit(group, topic, this.token, step);
    } catch (error) {
      // Where it goes on, and the state that belongs to it, are read again.
      for (const partition of [...this.positions.keys()]) this.lose(partition);
      this.balancedAt = Number.NEGATIVE_INFINITY;
      throw error;
    }
  }

  ended(): ReadonlySet<number> {
    return new Set(
      [...this.positions].flatMap(([partition, next]) =>
        next >= (this.ends.get(partition) ?? Infinity) ? [partition] : [],
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
      else lagRecords += Math.max(0, end - next);
    }
    return { group, topic, lagRecords };
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.onClose();
    clearInterval(this.heartbeat);
    if (this.isWatcher) return;
    const { group, topic } = this.options;
    try {
      for (const partition of this.positions.keys()) await this.release(partition);
      await this.log.database.run(
        'DELETE FROM members WHERE grp = $1 AND topic = $2 AND token = $3',
        [group, topic, this.token],
      );
    } catch {
      // PostgreSQL is away: the leases run out by themselves.
    }
    this.positions.clear();
  }
}
