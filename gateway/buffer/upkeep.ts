/**
 * Keeps the buffer within its disk budget. In this order: history is evicted, oldest first; then the policy acts
 * (`shed` thins or drops, `dropOldest` drops, `block` does neither); what is still too much holds acknowledgements back.
 * Nothing of it is on the way of an acknowledgement. Every loss is a frame (law 2).
 */
import { KIND_LOSS, KIND_SUMMARY, readHeader } from '../../shared/frame/frame.ts';
import type { LossReport, Summary } from '../../shared/frame/notes.ts';
import type { KvDatabase, KvOp } from '../../shared/kv/kv.ts';
import type { Backlog } from './backlog.ts';
import type { Policy } from '../choices.ts';
import type { StoredFrame } from './stored-frame.ts';
import type { Epochs } from './epochs.ts';
import { evictOldest } from './eviction.ts';
import type { FrameReader } from './frame-reader.ts';
import { ordinalOf, positionOf, sequenceOf } from './position.ts';
import type { BufferStorage } from './storage.ts';
import { thin } from './thin.ts';

/** Shares of the disk budget. */
const EVICT_FROM = 0.7;
const POLICY_FROM = 0.8;
/** Compaction needs room to write before it can delete. */
const FULL_FROM = 0.9;
/** What one step frees. */
const STEP = 1 / 16;
/** Frames thinned at once, bytes: all of them are decoded in memory. */
const THIN_BYTES_MAX = 2 * 1024 * 1024;
/** Frames that pass through memory at once to be dropped, bytes. */
const DROP_BYTES_MAX = 8 * 1024 * 1024;

export interface UpkeepOptions {
  diskBytesMax: number;
  reserveBytes: number;
  historyBytesMax: number;
  policy: Policy;
  compress: boolean;
}

export type Note =
  | { kind: typeof KIND_LOSS; note: LossReport }
  | { kind: typeof KIND_SUMMARY; note: Summary };

/** What the buffer does for its upkeep. */
export interface UpkeepHost {
  db(): KvDatabase | undefined;
  /** On its way to a collector just now: not to be touched. */
  isInFlight(position: Buffer): boolean;
  /** Commits operations and notes as one group, also while the buffer is blocked. Resolves when durable. */
  commit(ops: KvOp[], notes: Note[]): Promise<void>;
  forget(frames: StoredFrame[]): void;
}

export type Room =
  | { kind: 'enough' }
  /** A step was taken: look again at once. */
  | { kind: 'freed' }
  | { kind: 'full'; why: string };

export class Upkeep {
  diskBytes = 0;
  /** Messages that made room. */
  readonly counts = { evictedMessages: 0, droppedMessages: 0, thinnedMessages: 0 };

  private readonly options: UpkeepOptions;
  private readonly storage: BufferStorage;
  private readonly epochs: Epochs;
  private readonly backlog: Backlog;
  private readonly reader: FrameReader;
  private readonly host: UpkeepHost;
  /** Where thinning goes on: what is before it holds nothing more to thin. */
  private thinFrom: Buffer | undefined;

  constructor(
    options: UpkeepOptions,
    storage: BufferStorage,
    epochs: Epochs,
    backlog: Backlog,
    reader: FrameReader,
    host: UpkeepHost,
  ) {
    this.options = options;
    this.storage = storage;
    this.epochs = epochs;
    this.backlog = backlog;
    this.reader = reader;
    this.host = host;
  }

  /** Bytes that may still come before the buffer is full: history makes room. */
  get roomBytes(): number {
    return Math.max(
      0,
      this.options.diskBytesMax * FULL_FROM - this.diskBytes + this.epochs.history().bytes,
    );
  }

  /** The last ninth of what there is before acknowledgements are withheld; 0 where something else gives way. */
  get lastBytes(): number {
    const { policy, diskBytesMax } = this.options;
    return policy === 'block' ? diskBytesMax * (FULL_FROM - POLICY_FROM) : 0;
  }

  /** What is taken of `lastBytes` when `pendingBytes` will be on disk too. One comparison until then. */
  lastBytesUsed(pendingBytes: number): number {
    const { policy, diskBytesMax } = this.options;
    const over = this.diskBytes + pendingBytes - diskBytesMax * POLICY_FROM;
    if (over <= 0 || policy !== 'block') return 0;
    return Math.max(0, over - this.epochs.history().bytes);
  }

  get isFull(): boolean {
    return this.diskBytes > this.options.diskBytesMax * FULL_FROM;
  }

  get fullText(): string {
    return `the buffer is full (${this.diskBytes} of ${this.options.diskBytesMax} bytes): acknowledgements wait for the uplink`;
  }

  /** Measures, and takes one step if it must. */
  async look(): Promise<Room> {
    const { options, storage, host } = this;
    const { diskBytesMax, historyBytesMax, policy } = options;
    const db = host.db();
    this.diskBytes = await storage.bytes();
    if (db === undefined) return { kind: 'enough' };
    const step = diskBytesMax * STEP;
    const history = this.epochs.history().bytes;
    if (
      history > historyBytesMax + step ||
      (this.diskBytes > diskBytesMax * EVICT_FROM && history > 0)
    ) {
      if (await this.evict(db, step)) return { kind: 'freed' };
    }
    if (policy !== 'block' && this.diskBytes > diskBytesMax * POLICY_FROM) {
      // Thinning goes once through what there is; the next fastest series, and what has no numbers, go at the limit.
      const freed =
        policy === 'shed'
          ? (await this.shed(db)) || (this.isFull && (await this.dropOldest(db, step)))
          : await this.dropOldest(db, step);
      if (freed) return { kind: 'freed' };
    }
    if (this.isFull) return { kind: 'full', why: this.fullText };
    const free = await storage.freeBytes();
    if (free < options.reserveBytes / 4) {
      if (history > 0 && (await this.evict(db, step))) return { kind: 'freed' };
      return {
        kind: 'full',
        why: `the disk is full (${free} bytes free): acknowledgements wait for space`,
      };
    }
    return { kind: 'enough' };
  }

