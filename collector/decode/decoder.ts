/**
 * From a message to readings. Detection without configuration: line protocol, JSON, bare value. Whatever cannot be
 * read goes to quarantine with its reason and holds up nobody (law 5).
 */
import { isUtf8 } from 'node:buffer';
import { Undecodable, type Decoded } from '../../shared/codecs/codec.ts';
import { decodeJson } from '../../shared/codecs/json.ts';
import { decodeLineProtocol, looksLikeLineProtocol } from '../../shared/codecs/line-protocol.ts';
import { decodeScalar } from '../../shared/codecs/scalar.ts';
import type { FrameRecord } from '../../shared/frame/frame.ts';
import { identityDigits, type FieldValue, type Reading } from '../../shared/model/reading.ts';
import type { Mappings, Meaning } from './mapping.ts';

const BRACE = '{'.charCodeAt(0);
const BRACKET = '['.charCodeAt(0);
const QUOTE = '"'.charCodeAt(0);

function decodePayload(payload: Buffer, meaning: Meaning, receivedMs: number): Decoded[] {
  if (!isUtf8(payload))
    throw new Undecodable('not UTF-8 text, and no mapping names a codec for it');
  const text = payload.toString('utf8');
  const first = payload[text.length - text.trimStart().length];
  if (first === BRACE || first === BRACKET || first === QUOTE)
    return [decodeJson(text, receivedMs, meaning.timeKeys)];
  if (looksLikeLineProtocol(text)) return decodeLineProtocol(text, receivedMs);
  return [decodeScalar(text, meaning.field)];
}

/** Tags of a mapping, and of the values that it makes tags, which are taken out of the fields. */
export function tagsOf(decoded: Decoded, meaning: Meaning): Record<string, string> {
  if (decoded.tags === undefined && meaning.tagFields.size === 0) return meaning.tags;
  const tags = { ...decoded.tags, ...meaning.tags };
  for (const name of meaning.tagFields) {
    for (const typed of [name, `${name}_text`, `${name}_bool`]) {
      const value = decoded.fields.get(typed);
      if (value === undefined) continue;
      tags[name] = String(value);
      decoded.fields.delete(typed);
    }
  }
  return tags;
}

/** Empty when the message holds no value (an empty payload, only nulls). Throws Undecodable. */
export function decodeRecord(
  record: FrameRecord,
  gateway: string,
  seed: number,
  arrivedMs: number,
  mappings: Mappings,
): Reading[] {
  if (record.payload.length === 0) return [];
  const meaning = mappings.of(gateway, record.topic);
  const receivedMs = Math.floor(record.receivedUs / 1000);
  const decoded = decodePayload(record.payload, meaning, Math.max(receivedMs, arrivedMs));
  const readings: Reading[] = [];
  for (const [index, each] of decoded.entries()) {
    const tags = tagsOf(each, meaning);
    if (each.fields.size === 0) continue;
    const { sequence } = record;
    const time = each.time;
    readings.push({
      measurement: each.measurement ?? meaning.measurement,
      tags,
      fields: objectOf(each.fields),
      sequence,
      index,
      timeMs: time?.ms ?? receivedMs,
      // A device that gives microseconds or nanoseconds keeps its own digits.
      ns: time?.fine === true ? time.ns : identityDigits(seed, sequence, index, 1_000_000),
    });
  }
  return readings;
}

/** A Map as an object; `__proto__` becomes a field like any other. */
function objectOf(fields: Map<string, FieldValue>): Record<string, FieldValue> {
  return Object.fromEntries(fields);
}
