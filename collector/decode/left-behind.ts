/**
 * What was written of a message and is not so any more: by older mappings, points that are elsewhere now or have other fields
 * (a replay names them to the stores as removed); under another clock, readings that have moved.
 */
import { Undecodable } from '../../shared/codecs/codec.ts';
import type { FrameRecord } from '../../shared/frame/frame.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { seriesName } from '../store/store.ts';
import type { MessageContext } from './codecs/context.ts';
import { decodeRecord, type DecodedReading } from './decoder.ts';
import type { Mappings } from './mapping/mappings.ts';

const addressOf = ({ measurement, tags, timeMs, ns }: Reading): string =>
  `${seriesName({ measurement, field: '', tags })} ${timeMs} ${ns}`;

export function leftBehind(
  message: FrameRecord,
  seed: number,
  context: MessageContext,
  decoded: readonly Reading[],
  older: readonly Mappings[],
): Reading[] {
  const before = older.flatMap((mappings) => quietly(message, seed, context, mappings));
  return goneOf(decoded, before);
}

/** Of what was written before, what is elsewhere now or has other fields. */
export function goneOf(now: readonly Reading[], before: readonly Reading[]): Reading[] {
  const present = new Map(now.map((reading) => [addressOf(reading), reading]));
  const gone = new Map<string, Reading>();
  for (const reading of before) {
    const address = addressOf(reading);
    const fields = present.get(address)?.fields;
    const stays =
      fields !== undefined &&
      Object.keys(reading.fields).every((name) => Object.hasOwn(fields, name));
    if (!stays) gone.set(address, reading);
  }
  return [...gone.values()];
}

/**
 * Those of another time than before, with where they were, and those that were not there. What stays where it is (its time
 * is the payload's own, or it moves within a millisecond) is said already: once more, whoever counts would count it twice.
 */
export function moved(
  now: readonly DecodedReading[],
  before: readonly Reading[],
): DecodedReading[] {
  const places = new Map(before.map((reading) => [reading.index, reading]));
  return now.filter((reading) => {
    const old = places.get(reading.index);
    if (old === undefined) return true;
    if (old.timeMs === reading.timeMs && old.ns === reading.ns) return false;
    reading.was = { timeMs: old.timeMs, ns: old.ns };
    return true;
  });
}

/** Those of `before` that are not there any more. */
export function without(before: readonly Reading[], now: readonly Reading[]): Reading[] {
  const known = new Set(now.map(({ index }) => index));
  return before.filter(({ index }) => !known.has(index));
}

/** With what nobody is asked for anything. */
function quietly(
  message: FrameRecord,
  seed: number,
  context: MessageContext,
  mappings: Mappings,
): Reading[] {
  try {
    return decodeRecord(message, seed, { ...context, ask: () => undefined }, mappings).readings;
  } catch (error) {
    if (error instanceof Undecodable) return [];
    throw error;
  }
}