  /** Deletes the oldest history. False when that freed nothing that can be seen. */
  private async evict(db: KvDatabase, bytes: number): Promise<boolean> {
    const before = this.epochs.history();
    const messages = Math.max(1, Math.ceil(bytes / Math.max(1, this.epochs.meanBytes)));
    const ranges = await evictOldest(this.epochs, Math.min(messages, before.messages), (span) =>
      db.clear(span),
    );
    if (ranges.length === 0) return false;
    await this.compact(db, ranges);
    this.counts.evictedMessages += before.messages - this.epochs.history().messages;
    this.diskBytes = await this.storage.bytes();
    return true;
  }

  /**
   * Gives space back. LevelDB lays a flushed table without neighbours straight into a lower level, with its deletions
   * beside what they delete, and a compaction of the range then passes it by. Deletions at the edges make every later
   * table overlap the range, so that the second pass merges all of it.
   */
  private async compact(db: KvDatabase, ranges: { gte: Buffer; lt: Buffer }[]): Promise<void> {
    const [first, last] = [ranges[0], ranges.at(-1)];
    if (first === undefined || last === undefined) return;
    for (let pass = 0; pass < 2; pass++) {
      // A key with a byte more is no frame's: whatever lies at the edges stays.
      const below = positionOf(ordinalOf(last.lt), sequenceOf(last.lt) - 1);
      const ops: KvOp[] = [first.gte, below].map((key) => ({
        type: 'del',
        key: Buffer.concat([key, Buffer.from([0])]),
      }));
      await db.write(ops, { sync: false });
      await db.compact(first.gte, last.lt);
    }
  }

  /** Thins the next frames. False when there is nothing left to thin. */
  private async shed(db: KvDatabase): Promise<boolean> {
    for (let wrapped = this.thinFrom === undefined; ; ) {
      const frames = await this.reader.forward(
        db,
        'waiting',
        this.thinFrom,
        undefined,
        THIN_BYTES_MAX,
      );
      const last = frames.at(-1);
      if (last === undefined) {
        // From the beginning again: the next fastest series, if that is not what was just done.
        if (wrapped || !this.isFull) return false;
        this.thinFrom = undefined;
        wrapped = true;
        continue;
      }
      this.thinFrom = last.end;
      const own = frames.filter(({ position }) => !this.host.isInFlight(position));
      const thinned = thin(own, this.options.compress);
      if (thinned === undefined) continue;
      const { rewritten, emptied, summaries } = thinned;
      const ops: KvOp[] = rewritten.map(({ position, frame }) => ({
        type: 'put',
        key: position,
        value: frame,
      }));
      this.giveUp(emptied, ops);
      const notes: Note[] = summaries.map((note) => ({ kind: KIND_SUMMARY, note }));
      for (const { replaces } of summaries)
        for (const [from, to] of replaces) this.counts.thinnedMessages += to - from + 1;
      this.host.forget(own);
      await this.host.commit(ops, notes);
      await this.compact(db, rangesOf(own));
      this.diskBytes = await this.storage.bytes();
      return true;
    }
  }

  /** Gives up the oldest waiting frames. False when there are none. */
  private async dropOldest(db: KvDatabase, bytes: number): Promise<boolean> {
    const frames = (
      await this.reader.forward(
        db,
        'waiting',
        undefined,
        undefined,
        Math.min(bytes, DROP_BYTES_MAX),
      )
    ).filter(({ position, frame }) => {
      const { kind } = readHeader(frame);
      // What tells of losses and times is small, and is what makes them known.
      return kind === 0 && !this.host.isInFlight(position);
    });
    if (frames.length === 0) return false;
    const ops: KvOp[] = [];
    this.giveUp(frames, ops);
    const byEpoch = new Map<string, [number, number][]>();
    for (const { frame } of frames) {
      const { epoch, firstSequence, count } = readHeader(frame);
      const ranges = byEpoch.get(epoch) ?? [];
      byEpoch.set(epoch, ranges);
      const before = ranges.at(-1);
      if (before !== undefined && before[1] + 1 === firstSequence) before[1] += count;
      else ranges.push([firstSequence, firstSequence + count - 1]);
      this.counts.droppedMessages += count;
    }
    const notes: Note[] = [...byEpoch].map(([epoch, ranges]) => ({
      kind: KIND_LOSS,
      note: {
        cause: 'dropped',
        where: 'buffer',
        reason: 'the buffer was full and its policy is dropOldest or shed',
        epoch,
        ranges,
      },
    }));
    this.host.forget(frames);
    await this.host.commit(ops, notes);
    await this.compact(db, rangesOf(frames));
    this.diskBytes = await this.storage.bytes();
    return true;
  }

  private giveUp(frames: StoredFrame[], ops: KvOp[]): void {
    for (const { position, frame } of frames) {
      const epoch = this.epochs.at(ordinalOf(position));
      const { count } = readHeader(frame);
      const from = sequenceOf(position);
      if (epoch === undefined) continue;
      this.backlog.remove({ position, bytes: frame.length, count });
      this.epochs.lose(epoch, from, from + count - 1);
      ops.push({ type: 'del', key: position });
    }
  }
}

const rangesOf = (frames: StoredFrame[]): { gte: Buffer; lt: Buffer }[] =>
  frames.map(({ position, end }) => ({ gte: position, lt: end }));
