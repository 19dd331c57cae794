/**
 * The buffer on LevelDB: group commit of frames.
 *
 * Promises and how they are kept:
 * - One batch with `sync: true` at a time (`shared/kv/group-commit.ts`). A ticket is released after its own group's
 *   fsync, in order of arrival.
 * - A write error acknowledges nothing more: the database is closed, reopened and the failed group written again
 *   under its own keys before anything new (`mending.ts`; F1: without the reopen 188 of 200 "successful" synced puts
 *   were gone).
 * - Every open starts a new random epoch (F3), and has one synced write before it serves (F4): `database.ts`.
 * - Memory is bounded by `pendingBytesMax` (not yet durable) and `cacheBytes` (durable).
 *
 * Keys: 'f' + ordinal of the open (8 bytes) + first sequence (8 bytes) → frame; 'e' + ordinal → what is known of that
 * epoch; 'mordinal' → the newest one; other prefixes belong to whoever writes `ops` ('q' QoS 2 ids, 'r' retained messages).
 */
import type { Env } from '../../shared/env/env.ts';
import type { FrameMessage } from '../../shared/frame/builder.ts';
import { KIND_LOSS, type KIND_ANCHOR } from '../../shared/frame/frame.ts';
import type { ClockAnchor, LossReport } from '../../shared/frame/notes.ts';
import type { Histogram } from '../../shared/telemetry/histogram.ts';
import { GroupCommit } from '../../shared/kv/group-commit.ts';
import { after, type KvOp } from '../../shared/kv/kv.ts';
import type { Policy } from '../choices.ts';
import { Account } from './account.ts';
import { plainClock, type BufferClock } from './clock.ts';
import type { BufferEvents, BufferState, BufferStats, MessageBuffer } from './buffer.ts';
import { refOf, type FrameRef, type StoredFrame } from './stored-frame.ts';
import { Backlog } from './backlog.ts';
import { Caretaker } from './caretaker.ts';
import { BufferDatabase } from './database.ts';
import { Epochs, type EpochBook, type Which } from './epochs.ts';
import { FrameCache } from './frame-cache.ts';
import { FrameReader, type Damage } from './frame-reader.ts';
import { Gate } from './gate.ts';
import { Mending } from './mending.ts';
import { OpenGroup, type Group } from './open-group.ts';
import { positionOf } from './position.ts';
import { Reading } from './reading.ts';
import { writeKept, type BufferStorage } from './storage.ts';
import { Upkeep, type Note } from './upkeep.ts';

export interface LevelBufferOptions {
  gateway: string;
  storage: BufferStorage;
  /** What the database may take on disk, bytes. */
  diskBytesMax: number;
  /** Disk space kept aside for recovery, bytes. */
  reserveBytes: number;
  /** Acknowledged frames kept as local history, bytes. */
  historyBytesMax: number;
  /** What gives way when the buffer is full. */
  policy: Policy;
  /** A group's body is cut into frames of about this size, bytes. */
  frameBytes: number;
  /** Not yet durable in memory; beyond it the buffer is congested. Bytes. */
  pendingBytesMax: number;
  /** Committed frames kept in memory for the uplink, bytes. */
  cacheBytes: number;
  compress: boolean;
  /** Left out: the wall clock, of which nothing is known. */
  clock?: BufferClock;
}

/** What was released is noted with the next group, or after this: a stop in between costs a resend. */
const NOTES_MS = 2000;

export class LevelBuffer<Ticket> implements MessageBuffer<Ticket> {
  private readonly env: Env;
  private readonly events: BufferEvents<Ticket>;
  private readonly storage: BufferStorage;

  private readonly registry = new Epochs();
  private readonly backlog = new Backlog();
  private readonly cache: FrameCache;
  private readonly pending: OpenGroup<Ticket>;
  private readonly commits: GroupCommit<Group<Ticket>>;
  private readonly database: BufferDatabase;
  private readonly gate: Gate;
  private readonly upkeep: Upkeep;
  private readonly account: Account;
  private readonly mending: Mending;
  private readonly reading: Reading;
  private readonly caretaker: Caretaker;

  /** Upkeep has work for the next group, which is written although the buffer is blocked. */
  private forced = false;
  private notesTimer: NodeJS.Timeout | undefined;
  private closing: Promise<void> | undefined;
  private inFlight: (position: Buffer) => boolean = () => false;

