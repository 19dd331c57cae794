/**
 * The buffer on LevelDB: group commit of frames.
 *
 * Promises and how they are kept:
 * - One batch with `sync: true` at a time. What arrives during it forms the next group, so that one fsync serves
 *   everybody who waits. A ticket is released after its own group's fsync, in order of arrival.
 * - A write error acknowledges nothing more: the database is closed, reopened and the failed group written again
 *   under its own keys before anything new (F1: without the reopen 188 of 200 "successful" synced puts were gone).
 * - Every open starts a new random epoch (F3), and has one synced write before it serves (F4).
 * - Memory is bounded by `pendingBytesMax` (not yet durable) and `cacheBytes` (durable, for the uplink's next read).
 *
 * Keys: 'f' + ordinal of the open (8 bytes) + first sequence (8 bytes) → frame; 'm' + name → this buffer's own
 * notes; other prefixes belong to whoever writes `ops` ('q' QoS 2 ids, 'r' retained messages).
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Env } from '../../shared/env/env.ts';
import { HeadwaterError, assert, codeOf, messageOf } from '../../shared/errors.ts';
import {
  FrameBuilder,
  lossFrame,
  type FrameMessage,
  type LossReport,
} from '../../shared/frame/builder.ts';
import { after, type KvDatabase, type KvOp } from '../../shared/kv/kv.ts';
import type { LogDamage } from '../../shared/kv/log-check.ts';
import { openRecovering } from '../../shared/kv/recover.ts';
import type {
  BufferEvents,
  BufferState,
  BufferStats,
  FrameRef,
  MessageBuffer,
  StoredFrame,
} from './buffer.ts';
import { Backlog } from './backlog.ts';
import { Reserve, folderBytes, freeBytes } from './disk.ts';
import { FrameCache } from './frame-cache.ts';
import { Integrity } from './integrity.ts';
import { edgesBefore, framesAfter, ordinalOf, positionOf } from './position.ts';

export interface LevelBufferOptions {
  /** The gateway's data folder; the database is in `buffer/` below it. */
  folder: string;
  gateway: string;
  /** What `buffer/` may take on disk, bytes. */
  diskBytesMax: number;
  /** Disk space kept aside for recovery, bytes. */
  reserveBytes: number;
  /** A group's body is cut into frames of about this size, bytes. */
  frameBytes: number;
  /** Not yet durable in memory; beyond it the buffer is congested. Bytes. */
  pendingBytesMax: number;
  /** Committed frames kept in memory for the uplink, bytes. */
  cacheBytes: number;
  compress: boolean;
  createDatabase: (folder: string) => KvDatabase;
}

interface Group<Ticket> {
  frames: { position: Buffer; frame: Buffer; count: number }[];
  /** Of its frames. */
  bytes: number;
  ops: KvOp[];
  tickets: Ticket[];
}

const emptyGroup = <Ticket>(): Group<Ticket> => ({ frames: [], bytes: 0, ops: [], tickets: [] });

const OPEN_KEY = Buffer.from('mopen');
const DISK_CHECK_MS = 500;
const REOPEN_WAIT_MS = { first: 50, most: 2000 };

export class LevelBuffer<Ticket> implements MessageBuffer<Ticket> {
  private readonly env: Env;
  private readonly options: LevelBufferOptions;
  private readonly events: BufferEvents<Ticket>;
  private readonly reserve: Reserve;
  private readonly databaseFolder: string;

  private db: KvDatabase | undefined;
  private readonly builder = new FrameBuilder();
  private epochBytes: Buffer = Buffer.alloc(8);
  private ordinal = 0;
  private nextSequence = 1;
  private current = emptyGroup<Ticket>();
  private writing: Group<Ticket> | undefined;
  private scheduled = false;
  private stampWallUs = 0;
  private stampMonotonicUs = 0;
  private stamped = false;
  private status: BufferState = { kind: 'open' };
  private isCongested = false;
  private closing: Promise<void> | undefined;
  private recovering: Promise<void> | undefined;
  private idle: (() => void)[] = [];
  private diskTimer: NodeJS.Timeout | undefined;
  private checkingDisk = false;
  private freedBytes = 0;
  private toRelease: FrameRef[] = [];
  /** Runs one after another: release, count, compaction. */
  private exclusive: Promise<void> = Promise.resolve();

