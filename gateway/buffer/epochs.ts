/**
 * What is known of every open of the buffer: its epoch and boot, which sequences were given out, which are safe
 * elsewhere, and which are no longer here. One small note each, so that frames can stay as history after they were
 * acknowledged, and a restart still knows what waits.
 *
 * A note that is lost or does not match its checksum only makes frames wait again: a resend, which its identity makes
 * harmless. So notes are written without an fsync of their own.
 */
import { after, type KvOp } from '../../shared/kv/kv.ts';
import { seal, unseal } from '../../shared/kv/sealed.ts';
import { RangeSet, atMost, type Range } from '../../shared/model/ranges.ts';
import { readHeader } from '../../shared/frame/frame.ts';
import type { ClockAnchor, EpochHoldings } from '../../shared/frame/notes.ts';
import type { StoredFrame } from './stored-frame.ts';
import { ordinalOf, sequenceOf } from './position.ts';

const PREFIX = Buffer.from('e');
/** Epochs of which nothing is left here, and the time of whose boot nobody knows yet: beyond so many the oldest are forgotten. */
const UNTIMED_MAX = 1000;
/** Ranges of one kind that a status names; what is held and goes unnamed would be called missing. */
const RANGES_MAX = 200;

export interface ClockReading {
  wallUs: number;
  monotonicUs: number;
}

export interface Epoch {
  ordinal: number;
  epoch: string;
  boot: string;
  /** The clocks when the epoch began. */
  start: ClockReading;
  /** The clocks at its newest frame. */
  last: ClockReading;
  /** What its boot's monotonic clock lacks to the true time, microseconds; undefined: no anchor was made for it. */
  offsetUs: number | undefined;
  /** All sequences below are committed. */
  next: number;
  /** Its newest frame is damaged: how many sequences it held is not known. */
  openEnd: boolean;
  /** Not waiting any more: acknowledged by a collector, or reported lost. */
  released: RangeSet;
  /** Not on disk any more: evicted or lost. A part of `released`. */
  gone: RangeSet;
  /** Lost, thinned or expired: no collector has them, and a frame says so. A part of `released`. */
  lost: RangeSet;
  /** Committed by this process or counted: for the mean size of a message. */
  messages: number;
  bytes: number;
}

/** A run of sequences of one epoch, inclusive. */
export interface Run {
  epoch: Epoch;
  from: number;
  to: number;
}

/** 'waiting': not acknowledged. 'held': all that is still on disk. */
export type Which = 'waiting' | 'held';

/** What the uplink reads and says of epochs. */
export interface EpochBook {
  /** In order of their opens. */
  readonly all: readonly Epoch[];
  /** What is held, for the ledger. */
  holdings(): EpochHoldings[];
  /** Anchors were made for these boots. */
  settle(anchors: readonly ClockAnchor[]): void;
}

interface Note {
  epoch: string;
  boot: string;
  start: ClockReading;
  last: ClockReading;
  offsetUs?: number;
  next: number;
  released: Range[];
  gone: Range[];
  lost: Range[];
}

export const EPOCH_NOTES = { gte: PREFIX, lt: after(PREFIX) };

function keyOf(ordinal: number): Buffer {
  const key = Buffer.alloc(9);
  PREFIX.copy(key);
  key.writeBigUInt64BE(BigInt(ordinal), 1);
  return key;
}

const isGone = ({ next, gone }: Epoch): boolean => next === 1 || gone.covers(1, next - 1);

export class Epochs implements EpochBook {
  private list: Epoch[] = [];
  private readonly byEpoch = new Map<string, Epoch>();
  private readonly dirty = new Set<Epoch>();

  get all(): readonly Epoch[] {
    return this.list;
  }

  /** Their history is being deleted: until that is done, notes say whose frames they are. */
  readonly leaving = new Set<Epoch>();

  get newest(): Epoch | undefined {
    return this.list.at(-1);
  }

  at(ordinal: number): Epoch | undefined {
    return this.list.find((each) => each.ordinal === ordinal);
  }

  named(epoch: string): Epoch | undefined {
    return this.byEpoch.get(epoch);
  }

  /** Takes up notes of earlier opens. Those that are damaged are left out: `adopt` makes new ones from the frames. */
  load(entries: [Buffer, Buffer][]): void {
    for (const [key, sealed] of entries) {
      const value = key.length === 9 ? unseal(sealed) : undefined;
      if (value === undefined) continue;
      const note = JSON.parse(value.toString('utf8')) as Note; // Its checksum says that we wrote it.
      const ordinal = Number(key.readBigUInt64BE(1));
      if (this.at(ordinal) !== undefined) continue;
      this.add({
        ...note,
        ordinal,
        offsetUs: note.offsetUs,
        openEnd: false,
        released: new RangeSet(note.released),
        gone: new RangeSet(note.gone),
        lost: new RangeSet(note.lost),
        messages: 0,
        bytes: 0,
      });
    }
  }

