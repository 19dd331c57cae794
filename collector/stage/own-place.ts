/**
 * Where a stage has come to in a partition, kept in the log's state beside what it makes and committed with it. What a consumer
 * group has committed can be moved or deleted by anybody with an administrator's tools, and Kafka forgets it in time; this not.
 */
import type { LogRecord, Produced, StoredRecord } from '../../contracts/log.ts';
import { crc32c } from '../../shared/frame/crc32c.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Offsets } from './membership.ts';

/** The last record read, so that another log under the same name is known for what it is. */
export type Seen = [offset: number, checksum: number];

export const seenOf = ({ offset, value }: StoredRecord): Seen => [offset, crc32c(value)];

const isPlace = (value: unknown): value is number => Number.isSafeInteger(value);

/** A stage's places as numbers, one record of state for each partition: `topic` is where its state is kept. */
export class OwnPlaces {
  private readonly topic: string;
  private readonly prefix: string;

  constructor(topic: string, prefix: string) {
    this.topic = topic;
    this.prefix = prefix;
  }

  protected key(partition: number): string {
    return `${this.prefix}${partition}`;
  }

  /** What state says, if it says anything. */
  in(records: readonly LogRecord[], partition: number): number | undefined {
    const text = this.textIn(records, partition);
    const next = text === undefined ? undefined : Number(text);
    return isPlace(next) ? next : undefined;
  }

  protected textIn(records: readonly LogRecord[], partition: number): string | undefined {
    const known = records.find(({ key }) => key === this.key(partition));
    return known === undefined || known.value.length === 0
      ? undefined
      : known.value.toString('utf8');
  }

  protected record(partition: number, text: string): Produced {
    const { topic } = this;
    return { topic, partition, key: this.key(partition), headers: {}, value: Buffer.from(text) };
  }

  /** To be committed with these offsets. */
  records(offsets: Offsets): Produced[] {
    return [...offsets].map(([partition, next]) => this.record(partition, String(next)));
  }
}

/**
 * The same for a stage to which it does no harm to read a record twice: the one before its place is read once more, and where
 * that is another one, the topic is not the one that was read (made anew, or put back from a copy) and is read from its beginning.
 */
export class CheckedPlaces extends OwnPlaces {
  /** Partition → the record that comes first, if the log is the same. */
  private readonly expected = new Map<number, Seen>();
  private readonly last = new Map<number, Seen>();
  /** Read from their beginning when they are loaded next. */
  private readonly restarts = new Set<number>();

  /** Where to go on; undefined: state says nothing. `first`: the oldest offset that the log has. */
  load(records: readonly LogRecord[], partition: number, first: number): number | undefined {
    this.expected.delete(partition);
    this.last.delete(partition);
    if (this.restarts.has(partition)) return first;
    const text = this.textIn(records, partition);
    if (text === undefined) return undefined;
    const { next, last } = JSON.parse(text) as { next: number; last?: Seen };
    if (last === undefined || last[0] < first) return next;
    this.expected.set(partition, last);
    this.last.set(partition, last);
    return last[0];
  }

  /** Those that were not read before. Throws STORE_RESET where another log has begun. */
  fresh(records: readonly StoredRecord[]): StoredRecord[] {
    if (this.expected.size === 0) return [...records];
    return records.filter((record) => {
      const { partition, offset } = record;
      const seen = this.expected.get(partition);
      this.expected.delete(partition);
      if (seen === undefined || offset !== seen[0]) return true;
      if (seenOf(record)[1] === seen[1]) return false;
      this.restarts.add(partition);
      throw new HeadwaterError(
        'STORE_RESET',
        `partition ${partition} has another record at offset ${offset} than was read: the topic was made anew, or put back from a copy; it is read from its beginning, and what is known already counts once`,
      );
    });
  }

  /** To be committed with these offsets, after a step over these records. */
  after(records: readonly StoredRecord[], offsets: Offsets): Produced[] {
    const latest = new Map(records.map((record) => [record.partition, record]));
    return [...offsets].map(([partition, next]) => {
      const record = latest.get(partition);
      if (record !== undefined) this.last.set(partition, seenOf(record));
      this.restarts.delete(partition);
      const last = this.last.get(partition);
      return this.record(partition, JSON.stringify({ next, ...(last && { last }) }));
    });
  }
}
