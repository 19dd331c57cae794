/** What a codec makes of a payload: groups of named values, each with its own time if the payload gives one. */
import type { FieldValue } from '../model/reading.ts';
import type { DeviceTime } from './time.ts';

export interface Decoded {
  /** The payload names its measurement itself (line protocol). */
  measurement?: string;
  tags?: Record<string, string>;
  fields: Map<string, FieldValue>;
  time?: DeviceTime;
}

/** A payload that cannot be decoded: the message goes to quarantine with this reason. */
export class Undecodable extends Error {}

/** Values that one message may hold. */
export const FIELDS_MAX = 1000;
/** Levels of nesting that one message may have. */
export const DEPTH_MAX = 32;

/** Puts a value under the name that its type decides. Two values with one name would bend one of them. */
export function setField(fields: Map<string, FieldValue>, name: string, value: FieldValue): void {
  const typed =
    typeof value === 'number' ? name : typeof value === 'string' ? `${name}_text` : `${name}_bool`;
  if (fields.has(typed)) throw new Undecodable(`two values have the name '${typed}'`);
  if (fields.size >= FIELDS_MAX)
    throw new Undecodable(`more than ${FIELDS_MAX} values in one message`);
  fields.set(typed, value);
}

/** A run of 16 or more digits is exact as a double only if the double says the same digits. */
export function checkExact(value: number, text: string): void {
  if (Number.isSafeInteger(value) || !Number.isInteger(value)) return;
  for (const [run] of text.matchAll(/\d{16,}(?![\d.eE])/g)) {
    if (BigInt(run) !== BigInt(Number(run)))
      throw new Undecodable(`number ${run} is beyond 2^53 and cannot be stored exactly`);
  }
}
