/**
 * The Buffer contract: a durable queue between MQTT and the uplink. Its suite is `test/contract/buffer.ts`.
 *
 * - A ticket is handed to `onDurable` only after the group that holds its message is on stable storage (law 1),
 *   and tickets come in the order in which they were appended.
 * - Frames are read in the order of their commit; a frame stays until it is released, through any kind of stop (law 2).
 * - When full or unable to write, nothing becomes durable and `congested` turns true: the caller stops reading (law 8).
 */
import type { FrameMessage } from '../../shared/frame/builder.ts';
import type { KvOp } from '../../shared/kv/kv.ts';

/** A stored frame and its place in the order of commits. */
export interface StoredFrame {
  /** Opaque; compares in commit order. */
  position: Buffer;
  frame: Buffer;
}

/** What the reader keeps of a frame until it may be released. */
export interface FrameRef {
  position: Buffer;
  /** Bytes of the frame and messages in it. */
  bytes: number;
  count: number;
}

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

  /** Adds a message to the open group; `ops` are written in the same atomic batch. */
  append(message: FrameMessage, ticket: Ticket | undefined, ops?: KvOp[]): void;
  /** A ticket without a message: durable with what was appended before it, and with its own `ops`. */
  barrier(ticket: Ticket, ops?: KvOp[]): void;
  /** Committed frames after a position (from the oldest: undefined), up to about `bytesMax`. Damaged ones are set aside and reported, not returned. */
  read(after: Buffer | undefined, bytesMax: number): Promise<StoredFrame[]>;
  /** These frames are safe elsewhere. */
  release(frames: FrameRef[]): Promise<void>;
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
