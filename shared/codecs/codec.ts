/** What a codec makes of a payload: groups of named values, each with its own time if the payload gives one. */
import type { FieldValue } from '../model/reading.ts';
import type { DeviceTime } from './time.ts';

/** What is known of a field besides its values; it never takes part in a series' identity. */
export interface FieldMeta {
  unit?: string;
  /** As a person calls it. */
  name?: string;
}

/** A payload that cannot be decoded: the message goes to quarantine with this reason. */
export class Undecodable extends Error {}

/** A part of a payload that cannot be taken, while the rest is: it goes to quarantine alone. */
export interface Problem {
  reason: string;
  /** Where the part has a place of its own in the payload (a line): which, and its bytes. */
  part?: { index: number; payload: Buffer };
}

/** Values that one message may hold. */
export const FIELDS_MAX = 1000;
/** Points that one message may hold: lines, records of a pack. */
export const POINTS_MAX = 20_000;
/** Levels of nesting that one message may have. */
export const DEPTH_MAX = 32;
/** Problems of one point that are named one by one. */
const PROBLEMS_MAX = 20;

/**
 * The values of one point, each under the name that its type decides. `set` keeps the rules, so that one bad value takes
 * no other along:
 * - NaN and infinities are no values: they are left out like null, and counted;
 * - an integer that a double does not hold waits in `large`: a mapping may want it as text, else it is a problem;
 * - two values with one name are both a problem: nobody knows which is meant;
 * - more than FIELDS_MAX values are Undecodable, and the reason says what to do.
 */
export class Fields extends Map<string, FieldValue> {
  /** Numbers that were none. */
  omitted: string[] | undefined;
  /** By name, whole. */
  large: Map<string, bigint> | undefined;
  private clashes: Set<string> | undefined;
  private problems: string[] | undefined;

  override set(name: string, value: FieldValue | bigint): this {
    switch (typeof value) {
      case 'number':
        if (Number.isFinite(value)) return this.put(numberName(name), value);
        this.omitted ??= [];
        if (this.omitted.length < FIELDS_MAX) this.omitted.push(name);
        return this;
      case 'bigint':
        return this.integer(name, value);
      case 'string':
        return this.put(`${name}_text`, value);
      default:
        return this.put(`${name}_bool`, value);
    }
  }

  private integer(name: string, value: bigint): this {
    const number = Number(value);
    if (BigInt(number) === value) return this.put(numberName(name), number);
    this.large ??= new Map();
    if (this.large.size < FIELDS_MAX) this.large.set(name, value);
    return this;
  }

  private put(typed: string, value: FieldValue): this {
    if (this.has(typed) || this.clashes?.has(typed) === true) {
      this.clashes ??= new Set();
      this.clashes.add(typed);
      this.delete(typed);
      this.problem(`two values have the name '${typed}'`);
      return this;
    }
    if (this.size >= FIELDS_MAX) throw new Undecodable(TOO_MANY);
    return super.set(typed, value);
  }

  /** A value that cannot be taken. */
  problem(reason: string): void {
    this.problems ??= [];
    if (this.problems.includes(reason)) return;
    if (this.problems.length < PROBLEMS_MAX) this.problems.push(reason);
    else if (this.problems.length === PROBLEMS_MAX) this.problems.push('and more');
  }

  /** What of it cannot be taken, as reasons; undefined: nothing. */
  get reasons(): readonly string[] | undefined {
    if (this.large !== undefined)
      for (const [name, value] of this.large) this.problem(tooLarge(name, value));
    return this.problems;
  }

  /** Holds nothing, and nothing was left out of it. */
  get isEmpty(): boolean {
    return (
      this.size === 0 &&
      this.omitted === undefined &&
      this.large === undefined &&
      this.problems === undefined
    );
  }

  /** Takes all that another holds. */
  join(other: Fields): void {
    for (const [typed, value] of other) this.put(typed, value);
    for (const [name, value] of other.large ?? []) this.integer(name, value);
    this.inherit(other);
  }

  /** Takes over what was wrong with the values of another, which became these. */
  inherit({ omitted, problems }: Fields): void {
    if (omitted !== undefined) this.omitted = [...(this.omitted ?? []), ...omitted];
    for (const problem of problems ?? []) this.problem(problem);
  }
}

const tooLarge = (name: string, value: bigint): string =>
  `number ${value} ('${name}') is beyond 2^53 and cannot be stored exactly as a number; a mapping can keep it as text (types: { ${name}: text })`;

const TOO_MANY = `more than ${FIELDS_MAX} values in one point: a mapping makes a point of each element of a list (each: PATH.*; time: { from: START, step: SECONDS } for samples of one rate), or names those that are wanted (fields, drop)`;

export interface Decoded {
  /** The payload names its measurement itself (line protocol). */
  measurement?: string;
  tags?: Record<string, string>;
  fields: Fields;
  time?: DeviceTime;
  /** By field name, without the suffix of its type. */
  meta?: Map<string, FieldMeta>;
}

/** InfluxDB drops a field called `time` without a word: a number of that name that is no time has another one everywhere. */
const numberName = (name: string): string => (name === 'time' ? 'time_value' : name);

/** The name that a value had before its type decided it. */
export function plainName(typed: string, value: FieldValue): string {
  if (typeof value === 'string') return typed.slice(0, -'_text'.length);
  if (typeof value === 'boolean') return typed.slice(0, -'_bool'.length);
  return typed === 'time_value' ? 'time' : typed;
}

/** Of an integer that a double holds exactly. Throws Undecodable. */
export function exactNumber(name: string, value: bigint): number {
  const number = Number(value);
  if (BigInt(number) !== value) throw new Undecodable(tooLarge(name, value));
  return number;
}
