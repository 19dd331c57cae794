/**
 * The Buffer contract: a durable queue between MQTT and the uplink. Its suite is `test/contract/buffer.ts`.
 *
 * - A ticket is handed to `onDurable` only after the group that holds its message is on stable storage (law 1),
 *   and tickets come in the order in which they were appended.
 * - Frames are read in the order of their commit; a frame waits until it is released, through any kind of stop (law 2).
 * - A released frame stays as history while there is room, and can be made to wait again.
 * - When full or unable to write, nothing becomes durable and `congested` turns true: the caller stops reading (law 8).
 */
import type { FrameMessage } from '../../shared/frame/builder.ts';
import type { KIND_ANCHOR } from '../../shared/frame/frame.ts';
import type { ClockAnchor } from '../../shared/frame/notes.ts';
import type { KvOp } from '../../shared/kv/kv.ts';
import type { Histogram } from '../../shared/telemetry/histogram.ts';
import type { EpochBook } from './epochs.ts';
import type { FrameRef, StoredFrame } from './stored-frame.ts';

export type BufferState =
  | { kind: 'open' }
  /** Nothing is acknowledged until this ends; `why` is a sentence for a person. */
  | { kind: 'blocked'; why: string };

export interface BufferStats {
  /** Not yet released. `undefined` until what an earlier run left has been counted. */
  waitingMessages: number | undefined;
  waitingFrames: number | undefined;
  waitingBytes: number | undefined;
  /** Of the data folder, and what it may grow to. */
  diskBytes: number;
  diskBytesMax: number;
  /** Acknowledged by a collector and kept as local history; bytes are an estimate. */
  historyMessages: number;
  historyBytes: number;
  /** At the rate of the last minutes, until acknowledgements are held back or the policy acts; undefined: not in sight. */
  hoursUntilFull: number | undefined;
  /** The same if no collector were reached from now on. */
  hoursIfCut: number | undefined;
  evictedMessages: number;
  /** Given up because the buffer was full, and thinned to summaries. */
  droppedMessages: number;
  thinnedMessages: number;
  /** In memory, not yet committed. */
  pendingBytes: number;
  committedMessages: number;
  committedGroups: number;
  committedFrameBytes: number;
  writeErrors: number;
  reopens: number;
  losses: number;
  lastCommitUs: number;
}

export interface MessageBuffer<Ticket> {
  readonly congested: boolean;
  readonly state: BufferState;
  readonly epoch: string;
  /** Of the room before acknowledgements are withheld, the last part; 0: they never are for want of room. Bytes. */
  readonly lastBytes: number;
  /** What is taken of it, 0 while there is more. Cheap: it is asked for each message. */
  readonly lastBytesUsed: number;
  /** From the first message of a group to the end of its fsync. Each commit with messages is one observation. */
  readonly commitSeconds: Histogram;

  /** Adds a message to the open group; `ops` are written in the same atomic batch. */
  append(message: FrameMessage, ticket: Ticket | undefined, ops?: KvOp[]): void;
  /** A ticket without a message: durable with what was appended before it, and with its own `ops`. */
  barrier(ticket: Ticket, ops?: KvOp[]): void;
  /**
   * Waiting frames from a position on (from the oldest: undefined) and before another, about `bytesMax` bytes.
   * Damaged ones are set aside and reported, not returned. Empty only when there are no more.
   * Throws DATA_UNUSABLE while the buffer reopens.
   */
  read(from: Buffer | undefined, bytesMax: number, before?: Buffer): Promise<StoredFrame[]>;
  /** Frames newest first: those that wait, or all that are still there. */
  readNewest(
    which: 'waiting' | 'held',
    before: Buffer | undefined,
    bytesMax: number,
  ): Promise<StoredFrame[]>;
  /** Where the next frame to be committed will be: all committed ones are before it, and none comes before it later. */
  readonly head: Buffer;
  /** These frames are safe elsewhere: they stay as history while there is room. */
  release(frames: FrameRef[]): Promise<void>;
  /** Too old to be sent: they stay as history, and that they were not sent is reported as a loss. */
  expire(frames: StoredFrame[]): Promise<void>;
  /** `test` tells which frames are on their way to a collector: upkeep leaves them alone. */
  protect(test: (position: Buffer) => boolean): void;
  /** A collector lacks what it had acknowledged: history waits again. Returns how many messages. */
  recall(epoch: string, ranges: readonly (readonly [number, number])[]): Promise<number>;
  /** Adds a note as a frame of its own, in order with the messages. Resolves when it is durable. */
  note(kind: typeof KIND_ANCHOR, note: ClockAnchor): Promise<void>;
  readonly epochs: EpochBook;
  /** Keeps a small value under a key that begins with 'm', without an fsync of its own. */
  remember(key: Buffer, value: Buffer): void;
  /** Entries written by `ops` under a key prefix. */
  entries(prefix: Buffer): Promise<[Buffer, Buffer][]>;
  stats(): BufferStats;
  /** Commits what is pending, if that is possible now, and closes. Idempotent. */
  close(): Promise<void>;
}

export interface BufferEvents<Ticket> {
  onDurable(tickets: Ticket[]): void;
  /** A frame was committed: the uplink may send it. */
  onFrame(stored: StoredFrame): void;
  /** `congested` has turned false. */
  onRelief(): void;
  /** `state` changed, or something was lost: a sentence for a person. */
  onNotice(notice: { level: 'info' | 'warn' | 'error'; event: string; text: string }): void;
}