  add(epoch: Epoch): void {
    this.list.push(epoch);
    this.list.sort((a, b) => a.ordinal - b.ordinal);
    this.byEpoch.set(epoch.epoch, epoch);
    this.dirty.add(epoch);
  }

  /** Begins an epoch, with an ordinal above all others. */
  begin(ordinal: number, epoch: string, boot: string, clock: ClockReading): Epoch {
    const start = { wallUs: clock.wallUs, monotonicUs: clock.monotonicUs };
    const fresh: Epoch = {
      ordinal,
      epoch,
      boot,
      start,
      last: start,
      offsetUs: this.list.findLast((each) => each.boot === boot)?.offsetUs,
      next: 1,
      openEnd: false,
      released: new RangeSet(),
      gone: new RangeSet(),
      lost: new RangeSet(),
      messages: 0,
      bytes: 0,
    };
    this.add(fresh);
    const oldest = this.list.at(-UNTIMED_MAX - 1);
    if (oldest !== undefined) this.dirty.add(oldest);
    return fresh;
  }

  /** An epoch whose note is lost, known only by frames: what is before its first frame is not here. */
  adopt(ordinal: number, epoch: string, boot: string, first: number, start: ClockReading): Epoch {
    const adopted = this.begin(ordinal, epoch, boot, start);
    if (first > 1) {
      adopted.released.add(1, first - 1);
      adopted.gone.add(1, first - 1);
    }
    adopted.next = first;
    return adopted;
  }

  settle(anchors: readonly ClockAnchor[]): void {
    for (const { boot, wallUs, monotonicUs } of anchors) {
      for (const epoch of this.list) {
        if (epoch.boot !== boot || epoch.offsetUs !== undefined) continue;
        epoch.offsetUs = wallUs - monotonicUs;
        this.dirty.add(epoch);
      }
    }
  }

  touch(epoch: Epoch): void {
    this.dirty.add(epoch);
  }

  /** What it had is placed by the time of its boot, which only who knows of the epoch can tell. */
  private isAwaited(epoch: Epoch): boolean {
    const isRecent = this.list.indexOf(epoch) >= this.list.length - UNTIMED_MAX;
    return epoch.next > 1 && epoch.offsetUs === undefined && isRecent;
  }

  /** Operations that write what changed, and forget epochs before `own` of which nothing is left. */
  takeChanges(own: number): KvOp[] {
    const ops: KvOp[] = [];
    for (const epoch of this.dirty) {
      const { ordinal } = epoch;
      const isLeaving = this.leaving.has(epoch) || this.isAwaited(epoch);
      if (ordinal < own && isGone(epoch) && !isLeaving) {
        this.list = this.list.filter((each) => each !== epoch);
        this.byEpoch.delete(epoch.epoch);
        ops.push({ type: 'del', key: keyOf(ordinal) });
      } else {
        const { boot, start, last, offsetUs, next, released, gone, lost } = epoch;
        const note: Note = {
          epoch: epoch.epoch,
          boot,
          start,
          last,
          ...(offsetUs === undefined ? {} : { offsetUs }),
          next,
          released: [...released.ranges],
          gone: [...gone.ranges],
          lost: [...lost.ranges],
        };
        ops.push({
          type: 'put',
          key: keyOf(ordinal),
          value: seal(Buffer.from(JSON.stringify(note))),
        });
      }
    }
    this.dirty.clear();
    return ops;
  }

  /** After a write that failed: everything is written again with the next one. */
  allChanged(): void {
    for (const epoch of this.list) this.dirty.add(epoch);
  }

  /** A frame is on stable storage. */
  committed(
    position: Buffer,
    end: Buffer,
    count: number,
    bytes: number,
    clock: ClockReading | undefined,
  ): void {
    const epoch = this.at(ordinalOf(position));
    if (epoch === undefined) return;
    epoch.next = Math.max(epoch.next, sequenceOf(end));
    epoch.messages += count;
    epoch.bytes += bytes;
    if (clock !== undefined) epoch.last = { wallUs: clock.wallUs, monotonicUs: clock.monotonicUs };
  }

  release(position: Buffer, count: number): boolean {
    const epoch = this.at(ordinalOf(position));
    if (epoch === undefined) return false;
    const from = sequenceOf(position);
    if (epoch.released.covers(from, from + count - 1)) return false;
    epoch.released.add(from, from + count - 1);
    this.dirty.add(epoch);
    return true;
  }

