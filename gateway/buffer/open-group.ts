/**
 * The group that fills while the one before it is being written: messages become frames, tickets and operations wait
 * with them. Sequences are given out here, in the order in which messages and notes come. A message for many sessions that
 * are away brings an operation for each: a group with many is full, and what comes then begins the next one, so that none holds
 * the event loop for long.
 */
import { FrameBuilder, type FrameIdentity, type FrameMessage } from '../../shared/frame/builder.ts';
import { noteFrame, type Notes } from '../../shared/frame/notes.ts';
import type { KvOp } from '../../shared/kv/kv.ts';
import type { BufferClock, Stamp } from './clock.ts';
import { positionOf } from './position.ts';

export interface Group<Ticket> {
  frames: { position: Buffer; end: Buffer; frame: Buffer; count: number; clock: Stamp }[];
  /** Of its frames. */
  bytes: number;
  ops: KvOp[];
  tickets: Ticket[];
  /** Monotonic, when its first message came; undefined while it has none. */
  openedUs: number | undefined;
  /** Upkeep that waits for this group. */
  done: (() => void)[];
}

export interface GroupOptions {
  gateway: string;
  bootId: Buffer;
  /** A body is cut into frames of about this size, bytes. */
  frameBytes: number;
  compress: boolean;
}

/** Operations with which a group is full; what comes with one message stays together. */
const OPS_FULL = 2000;

const emptyGroup = <Ticket>(): Group<Ticket> => ({
  frames: [],
  bytes: 0,
  ops: [],
  tickets: [],
  openedUs: undefined,
  done: [],
});

const isEmpty = ({ frames, tickets, ops }: Group<unknown>): boolean =>
  frames.length + tickets.length + ops.length === 0;

export class OpenGroup<Ticket> {
  private readonly options: GroupOptions;
  private readonly clock: BufferClock;
  private readonly builder = new FrameBuilder();
  private group = emptyGroup<Ticket>();
  /** Those before it, which are full. */
  private readonly full: Group<Ticket>[] = [];
  private epoch: Buffer = Buffer.alloc(8);
  private ordinal = 0;
  private nextSequence = 1;
  /** Of this turn of the event loop: one reading of the clocks serves all that arrives in it. */
  private turn: Stamp | undefined;
  /** Of the first message in the builder. */
  private stamp: Stamp | undefined;

  constructor(options: GroupOptions, clock: BufferClock) {
    this.options = options;
    this.clock = clock;
  }

  /** What comes from here on belongs to a new epoch. Frames that are sealed already keep theirs. */
  begin(ordinal: number, epoch: Buffer): void {
    this.seal();
    this.ordinal = ordinal;
    this.epoch = epoch;
    this.nextSequence = 1;
  }

  /** Of its first frame; undefined while it has none. */
  get firstPosition(): Buffer | undefined {
    for (const { frames } of this.full) if (frames[0] !== undefined) return frames[0].position;
    return this.group.frames[0]?.position;
  }

  /** Of its frames and of what is not a frame yet. */
  get bytes(): number {
    return this.full.reduce((sum, { bytes }) => sum + bytes, this.builder.bytes + this.group.bytes);
  }

  /** Something is to be written after what was taken last. */
  get hasMore(): boolean {
    return this.full.length > 0 || !isEmpty(this.group) || this.builder.count > 0;
  }

  append(message: FrameMessage, ticket: Ticket | undefined, ops: KvOp[] | undefined): void {
    if (this.turn === undefined) {
      this.turn = this.freshStamp();
      setImmediate(this.endTurn);
    }
    if (this.builder.count === 0) {
      this.stamp = this.turn;
      this.group.openedUs ??= this.turn.monotonicUs;
    }
    this.builder.add(message, this.turn.wallUs, this.turn.monotonicUs);
    if (ticket !== undefined) this.group.tickets.push(ticket);
    if (ops !== undefined) this.push(ops);
    if (this.builder.bytes >= this.options.frameBytes) this.seal();
  }

  private freshStamp(): Stamp {
    const stamp = this.clock.stamp();
    // A frame has one clock: what came before the clock was set, or was known, is a frame of its own.
    if (stamp.stepped || stamp.clockQuality !== this.stamp?.clockQuality) this.seal();
    return stamp;
  }

  barrier(ticket: Ticket, ops: KvOp[] | undefined): void {
    this.group.tickets.push(ticket);
    if (ops !== undefined) this.push(ops);
  }

  private push(ops: KvOp[]): void {
    const { group } = this;
    for (const op of ops) group.ops.push(op);
    if (group.ops.length < OPS_FULL) return;
    this.seal();
    this.full.push(group);
    this.group = emptyGroup<Ticket>();
  }

  addNote<K extends keyof Notes>(kind: K, note: Notes[K]): void {
    this.seal();
    const stamp = this.clock.stamp();
    this.addFrame(noteFrame(kind, note, this.identity, this.nextSequence, stamp), 1, stamp);
  }

  addOps(ops: KvOp[], done?: () => void): void {
    if (done !== undefined) this.group.done.push(done);
    this.push(ops);
  }

  private seal(): void {
    const { builder, stamp, options } = this;
    const { count } = builder;
    if (count === 0 || stamp === undefined) return;
    const frame = builder.finish(
      this.identity,
      this.nextSequence,
      stamp.clockQuality,
      options.compress,
    );
    this.addFrame(frame, count, stamp);
  }

  private addFrame(frame: Buffer, count: number, clock: Stamp): void {
    const position = positionOf(this.ordinal, this.nextSequence);
    this.nextSequence += count;
    const end = positionOf(this.ordinal, this.nextSequence);
    this.group.frames.push({ position, end, frame, count, clock });
    this.group.bytes += frame.length;
  }

  private get identity(): FrameIdentity {
    return { gateway: this.options.gateway, epoch: this.epoch, bootId: this.options.bootId };
  }

  /** However long the write that runs may take: what comes later has come later. */
  private readonly endTurn = (): void => {
    this.turn = undefined;
  };

  /** Everything so far, or what is full of it, to be written; undefined when there is nothing. */
  take(): Group<Ticket> | undefined {
    const first = this.full.shift();
    if (first !== undefined) return first;
    this.seal();
    const { group } = this;
    if (isEmpty(group)) return undefined;
    this.group = emptyGroup<Ticket>();
    return group;
  }
}
