/** Summaries of thinned messages whose clock nobody knew are placed as the messages would have been: by an anchor of their boot (law 9). */
import { CLOCK_ASSUMED, CLOCK_UNKNOWN, type FrameHeader } from '../../shared/frame/frame.ts';
import type { Summary } from '../../shared/frame/notes.ts';

/** `part`: of a note in parts, which all have its sequence. */
export type TimedHeader = FrameHeader & { part?: number };

/** The note's header with the clock of the messages: that of the note itself is of when they were thinned. */
export function timedBy(header: FrameHeader, { clock, from = 0 }: Summary): TimedHeader {
  // What a gateway's own clock said when it was known stays.
  if (clock === undefined) return { ...header, clockQuality: CLOCK_ASSUMED };
  const { boot: bootId, wallUs, monotonicUs } = clock;
  const time = { bootId, wallUs, monotonicUs, clockQuality: CLOCK_UNKNOWN };
  return from === 0 ? { ...header, ...time } : { ...header, ...time, part: from };
}