  constructor(env: Env, options: LevelBufferOptions, events: BufferEvents<Ticket>) {
    const { storage, gateway, reserveBytes, clock = plainClock(env) } = options;
    this.env = env;
    this.events = events;
    this.storage = storage;
    const { registry, backlog } = this;
    const isClosing = (): boolean => this.closing !== undefined;
    const onNotice = events.onNotice.bind(events);
    const cache = (this.cache = new FrameCache(options.cacheBytes));
    const reader = new FrameReader(gateway, registry, (damage) => this.damaged(damage));
    const pending = (this.pending = new OpenGroup({ ...options, bootId: env.bootId }, clock));
    const commits = (this.commits = new GroupCommit<Group<Ticket>>({
      take: () => this.take(),
      write: (group) => this.write(group),
      committed: (group) => this.committed(group),
      failed: (error) => this.mending.failed(error),
    }));
    const database = (this.database = new BufferDatabase(env, gateway, storage, registry, clock, {
      onEpoch: (ordinal, epoch) => {
        pending.begin(ordinal, epoch);
        cache.clear();
      },
      onLoss: (report) => this.reportLoss(report),
      onNotice,
    }));
    const gate = (this.gate = new Gate(options.pendingBytesMax, () => this.pendingBytes, events));
    const upkeep = (this.upkeep = new Upkeep(options, storage, registry, backlog, reader, {
      db: () => database.db,
      isInFlight: (position) => this.inFlight(position),
      commit: (ops, notes) => this.commitUpkeep(ops, notes),
      forget: (frames) => cache.forget(frames),
    }));
    const account = (this.account = new Account(
      env,
      options.diskBytesMax,
      registry,
      backlog,
      upkeep,
    ));
    const onMended = (): void => this.acknowledge();
    const mending = (this.mending = new Mending({
      ...{ storage, reserveBytes, database, commits, gate, account, isClosing, onMended },
    }));
    const reading = (this.reading = new Reading({
      ...{ database, registry, backlog, cache, reader, mending },
    }));
    this.caretaker = new Caretaker({
      ...{ upkeep, account, gate, mending, isClosing, onNotice, reading, onRoom: onMended },
    });
  }

  get commitSeconds(): Histogram {
    return this.account.commitSeconds;
  }

  get congested(): boolean {
    return this.gate.congested;
  }

  get state(): BufferState {
    return this.gate.state;
  }

  get lastBytes(): number {
    return this.upkeep.lastBytes;
  }

  get lastBytesUsed(): number {
    return this.upkeep.lastBytesUsed(this.pendingBytes);
  }

  get epoch(): string {
    return this.database.epoch;
  }

  /**
   * After a reopen the failed group comes first, under the keys of the epoch before: a reader that took the new epoch's
   * beginning for the head would pass over it.
   */
  get head(): Buffer {
    const { ordinal } = this.database;
    const first = this.commits.group?.frames[0]?.position ?? this.pending.firstPosition;
    return first ?? positionOf(ordinal, this.registry.at(ordinal)?.next ?? 1);
  }

  get epochs(): EpochBook {
    return this.registry;
  }

  /** Opens, recovering from damage. Throws DATA_LOCKED, DATA_UNUSABLE. */
  async open(): Promise<void> {
    await this.database.open();
    this.backlog.begin(this.database.ordinal);
    this.commits.resume();
    await this.caretaker.start();
  }

  // ---- appending ----

  append(message: FrameMessage, ticket: Ticket | undefined, ops?: KvOp[]): void {
    if (this.closing !== undefined) return; // Not acknowledged, so it is its sender's still.
    this.pending.append(message, ticket, ops);
    this.gate.filled();
    this.commits.schedule();
  }

  barrier(ticket: Ticket, ops?: KvOp[]): void {
    if (this.closing !== undefined) return;
    this.pending.barrier(ticket, ops);
    this.commits.schedule();
  }

  note(kind: typeof KIND_ANCHOR, note: ClockAnchor): Promise<void> {
    this.pending.addNote(kind, note);
    return this.withGroup([]);
  }

  remember(key: Buffer, value: Buffer): void {
    this.addOps([{ type: 'put', key, value }]);
  }

  /** With the group that is open now. Resolves when it is durable. */
  private withGroup(ops: KvOp[]): Promise<void> {
    return new Promise((resolve) => this.addOps(ops, resolve));
  }

  private addOps(ops: KvOp[], done?: () => void): void {
    this.pending.addOps(ops, done);
    this.commits.schedule();
  }

  private commitUpkeep(ops: KvOp[], notes: Note[]): Promise<void> {
    for (const { kind, note } of notes) this.pending.addNote(kind, note);
    this.forced = true;
    return this.withGroup([...ops, ...this.database.changes()]);
  }

  private get pendingBytes(): number {
    return this.pending.bytes + (this.commits.group?.bytes ?? 0);
  }

  // ---- committing ----

  private take(): Group<Ticket> | undefined {
    if (this.database.db === undefined) return undefined;
    if (this.gate.isBlocked && this.closing === undefined && !this.forced) return undefined;
    const group = this.pending.take();
    this.forced &&= this.pending.hasMore;
    return group;
  }