  private readonly cache: FrameCache;
  private readonly backlog = new Backlog();
  private readonly integrity: Integrity;
  private readonly totals: BufferStats;

  constructor(env: Env, options: LevelBufferOptions, events: BufferEvents<Ticket>) {
    this.env = env;
    this.options = options;
    this.events = events;
    this.databaseFolder = join(options.folder, 'buffer');
    this.reserve = new Reserve(options.folder, options.reserveBytes);
    this.cache = new FrameCache(options.cacheBytes);
    this.integrity = new Integrity(join(options.folder, 'damaged'), (report) =>
      this.reportLoss(report),
    );
    this.totals = {
      waitingMessages: undefined,
      waitingFrames: undefined,
      waitingBytes: undefined,
      diskBytes: 0,
      diskBytesMax: options.diskBytesMax,
      pendingBytes: 0,
      committedMessages: 0,
      committedGroups: 0,
      committedFrameBytes: 0,
      writeErrors: 0,
      reopens: 0,
      losses: 0,
      lastCommitUs: 0,
    };
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

  /** Opens, recovering from damage. Throws DATA_LOCKED, DATA_UNUSABLE. */
  async open(): Promise<void> {
    await mkdir(this.databaseFolder, { recursive: true });
    try {
      await this.openDatabase();
    } catch (error) {
      if (!(error instanceof HeadwaterError) || error.code !== 'DATA_UNUSABLE') throw error;
      // A full disk must not keep the gateway down: the reserve is for this.
      await this.reserve.release();
      await this.openDatabase();
    }
    await this.reserve.fill();
    await this.checkDisk();
    this.diskTimer = setInterval(() => void this.checkDisk(), DISK_CHECK_MS);
    this.diskTimer.unref();
    void this.inTurn(() => this.count());
  }

  /** Opens LevelDB, starts a new epoch and makes that durable before anything is served (F4). */
  private async openDatabase(): Promise<void> {
    const stamp = new Date(this.env.clock.wallUs() / 1000).toISOString().replaceAll(':', '-');
    const { db, damages, setAside, copies } = await openRecovering(
      this.databaseFolder,
      stamp,
      this.options.createDatabase,
    );
    try {
      const [last] = await db.read({ ...framesAfter(undefined), reverse: true, limit: 1 }, 1);
      const noted = await db.get(OPEN_KEY);
      const lastOrdinal = last === undefined ? 0 : ordinalOf(last[0]);
      const notedOrdinal = noted === undefined ? 0 : Number(noted.readBigUInt64BE(0));
      this.ordinal = Math.max(lastOrdinal, notedOrdinal, this.ordinal) + 1;
      this.epochBytes = this.env.random.bytes(8);
      this.nextSequence = 1;
      const note = Buffer.alloc(16);
      note.writeBigUInt64BE(BigInt(this.ordinal), 0);
      this.epochBytes.copy(note, 8);
      await db.write([{ type: 'put', key: OPEN_KEY, value: note }], { sync: true });
    } catch (error) {
      await db.close().catch(() => undefined); // The error that matters is the one thrown below.
      throw new HeadwaterError(
        'DATA_UNUSABLE',
        `${this.databaseFolder} cannot be written: ${messageOf(error)}`,
        {
          cause: error,
        },
      );
    }
    this.db = db;
    for (const damage of damages) this.reportDamage(damage, copies);
    if (setAside !== undefined) {
      this.reportLoss({
        where: 'buffer',
        reason: `the database did not open and was set aside to ${setAside}`,
      });
    }
  }

  // ---- appending ----

  append(message: FrameMessage, ticket: Ticket | undefined, ops?: KvOp[]): void {
    if (!this.stamped) {
      // One reading of the clocks serves all that arrives in the same turn of the event loop.
      this.stampWallUs = this.env.clock.wallUs();
      this.stampMonotonicUs = this.env.clock.monotonicUs();
      this.stamped = true;
    }
    this.builder.add(message, this.stampWallUs, this.stampMonotonicUs);
    if (ticket !== undefined) this.current.tickets.push(ticket);
    if (ops !== undefined) this.current.ops.push(...ops);
    if (this.builder.bytes >= this.options.frameBytes) this.seal();
    if (!this.isCongested && this.pendingBytes > this.options.pendingBytesMax)
      this.isCongested = true;
    this.schedule();
  }

  barrier(ticket: Ticket, ops?: KvOp[]): void {
    this.current.tickets.push(ticket);
    if (ops !== undefined) this.current.ops.push(...ops);
    this.schedule();
  }

  private get pendingBytes(): number {
    return this.builder.bytes + this.current.bytes + (this.writing?.bytes ?? 0);
  }

  private schedule(): void {
    if (this.scheduled || this.writing !== undefined) return;
    this.scheduled = true;
    setImmediate(this.pump);
  }

  private seal(): void {
    const { count } = this.builder;
    if (count === 0) return;
    const frame = this.builder.finish(this.identity, this.nextSequence, 0, this.options.compress);
    this.addFrame(frame, count);
  }

  private addFrame(frame: Buffer, count: number): void {
    const position = positionOf(this.ordinal, this.nextSequence);
    this.current.frames.push({ position, frame, count });
    this.current.bytes += frame.length;
    this.nextSequence += count;
  }

  private get identity() {
    return { gateway: this.options.gateway, epoch: this.epochBytes, bootId: this.env.bootId };
  }

  private readonly pump = (): void => {
    this.scheduled = false;
    this.stamped = false;
    if (this.writing !== undefined || this.recovering !== undefined || this.db === undefined)
      return;
    if (this.status.kind === 'blocked' && this.closing === undefined) return;
    const { current } = this;
    this.seal();
    if (current.frames.length === 0 && current.tickets.length === 0 && current.ops.length === 0) {
      return this.becomeIdle();
    }
    this.current = emptyGroup<Ticket>();
    this.writing = current;
    this.commit(this.db, current).then(this.committed, this.failed);
  };

  private async commit(db: KvDatabase, group: Group<Ticket>): Promise<void> {
    const ops: KvOp[] = group.frames.map(({ position, frame }) => ({
      type: 'put',
      key: position,
      value: frame,
    }));
    ops.push(...group.ops);
    if (ops.length > 0) await db.write(ops, { sync: true });
  }

  private readonly committed = (): void => {
    const group = this.writing;
    assert(group !== undefined, 'a commit ended that had not begun');
    this.writing = undefined;
    const { totals } = this;
    totals.committedGroups++;
    totals.lastCommitUs = this.env.clock.wallUs();
    this.events.onDurable(group.tickets);
    for (const { position, frame, count } of group.frames) {
      totals.committedMessages += count;
      totals.committedFrameBytes += frame.length;
      totals.diskBytes += frame.length;
      this.backlog.add(count, frame.length);
      const stored = { position, frame };
      this.cache.add(stored);
      this.events.onFrame(stored);
    }
    if (totals.diskBytes > this.fullFrom) void this.checkDisk();
    this.pump();
    this.relieve();
  };

  private relieve(): void {
    if (!this.isCongested || this.status.kind === 'blocked') return;
    if (this.pendingBytes > this.options.pendingBytesMax / 2) return;
    this.isCongested = false;
    this.events.onRelief();
  }

  private becomeIdle(): void {
    for (const resolve of this.idle.splice(0)) resolve();
  }

  // ---- trouble ----

  private readonly failed = (error: unknown): void => {
    this.totals.writeErrors++;
    this.block(
      `the buffer cannot be written (${messageOf(error)}); nothing is acknowledged until it can be again`,
    );
    this.recovering = this.recover(error).finally(() => {
      this.recovering = undefined;
      if (this.closing === undefined) {
        this.unblock();
        this.pump();
      }
    });
  };

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

  /** Closes, waits for space, reopens and writes the failed group again, until that has succeeded (F1). */
  private async recover(cause: unknown): Promise<void> {
    let waitMs = REOPEN_WAIT_MS.first;
    let error = cause;
    for (;;) {
      if (this.closing !== undefined) return;
      await this.db?.close().catch(() => undefined); // It failed already; what counts is the reopen.
      this.db = undefined;
      const full = /No space left|ENOSPC|Disk quota/i.test(messageOf(error) + codeOf(error));
      if (
        full &&
        (await freeBytes(this.options.folder).catch(() => 0)) < this.options.reserveBytes / 2
      ) {
        await sleep(DISK_CHECK_MS);
        continue;
      }
      await this.reserve.release();
      try {
        const group = this.writing;
        assert(group !== undefined, 'recovery without a failed group');
        await this.openDatabase();
        assert(this.db !== undefined, 'opened');
        // Same keys, same bytes: if the failed write is on disk after all (F2), it is overwritten by itself.
        await this.commit(this.db, group);
        this.totals.reopens++;
        this.committed();
        await this.reserve.fill();
        return;
      } catch (again) {
        error = again;
        this.totals.writeErrors++;
        this.status = {
          kind: 'blocked',
          why: `the buffer cannot be written (${messageOf(again)})`,
        };
      }
      await sleep(waitMs);
      waitMs = Math.min(waitMs * 2, REOPEN_WAIT_MS.most);
    }
  }

  /** From this many bytes on disk the buffer is full: compaction needs room to write before it can delete. */
  private get fullFrom(): number {
    return this.options.diskBytesMax * 0.9;
  }

  private async checkDisk(): Promise<void> {
    if (this.checkingDisk || this.recovering !== undefined) return;
    this.checkingDisk = true;
    try {
      const { totals, options } = this;
      if (this.toRelease.length > 0) await this.inTurn(() => this.releaseWaiting());
      totals.diskBytes = await folderBytes(this.databaseFolder);
      if (
        this.freedBytes > options.diskBytesMax / 8 &&
        totals.diskBytes > options.diskBytesMax / 2
      ) {
        this.freedBytes = 0;
        await this.inTurn(() => this.compactReleased());
        totals.diskBytes = await folderBytes(this.databaseFolder);
      }
      const free = await freeBytes(options.folder);
      if (totals.diskBytes > this.fullFrom) {
        this.block(
          `the buffer is full (${totals.diskBytes} of ${options.diskBytesMax} bytes): acknowledgements wait for the uplink`,
        );
      } else if (free < options.reserveBytes / 4) {
        this.block(
          `the disk under ${options.folder} is full (${free} bytes free): acknowledgements wait for space`,
        );
      } else if (this.recovering === undefined) {
        this.unblock();
      }
    } catch (error) {
      this.events.onNotice({ level: 'warn', event: 'disk_check_failed', text: messageOf(error) });
    } finally {
      this.checkingDisk = false;
    }
  }

  /**
   * Gives the space of released frames back. LevelDB lays a flushed table without neighbours straight into a lower
   * level, with its deletions beside what they delete, and a compaction of the range then passes it by. Two deletions
   * at the range's edges make every later table overlap it, so that the second pass merges all of it.
   */
  private async compactReleased(): Promise<void> {
    const { db } = this;
    if (db === undefined) return;
    const [oldest] = await db.read({ ...framesAfter(undefined), limit: 1 }, 1);
    const [low, high] = edgesBefore(oldest?.[0]);
    for (let pass = 0; pass < 2; pass++) {
      await db.write(
        [low, high].map((key) => ({ type: 'del', key })),
        { sync: false },
      );
      await db.compact(low, high);
    }
  }

  private inTurn(work: () => Promise<void>): Promise<void> {
    const run = this.exclusive.then(work).catch((error: unknown) => {
      this.events.onNotice({
        level: 'warn',
        event: 'buffer_upkeep_failed',
        text: messageOf(error),
      });
    });
    this.exclusive = run;
    return run;
  }

  // ---- losses ----

  private reportDamage(damage: LogDamage, copies: string | undefined): void {
    const where = `buffer/${damage.file}`;
    if (damage.kind === 'torn') {
      // As after a power cut during a write: what is torn was never acknowledged.
      this.events.onNotice({
        level: 'info',
        event: 'log_tail_torn',
        text: `${where} ends within a record (${damage.bytes} bytes at ${damage.offset}), as after a power cut; it had not been acknowledged`,
      });
      return;
    }
    this.reportLoss({
      where,
      reason: `damaged log record at offset ${damage.offset}; a copy of the file is in ${copies ?? 'damaged/'}`,
      bytes: damage.bytes,
    });
  }

  /** Reports a loss to the operator and, as a frame of its own, to the collector. */
  private reportLoss(report: LossReport): void {
    this.totals.losses++;
    this.events.onNotice({
      level: 'error',
      event: 'loss',
      text: `${report.where}: ${report.reason}`,
    });
    this.seal();
    const { clock } = this.env;
    const frame = lossFrame(
      this.identity,
      this.nextSequence,
      report,
      clock.wallUs(),
      clock.monotonicUs(),
    );
    this.addFrame(frame, 1);
    this.schedule();
  }

  // ---- reading ----

  async read(from: Buffer | undefined, bytesMax: number): Promise<StoredFrame[]> {
    const cached = from === undefined ? undefined : this.cache.read(from, bytesMax);
    if (cached !== undefined) return cached;
    const { db } = this;
    if (db === undefined) return [];
    for (;;) {
      const entries = await db.read(framesAfter(from), bytesMax);
      const { good, damaged } = await this.integrity.check(from, entries);
      if (damaged.length > 0) await db.write(deletions(damaged), { sync: false });
      // Nothing but damaged ones, which are set aside now: what is behind them must not wait.
      if (good.length > 0 || damaged.length === 0) return good;
    }
  }

  // ---- releasing ----

  release(frames: FrameRef[]): Promise<void> {
    this.toRelease.push(...frames);
    return this.inTurn(() => this.releaseWaiting());
  }

  /** What could not be deleted now, while the database is away or full, is deleted with the next ones. */
  private async releaseWaiting(): Promise<void> {
    const { db } = this;
    const frames = this.toRelease;
    const last = frames.at(-1);
    if (db === undefined || last === undefined) return;
    this.toRelease = [];
    try {
      // Not synced: a deletion undone by a power cut is a resend, and those are recognised by their identity.
      await db.write(deletions(frames.map(({ position }) => position)), { sync: false });
    } catch (error) {
      this.toRelease = [...frames, ...this.toRelease];
      throw error;
    }
    for (const frame of frames) {
      this.freedBytes += frame.bytes;
      this.integrity.noteReleased(frame);
      this.backlog.remove(frame);
    }
    this.cache.release(last.position);
  }

  /** Counts what earlier runs left. */
  private async count(): Promise<void> {
    const own = positionOf(this.ordinal, 0);
    while (this.db !== undefined && this.closing === undefined) {
      if (!(await this.backlog.countPiece(this.db, own))) return;
    }
  }

  async entries(prefix: Buffer): Promise<[Buffer, Buffer][]> {
    if (this.db === undefined) return [];
    return await this.db.read({ gte: prefix, lt: after(prefix) }, Number.POSITIVE_INFINITY);
  }

  stats(): BufferStats {
    const waiting = this.backlog.totals;
    return {
      ...this.totals,
      waitingMessages: waiting?.messages,
      waitingFrames: waiting?.frames,
      waitingBytes: waiting?.bytes,
      pendingBytes: this.pendingBytes,
    };
  }

  close(): Promise<void> {
    this.closing ??= this.shut();
    return this.closing;
  }

  private async shut(): Promise<void> {
    clearInterval(this.diskTimer);
    if (this.db !== undefined && this.recovering === undefined && this.status.kind === 'open') {
      await new Promise<void>((resolve) => {
        this.idle.push(resolve);
        this.pump();
      });
    }
    await this.recovering;
    await this.exclusive;
    await this.db?.close();
    this.db = undefined;
  }
}

const deletions = (keys: Buffer[]): KvOp[] => keys.map((key) => ({ type: 'del', key }));

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
