/**
 * Frames that tell instead of carrying messages: losses, clock anchors, summaries and a gateway's status. Their bodies
 * are JSON, they lie in the raw log among the records, and so the raw log alone tells the whole story.
 */
import { HeadwaterError } from '../errors.ts';
import type { RemoteReport } from '../model/remote.ts';
import type { Range } from '../model/ranges.ts';
import { sealFrame, type FrameIdentity } from './builder.ts';
import {
  KIND_ANCHOR,
  KIND_LOSS,
  KIND_STATUS,
  KIND_SUMMARY,
  frameBody,
  type FrameHeader,
} from './frame.ts';

/** Why messages that were acknowledged are not to be had any more. */
export type LossCause =
  /** Damaged or vanished on the gateway's disk. */
  | 'damaged'
  /** Given up, oldest first, because the buffer was full. */
  | 'dropped'
  /** Thinned to minimum, maximum and mean, because the buffer was full. */
  | 'thinned'
  /** Older than the age limit before a link came. */
  | 'expired';

/** What a gateway could not keep. */
export interface LossReport {
  cause: LossCause;
  /** Where it was found, relative to the data folder. */
  where: string;
  /** One sentence. */
  reason: string;
  /** Of the lost messages; left out where it cannot be told. */
  epoch?: string;
  /** Inclusive sequence ranges; the last may be open: how many followed is not known. */
  ranges?: [from: number, to: number | null][];
  /** Damaged bytes. */
  bytes?: number;
}

/** What a boot's monotonic clock showed at a known time, so that its readings can be put right (law 9). */
export interface ClockAnchor {
  /** 16 hexadecimal digits, as in the frames. */
  boot: string;
  /** Reading of that boot's monotonic clock, microseconds. */
  monotonicUs: number;
  /** The true wall clock at that moment, microseconds since 1970 UTC. */
  wallUs: number;
  /** The true time lies within this many microseconds of it. */
  errorUs: number;
  /** How it is known: asked of a collector, the clock's own plausible reading, or the order of boots. */
  basis: 'collector' | 'own clock' | 'order of boots';
}

export interface SummarySeries {
  client: string;
  topic: string;
  /** Set where the payload named them itself (line protocol). */
  measurement?: string;
  tags?: Record<string, string>;
  /** Texts and booleans that were the same in all of them. */
  constants: Record<string, string | boolean>;
  /** Name of a number → how many, least, greatest, mean. */
  numbers: Record<string, [count: number, min: number, max: number, mean: number]>;
  /** Gateway's wall clock at the receipt of the first and the last, microseconds. */
  fromUs: number;
  toUs: number;
}

/** The boot of messages whose time nobody knew, and its two clocks at one moment: their times are of this wall clock. */
export interface SummaryClock {
  boot: string;
  wallUs: number;
  monotonicUs: number;
}

/** What is left of messages that were thinned away. */
export interface Summary {
  epoch: string;
  /** Left out: the gateway's clock was known, or the note is of a version before this one. */
  clock?: SummaryClock;
  /** Sequences that it stands for, inclusive. */
  replaces: Range[];
  series: SummarySeries[];
  /** Of one in parts: how many series the parts before have. */
  from?: number;
}

export interface EpochHoldings {
  epoch: string;
  /** The sequence that comes next: all below it have been given out. */
  next: number;
  /** Held and not acknowledged by a collector. */
  waiting: Range[];
  /** Acknowledged and still there. */
  history: Range[];
  /** Lost; the frame that says why may still be waiting. */
  lost: Range[];
}

/** What a gateway is, for the fleet view. */
export interface About {
  version: string;
  /** Degrees north and east. */
  location?: [latitude: number, longitude: number];
}

/** What a gateway says it holds, so that the ledger can tell what is missing. The rest: versions that know of it. */
export interface Status {
  epochs: EpochHoldings[];
  about?: About;
  config?: RemoteReport;
  /** Of one in parts: the epochs that the other parts tell of. */
  also?: string[];
  /** Of one in parts: something waits in one of them. */
  sending?: boolean;
}

