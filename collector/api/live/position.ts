/**
 * How far a listener is: of each lane (a topic's partition) the offset of the next record, and how many readings of that it has had.
 * As a text it is the id of an event, which a client gives back and reads nothing into: `r0:17+200,s0:4`.
 */
import { invalid } from '../../../shared/http/parameters.ts';
import { TOPIC_READINGS, TOPIC_RESULTS } from '../../log/log.ts';

/** Letter → topic. */
export const TOPICS = { r: TOPIC_READINGS, s: TOPIC_RESULTS } as const;
export type Letter = keyof typeof TOPICS;
/** Letter and partition. */
export type Lane = `${Letter}${number}`;

export interface Place {
  /** Offset. */
  next: number;
  /** Readings of the record there that went out already. */
  skip: number;
}

export type Position = Map<Lane, Place>;

export const laneOf = (letter: Letter, partition: number): Lane => `${letter}${partition}`;

export const textOf = (position: Position): string =>
  [...position]
    .map(([lane, { next, skip }]) => `${lane}:${next}${skip === 0 ? '' : `+${skip}`}`)
    .join(',');

const LANE = /^([rs]\d{1,5}):(\d{1,15})(?:\+(\d{1,9}))?$/;
const TEXT_MAX = 16 * 1024;

/** Throws QUERY_INVALID for what is no event's id. */
export function parsePosition(text: string): Position {
  const position: Position = new Map();
  if (text.length > TEXT_MAX) return invalid('after: that is no id of an event of this stream');
  for (const each of text.split(',')) {
    const [, lane, next, skip = '0'] = LANE.exec(each) ?? [];
    if (lane === undefined || position.has(lane as Lane))
      return invalid('after: that is no id of an event of this stream');
    position.set(lane as Lane, { next: Number(next), skip: Number(skip) }); // A lane, by its pattern.
  }
  return position;
}
