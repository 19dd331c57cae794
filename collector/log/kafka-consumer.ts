/**
 * A member of a consumer group on Kafka, with the transactions of its steps.
 *
 * Assigned partitions are read only after their state was loaded. After a step that was not committed it joins the
 * group anew and goes on from what is committed.
 */
import { operatingError } from '../../contracts/errors.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import {
  MESSAGE_BYTES_MAX,
  OFFSET_BEGINNING,
  OFFSET_END,
  POLL_RECORDS_MAX,
  call,
  committedOf,
  stored,
  unavailable,
} from './kafka-client.ts';
import {
  type ConsumerOptions,
  type GroupStats,
  type LogConsumer,
  type Step,
  type StoredRecord,
} from './log.ts';
import { Order } from './kafka-order.ts';
import { Transactions, type TransactedLog } from './kafka-transaction.ts';
import type * as RdKafka from './rdkafka-types.ts';

const LAG_EVERY_MS = 2000;
/**
 * A call to the library holds one of libuv's four threads while it waits. A collector has more consumers than that: they
 * wait here, and look into the library's queue for a moment only.
 */
const CONSUME_MS = 2;
const LOOK_EVERY_MS = 15;

/** What a consumer needs of its log. */
export interface ConsumedLog extends TransactedLog {
  readonly partitions: number;
  /** A group as Kafka knows it. */
  group(group: string): string;
  /** A connection that nobody waits for any more: the log does, when it closes. */
  leaving(gone: Promise<void>): void;
}

export class KafkaConsumer implements LogConsumer {
  private readonly log: ConsumedLog;
  private readonly options: ConsumerOptions;
  private readonly onClose: () => void;
  private readonly transactions: Transactions;
  private consumer: RdKafka.KafkaConsumer | undefined;
  private assigned = new Set<number>();
  /** The group has told this member what is its part, be it nothing. */
  private hasPart = false;
  /** Partition → offset of the next record that `poll` has not returned. */
  private readonly positions = new Map<number, number>();
  /** Partition → its end, where that was reached. The event may come before the records in front of it are returned. */
  private readonly atEnd = new Map<number, number>();
  private readonly order: Order;
  private readonly ends: { partition: number; offset: number }[] = [];
  /** The topic is another one than was read: no place in it counts. */
  private isAnew = false;
  /** Read from the library, and more than one poll may return. */
  private held: StoredRecord[] = [];
  private rebalancing: Promise<void> = Promise.resolve();
  private failure: HeadwaterError | undefined;
  /** Null until this member has its part of the group, and has seen where that ends. */
  private lagRecords: number | null = null;
  private lagTimer: NodeJS.Timeout | undefined;
  private closing = false;

  constructor(log: ConsumedLog, options: ConsumerOptions, onClose: () => void) {
    this.log = log;
    this.options = options;
    this.onClose = onClose;
    this.transactions = new Transactions(log, log.group(options.group));
    this.order = new Order(this.topic, (partition) => this.lowOf(partition));
  }

  private lowOf(partition: number): number {
    try {
      return this.consumer?.getWatermarkOffsets(this.topic, partition).lowOffset ?? -1;
    } catch {
      return -1; // Not known before the first answer.
    }
  }

  private get isWatcher(): boolean {
    return this.options.from === 'end' || this.options.watches === true;
  }

  /** Where a watcher goes on: after what it has seen, also when it has to begin anew. */
  private get beginning(): number {
    return this.options.from === 'end' ? OFFSET_END : OFFSET_BEGINNING;
  }

  /** As Kafka knows it; undefined for one that is in none. */
  get group(): string | undefined {
    return this.isWatcher ? undefined : this.log.group(this.options.group);
  }

  /** As Kafka knows it. */
  get topic(): string {
    return this.log.name(this.options.topic);
  }

