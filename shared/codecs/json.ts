/**
 * Documents without a mapping: scalars flattened with `_`, arrays by index, nulls skipped, a bare number as `value`,
 * and a key that is plainly a time, at the top level and plausible, as the device's time.
 */
import { Fields, POINTS_MAX, type Decoded } from './codec.ts';
import { deviceTime } from './device-time.ts';
import { parseJson } from './exact-json.ts';
import { USUAL_TIME_RULES, type DeviceTime, type TimeRules } from './time.ts';
import { Untold, flatten, isObject, scalarOf, type Tree } from './tree.ts';

/** Keys of the top level that are a time when it is plausible. */
export const TIME_KEYS: ReadonlySet<string> = new Set([
  'ts',
  'time',
  'timestamp',
  'Time',
  'Timestamp',
  'tst',
  'datetime',
  'dateTime',
  'last_seen',
]);

/** Throws Undecodable. */
export function decodeTree(
  value: Tree,
  receivedMs: number,
  rules: TimeRules = USUAL_TIME_RULES,
): Decoded {
  const fields = new Fields();
  let time: DeviceTime | undefined;
  if (isObject(value)) {
    for (const key of Object.keys(value)) {
      const child = value[key] as Tree;
      if (time === undefined && TIME_KEYS.has(key)) {
        time = deviceTime(child, receivedMs, rules);
        if (time !== undefined) continue;
      }
      if (typeof child === 'number' || typeof child === 'string' || typeof child === 'boolean')
        fields.set(key, child);
      else flatten(fields, key, child, undefined, 1);
    }
  } else if (Array.isArray(value)) {
    flatten(fields, '', value);
  } else if (value instanceof Untold) {
    fields.problem(value.reason);
  } else if (value !== null) {
    fields.set('value', scalarOf(value));
  }
  return time === undefined ? { fields } : { fields, time };
}

/**
 * The same, but a list of objects that each have a time of their own is a point each. Throws Undecodable.
 */
export function decodeTrees(value: Tree, receivedMs: number, rules: TimeRules): Decoded[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > POINTS_MAX)
    return [decodeTree(value, receivedMs, rules)];
  const points: Decoded[] = [];
  for (const each of value) {
    const point = isObject(each) ? decodeTree(each, receivedMs, rules) : undefined;
    if (point?.time === undefined) return [decodeTree(value, receivedMs, rules)];
    points.push(point);
  }
  return points;
}

/** Throws Undecodable. */
export const decodeJson = (text: string, receivedMs: number): Decoded =>
  decodeTree(parseJson(text), receivedMs);
