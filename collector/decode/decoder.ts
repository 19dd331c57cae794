/**
 * From a message to readings: the first mapping that takes it, else what can be told from the payload alone. Whatever
 * cannot be read goes to quarantine with its reason and holds up nobody (law 5); what is good beside it is taken.
 */
import {
  Undecodable,
  type Decoded,
  type FieldMeta,
  type Problem,
} from '../../shared/codecs/codec.ts';
import type { FrameRecord } from '../../shared/frame/frame.ts';
import { identityDigits, type FieldValue, type Reading } from '../../shared/model/reading.ts';
import type { MessageContext } from './codecs/context.ts';
import { discovered } from './codecs/home-assistant.ts';
import type { Mappings } from './mapping/mappings.ts';
import { MessageDecoder } from './message-decoder.ts';

export interface DecodedReading extends Reading {
  meta?: ReadonlyMap<string, FieldMeta>;
}

/** What became of a message. */
export interface DecodedMessage {
  readings: DecodedReading[];
  /** What of it could not be taken. */
  problems: Problem[];
  /** Numbers that were none. */
  omitted: number;
  /** What a mapping leaves over: its name, and paths of the document. */
  left: { mapping: string; paths: readonly string[] } | undefined;
}

const NOTHING: DecodedMessage = { readings: [], problems: [], omitted: 0, left: undefined };

/** Without any reading when it holds no value (an empty payload, only nulls, metadata). Throws Undecodable. */
export function decodeRecord(
  record: FrameRecord,
  seed: number,
  context: MessageContext,
  mappings: Mappings,
): DecodedMessage {
  if (record.payload.length === 0 && !record.topic.endsWith('/config')) return NOTHING;
  const { discoveryKey } = mappings.of(context.gateway, record.topic);
  const { points, problems, left } = new MessageDecoder(record, context, mappings).decode();
  const known = discovered(context.state, discoveryKey);
  const readings: DecodedReading[] = [];
  const all = problems === undefined ? [] : [...problems];
  let omitted = 0;
  for (let index = 0; index < points.length; index++) {
    const point = points[index] as Decoded; // Within the loop's bound.
    const { fields } = point;
    if (fields.omitted !== undefined) omitted += fields.omitted.length;
    const { reasons } = fields;
    if (reasons !== undefined) all.push(...reasons.map((reason) => ({ reason })));
    if (fields.size > 0)
      readings.push(readingOf(point, record.sequence, index, seed, context, known));
  }
  // Numbers that are none are left out beside others; a message of nothing else is one that cannot be read.
  if (readings.length === 0 && omitted > 0) all.push({ reason: notFinite(points) });
  if (readings.length === 0 && all.length > 0 && all.every(({ part }) => part === undefined))
    throw new Undecodable(reasonOf(all));
  return { readings, problems: all, omitted, left };
}

const notFinite = (points: readonly Decoded[]): string =>
  `'${points.find(({ fields }) => fields.omitted !== undefined)?.fields.omitted?.[0]}' is not a finite number`;

/** Of problems without a place of their own, in one sentence. */
export const reasonOf = (problems: readonly Problem[]): string =>
  problems.map(({ reason }) => reason).join('; ');

function readingOf(
  { measurement, tags, fields, time, meta }: Decoded,
  sequence: number,
  index: number,
  seed: number,
  { receivedMs }: MessageContext,
  known: ReadonlyMap<string, FieldMeta> | undefined,
): DecodedReading {
  const reading: DecodedReading = {
    measurement: measurement as string, // Completed by the message's decoder.
    tags: tags as Record<string, string>,
    fields: objectOf(fields),
    sequence,
    index,
    timeMs: time?.ms ?? receivedMs,
    // A device that gives microseconds or nanoseconds keeps its own digits.
    ns: time?.fine === true ? time.ns : identityDigits(seed, sequence, index, 1_000_000),
  };
  const all = known === undefined ? meta : new Map([...(meta ?? []), ...known]);
  if (all !== undefined && all.size > 0) reading.meta = all;
  return reading;
}

/** A Map as an object; `__proto__` becomes a field like any other. */
function objectOf(fields: Map<string, FieldValue>): Record<string, FieldValue> {
  if (fields.has('__proto__')) return Object.fromEntries(fields);
  const result: Record<string, FieldValue> = {};
  fields.forEach((value, name) => {
    result[name] = value;
  });
  return result;
}