  private async write({ frames, ops }: Group<Ticket>): Promise<void> {
    const puts: KvOp[] = frames.map(({ position, frame }) => ({
      type: 'put',
      key: position,
      value: frame,
    }));
    for (const op of ops) puts.push(op);
    const { storage, database, env } = this;
    if (puts.length > 0) await writeKept(storage, database.present, puts, env.clock.monotonicUs());
  }

  private committed(group: Group<Ticket>): void {
    this.account.committed(group);
    const fresh = group.frames.map(({ position, end, frame }) => ({ position, end, frame }));
    for (const stored of fresh) this.cache.add(stored);
    this.events.onDurable(group.tickets);
    for (const done of group.done) done();
    for (const stored of fresh) this.events.onFrame(stored);
    this.mending.committed();
    if (this.upkeep.isFull && !this.mending.isRunning) this.caretaker.filled();
    this.gate.relieve();
  }

  /** There is room, or the database can be written again. */
  private acknowledge(): void {
    if (!this.gate.open()) return;
    this.commits.schedule();
    this.gate.relieve();
  }

  // ---- losses ----

  /** A run lacks frames. Told once: from here on they do not wait. */
  private async damaged({ epoch, from, to, reason, frame }: Damage): Promise<void> {
    const lost = epoch.released.gaps(from, to);
    if (lost.length === 0) return;
    for (const [low, high] of lost) this.registry.lose(epoch, low, high);
    this.reportLoss({
      cause: 'damaged',
      where: 'buffer',
      reason,
      epoch: epoch.epoch,
      ranges: lost.map(([low, high]) => [
        low,
        epoch.openEnd && high === epoch.next - 1 ? null : high,
      ]),
    });
    if (frame !== undefined) {
      this.pending.addOps([{ type: 'del', key: frame.position }]);
      await this.storage.setAside(`frame-${frame.position.toString('hex')}`, frame.bytes);
    }
  }

  /** Reports a loss to the operator and, as a frame of its own, to the collector. */
  private reportLoss(report: LossReport): void {
    this.account.totals.losses++;
    this.events.onNotice({
      level: 'error',
      event: 'loss',
      text: `${report.where}: ${report.reason}`,
    });
    this.pending.addNote(KIND_LOSS, report);
    this.addOps(this.database.changes());
  }

  // ---- reading ----

  read(from: Buffer | undefined, bytesMax: number, before?: Buffer): Promise<StoredFrame[]> {
    return this.reading.waiting(from, bytesMax, before);
  }

  readNewest(which: Which, before: Buffer | undefined, bytesMax: number): Promise<StoredFrame[]> {
    return this.reading.newest(which, before, bytesMax);
  }

  // ---- releasing ----

  /** `test` tells which frames are on their way: upkeep leaves them alone. */
  protect(test: (position: Buffer) => boolean): void {
    this.inFlight = test;
  }

  release(frames: FrameRef[]): Promise<void> {
    for (const frame of frames) {
      if (this.registry.release(frame.position, frame.count)) this.backlog.remove(frame);
    }
    const last = frames.at(-1);
    if (last !== undefined) this.cache.release(last.position);
    this.notesTimer ??= setTimeout(() => {
      this.notesTimer = undefined;
      this.addNotes();
    }, NOTES_MS).unref();
    return Promise.resolve();
  }

  expire(frames: StoredFrame[]): Promise<void> {
    for (const stored of frames) this.backlog.remove(refOf(stored));
    for (const [epoch, ranges] of this.registry.expire(frames)) {
      const reason = 'older than uplink.backlogAgeMaxMs when a link came; still in local history';
      this.reportLoss({ cause: 'expired', where: 'buffer', reason, epoch, ranges });
    }
    return Promise.resolve();
  }

  /** Always with a group: a write of its own could fail unseen between two groups (F1). */
  private addNotes(): void {
    const ops = this.database.changes();
    if (ops.length > 0) this.addOps(ops);
  }

  recall(epoch: string, ranges: readonly (readonly [number, number])[]): Promise<number> {
    return this.reading.recall(epoch, ranges);
  }

  async entries(prefix: Buffer): Promise<[Buffer, Buffer][]> {
    const { db } = this.database;
    if (db === undefined) return [];
    return await db.read({ gte: prefix, lt: after(prefix) }, Number.POSITIVE_INFINITY);
  }

  stats(): BufferStats {
    return this.account.stats(this.pendingBytes);
  }

  close(): Promise<void> {
    this.closing ??= this.shut();
    return this.closing;
  }

  private async shut(): Promise<void> {
    this.caretaker.stop();
    clearTimeout(this.notesTimer);
    this.addNotes();
    if (!this.mending.isRunning && !this.gate.isBlocked) await this.commits.quiet();
    await this.mending.ended();
    // A write of the upkeep would only fail now, and be told as a trouble.
    this.commits.halt();
    await this.database.close();
  }
}
