/**
 * What older mappings wrote of a message, where the present one does not: points that are elsewhere now, or have other
 * fields. A replay names them to the stores as removed.
 */
import { Undecodable } from '../../shared/codecs/codec.ts';
import type { FrameRecord } from '../../shared/frame/frame.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { seriesName } from '../store/store.ts';
import type { MessageContext } from './codecs/context.ts';
import { decodeRecord } from './decoder.ts';
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
  const present = new Map(decoded.map((reading) => [addressOf(reading), reading]));
  const gone = new Map<string, Reading>();
  for (const mappings of older) {
    for (const reading of quietly(message, seed, context, mappings)) {
      const address = addressOf(reading);
      const now = present.get(address);
      const stays =
        now !== undefined &&
        Object.keys(reading.fields).every((name) => Object.hasOwn(now.fields, name));
      if (!stays) gone.set(address, reading);
    }
  }
  return [...gone.values()];
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
