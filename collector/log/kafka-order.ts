/**
 * Whether what a consumer reads of a partition follows what it has read: between two records lie ends of transactions and what
 * was compacted, which are nobody's loss. Where the partition begins behind what comes next, records were deleted before
 * anybody of this group had read them; where it goes back, the topic is another one.
 */
import { HeadwaterError } from '../../shared/errors.ts';

export class Order {
  /** Partition → offset that comes next. */
  private readonly next = new Map<number, number>();
  /** Partitions of which nothing has come yet: a place beyond their end is of another log, and Kafka begins with what there is. */
  private readonly begun = new Set<number>();
  private readonly topic: string;
  /** Oldest offset of a partition, as the last answer of its broker had it; -1: not known. */
  private readonly lowOf: (partition: number) => number;

  constructor(topic: string, lowOf: (partition: number) => number) {
    this.topic = topic;
    this.lowOf = lowOf;
  }

  /** It is read from here. */
  begin(partition: number, offset: number): void {
    this.begun.add(partition);
    if (offset >= 0) this.next.set(partition, offset);
    else this.next.delete(partition);
  }

  end(partition: number): void {
    this.next.delete(partition);
  }

  /**
   * A record is at this offset, or (not `isRecord`) the end of what there is, which may have been left behind by now. What is
   * wrong with that: LOG_UNAVAILABLE, since the partition is read anew then.
   */
  sees(partition: number, offset: number, isRecord: boolean): HeadwaterError | undefined {
    const expected = this.next.get(partition);
    const comes = isRecord ? offset + 1 : Math.max(offset, expected ?? 0);
    this.next.set(partition, comes);
    if (expected === undefined || offset === expected) {
      if (isRecord) this.begun.delete(partition);
      return undefined;
    }
    const place = `Kafka: ${this.topic}/${partition}`;
    const isFirst = isRecord && this.begun.delete(partition);
    if (offset < expected) {
      if (isFirst) return undefined;
      const text = `${place} goes back from offset ${expected} to ${offset}: the topic was made anew`;
      return isRecord ? new HeadwaterError('LOG_UNAVAILABLE', text) : undefined;
    }
    const low = this.lowOf(partition);
    if (low <= expected) return undefined;
    const text = `${place} begins at offset ${low}, and ${expected} comes next: what lies between was deleted`;
    return new HeadwaterError('LOG_UNAVAILABLE', text);
  }
}
