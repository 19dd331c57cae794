/**
 * A decoded document before names are given: what JSON, CBOR, MessagePack and user codecs have in common. Integers that
 * a double cannot hold stay bigint, bytes stay bytes, times stay times: what becomes of them is decided once, here.
 */
import type { FieldValue } from '../model/reading.ts';
import { DEPTH_MAX, Undecodable, type Fields } from './codec.ts';
import type { DeviceTime } from './time.ts';

/** A time that the format itself marks as one (CBOR tags 0 and 1, MessagePack's extension -1). */
export class Moment {
  readonly time: DeviceTime;
  constructor(time: DeviceTime) {
    this.time = time;
  }
  /** RFC 3339 with the digits that were given. */
  toString(): string {
    const { ms, ns } = this.time;
    const text = new Date(ms).toISOString();
    return ns === 0 ? text : `${text.slice(0, -1)}${String(ns).padStart(6, '0')}Z`;
  }
}

/** A value that cannot be told: its neighbours are taken, and this is why it is not. */
export class Untold {
  readonly reason: string;
  constructor(reason: string) {
    this.reason = reason;
  }
}

export type Tree =
  | Untold
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Moment
  | Tree[]
  | { [key: string]: Tree };

export type TreeObject = { [key: string]: Tree };

export const isObject = (value: Tree | undefined): value is TreeObject =>
  typeof value === 'object' &&
  value !== null &&
  !Array.isArray(value) &&
  !(value instanceof Uint8Array) &&
  !(value instanceof Moment) &&
  !(value instanceof Untold);

/** A key's own value: never one of the prototype. */
export const own = (value: TreeObject, key: string): Tree | undefined =>
  Object.hasOwn(value, key) ? value[key] : undefined;

export type Scalar = Exclude<Tree, null | Tree[] | TreeObject | Untold>;

/** A scalar as the value of a field: bytes as hexadecimal text, times as RFC 3339. */
export function scalarOf(value: Scalar): FieldValue | bigint {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  return value instanceof Moment ? value.toString() : value;
}

/**
 * Every scalar below a node under its path joined with `_`, arrays by index, nulls left out. Throws Undecodable.
 * `put` stores one; without it the value's type decides the name.
 */
export function flatten(
  fields: Fields,
  name: string,
  value: Tree,
  put: (name: string, value: Scalar) => void = (at, scalar) => fields.set(at, scalarOf(scalar)),
  depth = 0,
): void {
  if (value === null) return;
  if (Array.isArray(value)) {
    if (depth >= DEPTH_MAX) throw new Undecodable(`nested more than ${DEPTH_MAX} levels deep`);
    for (const [index, child] of value.entries())
      flatten(fields, name === '' ? String(index) : `${name}_${index}`, child, put, depth + 1);
  } else if (isObject(value)) {
    if (depth >= DEPTH_MAX) throw new Undecodable(`nested more than ${DEPTH_MAX} levels deep`);
    for (const key of Object.keys(value))
      flatten(fields, name === '' ? key : `${name}_${key}`, value[key] as Tree, put, depth + 1);
  } else if (value instanceof Untold) {
    fields.problem(value.reason);
  } else {
    put(name, value);
  }
}
