/** What a codec makes of a payload: groups of named values, each with its own time if the payload gives one. */
import type { FieldValue } from '../model/reading.ts';
import type { DeviceTime } from './time.ts';

/** What is known of a field besides its values; it never takes part in a series' identity. */
export interface FieldMeta {
  unit?: string;
  /** As a person calls it. */
  name?: string;
}

export interface Decoded {
  /** The payload names its measurement itself (line protocol). */
  measurement?: string;
  tags?: Record<string, string>;
  fields: Map<string, FieldValue>;
  time?: DeviceTime;
  /** By field name, without the suffix of its type. */
  meta?: Map<string, FieldMeta>;
}

/** A payload that cannot be decoded: the message goes to quarantine with this reason. */
export class Undecodable extends Error {}

/** Values that one message may hold. */
export const FIELDS_MAX = 1000;
/** Points that one message may hold: lines, records of a pack. */
export const POINTS_MAX = 20_000;
/** Levels of nesting that one message may have. */
export const DEPTH_MAX = 32;

/**
 * Puts a value under the name that its type decides. Two values with one name would bend one of them, and so would an
 * integer that a double does not hold, or a number that is none. Throws Undecodable.
 */
export function setField(
  fields: Map<string, FieldValue>,
  name: string,
  value: FieldValue | bigint,
): void {
  const exact = typeof value === 'bigint' ? exactNumber(name, value) : value;
  if (typeof exact === 'number' && !Number.isFinite(exact))
    throw new Undecodable(`'${name}' is not a finite number`);
  const typed =
    typeof exact === 'number'
      ? numberName(name)
      : typeof exact === 'string'
        ? `${name}_text`
        : `${name}_bool`;
  if (fields.has(typed)) throw new Undecodable(`two values have the name '${typed}'`);
  if (fields.size >= FIELDS_MAX)
    throw new Undecodable(`more than ${FIELDS_MAX} values in one message`);
  fields.set(typed, exact);
}

/** InfluxDB drops a field called `time` without a word: a number of that name that is no time has another one everywhere. */
const numberName = (name: string): string => (name === 'time' ? 'time_value' : name);

/** Of an integer that a double holds exactly, as which it will be stored. Throws Undecodable. */
export function exactNumber(name: string, value: bigint): number {
  const number = Number(value);
  if (BigInt(number) !== value) {
    throw new Undecodable(
      `number ${value} ('${name}') is beyond 2^53 and cannot be stored exactly as a number; a mapping can keep it as text (types: { ${name}: text })`,
    );
  }
  return number;
}
