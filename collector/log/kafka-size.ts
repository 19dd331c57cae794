/**
 * What a topic takes of one record, and records made to fit: split as their topic says, state in parts. Decided before
 * anything is sent: a record that is refused in a transaction takes the transaction with it.
 */
import { HeadwaterError } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { recordBytes } from './fit.ts';
import { MESSAGE_BYTES_MAX } from './kafka-client.ts';
import { Parts } from './kafka-parts.ts';
import { mendCommand } from './kafka-topics.ts';
import type { Produced, TopicSpec } from './log.ts';

const TELL_EVERY_MS = 60_000;
/** What Kafka adds to a record and its batch, bytes. */
const RECORD_OVERHEAD_BYTES = 128;
/** Of librdkafka: most that it sends to a partition at once. */
const BATCH_BYTES = 1_000_000;
/** No topic is thought to take less. */
const LIMIT_BYTES_MIN = 1000;
/** A record of another topic may be what one is made of. */
const DEPTH_MAX = 4;

export interface SizeOptions {
  brokers: string;
  topics: readonly TopicSpec[];
  /** With the prefix. */
  name: (topic: string) => string;
  partitionOf: (key: string) => number;
  now: () => number;
  notify: Notify;
}

export class RecordSize {
  /** Largest record that a topic takes, where Kafka has said so. */
  bytesMax: ReadonlyMap<string, number> = new Map();
  readonly parts = new Parts();
  private readonly options: SizeOptions;
  private readonly specs: ReadonlyMap<string, TopicSpec>;
  private readonly told = new Map<string, number>();

  constructor(options: SizeOptions) {
    this.options = options;
    this.specs = new Map(options.topics.map((topic) => [topic.name, topic]));
  }

  /** `batch.size` of a producer: brokers compare a whole batch with the topic's limit, not each of its records. */
  get batchBytes(): number {
    return Math.min(BATCH_BYTES, ...this.bytesMax.values());
  }

  /** As records that their topics take. Throws LOG_TOO_LARGE where one cannot be made smaller. */
  fit(records: readonly Produced[]): readonly Produced[] {
    if (records.every((record) => this.isSmall(record))) return records;
    return records.flatMap((record) => (this.isSmall(record) ? record : this.fitOne(record, 0)));
  }

  private isSmall({ topic, key, value }: Produced): boolean {
    if (value.length + key.length * 2 >= this.limitOf(topic) / 2) return false;
    return !this.parts.areThere || !this.isCompacted(topic);
  }

  /** A broker has refused some of these, and nobody says why: the topic of the largest takes less than it. */
  refused(records: readonly Produced[]): void {
    const largest = records.reduce<Produced | undefined>(
      (most, each) => (most !== undefined && recordBytes(most) >= recordBytes(each) ? most : each),
      undefined,
    );
    if (largest === undefined) return;
    const { topic } = largest;
    const limit = Math.min(this.limitOf(topic), recordBytes(largest) + RECORD_OVERHEAD_BYTES);
    this.bytesMax = new Map([
      ...this.bytesMax,
      [topic, Math.max(LIMIT_BYTES_MIN, Math.floor(limit / 2))],
    ]);
  }

  private limitOf(topic: string): number {
    return this.bytesMax.get(topic) ?? MESSAGE_BYTES_MAX;
  }

  private isCompacted(topic: string): boolean {
    return this.specs.get(topic)?.compacted === true;
  }

  private fitOne(record: Produced, depth: number): Produced[] {
    const { topic, key } = record;
    const most = this.limitOf(topic) - RECORD_OVERHEAD_BYTES;
    const bytes = recordBytes(record);
    if (this.isCompacted(topic)) {
      const partition = record.partition ?? this.options.partitionOf(key);
      const made = this.parts.outgoing({ ...record, partition }, bytes, most);
      if (made !== undefined) return made;
    }
    if (bytes <= most) return [record];
    const text = this.tell(topic, bytes);
    const split = this.specs.get(topic)?.split;
    if (split === undefined || depth === DEPTH_MAX) throw new HeadwaterError('LOG_TOO_LARGE', text);
    return split(record, most).flatMap((part) => this.fitOne(part, depth + 1));
  }

  private tell(topic: string, bytes: number): string {
    const { brokers, now, notify, name } = this.options;
    const limit = this.limitOf(topic);
    const text = `a record of ${bytes} bytes is larger than topic ${name(topic)} takes: its max.message.bytes is ${limit}`;
    if (limit < MESSAGE_BYTES_MAX && now() - (this.told.get(topic) ?? 0) >= TELL_EVERY_MS) {
      this.told.set(topic, now());
      const mend = mendCommand(brokers, name(topic), 'max.message.bytes', MESSAGE_BYTES_MAX);
      notify({ level: 'warn', event: 'log_too_large', text: `${text}; mend it: ${mend}` });
    }
    return text;
  }
}