  async start(): Promise<void> {
    const { log, options } = this;
    const consumer: RdKafka.KafkaConsumer = new log.kafka.KafkaConsumer(
      {
        ...log.common,
        'group.id': log.group(options.group),
        'enable.auto.commit': false,
        'isolation.level': 'read_committed',
        'enable.partition.eof': true,
        'partition.assignment.strategy': 'range',
        'session.timeout.ms': 10_000,
        'max.poll.interval.ms': 300_000,
        'fetch.wait.max.ms': 20,
        'fetch.message.max.bytes': MESSAGE_BYTES_MAX,
        'queued.max.messages.kbytes': 16 * 1024,
        rebalance_cb: (error: RdKafka.KafkaError, assignment: RdKafka.TopicPartition[]) =>
          this.rebalance(consumer, error, assignment),
      },
      { 'auto.offset.reset': options.from === 'start' ? 'earliest' : 'latest' },
    );
    consumer.on('event.error', () => undefined); // A lost broker comes back; a failed poll says so itself.
    // The end of a partition lies behind the markers of transactions, which are no records: without it a lag would stay.
    consumer.on('partition.eof', ({ partition, offset }) => {
      this.positions.set(partition, offset);
      this.atEnd.set(partition, offset);
      // It comes before the records in front of it do.
      this.ends.push({ partition, offset });
    });
    await log.connect(consumer);
    this.consumer = consumer;
    consumer.setDefaultConsumeTimeout(CONSUME_MS);
    // A watcher sees every partition and commits nothing: no group, no waiting for one.
    if (this.isWatcher) {
      const placed: RdKafka.TopicPartitionOffset[] = [];
      for (let partition = 0; partition < log.partitions; partition++) {
        const offset = (await options.onAssign?.(partition, undefined)) ?? this.beginning;
        // Its end may be heard of before its first record.
        this.order.begin(partition, offset);
        placed.push({ topic: this.topic, partition, offset });
      }
      this.assigned = new Set(placed.map(({ partition }) => partition));
      return void consumer.assign(placed);
    }
    consumer.subscribe([this.topic]);
    this.lagTimer = setInterval(() => this.measureLag(), LAG_EVERY_MS);
    this.lagTimer.unref();
  }

  private rebalance(
    consumer: RdKafka.KafkaConsumer,
    error: RdKafka.KafkaError,
    assignment: RdKafka.TopicPartition[],
  ): void {
    const { ERRORS } = this.log.kafka.CODES;
    if (error.code === ERRORS.ERR__ASSIGN_PARTITIONS) {
      this.rebalancing = this.take(consumer, assignment).catch((cause: unknown) => {
        this.failure = unavailable('taking over partitions', cause);
      });
    } else {
      for (const { partition } of assignment) {
        this.assigned.delete(partition);
        this.positions.delete(partition);
        this.atEnd.delete(partition);
        this.order.end(partition);
        this.held = this.held.filter((record) => record.partition !== partition);
        this.options.onRevoke?.(partition);
      }
      this.hasPart = false;
      this.lagRecords = null;
      // Also while it closes: a revocation that is not answered would hold up `disconnect` for good.
      consumer.unassign();
    }
  }

  /** Loads the state of assigned partitions before any record of them is read. */
  private async take(
    consumer: RdKafka.KafkaConsumer,
    assignment: RdKafka.TopicPartition[],
  ): Promise<void> {
    const placed: RdKafka.TopicPartitionOffset[] = [];
    const { onAssign } = this.options;
    const known = await committedOf(consumer, assignment);
    for (const { topic, partition } of assignment) {
      const committed = this.isAnew ? undefined : known.get(partition);
      const own = await onAssign?.(partition, committed);
      const at = this.isAnew ? undefined : (own ?? committed);
      placed.push({ topic, partition, offset: at ?? this.beginning });
      this.order.begin(partition, at ?? -1);
    }
    this.isAnew = false;
    if (consumer !== this.consumer) {
      consumer.unassign();
      return;
    }
    consumer.assign(placed);
    for (const { partition } of assignment) this.assigned.add(partition);
    this.hasPart = true;
  }

