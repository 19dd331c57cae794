/** One message through the decoder, as the decode stage would. */
import { CodecStates } from '../../collector/decode/codec-state.ts';
import type { Command, CodecState } from '../../collector/decode/codecs/context.ts';
import {
  decodeRecord,
  reasonOf,
  type DecodedMessage,
  type DecodedReading,
} from '../../collector/decode/decoder.ts';
import { parseMappings } from '../../collector/decode/mapping/mapping.ts';
import { Undecodable } from '../../shared/codecs/codec.ts';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { shippedMappings } from '../../collector/decode/mapping/shipped.ts';

export interface DecodeOptions {
  mappings?: Mappings;
  receivedMs?: number;
  /** Kept from message to message by the caller. */
  state?: CodecState;
  properties?: Uint8Array;
  sequence?: number;
  hasAll?: (from: number, to: number) => boolean;
  commands?: Command[];
}

export const RECEIVED = Date.UTC(2026, 5, 1, 12);

export const freshState = (): CodecState => new CodecStates().of('gw');

/** The readings. Throws Undecodable where there are problems alone. */
export function decodeMessage(
  topic: string,
  payload: string | Uint8Array,
  options: DecodeOptions = {},
): DecodedReading[] {
  const { readings, problems } = decodeAll(topic, payload, options);
  if (readings.length === 0 && problems.length > 0) throw new Undecodable(reasonOf(problems));
  return readings;
}

/** Readings, what is wrong beside them, and what is left over. */
export function decodeAll(
  topic: string,
  payload: string | Uint8Array,
  options: DecodeOptions = {},
): DecodedMessage {
  const receivedMs = options.receivedMs ?? RECEIVED;
  const sequence = options.sequence ?? 7;
  return decodeRecord(
    {
      sequence,
      client: 'c',
      topic,
      qos: 1,
      retain: false,
      dup: false,
      receivedUs: receivedMs * 1000,
      properties: options.properties,
      payload: Buffer.from(payload as Uint8Array),
    },
    100,
    {
      gateway: 'gw',
      epoch: '0102030405060708',
      sequence,
      topic,
      receivedMs,
      latestMs: receivedMs,
      state: options.state ?? freshState(),
      hasAll: options.hasAll ?? (() => true),
      ask: (command) => options.commands?.push(command),
    },
    options.mappings ?? new Mappings([]),
  );
}

const known = new Map<string | undefined, Mappings>();

/** The shipped mappings, with a zone for local times if one is given; read once. */
export function shipped(zone?: string): Mappings {
  let mappings = known.get(zone);
  if (mappings === undefined) {
    const all = shippedMappings().flatMap(({ file, text }) => parseMappings(text, file));
    known.set(zone, (mappings = new Mappings(all, zone)));
  }
  return mappings;
}

export const mapped = (yaml: string): Mappings => new Mappings(parseMappings(yaml, 'test.yaml'));