  /** No collector will have these, and they are not here any more. */
  lose(epoch: Epoch, from: number, to: number): void {
    for (const set of [epoch.released, epoch.gone, epoch.lost]) set.add(from, to);
    this.dirty.add(epoch);
  }

  /** These frames do not wait any more, though no collector has them. Returns their ranges by epoch. */
  expire(frames: StoredFrame[]): Map<string, Range[]> {
    const sets = new Map<string, RangeSet>();
    for (const { position, frame } of frames) {
      const { epoch, firstSequence, count } = readHeader(frame);
      if (!this.release(position, count)) continue;
      const set = sets.get(epoch) ?? new RangeSet();
      sets.set(epoch, set);
      set.add(firstSequence, firstSequence + count - 1);
      this.byEpoch.get(epoch)?.lost.add(firstSequence, firstSequence + count - 1);
    }
    return new Map([...sets].map(([epoch, set]) => [epoch, [...set.ranges]]));
  }

  isReleased(position: Buffer): boolean {
    return this.at(ordinalOf(position))?.released.has(sequenceOf(position)) ?? false;
  }

  /** Makes history wait again. Returns how many messages that is. */
  recall(name: string, ranges: readonly Range[]): number {
    const epoch = this.byEpoch.get(name);
    if (epoch === undefined) return 0;
    let count = 0;
    for (const [from, to] of ranges) {
      for (const [low, high] of epoch.gone.gaps(from, Math.min(to, epoch.next - 1))) {
        for (const [a, b] of epoch.released.within(low, high)) {
          epoch.released.remove(a, b);
          count += b - a + 1;
        }
      }
    }
    if (count > 0) this.dirty.add(epoch);
    return count;
  }

  /** Runs in order of commit, of what lies from a position on and before another. */
  *runs(which: Which, from?: Buffer, before?: Buffer): Generator<Run> {
    for (const epoch of this.list) {
      const run = this.bounds(epoch, from, before);
      if (run === undefined) continue;
      const out = which === 'waiting' ? epoch.released : epoch.gone;
      for (const [low, high] of out.gaps(run[0], run[1])) yield { epoch, from: low, to: high };
    }
  }

  /** The same, newest first. */
  *runsBackward(which: Which, before?: Buffer): Generator<Run> {
    for (const epoch of this.list.toReversed()) {
      const run = this.bounds(epoch, undefined, before);
      if (run === undefined) continue;
      const out = which === 'waiting' ? epoch.released : epoch.gone;
      for (const [low, high] of out.gaps(run[0], run[1]).toReversed())
        yield { epoch, from: low, to: high };
    }
  }

  /** Sequences of an epoch from a position on and before another. */
  private bounds(epoch: Epoch, from?: Buffer, before?: Buffer): Range | undefined {
    const { ordinal } = epoch;
    if (from !== undefined && ordinalOf(from) > ordinal) return undefined;
    if (before !== undefined && ordinalOf(before) < ordinal) return undefined;
    const low = from !== undefined && ordinalOf(from) === ordinal ? sequenceOf(from) : 1;
    const high =
      before !== undefined && ordinalOf(before) === ordinal
        ? Math.min(epoch.next, sequenceOf(before)) - 1
        : epoch.next - 1;
    return low <= high ? [low, high] : undefined;
  }

  /** Messages and about how many bytes of history there are. */
  history(): { messages: number; bytes: number } {
    let messages = 0;
    let bytes = 0;
    const mean = this.meanBytes;
    for (const { released, gone } of this.list) {
      const count = released.count - gone.count;
      messages += count;
      bytes += count * mean;
    }
    return { messages, bytes };
  }

  /** Bytes a message takes in its frame, as committed and counted so far. */
  get meanBytes(): number {
    let messages = 0;
    let bytes = 0;
    for (const each of this.list) {
      messages += each.messages;
      bytes += each.bytes;
    }
    return messages === 0 ? 64 : bytes / messages;
  }

  /** For the ledger. */
  holdings(): EpochHoldings[] {
    const { newest } = this;
    // One of which nothing is left is known for the time of its boot alone.
    const used = this.list.filter((each) => each.next > 1 && (each === newest || !isGone(each)));
    return used.map(({ epoch, next, released, gone, lost }) => ({
      epoch,
      next,
      lost: lost.ranges.slice(-RANGES_MAX),
      waiting: atMost(RANGES_MAX, released.gaps(1, next - 1)),
      // What expired is still here, but nobody is to ask for it again.
      history: atMost(
        RANGES_MAX,
        released.ranges
          .flatMap(([from, to]) => gone.gaps(from, to))
          .flatMap(([from, to]) => lost.gaps(from, to)),
      ),
    }));
  }
}
