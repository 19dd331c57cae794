/** The log in PostgreSQL: rows, and a transaction for what has to happen as one. */
import {
  AdapterError,
  partitionOf,
  type ConsumerOptions,
  type GroupStats,
  type Health,
  type Log,
  type LogConsumer,
  type LogContext,
  type LogRecord,
  type Produced,
  type Step,
  type Watch,
} from '@headwater/contracts';
import { PostgresConsumer } from './consumer.ts';
import { Database, type Run } from './database.ts';
import { watchState } from './watch.ts';

export interface Row {
  part: number;
  pos: string;
  key: string;
  headers: string;
  value: Buffer;
}

export const toRecord = ({ key, headers, value }: Omit<Row, 'part' | 'pos'>): LogRecord => ({
  key,
  value,
  headers: JSON.parse(headers) as Record<string, string>,
});

/**
 * `ends` has the next offset of every partition; whoever appends holds its row until the commit, so that offsets become
 * visible in their order. `changes` are those of compacted topics, numbered by a row of `ends` as well.
 */
const TABLES = `
  CREATE TABLE IF NOT EXISTS meta (name text PRIMARY KEY, value text NOT NULL);
  CREATE TABLE IF NOT EXISTS ends (topic text, part int, next bigint NOT NULL, PRIMARY KEY (topic, part));
  CREATE TABLE IF NOT EXISTS journal (topic text, part int, pos bigint, key text NOT NULL, headers text NOT NULL,
    value bytea NOT NULL, PRIMARY KEY (topic, part, pos));
  CREATE TABLE IF NOT EXISTS state (topic text, part int, key text, headers text NOT NULL, value bytea NOT NULL,
    PRIMARY KEY (topic, part, key));
  CREATE TABLE IF NOT EXISTS changes (topic text, pos bigint, key text NOT NULL, headers text NOT NULL,
    value bytea NOT NULL, PRIMARY KEY (topic, pos));
  CREATE TABLE IF NOT EXISTS positions (grp text, topic text, part int, next bigint NOT NULL, PRIMARY KEY (grp, topic, part));
  CREATE TABLE IF NOT EXISTS members (grp text, topic text, token text, until timestamptz NOT NULL, PRIMARY KEY (grp, topic, token));
  CREATE TABLE IF NOT EXISTS leases (grp text, topic text, part int, token text NOT NULL, until timestamptz NOT NULL,
    PRIMARY KEY (grp, topic, part));`;

const KEPT_AT_LEAST = 256;
const CHANGES_KEPT = 10_000;

type Context = Pick<
  LogContext,
  'address' | 'namespace' | 'topics' | 'partitions' | 'retired' | 'nowMs'
>;

export class PostgresLog implements Log {
  readonly kind = 'postgresql';
  readonly database: Database;
  readonly leaseMs: number;
  private readonly context: Context;
  partitions: number;
  private readonly compacted: ReadonlySet<string>;
  private readonly consumers = new Set<PostgresConsumer>();
  private said: string[] = [];
  private closing: Promise<void> | undefined;

  constructor(context: Context & { options: { user: string; password: string; leaseMs: number } }) {
    const { address, namespace, nowMs, options, partitions, topics } = context;
    this.context = context;
    this.leaseMs = options.leaseMs;
    const { user, password } = options;
    const unavailable = 'LOG_UNAVAILABLE';
    const place = {
      address,
      schema: namespace,
      tables: TABLES,
      unavailable,
      user,
      password,
    } as const;
    this.database = new Database(place, nowMs);
    this.partitions = partitions;
    this.compacted = new Set(topics.filter(({ compacted }) => compacted).map(({ name }) => name));
  }

  async open(): Promise<void> {
    const { database, context } = this;
    await database.open();
    // The first one decides: keys, and state beside them, stay where they are.
    await database.run("INSERT INTO meta VALUES ('partitions', $1) ON CONFLICT DO NOTHING", [
      String(context.partitions),
    ]);
    const [meta] = await database.run<{ value: string }>(
      "SELECT value FROM meta WHERE name = 'partitions'",
    );
    this.partitions = Number(meta?.value);
    const [fsync] = await database.run<{ fsync: string }>('SHOW fsync');
    this.said =
      fsync?.fsync === 'on'
        ? []
        : ['PostgreSQL runs with fsync off: a power cut can lose what was acknowledged'];
  }

  async append(topic: string, records: LogRecord[]): Promise<void> {
    await this.database.transaction((run) =>
      this.write(
        run,
        records.map((record) => ({ ...record, topic })),
      ),
    );
  }

  /** In a transaction. Partitions are locked in one order, so that two writers never wait for each other. */
  private async write(run: Run, produce: readonly Produced[]): Promise<void> {
    const groups = new Map<string, Produced[]>();
    for (const record of produce) {
      const partition = record.partition ?? partitionOf(record.key, this.partitions);
      const name = JSON.stringify([record.topic, partition]);
      groups.set(name, [...(groups.get(name) ?? []), record]);
    }
    for (const name of [...groups.keys()].sort()) {
      const [topic, partition] = JSON.parse(name) as [string, number];
      const records = groups.get(name) ?? [];
      if (this.compacted.has(topic)) await this.change(run, topic, partition, records);
      else
        await this.insert(run, 'journal (topic, part,', '$1, $2::int,', topic, partition, records);
    }
  }

