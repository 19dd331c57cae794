/**
 * Frames of a clock that nobody knew, and the anchors that put them right (law 9). A frame waits here, in the ledger
 * topic, until its boot has an anchor; it then reaches log and stores at its right time. While the anchor's error is
 * large the frame stays, so that a better anchor can move its readings, and every moved reading says where it was.
 */
import { Share } from '../../shared/access/shares.ts';
import { CLOCK_UNKNOWN, type FrameHeader } from '../../shared/frame/frame.ts';
import type { ClockAnchor } from '../../shared/frame/notes.ts';
import { HEADER_UNSETTLED } from '../log/topics.ts';

export const CLOCK_PREFIX = 'clock/';
/** Anchors that a later one contradicted: nothing is placed by them any more, and what was stays where it is. */
export const FORMER_PREFIX = 'clock-former/';

/** An anchor with a smaller error is final: moving a reading by less is not worth a second write. */
const FINAL_ERROR_US = 100_000;
/** A better anchor replaces one that is this many times worse. */
const BETTER = 4;
/** The monotonic clock drifts from true time by less, microseconds for each second. */
const DRIFT = 200e-6;
/** Beyond errors and drift, two anchors of one boot may differ by this and both be right, microseconds. */
const TOLERANCE_US = 1e6;
const ANCHORS_MAX = 16;
/** A frame's own clock agrees with an anchor within this, microseconds. */
export const AGREES_US = 1e6;
/** Frames held by one partition, bytes. */
export const HELD_BYTES_MAX = 64 * 1024 * 1024;

export interface HeldFrame {
  key: string;
  gateway: string;
  boot: string;
  frame: Buffer;
  header: FrameHeader;
  headers: Record<string, string>;
  /** The correction its readings were written with, microseconds; undefined: none were written. */
  usedUs: number | undefined;
}

export interface Resolution {
  /** To be added to the frame's wall clock, microseconds. */
  offsetUs: number;
  isFinal: boolean;
}

export class BootClocks {
  private readonly anchors = new Map<string, ClockAnchor[]>();
  private readonly former = new Map<string, ClockAnchor[]>();
  /** `gateway/boot` → frames. */
  private readonly held = new Map<string, Map<string, HeldFrame>>();
  private readonly unsettled = new Map<string, Map<string, HeldFrame>>();
  readonly heldBytes = new Share('held_frames', HELD_BYTES_MAX);

  /** Whether a frame's own wall clock is to be believed. */
  static believes(header: FrameHeader): boolean {
    return header.clockQuality !== CLOCK_UNKNOWN;
  }

  anchorsOf(gateway: string, boot: string): readonly ClockAnchor[] {
    return this.anchors.get(`${gateway}/${boot}`) ?? [];
  }

  /**
   * Adds an anchor. One that cannot be right together with those before was told after the collector's clock was set: they
   * count no more. Returns the keys and values under which all are kept.
   */
  add(gateway: string, anchor: ClockAnchor): { key: string; value: Buffer }[] {
    const name = `${gateway}/${anchor.boot}`;
    const before = this.anchors.get(name) ?? [];
    const known = before.filter((each) => !contradict(each, anchor));
    const list = [...known, anchor].slice(-ANCHORS_MAX);
    this.anchors.set(name, list);
    const kept = [entryOf(`${CLOCK_PREFIX}${name}`, list)];
    if (known.length === before.length) return kept;
    const gone = before.filter((each) => !known.includes(each));
    const former = [...(this.former.get(name) ?? []), ...gone].slice(-ANCHORS_MAX);
    this.former.set(name, former);
    return [...kept, entryOf(`${FORMER_PREFIX}${name}`, former)];
  }

  /** Takes what is kept under a key, if it is one of these. */
  load(key: string, value: Buffer): void {
    for (const [prefix, to] of [
      [CLOCK_PREFIX, this.anchors],
      [FORMER_PREFIX, this.former],
    ] as const)
      if (key.startsWith(prefix))
        to.set(key.slice(prefix.length), JSON.parse(value.toString('utf8')) as ClockAnchor[]);
  }

  /** The anchor with the smallest error at a frame. */
  bestOf({ gateway, bootId, monotonicUs }: FrameHeader): ClockAnchor | undefined {
    const errorAt = ({ errorUs, monotonicUs: at }: ClockAnchor): number =>
      errorUs + Math.abs(monotonicUs - at) * DRIFT;
    let best: ClockAnchor | undefined;
    for (const anchor of this.anchorsOf(gateway, bootId))
      if (best === undefined || errorAt(anchor) < errorAt(best)) best = anchor;
    return best;
  }

