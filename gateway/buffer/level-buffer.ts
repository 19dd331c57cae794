/**
 * The buffer on LevelDB: group commit of frames.
 *
 * Promises and how they are kept:
 * - One batch with `sync: true` at a time. What arrives during it forms the next group, so that one fsync serves
 *   everybody who waits. A ticket is released after its own group's fsync, in order of arrival.
 * - A write error acknowledges nothing more: the database is closed, reopened and the failed group written again
 *   under its own keys before anything new (F1: without the reopen 188 of 200 "successful" synced puts were gone).
 * - Every open starts a new random epoch (F3), and has one synced write before it serves (F4).
 * - Memory is bounded by `pendingBytesMax` (not yet durable) and `cacheBytes` (durable).
 *
 * Keys: 'f' + ordinal of the open (8 bytes) + first sequence (8 bytes) → frame; 'e' + ordinal → what is known of that
 * epoch; 'mordinal' → the newest one; other prefixes belong to whoever writes `ops` ('q' QoS 2 ids, 'r' retained messages).
 */
import { operatingError } from '../../contracts/errors.ts';
import type { Env } from '../../shared/env/env.ts';
import { assert, hasCode, HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { FrameMessage } from '../../shared/frame/builder.ts';
import { KIND_LOSS, type KIND_ANCHOR } from '../../shared/frame/frame.ts';
import type { ClockAnchor, LossReport } from '../../shared/frame/notes.ts';
import { Histogram } from '../../shared/telemetry/histogram.ts';
import { after, type KvDatabase, type KvOp } from '../../shared/kv/kv.ts';
import type { Policy } from '../choices.ts';
import { plainClock, type BufferClock } from './clock.ts';
import type { BufferEvents, BufferState, BufferStats, MessageBuffer } from './buffer.ts';
import { refOf, type FrameRef, type StoredFrame } from './stored-frame.ts';
import { Backlog } from './backlog.ts';
import { Epochs, type EpochBook, type Which } from './epochs.ts';
import { FrameCache } from './frame-cache.ts';
import { FrameReader, type Damage } from './frame-reader.ts';
import { FillRate } from './fill-rate.ts';
import { OpenGroup, type Group } from './open-group.ts';
import { positionOf } from './position.ts';
import { isDamage, reopen, sleep } from './reopen.ts';
import { Rescue, damageReports } from './rescue.ts';
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

const UPKEEP_MS = 500;
/** What was released is noted with the next group, or after this: a stop in between costs a resend. */
const NOTES_MS = 2000;
const COUNT_BYTES = 1024 * 1024;

export class LevelBuffer<Ticket> implements MessageBuffer<Ticket> {
  readonly commitSeconds = new Histogram();
  private readonly env: Env;
  private readonly options: LevelBufferOptions;
  private readonly events: BufferEvents<Ticket>;
  private readonly storage: BufferStorage;
  private readonly clock: BufferClock;

  private db: KvDatabase | undefined;
  private readonly pending: OpenGroup<Ticket>;
  private epochBytes: Buffer = Buffer.alloc(8);
  private ordinal = 0;
  /** The newest epoch is not durable yet. */
  private begun = false;
  /** Of the first open by this process. */
  private ownFrom = 0;
  private writing: Group<Ticket> | undefined;
  private scheduled = false;
  private status: BufferState = { kind: 'open' };
  private isCongested = false;
  /** Upkeep has work for the next group, which is written although the buffer is blocked. */
  private forced = false;
  private closing: Promise<void> | undefined;
  private recovering: Promise<void> | undefined;
  private rebuilding = false;
  /** A write besides the groups failed: none that succeeds after it is to be believed before a reopen (F1). */
  private suspect: unknown;
  private idle: (() => void)[] = [];
  private upkeepTimer: NodeJS.Timeout | undefined;
  private notesTimer: NodeJS.Timeout | undefined;
  private lookingAfter = false;
  private inFlight: (position: Buffer) => boolean = () => false;

  private readonly registry = new Epochs();
  private readonly cache: FrameCache;
  private readonly backlog = new Backlog();
  private readonly reader: FrameReader;
  private readonly rescue: Rescue;
  private readonly upkeep: Upkeep;
  private readonly rate = new FillRate();
  private readonly totals = {
    committedMessages: 0,
    committedGroups: 0,
    committedFrameBytes: 0,
    writeErrors: 0,
    reopens: 0,
    losses: 0,
    lastCommitUs: 0,
  };

  constructor(env: Env, options: LevelBufferOptions, events: BufferEvents<Ticket>) {
    this.env = env;
    this.options = options;
    this.events = events;
    this.storage = options.storage;
    this.clock = options.clock ?? plainClock(env);
    this.pending = new OpenGroup({ ...options, bootId: env.bootId }, this.clock);
    this.cache = new FrameCache(options.cacheBytes);
    this.reader = new FrameReader(this.registry, (damage) => this.damaged(damage));
    this.rescue = new Rescue(options.gateway, options.storage, this.registry);
    const { registry, backlog, reader, cache } = this;
    this.upkeep = new Upkeep(options, options.storage, registry, backlog, reader, {
      db: () => this.db,
      isInFlight: (position) => this.inFlight(position),
      commit: (ops, notes) => this.commitUpkeep(ops, notes),
      forget: (frames) => cache.forget(frames),
    });
  }

  get congested(): boolean {
    return this.isCongested;
  }

  get state(): BufferState {
    return this.status;
  }

  get epoch(): string {
    return this.epochBytes.toString('hex');
  }

  /**
   * After a reopen the failed group comes first, under the keys of the epoch before: a reader that took the new epoch's
   * beginning for the head would pass over it.
   */
  get head(): Buffer {
    const first = this.writing?.frames[0]?.position ?? this.pending.firstPosition;
    return first ?? positionOf(this.ordinal, this.registry.at(this.ordinal)?.next ?? 1);
  }

  get epochs(): EpochBook {
    return this.registry;
  }

  /** Opens, recovering from damage. Throws DATA_LOCKED, DATA_UNUSABLE. */
  async open(): Promise<void> {
    await this.openDatabase(false).catch(async (error: unknown) => {
      if (!hasCode(error, 'DATA_UNUSABLE')) throw error;
      // A full disk must not keep the gateway down: the reserve is for this.
      await this.storage.releaseReserve();
      await this.openDatabase(false);
    });
    await this.storage.fillReserve();
    this.backlog.begin(this.ordinal);
    await this.lookAfter();
    this.upkeepTimer = setInterval(() => void this.lookAfter(), UPKEEP_MS);
    this.upkeepTimer.unref();
    void this.count();
  }

  /** Opens LevelDB, starts a new epoch and makes that durable before anything is served (F4). */
  private async openDatabase(rebuild: boolean): Promise<void> {
    const stamp = new Date(this.env.clock.wallUs() / 1000).toISOString().replaceAll(':', '-');
    const recovery = await this.storage.open(stamp, rebuild);
    const { db } = recovery;
    let salvaged = 0;
    try {
      salvaged = await this.rescue.takeUp(recovery);
      // An open that failed has begun an epoch already, to which messages may belong by now.
      if (!this.begun) this.begin(await this.rescue.nextOrdinal(db, this.ordinal));
      this.registry.allChanged();
      const ops = this.registry.takeChanges(this.ownFrom);
      await db.write([Rescue.ordinalNote(this.ordinal), ...ops], { sync: true });
    } catch (error) {
      await db.close().catch(() => undefined); // The error that matters is the one thrown below.
      this.registry.allChanged();
      const why = `the buffer cannot be written: ${messageOf(error)}`;
      throw new HeadwaterError('DATA_UNUSABLE', why, { cause: error });
    }
    this.db = db;
    this.begun = false;
    this.cache.clear();
    const kept = salvaged === 0 ? '' : `; ${salvaged} whole frames in it were put back`;
    for (const { report, notice } of damageReports(recovery, kept)) {
      if (report !== undefined) this.reportLoss(report);
      if (notice !== undefined) this.events.onNotice(notice);
    }
  }

  private begin(ordinal: number): void {
    this.begun = true;
    this.ordinal = ordinal;
    if (this.ownFrom === 0) this.ownFrom = ordinal;
    this.epochBytes = this.env.random.bytes(8);
    this.pending.begin(ordinal, this.epochBytes);
    const boot = this.env.bootId.toString('hex');
    this.registry.begin(ordinal, this.epoch, boot, this.clock.stamp());
  }

  // ---- appending ----

  append(message: FrameMessage, ticket: Ticket | undefined, ops?: KvOp[]): void {
    this.pending.append(message, ticket, ops);
    if (!this.isCongested && this.pendingBytes > this.options.pendingBytesMax)
      this.isCongested = true;
    this.schedule();
  }

  barrier(ticket: Ticket, ops?: KvOp[]): void {
    this.pending.barrier(ticket, ops);
    this.schedule();
  }

  note(kind: typeof KIND_ANCHOR, note: ClockAnchor): Promise<void> {
    this.pending.addNote(kind, note);
    return this.withGroup([]);
  }

  /** With the group that is open now. Resolves when it is durable. */
  private withGroup(ops: KvOp[]): Promise<void> {
    return new Promise((resolve) => {
      this.pending.addOps(ops, resolve);
      this.schedule();
    });
  }

  private get pendingBytes(): number {
    return this.pending.bytes + (this.writing?.bytes ?? 0);
  }

  private schedule(): void {
    if (this.scheduled || this.writing !== undefined) return;
    this.scheduled = true;
    setImmediate(this.pump);
  }

  private readonly pump = (): void => {
    this.scheduled = false;
    this.pending.endTurn();
    if (this.writing !== undefined || this.recovering !== undefined || this.db === undefined)
      return;
    if (this.status.kind === 'blocked' && this.closing === undefined && !this.forced) return;
    this.forced = false;
    const group = this.pending.take();
    if (group === undefined) {
      for (const resolve of this.idle.splice(0)) resolve();
      return;
    }
    this.writing = group;
    this.commit(this.db, group).then(this.committed, this.failed);
  };

  private async commit(db: KvDatabase, group: Group<Ticket>): Promise<void> {
    const ops: KvOp[] = group.frames.map(({ position, frame }) => ({
      type: 'put',
      key: position,
      value: frame,
    }));
    ops.push(...group.ops);
    if (ops.length > 0) await writeKept(this.storage, db, ops, this.env.clock.monotonicUs());
  }

  private readonly committed = (): void => {
    if (this.suspect !== undefined) return this.failed(this.suspect);
    const group = this.writing;
    assert(group !== undefined, 'a commit ended that had not begun');
    this.writing = undefined;
    const { totals } = this;
    totals.committedGroups++;
    totals.lastCommitUs = this.env.clock.wallUs();
    if (group.openedUs !== undefined)
      this.commitSeconds.observe((this.env.clock.monotonicUs() - group.openedUs) / 1e6);
    const fresh: StoredFrame[] = [];
    for (const { position, end, frame, count, clock } of group.frames) {
      totals.committedMessages += count;
      totals.committedFrameBytes += frame.length;
      this.upkeep.diskBytes += frame.length;
      this.backlog.add(count, frame.length);
      this.registry.committed(position, end, count, frame.length, clock);
      const stored = { position, end, frame };
      this.cache.add(stored);
      fresh.push(stored);
    }
    this.events.onDurable(group.tickets);
    for (const done of group.done) done();
    for (const stored of fresh) this.events.onFrame(stored);
    if (this.rebuilding && this.recovering === undefined) return this.startRecovery(undefined);
    if (this.upkeep.isFull) {
      // At once: making room takes longer than filling it.
      this.block(this.upkeep.fullText);
      void this.lookAfter();
    }
    this.pump();
    this.relieve();
  };

  private relieve(): void {
    if (!this.isCongested || this.status.kind === 'blocked') return;
    if (this.pendingBytes > this.options.pendingBytesMax / 2) return;
    this.isCongested = false;
    this.events.onRelief();
  }

  // ---- trouble ----

  private readonly failed = (error: unknown): void => {
    this.totals.writeErrors++;
    this.block(
      `the buffer cannot be written (${messageOf(error)}); nothing is acknowledged until it can be again`,
    );
    this.startRecovery(error);
  };

  private distrust(error: unknown): void {
    if (this.recovering !== undefined || this.closing !== undefined) return;
    this.suspect = error;
    if (this.writing === undefined) this.failed(error);
  }

  /** A database that gives errors when it is read is set aside, and what is whole in it is put back. */
  private rebuild(error: unknown): void {
    if (this.recovering !== undefined || this.closing !== undefined) return;
    this.rebuilding = true;
    this.block(`the buffer's database is damaged (${messageOf(error)}) and is being rebuilt`);
    // A group that is being written ends first, one way or the other.
    if (this.writing === undefined) this.startRecovery(error);
  }

  private startRecovery(error: unknown): void {
    this.recovering ??= this.recover(error).finally(() => {
      this.recovering = undefined;
      if (this.closing === undefined) {
        this.unblock();
        this.pump();
      }
    });
  }

  private block(why: string): void {
    const was = this.status;
    this.status = { kind: 'blocked', why };
    this.isCongested = true;
    if (was.kind === 'open')
      this.events.onNotice({ level: 'error', event: 'buffer_blocked', text: why });
  }

  private unblock(): void {
    if (this.status.kind === 'open') return;
    this.status = { kind: 'open' };
    this.events.onNotice({
      level: 'info',
      event: 'buffer_open',
      text: 'the buffer acknowledges again',
    });
    this.schedule();
    this.relieve();
  }

  private recover(cause: unknown): Promise<void> {
    return reopen(this.storage, this.options.reserveBytes, cause, {
      stopped: () => this.closing !== undefined,
      close: async () => {
        await this.db?.close().catch(() => undefined); // It failed already; what counts is the reopen.
        this.db = undefined;
      },
      open: async () => {
        await this.openDatabase(this.rebuilding);
        this.rebuilding = false;
        this.suspect = undefined;
        const { db, writing: group } = this;
        if (group === undefined || db === undefined) return;
        // Same keys, same bytes: if the failed write is on disk after all (F2), it is overwritten by itself.
        await this.commit(db, group);
        this.totals.reopens++;
        this.committed();
      },
      failed: (error) => {
        this.totals.writeErrors++;
        const why = `the buffer cannot be written (${messageOf(error)})`;
        this.status = { kind: 'blocked', why };
      },
    });
  }

  // ---- upkeep ----

  /** Takes steps of upkeep until there is room, or none helps. */
  private async lookAfter(): Promise<void> {
    if (this.lookingAfter || this.recovering !== undefined || this.closing !== undefined) return;
    this.lookingAfter = true;
    try {
      let room = await this.upkeep.look();
      // What was committed while it looked may have filled the buffer again.
      const again = (): boolean =>
        room.kind === 'freed' || (room.kind === 'enough' && this.upkeep.isFull);
      for (let steps = 0; again() && steps < 64 && this.closing === undefined; steps++)
        room = await this.upkeep.look();
      if (this.recovering !== undefined) return;
      if (room.kind === 'full') this.block(room.why);
      else this.unblock();
      const { clock } = this.env;
      this.rate.sample(
        clock.monotonicUs(),
        this.totals.committedFrameBytes,
        this.backlog.totals?.bytes ?? 0,
      );
    } catch (error) {
      this.events.onNotice({ level: 'warn', event: 'upkeep_failed', text: messageOf(error) });
      if (isDamage(error)) this.rebuild(error);
      else if (operatingError(error) === undefined) this.distrust(error);
    } finally {
      this.lookingAfter = false;
    }
  }

  private commitUpkeep(ops: KvOp[], notes: Note[]): Promise<void> {
    for (const { kind, note } of notes) this.pending.addNote(kind, note);
    this.forced = true;
    return this.withGroup([...ops, ...this.registry.takeChanges(this.ownFrom)]);
  }

  /** Counts what earlier runs left, a piece at a time; what is missing of it is found on the way. */
  private async count(): Promise<void> {
    const own = positionOf(this.ownFrom, 0);
    for (let from: Buffer | undefined; this.closing === undefined; ) {
      try {
        const frames = await this.fromDisk((db) =>
          this.reader.forward(db, 'waiting', from, own, COUNT_BYTES),
        );
        this.backlog.countPiece(frames, (position) => this.registry.isReleased(position));
        from = frames.at(-1)?.end;
        if (from === undefined) return;
      } catch {
        await sleep(UPKEEP_MS); // It is being reopened: counting goes on after that.
      }
    }
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
    this.totals.losses++;
    this.events.onNotice({
      level: 'error',
      event: 'loss',
      text: `${report.where}: ${report.reason}`,
    });
    this.pending.addNote(KIND_LOSS, report);
    this.pending.addOps(this.registry.takeChanges(this.ownFrom));
    this.schedule();
  }

  // ---- reading ----

  async read(from: Buffer | undefined, bytesMax: number, before?: Buffer): Promise<StoredFrame[]> {
    const cached = from === undefined ? undefined : this.cache.read(from, bytesMax);
    if (cached !== undefined)
      return cached.filter(
        ({ position }) =>
          !this.registry.isReleased(position) &&
          (before === undefined || Buffer.compare(position, before) < 0),
      );
    return await this.fromDisk((db) => this.reader.forward(db, 'waiting', from, before, bytesMax));
  }

  readNewest(which: Which, before: Buffer | undefined, bytesMax: number): Promise<StoredFrame[]> {
    return this.fromDisk((db) => this.reader.backward(db, which, before, bytesMax));
  }

  private async fromDisk(work: (db: KvDatabase) => Promise<StoredFrame[]>): Promise<StoredFrame[]> {
    const { db } = this;
    // Not an empty answer: that would mean that nothing is left.
    if (db === undefined) throw new HeadwaterError('DATA_UNUSABLE', 'the buffer is being reopened');
    try {
      return await work(db);
    } catch (error) {
      if (isDamage(error)) this.rebuild(error);
      throw error;
    }
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

  remember(key: Buffer, value: Buffer): void {
    this.pending.addOps([{ type: 'put', key, value }]);
    this.schedule();
  }

  /** Always with a group: a write of its own could fail unseen between two groups (F1). */
  private addNotes(): void {
    const ops = this.registry.takeChanges(this.ownFrom);
    if (ops.length === 0) return;
    this.pending.addOps(ops);
    this.schedule();
  }

  async recall(name: string, ranges: readonly (readonly [number, number])[]): Promise<number> {
    const epoch = this.registry.named(name);
    const { db } = this;
    if (epoch === undefined || db === undefined) return 0;
    const whole = await this.reader.wholeFrames(db, epoch, ranges);
    const count = this.registry.recall(name, whole);
    this.backlog.recall(count, count * this.registry.meanBytes);
    return count;
  }

  async entries(prefix: Buffer): Promise<[Buffer, Buffer][]> {
    if (this.db === undefined) return [];
    return await this.db.read({ gte: prefix, lt: after(prefix) }, Number.POSITIVE_INFINITY);
  }

  stats(): BufferStats {
    const waiting = this.backlog.totals;
    const history = this.registry.history();
    const hours = this.rate.hours(this.upkeep.roomBytes);
    return {
      ...this.totals,
      waitingMessages: waiting?.messages,
      waitingFrames: waiting?.frames,
      waitingBytes: waiting?.bytes,
      diskBytes: this.upkeep.diskBytes,
      diskBytesMax: this.options.diskBytesMax,
      historyMessages: history.messages,
      historyBytes: Math.round(history.bytes),
      hoursUntilFull: hours.untilFull,
      hoursIfCut: hours.ifCut,
      ...this.upkeep.counts,
      pendingBytes: this.pendingBytes,
    };
  }

  close(): Promise<void> {
    this.closing ??= this.shut();
    return this.closing;
  }

  private async shut(): Promise<void> {
    clearInterval(this.upkeepTimer);
    clearTimeout(this.notesTimer);
    this.addNotes();
    if (this.db !== undefined && this.recovering === undefined && this.status.kind === 'open') {
      await new Promise<void>((resolve) => {
        this.idle.push(resolve);
        this.pump();
      });
    }
    await this.recovering;
    await this.db?.close();
    this.db = undefined;
  }
}
