/** What a frame is decoded by: what is known of its gateway, and whether it is decoded for the first time. */
import { KIND_RECORDS, type FrameHeader, type FrameRecord } from '../../shared/frame/frame.ts';
import type { Summary } from '../../shared/frame/notes.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { HEADER_AGAIN, HEADER_ARRIVED } from '../log/log.ts';
import { HEADER_SAID } from '../log/topics.ts';
import type { CodecState } from './codecs/context.ts';
import type { Mappings } from './mapping/mappings.ts';

/** A frame to be decoded, and how. */
export interface FrameJob {
  frame: Buffer;
  header: FrameHeader;
  arrivedMs: number;
  /** Puts the gateway's clock right, microseconds. */
  offsetUs: number;
  isFresh: (sequence: number) => boolean;
  /** The readings were written under this correction before: those that move say where they were. */
  usedUs?: number;
  state: CodecState;
  /** Partition of the ledger topic that goes with it. */
  partition: number;
  /** Whether every message of the epoch between two sequences has been decoded. */
  hasAll: (from: number, to: number) => boolean;
  /** Its readings have been said before: it was put back into the log. */
  isAgain?: boolean;
  /** When it was found out what it says, epoch milliseconds, where that was after its arrival. */
  saidMs?: number;
  /** The collector doubted its clock when it took it: `arrivedMs` is no measure. */
  isUnsettled?: boolean;
  /** Decoded once more, after the mappings have changed. */
  replay?: Replay;
}

/** What a replay needs to know, and what it tells. */
export interface Replay {
  isWanted: (message: FrameRecord) => boolean;
  /** The same of what a summary says. */
  isPartWanted: (reading: Reading, summary: Summary) => boolean;
  /** Mappings that were in force before. */
  older: readonly Mappings[];
  /** Other corrections of the gateway's clock under which they may have been written, microseconds. */
  elsewhereUs: readonly number[];
  /** `isWhole`: nothing of it is left in quarantine. */
  onDecoded: (sequence: number, readings: number, isWhole: boolean) => void;
  onQuarantined: (sequence: number) => void;
}

/** Of the records of its readings. */
export function headersOf({
  header,
  replay,
  usedUs,
  saidMs,
  arrivedMs,
  ...job
}: FrameJob): Record<string, string> {
  const said: Record<string, string> =
    saidMs === undefined ? {} : { [HEADER_SAID]: String(Math.round(saidMs)) };
  if (replay !== undefined || job.isAgain === true) return { [HEADER_AGAIN]: 'true', ...said };
  // For who measures how long readings take; those of a summary are of before they were thinned.
  const isTimed = header.kind === KIND_RECORDS && usedUs === undefined && job.isUnsettled !== true;
  return isTimed ? { [HEADER_ARRIVED]: String(arrivedMs), ...said } : said;
}