  private async insert(
    run: Run,
    columns: string,
    first: string,
    topic: string,
    partition: number,
    records: readonly LogRecord[],
  ): Promise<void> {
    await run(
      `WITH moved AS (
         INSERT INTO ends VALUES ($1, $2::int, $3::bigint)
         ON CONFLICT (topic, part) DO UPDATE SET next = ends.next + $3::bigint RETURNING next)
       INSERT INTO ${columns} pos, key, headers, value)
       SELECT ${first} moved.next - $3::bigint + at - 1, key, headers, value
       FROM moved, unnest($4::text[], $5::text[], $6::bytea[]) WITH ORDINALITY AS r (key, headers, value, at)`,
      [
        topic,
        partition,
        records.length,
        records.map(({ key }) => key),
        records.map(({ headers }) => JSON.stringify(headers)),
        records.map(({ value }) => value),
      ],
    );
  }

  private async change(
    run: Run,
    topic: string,
    partition: number,
    records: readonly LogRecord[],
  ): Promise<void> {
    // The row -1 of a topic numbers its changes; whoever holds it is alone with the topic's state.
    await this.insert(run, 'changes (topic,', '$1,', topic, -1, records);
    const last = new Map(records.map((record) => [record.key, record]));
    for (const { key, headers, value } of last.values()) {
      const place = [topic, partition, key];
      if (value.length === 0)
        await run('DELETE FROM state WHERE topic = $1 AND part = $2 AND key = $3', place);
      else
        await run(
          `INSERT INTO state VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT (topic, part, key) DO UPDATE SET headers = $4, value = $5`,
          [...place, JSON.stringify(headers), value],
        );
    }
    await run(
      `DELETE FROM changes WHERE topic = $1 AND pos <
         (SELECT next FROM ends WHERE topic = $1 AND part = -1) - ${CHANGES_KEPT}`,
      [topic],
    );
  }

  /** Throws LOG_FENCED where a partition of it is no longer the token's. */
  async commit(group: string, topic: string, token: string, step: Step): Promise<void> {
    await this.database.transaction(async (run) => {
      for (const [partition, next] of [...step.offsets].sort(([a], [b]) => a - b)) {
        const [lease] = await run<{ token: string }>(
          'SELECT token FROM leases WHERE grp = $1 AND topic = $2 AND part = $3 FOR UPDATE',
          [group, topic, partition],
        );
        if (lease?.token !== token)
          throw new AdapterError(
            'LOG_FENCED',
            `PostgreSQL: partition ${partition} of ${topic} belongs to another member now`,
          );
        await run(
          `INSERT INTO positions VALUES ($1, $2, $3, $4)
           ON CONFLICT (grp, topic, part) DO UPDATE SET next = $4`,
          [group, topic, partition, next],
        );
      }
      await this.write(run, step.produce);
    });
    for (const partition of step.offsets.keys()) await this.trim(topic, partition);
  }

  /** Cuts a partition at the front: what every group has read, but for what the topic keeps. */
  private async trim(topic: string, partition: number): Promise<void> {
    const keep = this.context.topics.find(({ name }) => name === topic)?.trimBytes;
    if (keep === undefined || !Number.isFinite(keep)) return;
    await this.database.run(
      `DELETE FROM journal WHERE topic = $1 AND part = $2 AND pos < (
         SELECT least(
           (SELECT min(next) FROM positions WHERE topic = $1 AND part = $2 AND NOT grp = ANY ($5::text[])),
           (SELECT next FROM ends WHERE topic = $1 AND part = $2) - greatest($4::bigint,
             ($3::float8 / greatest(1, (SELECT avg(length(value)) FROM (
               SELECT value FROM journal WHERE topic = $1 AND part = $2 ORDER BY pos DESC LIMIT 100) newest)))::bigint))
         WHERE NOT EXISTS (SELECT FROM members m WHERE m.topic = $1 AND NOT EXISTS (
           SELECT FROM positions p WHERE p.grp = m.grp AND p.topic = $1 AND p.part = $2)))`,
      [topic, partition, keep, KEPT_AT_LEAST, [...this.context.retired]],
    );
  }

  async consumer(options: ConsumerOptions): Promise<LogConsumer> {
    const consumer = new PostgresConsumer(this, options, () => this.consumers.delete(consumer));
    this.consumers.add(consumer);
    try {
      await consumer.start();
    } catch (error) {
      await consumer.close();
      throw error;
    }
    return consumer;
  }

  async state(topic: string, partition: number, keyPrefix: string): Promise<LogRecord[]> {
    const rows = await this.database.run<Row>(
      'SELECT key, headers, value FROM state WHERE topic = $1 AND part = $2 AND starts_with(key, $3)',
      [topic, partition, keyPrefix],
    );
    return rows.map(toRecord);
  }

  watch(topic: string, onRecords: (records: LogRecord[]) => void): Promise<Watch> {
    return watchState(this.database, topic, onRecords);
  }

  groups(): GroupStats[] {
    return [...this.consumers].flatMap((consumer) => consumer.stats() ?? []);
  }

  async forget(group: string): Promise<void> {
    await this.database.run('DELETE FROM positions WHERE grp = $1', [group]);
  }

  health(): Health {
    return this.database.health;
  }

  warnings(): string[] {
    return this.said;
  }

  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  private async end(): Promise<void> {
    for (const consumer of [...this.consumers]) await consumer.close();
    await this.database.close();
  }
}