  /** How a frame's times are to be corrected, or undefined while that is not known. */
  resolve(header: FrameHeader): Resolution | undefined {
    const best = this.bestOf(header);
    if (best === undefined) return undefined;
    return { offsetUs: offsetOf(best, header), isFinal: best.errorUs <= FINAL_ERROR_US };
  }

  /**
   * Every correction under which readings of a frame may have been written, the one that counts now first; none while it
   * waits for an anchor. `mayMove`: its own clock is believed, and was taken while the collector doubted its own.
   */
  corrections(header: FrameHeader, mayMove: boolean): number[] {
    const believes = BootClocks.believes(header);
    const best = believes && !mayMove ? undefined : this.resolve(header)?.offsetUs;
    if (best === undefined) return believes ? [0] : [];
    const { gateway, bootId } = header;
    const now = believes && Math.abs(best) < AGREES_US ? 0 : best;
    const former = this.former.get(`${gateway}/${bootId}`) ?? [];
    const all = [...this.anchorsOf(gateway, bootId), ...former].map((anchor) =>
      offsetOf(anchor, header),
    );
    return [...new Set([now, ...(believes ? [0] : []), ...all])];
  }

  /** Whether an anchor is so much better than those before that what they placed should move. */
  improves(gateway: string, anchor: ClockAnchor): boolean {
    const before = this.anchorsOf(gateway, anchor.boot).filter((each) => each !== anchor);
    return before.every(({ errorUs }) => anchor.errorUs * BETTER <= errorUs);
  }

  /** Frames of a gateway whose readings are written and that waited only for the collector's clock to settle: given once. */
  takeUnsettled(gateway: string): HeldFrame[] {
    const frames = this.unsettled.get(gateway);
    if (frames === undefined) return [];
    this.unsettled.delete(gateway);
    return [...frames.values()];
  }

  hold(frame: HeldFrame): void {
    const name = `${frame.gateway}/${frame.boot}`;
    let frames = this.held.get(name);
    if (frames === undefined) this.held.set(name, (frames = new Map()));
    const more = frame.frame.length - (frames.get(frame.key)?.frame.length ?? 0);
    this.heldBytes.add(frame.gateway, more);
    frames.set(frame.key, frame);
    if (frame.usedUs === undefined || frame.headers[HEADER_UNSETTLED] === undefined) return;
    const list = this.unsettled.get(frame.gateway);
    if (list === undefined) this.unsettled.set(frame.gateway, new Map([[frame.key, frame]]));
    else list.set(frame.key, frame);
  }

  heldOf(gateway: string, boot: string): HeldFrame[] {
    return [...(this.held.get(`${gateway}/${boot}`)?.values() ?? [])];
  }

  drop(frame: HeldFrame): void {
    const name = `${frame.gateway}/${frame.boot}`;
    const frames = this.held.get(name);
    if (frames?.delete(frame.key) === true) this.heldBytes.give(frame.gateway, frame.frame.length);
    if (frames?.size === 0) this.held.delete(name);
    this.unsettled.get(frame.gateway)?.delete(frame.key);
  }

  /** The oldest frames whose readings are written: their places become final when there is no room. */
  settledFrames(): HeldFrame[] {
    return [...this.held.values()].flatMap((frames) =>
      [...frames.values()].filter(({ usedUs }) => usedUs !== undefined),
    );
  }

  /** All that are kept. */
  get frames(): number {
    let count = 0;
    for (const frames of this.held.values()) count += frames.size;
    return count;
  }

  /** Frames that wait for an anchor. */
  get waitingFrames(): number {
    let count = 0;
    for (const frames of this.held.values())
      for (const { usedUs } of frames.values()) if (usedUs === undefined) count++;
    return count;
  }
}

const entryOf = (key: string, list: readonly ClockAnchor[]): { key: string; value: Buffer } => ({
  key,
  value: Buffer.from(JSON.stringify(list)),
});

const offsetOf = (anchor: ClockAnchor, { wallUs, monotonicUs }: FrameHeader): number =>
  anchor.wallUs - (anchor.monotonicUs - monotonicUs) - wallUs;

function contradict(a: ClockAnchor, b: ClockAnchor): boolean {
  const age = b.monotonicUs - a.monotonicUs;
  const apart = Math.abs(b.wallUs - (a.wallUs + age));
  return apart > a.errorUs + b.errorUs + TOLERANCE_US + Math.abs(age) * DRIFT;
}
