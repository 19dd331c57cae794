/**
 * How many bytes of a topic the embedded log has, in portions from the front to the end, so that a limit is kept to within one
 * portion (a sixteenth of the limit) or one record, whichever is more. Nothing of it is on disk: after an open the newest
 * `COUNTED_BYTES` are counted, and what is before them is taken to be like them.
 */
import { operatingError } from '../../contracts/errors.ts';
import type { KvDatabase } from '../../shared/kv/kv.ts';
import { recordKey, topicPrefix } from './embedded-records.ts';

interface Portion {
  from: number;
  /** The first offset after it. */
  to: number;
  bytes: number;
}

const PORTIONS = 16;
const PORTION_BYTES_MAX = 4 * 1024 * 1024;
/** Cut with one write. */
const PORTION_RECORDS_MAX = 1024;
const COUNTED_BYTES = 16 * 1024 * 1024;
/** Read at once to be counted, bytes. */
const READ_BYTES = 1024 * 1024;

export class TopicSize {
  private readonly bytesMax: number;
  private readonly portions: Portion[] = [];
  bytes = 0;

  private constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  /** Of what is on disk before `end`. */
  static async of(
    db: KvDatabase,
    topic: string,
    end: number,
    bytesMax: number,
  ): Promise<TopicSize> {
    const size = new TopicSize(bytesMax);
    const counted: [offset: number, bytes: number][] = [];
    let first = end;
    let from = end;
    try {
      const front = { gte: topicPrefix(topic), lt: recordKey(topic, end), limit: 1 };
      const [oldest] = await db.read(front, 1);
      if (oldest !== undefined) first = offsetOf(oldest[0]);
      for (let bytes = 0; from > first && bytes < COUNTED_BYTES; ) {
        const range = { gte: recordKey(topic, first), lt: recordKey(topic, from), reverse: true };
        const entries = await db.read(range, READ_BYTES);
        // A damaged table ends early.
        if (entries.length === 0) break;
        for (const [key, value] of entries) {
          from = offsetOf(key);
          bytes += value.length;
          counted.push([from, value.length]);
        }
      }
    } catch (error) {
      if (operatingError(error) !== undefined) throw error;
      // A block that cannot be read must not keep the log from taking records: whoever reads it meets it.
    }
    const sum = counted.reduce((all, [, bytes]) => all + bytes, 0);
    const average = sum / Math.max(1, counted.length);
    for (let offset = first; offset < from; offset++) size.add(offset, average);
    for (const [offset, bytes] of counted.toReversed()) size.add(offset, bytes);
    return size;
  }

  add(offset: number, bytes: number): void {
    this.bytes += bytes;
    const last = this.portions.at(-1);
    const most = Math.min(PORTION_BYTES_MAX, this.bytesMax / PORTIONS);
    if (
      last === undefined ||
      last.bytes + bytes > most ||
      last.to - last.from >= PORTION_RECORDS_MAX
    ) {
      this.portions.push({ from: offset, to: offset + 1, bytes });
      return;
    }
    last.to = offset + 1;
    last.bytes += bytes;
  }

  /**
   * Takes off the oldest portion, if there is too much, and everybody has read it (`read` is the first offset that somebody has
   * not). The newest stays: it keeps the offsets from being given again.
   */
  cut(read: number): { from: number; to: number } | undefined {
    const [oldest, next] = this.portions;
    if (oldest === undefined || next === undefined) return undefined;
    if (this.bytes <= this.bytesMax || oldest.to > read) return undefined;
    this.portions.shift();
    this.bytes -= oldest.bytes;
    return { from: oldest.from, to: oldest.to };
  }
}

const offsetOf = (key: Buffer): number => Number(key.readBigUInt64BE(key.length - 8));