  async poll(waitMs: number): Promise<StoredRecord[]> {
    await this.rebalancing;
    const { consumer, failure } = this;
    if (failure !== undefined) {
      this.failure = undefined;
      await this.abandon();
      throw failure;
    }
    if (consumer === undefined)
      throw new HeadwaterError('LOG_UNAVAILABLE', 'Kafka: the consumer is closed');
    const deadline = performance.now() + waitMs;
    for (;;) {
      if (this.held.length > 0) return this.portion();
      const messages = await call<RdKafka.Message[]>(`reading ${this.topic}`, (done) =>
        consumer.consume(POLL_RECORDS_MAX, done),
      );
      await this.rebalancing;
      this.held = messages.filter(({ partition }) => this.assigned.has(partition)).map(stored);
      for (const { partition, offset } of this.held) this.follow(partition, offset, true);
      for (const { partition, offset } of this.ends.splice(0))
        this.follow(partition, offset, false);
      if (this.failure !== undefined) return await this.poll(0);
      if (this.held.length > 0) return this.portion();
      if (performance.now() >= deadline || this.closing) return [];
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
  }

  /** What does not follow what was read is read anew, from where its stage says. */
  private follow(partition: number, offset: number, isRecord: boolean): void {
    if (!this.assigned.has(partition)) return;
    const wrong = this.order.sees(partition, offset, isRecord);
    // A compacted topic that is watched has gaps of its own; from its end nothing is missed.
    if (wrong === undefined || (this.isWatcher && offset > 0)) return;
    this.failure ??= wrong;
  }

  /** What one poll may return of what is held. */
  private portion(): StoredRecord[] {
    let count = 0;
    let bytes = 0;
    for (const { value } of this.held) {
      bytes += value.length;
      if (count > 0 && bytes > this.options.bytesMax) break;
      count++;
    }
    const records = this.held.splice(0, count);
    for (const { partition, offset } of records) {
      this.positions.set(partition, Math.max(offset + 1, this.positions.get(partition) ?? 0));
      if (offset >= (this.atEnd.get(partition) ?? Infinity)) this.atEnd.delete(partition);
    }
    return records;
  }

  /**
   * Topics were made anew, its own (`isOwn`) or others that its stage writes to or keeps its state in: the next poll says so, and
   * begins with what is there. Of its own what was read counts no more: offsets of then would skip what is there now.
   */
  madeAnew(isOwn: boolean): void {
    const text = isOwn
      ? `Kafka: ${this.topic} was made anew: it is read again from its beginning`
      : 'Kafka: topics were made anew: what is known of them is read again';
    this.failure = new HeadwaterError('LOG_UNAVAILABLE', text);
    this.isAnew ||= isOwn;
    this.held = [];
    this.lagRecords = null;
  }

  async commit({ produce, offsets }: Step): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    const { consumer } = this;
    if (consumer === undefined)
      throw new HeadwaterError('LOG_UNAVAILABLE', 'Kafka: the consumer is closed');
    const positions = [...offsets].map(([partition, offset]) => ({
      topic: this.topic,
      partition,
      offset,
    }));
    try {
      for (const partition of offsets.keys()) {
        if (!this.assigned.has(partition))
          throw new HeadwaterError(
            'LOG_FENCED',
            `Kafka: partition ${partition} of ${this.topic} belongs to another collector now`,
          );
      }
      if (produce.length === 0) {
        await this.commitOffsets(consumer, positions);
        return;
      }
      const fitted = this.log.fit(produce);
      await this.transactions.commit(consumer, fitted, positions);
    } catch (error) {
      await this.abandon();
      throw operatingError(error) !== undefined ? error : unavailable('committing', error);
    }
  }

  private commitOffsets(
    consumer: RdKafka.KafkaConsumer,
    positions: RdKafka.TopicPartitionOffset[],
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      try {
        // Blocks for one round trip; a stage without output commits a few times a second.
        consumer.commitSync(positions);
        resolve();
      } catch (error) {
        reject(unavailable('committing offsets', error));
      }
    });
  }

  /** After a failed step: abort, drop the producer, and read again from what is committed. */
  private async abandon(): Promise<void> {
    await this.transactions.abort();
    await this.restart();
  }

  /** Joins the group anew: assignment loads state and offsets as they are committed. */
  private async restart(): Promise<void> {
    clearInterval(this.lagTimer);
    const { consumer } = this;
    this.consumer = undefined;
    this.assigned.clear();
    this.positions.clear();
    this.atEnd.clear();
    this.held = [];
    this.hasPart = false;
    this.lagRecords = null;
    if (consumer !== undefined)
      await new Promise<void>((resolve) => consumer.disconnect(() => resolve()));
    if (this.closing) return;
    for (;;) {
      try {
        await this.start();
        return;
      } catch (error) {
        if (this.closing) return;
        this.failure = unavailable('coming back', error);
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
  }

  renewToken(token: string): void {
    this.consumer?.setOauthBearerToken(token);
    this.transactions.renewToken(token);
  }

  private measureLag(): void {
    const { consumer } = this;
    if (consumer === undefined || !consumer.isConnected()) return;
    let lag: number | null = this.hasPart ? 0 : null;
    for (const partition of this.assigned) {
      const position = this.positions.get(partition);
      let end = -1;
      try {
        end = consumer.getWatermarkOffsets(this.topic, partition).highOffset;
      } catch {
        // Not known before the first fetch of the partition.
      }
      if (lag === null || position === undefined || end < 0) lag = null;
      else lag += Math.max(0, end - position);
    }
    this.lagRecords = lag === null ? null : lag + this.held.length;
  }

  ended(): ReadonlySet<number> {
    const held = new Set(this.held.map(({ partition }) => partition));
    return new Set([...this.atEnd.keys()].filter((partition) => !held.has(partition)));
  }

  lag(): GroupStats | undefined {
    const { group, topic } = this.options;
    return this.isWatcher ? undefined : { group, topic, lagRecords: this.lagRecords };
  }

  async close(): Promise<void> {
    if (this.closing) return;
    this.closing = true;
    this.onClose();
    clearInterval(this.lagTimer);
    await this.rebalancing;
    const { consumer } = this;
    this.consumer = undefined;
    if (consumer === undefined) return await this.transactions.close();
    const gone = new Promise<void>((resolve) => consumer.disconnect(() => resolve()));
    // It takes a second, and a stop has many of them: a watcher is missed by no group.
    if (this.isWatcher) return this.log.leaving(gone);
    await gone;
    await this.transactions.close();
  }
}
