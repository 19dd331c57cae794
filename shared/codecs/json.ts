/**
 * Documents without a mapping: scalars flattened with `_`, arrays by index, nulls skipped, a bare number as `value`,
 * and a key that is plainly a time, at the top level and plausible, as the device's time.
 */
import type { FieldValue } from '../model/reading.ts';
import { setField, type Decoded } from './codec.ts';
import { parseJson } from './exact-json.ts';
import { fromEpoch, fromText, isPlausible, type DeviceTime } from './time.ts';
import { Moment, flatten, isObject, scalarOf, type Tree } from './tree.ts';

export const TIME_KEYS: ReadonlySet<string> = new Set(['ts', 'time', 'timestamp', 'Time']);

/** The time that a value gives, if it is plausible. */
export function timeOf(value: Tree, receivedMs: number): DeviceTime | undefined {
  let time: DeviceTime | undefined;
  if (typeof value === 'number') time = fromEpoch(value, undefined);
  else if (typeof value === 'bigint') time = fromEpoch(Number(value), String(value));
  else if (typeof value === 'string') time = fromText(value);
  else if (value instanceof Moment) ({ time } = value);
  return time !== undefined && isPlausible(time.ms, receivedMs) ? time : undefined;
}

/** `timeKeys`: which keys of the top level are a time. Throws Undecodable. */
export function decodeTree(
  value: Tree,
  receivedMs: number,
  timeKeys: ReadonlySet<string> = TIME_KEYS,
): Decoded {
  const fields = new Map<string, FieldValue>();
  let time: DeviceTime | undefined;
  if (isObject(value)) {
    for (const key of Object.keys(value)) {
      const child = value[key] as Tree;
      if (time === undefined && timeKeys.has(key)) {
        time = timeOf(child, receivedMs);
        if (time !== undefined) continue;
      }
      if (typeof child === 'number' || typeof child === 'string' || typeof child === 'boolean')
        setField(fields, key, child);
      else flatten(fields, key, child, undefined, 1);
    }
  } else if (Array.isArray(value)) {
    flatten(fields, '', value);
  } else if (value !== null) {
    setField(fields, 'value', scalarOf(value));
  }
  return time === undefined ? { fields } : { fields, time };
}

/** Throws Undecodable. */
export function decodeJson(
  text: string,
  receivedMs: number,
  timeKeys: ReadonlySet<string> = TIME_KEYS,
): Decoded {
  return decodeTree(parseJson(text), receivedMs, timeKeys);
}
