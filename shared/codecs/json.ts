/**
 * JSON without a mapping: scalars flattened with `_`, arrays by index, nulls skipped, a bare number as `value`,
 * and a key that is plainly a time, at the top level and plausible, as the device's time.
 */
import type { FieldValue } from '../model/reading.ts';
import { DEPTH_MAX, Undecodable, checkExact, setField, type Decoded } from './codec.ts';
import { fromEpoch, fromText, isPlausible, type DeviceTime } from './time.ts';

export const TIME_KEYS: ReadonlySet<string> = new Set(['ts', 'time', 'timestamp', 'Time']);

/** The time that a JSON value gives, if it is plausible. `text` is the payload, for digits that a double would bend. */
export function timeOf(
  key: string,
  value: unknown,
  text: string,
  receivedMs: number,
): DeviceTime | undefined {
  let time: DeviceTime | undefined;
  if (typeof value === 'number') {
    const digits =
      value > 2 ** 53
        ? new RegExp(`"${key.replaceAll(/[^\w]/g, '.')}"\\s*:\\s*(\\d+)\\s*[,}\\]]`).exec(text)?.[1]
        : undefined;
    time = fromEpoch(value, digits);
  } else if (typeof value === 'string') {
    time = fromText(value);
  }
  return time !== undefined && isPlausible(time.ms, receivedMs) ? time : undefined;
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Undecodable(`not JSON: ${error instanceof Error ? error.message : 'unreadable'}`, {
      cause: error,
    });
  }
}

export function flatten(
  fields: Map<string, FieldValue>,
  name: string,
  value: unknown,
  text: string,
  depth = 0,
): void {
  switch (typeof value) {
    case 'number':
      if (!Number.isFinite(value)) throw new Undecodable(`'${name}' is not a finite number`);
      checkExact(value, text);
      return setField(fields, name, value);
    case 'string':
    case 'boolean':
      return setField(fields, name, value);
    case 'object':
      if (value === null) return undefined;
      if (depth >= DEPTH_MAX) throw new Undecodable(`nested more than ${DEPTH_MAX} levels deep`);
      for (const [key, child] of Object.entries(value)) {
        flatten(fields, name === '' ? key : `${name}_${key}`, child, text, depth + 1);
      }
      return undefined;
    default:
      return undefined;
  }
}

/** `timeKeys`: which keys of the top level are a time. Throws Undecodable. */
export function decodeJson(
  text: string,
  receivedMs: number,
  timeKeys: ReadonlySet<string> = TIME_KEYS,
): Decoded {
  const value = parseJson(text);
  const fields = new Map<string, FieldValue>();
  let time: DeviceTime | undefined;
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    for (const [key, child] of Object.entries(value)) {
      if (time === undefined && timeKeys.has(key)) {
        time = timeOf(key, child, text, receivedMs);
        if (time !== undefined) continue;
      }
      flatten(fields, key, child, text, 1);
    }
  } else {
    flatten(fields, typeof value === 'object' ? '' : 'value', value, text);
  }
  return time === undefined ? { fields } : { fields, time };
}
