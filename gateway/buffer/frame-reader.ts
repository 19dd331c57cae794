/**
 * Reads frames by runs of sequences. Which sequences must be there is known (`epochs.ts`), so whatever is not is
 * found: every frame is checked on every read (F3: LevelDB hides damage), against its checksum and against its key.
 * What is damaged is set aside; what is damaged or gone is reported once, with its exact range.
 *
 * A frame that was written before this gateway had its name goes out under the name that it has now: no collector knew the other.
 */
import { messageOf } from '../../shared/errors.ts';
import { HEADER_BYTES, checkFrame, renamedFrame } from '../../shared/frame/frame.ts';
import type { KvDatabase } from '../../shared/kv/kv.ts';
import type { StoredFrame } from './stored-frame.ts';
import type { Epoch, Epochs, Run, Which } from './epochs.ts';
import { positionOf, sequenceOf } from './position.ts';

/** Of a frame's count in its header (`frame.ts`). */
const COUNT_OFFSET = 40;

export interface Damage {
  epoch: Epoch;
  from: number;
  to: number;
  reason: string;
  /** The damaged frame's key and bytes, if there is one. */
  frame: { position: Buffer; bytes: Buffer } | undefined;
}

/** Told of everything that a run lacks, before the frames behind it are returned. */
export type OnDamage = (damage: Damage) => Promise<void>;

export class FrameReader {
  private readonly gateway: string;
  private readonly epochs: Epochs;
  private readonly onDamage: OnDamage;

  constructor(gateway: string, epochs: Epochs, onDamage: OnDamage) {
    this.gateway = gateway;
    this.epochs = epochs;
    this.onDamage = onDamage;
  }

  /** Frames in order of commit, about `bytesMax` bytes of them: empty only when there are no more. */
  async forward(
    db: KvDatabase,
    which: Which,
    from: Buffer | undefined,
    before: Buffer | undefined,
    bytesMax: number,
  ): Promise<StoredFrame[]> {
    const found: StoredFrame[] = [];
    let left = bytesMax;
    for (const run of [...this.epochs.runs(which, from, before)]) {
      for (let next = run.from; next <= run.to && (left > 0 || found.length === 0); ) {
        const part = { ...run, from: next };
        const { frames, end, bytes } = await this.readRun(
          db,
          which,
          part,
          Math.max(1, left),
          false,
        );
        found.push(...frames);
        left -= bytes;
        next = end + 1;
      }
      if (left <= 0 && found.length > 0) break;
    }
    return found;
  }

  /** Frames newest first. */
  async backward(
    db: KvDatabase,
    which: Which,
    before: Buffer | undefined,
    bytesMax: number,
  ): Promise<StoredFrame[]> {
    const found: StoredFrame[] = [];
    let left = bytesMax;
    for (const run of [...this.epochs.runsBackward(which, before)]) {
      for (let last = run.to; run.from <= last && (left > 0 || found.length === 0); ) {
        const part = { ...run, to: last };
        const { frames, start, bytes } = await this.readRun(
          db,
          which,
          part,
          Math.max(1, left),
          true,
        );
        found.push(...frames.toReversed());
        left -= bytes;
        last = start - 1;
      }
      if (left <= 0 && found.length > 0) break;
    }
    return found;
  }

  /** A part of a run, from its beginning or its end; `start` to `end` is what has been dealt with. */
  private async readRun(
    db: KvDatabase,
    which: Which,
    run: Run,
    bytesMax: number,
    reverse: boolean,
  ): Promise<{ frames: StoredFrame[]; start: number; end: number; bytes: number }> {
    const { epoch, from, to } = run;
    const range = {
      gte: positionOf(epoch.ordinal, from),
      lt: positionOf(epoch.ordinal, to + 1),
      reverse,
    };
    const entries = await db.read(range, bytesMax);
    let bytes = 0;
    for (const [key, value] of entries) bytes += key.length + value.length;
    const exhausted = bytes < bytesMax;
    if (reverse) entries.reverse();
    // Without knowing what comes before, or after, the first, or last, entry is the edge of what was dealt with.
    const first = entries[0];
    const start = exhausted || !reverse || first === undefined ? from : sequenceOf(first[0]);
    const frames: StoredFrame[] = [];
    const missing: Damage[] = [];
    let expected = start;
    let dealtWith = to;
    for (const [index, [position, frame]] of entries.entries()) {
      const sequence = sequenceOf(position);
      if (sequence > expected) missing.push(vanished(epoch, expected, sequence - 1));
      const following = entries[index + 1];
      const read = this.checked(epoch, sequence, frame);
      if (typeof read !== 'string') {
        expected = sequence + read.count;
        frames.push({ position, end: positionOf(epoch.ordinal, expected), frame: read.frame });
      } else {
        const next =
          following !== undefined
            ? sequenceOf(following[0])
            : exhausted || reverse
              ? to + 1
              : await this.nextAfter(db, epoch, sequence, to);
        missing.push({
          epoch,
          from: sequence,
          to: next - 1,
          reason: `frame at sequence ${sequence} set aside: ${read}`,
          frame: { position, bytes: frame },
        });
        expected = next;
      }
    }
    if (exhausted || reverse) {
      if (expected <= to) missing.push(vanished(epoch, expected, to));
    } else {
      dealtWith = Math.max(expected - 1, from);
    }
    // In history a gap is what eviction left; only a damaged frame is news there, and no loss.
    if (which === 'waiting') for (const damage of missing) await this.onDamage(damage);
    return { frames, start, end: dealtWith, bytes };
  }

  /** The frame and its messages, or what is wrong with it. */
  private checked(
    epoch: Epoch,
    sequence: number,
    frame: Buffer,
  ): { frame: Buffer; count: number } | string {
    try {
      const header = checkFrame(frame);
      if (header.epoch !== epoch.epoch || header.firstSequence !== sequence)
        return 'it belongs under another key';
      const isOwn = header.gateway === this.gateway;
      return {
        frame: isOwn ? frame : renamedFrame(frame, header, this.gateway),
        count: header.count,
      };
    } catch (error) {
      return messageOf(error);
    }
  }

  /** The same ranges, begun where the frames begin that hold them. */
  async wholeFrames(
    db: KvDatabase,
    { ordinal }: Epoch,
    ranges: readonly (readonly [number, number])[],
  ): Promise<[number, number][]> {
    const whole: [number, number][] = [];
    for (const [from, to] of ranges) {
      const range = { gte: positionOf(ordinal, 0), lt: positionOf(ordinal, from + 1) };
      const [holder] = await db.read({ ...range, reverse: true, limit: 1 }, 1);
      let first = from;
      if (holder !== undefined && holder[1].length >= HEADER_BYTES) {
        const begins = sequenceOf(holder[0]);
        if (begins + holder[1].readUInt32LE(COUNT_OFFSET) > from) first = begins;
      }
      whole.push([first, to]);
    }
    return whole;
  }

  private async nextAfter(
    db: KvDatabase,
    { ordinal }: Epoch,
    sequence: number,
    to: number,
  ): Promise<number> {
    const range = { gt: positionOf(ordinal, sequence), lt: positionOf(ordinal, to + 1), limit: 1 };
    const [next] = await db.read(range, 1);
    return next === undefined ? to + 1 : sequenceOf(next[0]);
  }
}

const vanished = (epoch: Epoch, from: number, to: number): Damage => ({
  epoch,
  from,
  to,
  reason: `frames of sequences ${from} to ${to} are gone`,
  frame: undefined,
});
