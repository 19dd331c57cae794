/**
 * Whether stored frames are whole and complete. Every frame is checked on every read from disk (F3: LevelDB hides
 * damage); a damaged one is set aside, and a gap between neighbours that nobody released is a loss. Each is reported once.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { messageOf } from '../../shared/errors.ts';
import type { LossReport } from '../../shared/frame/builder.ts';
import { checkFrame } from '../../shared/frame/frame.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import type { FrameRef, StoredFrame } from './buffer.ts';
import { ordinalOf, sequenceOf } from './position.ts';

interface Expected {
  position: Buffer;
  ordinal: number;
  /** First sequence of the frame that must follow, unless it was released. */
  next: number;
}

export class Integrity {
  private readonly folder: string;
  private readonly report: (report: LossReport) => void;
  private readonly reported = new Set<string>();
  /** Ordinal of an open → sequences released in this run: no gap that they leave is a loss. */
  private readonly released = new Map<number, RangeSet>();
  private last: Expected | undefined;

  /** Damaged frames are written to `folder`. */
  constructor(folder: string, report: (report: LossReport) => void) {
    this.folder = folder;
    this.report = report;
  }

  noteReleased({ position, count }: FrameRef): void {
    const ordinal = ordinalOf(position);
    let set = this.released.get(ordinal);
    if (set === undefined) this.released.set(ordinal, (set = new RangeSet()));
    set.add(sequenceOf(position), sequenceOf(position) + count - 1);
  }

  /** Sorts entries read after `from` into whole frames and the keys of damaged ones, which are set aside by then. */
  async check(
    from: Buffer | undefined,
    entries: [Buffer, Buffer][],
  ): Promise<{ good: StoredFrame[]; damaged: Buffer[] }> {
    const good: StoredFrame[] = [];
    const damaged: Buffer[] = [];
    // A gap can be told only where this read goes on from the last one.
    let expected =
      from !== undefined && this.last?.position.equals(from) === true ? this.last : undefined;
    for (const [position, frame] of entries) {
      const [ordinal, sequence] = [ordinalOf(position), sequenceOf(position)];
      if (expected?.ordinal === ordinal) this.checkGap(ordinal, expected.next, sequence);
      try {
        const { count } = checkFrame(frame);
        good.push({ position, frame });
        expected = { position, ordinal, next: sequence + count };
      } catch (error) {
        await this.setAside(position, frame, messageOf(error));
        damaged.push(position);
        expected = undefined;
      }
    }
    if (expected !== undefined) this.last = expected;
    return { good, damaged };
  }

  private checkGap(ordinal: number, next: number, sequence: number): void {
    if (sequence <= next || this.released.get(ordinal)?.covers(next, sequence - 1) === true) return;
    const reason = `frames between sequence ${next} and ${sequence - 1} are gone`;
    this.once(`${ordinal}:${next}`, { where: 'buffer', reason, from: next, to: sequence - 1 });
  }

  private async setAside(position: Buffer, frame: Buffer, why: string): Promise<void> {
    const sequence = sequenceOf(position);
    await mkdir(this.folder, { recursive: true });
    await writeFile(`${this.folder}/frame-${position.toString('hex')}`, frame);
    const reason = `frame at sequence ${sequence} set aside: ${why}`;
    this.once(`${ordinalOf(position)}:${sequence}`, { where: 'buffer', reason, from: sequence });
  }

  private once(key: string, report: LossReport): void {
    if (this.reported.has(key)) return;
    this.reported.add(key);
    this.report(report);
  }
}
