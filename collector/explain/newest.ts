/**
 * The newest messages as they were received, from the end of the log's topic `raw`: looked for within limits, never through
 * all of it. Who asks again says where the last answer ended, and gets what came since; nothing is read when nothing came.
 */
import { hasCode } from '../../shared/errors.ts';
import {
  KIND_RECORDS,
  checkFrame,
  readRecords,
  type FrameRecord,
} from '../../shared/frame/frame.ts';
import { TOPIC_RAW, type Log, type StoredRecord } from '../log/log.ts';
import { scan, type Unread } from './tail.ts';

export interface NewestMessage extends Pick<FrameRecord, 'client' | 'topic' | 'qos' | 'retain'> {
  gateway: string;
  epoch: string;
  sequence: number;
  payload: Buffer;
  /** By the gateway's clock, as it was. */
  receivedMs: number;
  /** By the collector's; undefined in a log of before. */
  arrivedMs: number | undefined;
  partition: number;
}

export interface Newest {
  /** Newest first. */
  messages: NewestMessage[];
  /** Where to go on from; empty where the log cannot tell. */
  next: ReadonlyMap<number, number>;
  unread: Unread;
}

export interface Wanted {
  isWanted: (topic: string) => boolean;
  /** Only the newest of each topic. */
  isOfEach?: boolean;
  limit: number;
  /** Where the last answer ended. */
  after?: ReadonlyMap<number, number>;
  signal?: AbortSignal;
}

/** Frames of each partition that are looked through, and how many show what a frame takes. */
const FRAMES = 5000;
const FRAMES_FIRST = 100;
const LIMITS = { bytesMax: 32 * 1024 * 1024, timeoutMs: 3000 };

/** The newest stay, in the order of the log. */
class Kept {
  private readonly wanted: Wanted;
  private readonly byTopic = new Map<string, NewestMessage>();
  private all: NewestMessage[] = [];

  constructor(wanted: Wanted) {
    this.wanted = wanted;
  }

  add(message: NewestMessage): void {
    const { isOfEach, limit } = this.wanted;
    if (isOfEach !== true) {
      this.all.push(message);
      // The newest stay: of each partition they come in order.
      if (this.all.length > 20 * limit) this.all = newest(this.all, limit);
      return;
    }
    const before = this.byTopic.get(message.topic);
    if (before !== undefined && arrivalOf(before) > arrivalOf(message)) return;
    this.byTopic.delete(message.topic);
    this.byTopic.set(message.topic, message);
    const [oldest] = this.byTopic.keys();
    if (this.byTopic.size > limit && oldest !== undefined) this.byTopic.delete(oldest);
  }

  get isFull(): boolean {
    return Math.max(this.all.length, this.byTopic.size) >= this.wanted.limit;
  }

  get messages(): NewestMessage[] {
    return newest([...this.byTopic.values(), ...this.all], this.wanted.limit);
  }
}

const arrivalOf = ({ arrivedMs, receivedMs }: NewestMessage): number => arrivedMs ?? receivedMs;

/** Of one time, what came last is first. */
const newest = (found: NewestMessage[], limit: number): NewestMessage[] =>
  found
    .toReversed()
    .sort((a, b) => arrivalOf(b) - arrivalOf(a))
    .slice(0, limit)
    .toReversed();

/** [] where the log cannot begin near its end. Throws LOG_UNAVAILABLE. */
export async function newestMessages(log: Log, wanted: Wanted): Promise<Newest> {
  const { after, signal } = wanted;
  const ends = await endsOf(log);
  if (ends === undefined) return { messages: [], next: new Map(), unread: undefined };
  const next = new Map(ends);
  const read = async (from: ReadonlyMap<number, number>) => {
    const kept = new Kept(wanted);
    let bytes = 0;
    const limits = { ...LIMITS, ...(signal === undefined ? {} : { signal }) };
    const unread = await scan(log, TOPIC_RAW, from, limits, (record) => {
      bytes += record.value.length;
      next.set(record.partition, Math.max(next.get(record.partition) ?? 0, record.offset + 1));
      for (const each of messagesOf(record, wanted.isWanted)) kept.add(each);
      return undefined;
    });
    return { messages: kept.messages.toReversed(), isFull: kept.isFull, bytes, unread };
  };
  const first = fromEnd(ends, FRAMES_FIRST, after);
  if ([...ends].every(([partition, end]) => (first.get(partition) ?? 0) >= end))
    return { messages: [], next, unread: undefined };
  const near = await read(first);
  const frames = Math.floor((LIMITS.bytesMax * FRAMES_FIRST) / (2 * Math.max(1, near.bytes)));
  const rest = fromEnd(ends, Math.min(FRAMES, frames), after);
  const isAll = [...first].every(([partition, from]) => (rest.get(partition) ?? 0) >= from);
  const { messages, unread } = near.isFull || isAll ? near : await read(rest);
  return { messages, next, unread };
}

async function endsOf(log: Log): Promise<Map<number, number> | undefined> {
  if (log.next === undefined) return undefined;
  const ends = new Map<number, number>();
  for (let partition = 0; partition < log.partitions; partition++)
    ends.set(partition, await log.next(TOPIC_RAW, partition));
  return ends;
}

/** A place beyond the end is of another log: it says nothing. */
function fromEnd(
  ends: ReadonlyMap<number, number>,
  frames: number,
  after: ReadonlyMap<number, number> = new Map(),
): Map<number, number> {
  return new Map(
    [...ends].map(([partition, end]) => {
      const since = after.get(partition) ?? 0;
      return [partition, Math.max(0, end - frames, since > end ? 0 : since)];
    }),
  );
}

/** Of a frame; none of one that is not whole, which `headwater audit` names. */
function messagesOf(
  { value, headers, partition }: StoredRecord,
  isWanted: (topic: string) => boolean,
): NewestMessage[] {
  try {
    const header = checkFrame(value);
    if (header.kind !== KIND_RECORDS) return [];
    const { gateway, epoch } = header;
    const arrived = Number(headers['arrived'] ?? Number.NaN);
    return readRecords(value, header)
      .filter(({ topic }) => isWanted(topic))
      .map(({ client, topic, qos, retain, sequence, payload, receivedUs }) => ({
        ...{ gateway, epoch, sequence, client, topic, qos, retain, partition },
        payload: Buffer.from(payload),
        receivedMs: Math.floor(receivedUs / 1000),
        arrivedMs: Number.isFinite(arrived) ? Math.round(arrived) : undefined,
      }));
  } catch (error) {
    if (hasCode(error, 'FRAME_INVALID')) return [];
    throw error;
  }
}
