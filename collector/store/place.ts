/**
 * How far a store has come in a partition of its source, and what of it the store lacks. Kept by the store in the
 * transaction of its changes, or in the log with the step, by stores that keep nothing.
 */
import type { Seen } from '../stage/own-place.ts';
import type { Sample } from './sample.ts';

/** What a store lacks of its source, as far as it is known. */
export interface Gap {
  /** Offsets that the log no longer had when the store came to them: from, and up to without. */
  from: number;
  to: number;
  /** Epoch milliseconds. */
  since: number;
  /** YYYY-MM-DD: this day of the lake and all after it are here. */
  day?: string;
  /** Readings that came from the lake. */
  filled: number;
}

/** What the log had when a store began with less, and has to say to it again. */
export interface Behind {
  /** Offset, exclusive. */
  upTo: number;
  /** Epoch milliseconds. */
  since: number;
}

export interface Place {
  /** Offset of the next record to read. */
  next: number;
  /** The log that it is of, by a name of its own; versions before kept none. */
  log?: string;
  last?: Seen;
  gap?: Gap;
  /** Until the store has read so far, answers lack what it had, or other stores have. */
  behind?: Behind;
  /** Of a store that keeps no place itself. */
  sample?: Sample;
  /**
   * This is not the log that the store was filled from, or an older copy of it: what nothing but the store has may be the last
   * of its kind, until an audit has looked at all of it.
   */
  other?: 'other' | 'older';
}

export const placeName = (topic: string, partition: number): string =>
  `place/${topic}/${partition}`;

export const parsePlace = (text: string | undefined): Place | undefined =>
  text === undefined || text === '' ? undefined : (JSON.parse(text) as Place);

/** The place after a step. */
export function placeAt({ behind, ...rest }: Place, next: number): Place {
  const isBehind = behind !== undefined && next < behind.upTo;
  return { ...rest, next, ...(isBehind && { behind }) };
}

/**
 * The place of a store that is given this log: what lies before the log's first record it will not get from there.
 */
export function withGap(place: Place | undefined, first: number, nowMs: number): Place {
  const known: Place = place ?? { next: 0 };
  if (first <= known.next) return known;
  const gap: Gap = known.gap ?? { from: known.next, to: first, since: nowMs, filled: 0 };
  const { behind } = placeAt(known, first);
  return { next: first, gap: { ...gap, to: first }, ...(behind !== undefined && { behind }) };
}