/** Body by kind. */
export interface Notes {
  [KIND_LOSS]: LossReport;
  [KIND_ANCHOR]: ClockAnchor;
  [KIND_SUMMARY]: Summary;
  [KIND_STATUS]: Status;
}

export interface NoteTime {
  wallUs: number;
  monotonicUs: number;
  clockQuality: number;
}

/** A frame around one note. A status has sequence 0 and takes none; nor does a part of a note that another one ends. */
export function noteFrame<K extends keyof Notes>(
  kind: K,
  note: Notes[K],
  identity: FrameIdentity,
  sequence: number,
  { wallUs, monotonicUs, clockQuality }: NoteTime,
  isPart = false,
): Buffer {
  const count = kind === KIND_STATUS || isPart ? 0 : 1;
  return sealFrame(
    { kind, identity, firstSequence: sequence, count, wallUs, monotonicUs, clockQuality },
    Buffer.from(JSON.stringify(note)),
    true,
  );
}

/** The note of a checked frame of that kind. Throws FRAME_INVALID. */
export function readNote<K extends keyof Notes>(
  kind: K,
  frame: Buffer,
  header: FrameHeader,
): Notes[K] {
  const text = frameBody(frame, header).toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new HeadwaterError('FRAME_INVALID', 'frame refused: its note is not JSON', {
      cause: error,
    });
  }
  if (header.kind !== kind || !SHAPES[kind]((value ?? {}) as Record<string, unknown>))
    throw new HeadwaterError('FRAME_INVALID', `frame refused: not a note of kind ${kind}`);
  return value as Notes[K]; // Its shape was checked.
}

const isRanges = (value: unknown): boolean =>
  Array.isArray(value) &&
  value.every(
    (range) =>
      Array.isArray(range) &&
      range.length === 2 &&
      Number.isSafeInteger(range[0]) &&
      Number.isSafeInteger(range[1]),
  );

/** Names of epochs and boots as frames have them; they become keys of the ledger. */
const isId = (value: unknown): boolean => typeof value === 'string' && /^[0-9a-f]{16}$/.test(value);
const isTexts = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isSeries = (value: unknown): boolean => {
  const each = (value ?? {}) as Partial<SummarySeries>;
  return (
    typeof each.client === 'string' &&
    typeof each.topic === 'string' &&
    isTexts(each.constants) &&
    isTexts(each.numbers) &&
    Number.isFinite(each.fromUs) &&
    Number.isFinite(each.toUs)
  );
};

const isClock = (value: unknown): boolean => {
  const { boot, wallUs, monotonicUs } = (value ?? {}) as Partial<SummaryClock>;
  return isId(boot) && Number.isFinite(wallUs) && Number.isFinite(monotonicUs);
};

const SHAPES: Record<keyof Notes, (value: Record<string, unknown>) => boolean> = {
  [KIND_LOSS]: ({ where, reason, ranges, epoch }) =>
    (epoch === undefined || isId(epoch)) &&
    typeof where === 'string' &&
    typeof reason === 'string' &&
    (ranges === undefined ||
      (Array.isArray(ranges) &&
        ranges.every((range) => Array.isArray(range) && Number.isSafeInteger(range[0])))),
  [KIND_ANCHOR]: ({ boot, monotonicUs, wallUs, errorUs }) =>
    isId(boot) && [monotonicUs, wallUs, errorUs].every(Number.isFinite),
  [KIND_SUMMARY]: ({ epoch, clock, replaces, series, from = 0 }) =>
    isId(epoch) &&
    (clock === undefined || isClock(clock)) &&
    isRanges(replaces) &&
    Array.isArray(series) &&
    series.every(isSeries) &&
    Number.isSafeInteger(from),
  [KIND_STATUS]: ({ epochs, also = [] }) =>
    Array.isArray(also) &&
    also.every(isId) &&
    Array.isArray(epochs) &&
    epochs.every((entry: unknown) => {
      const { epoch, next, waiting, history, lost } = (entry ?? {}) as Partial<EpochHoldings>;
      return (
        isId(epoch) &&
        Number.isSafeInteger(next) &&
        isRanges(waiting) &&
        isRanges(history) &&
        isRanges(lost)
      );
    }),
};
