/**
 * Documents without a mapping: scalars flattened with `_`, arrays by index, nulls skipped, a bare number as `value`,
 * and a key that is plainly a time, at the top level and plausible, as the device's time.
 */
import { Fields, POINTS_MAX, Undecodable, type Decoded } from './codec.ts';
import { deviceTime } from './device-time.ts';
import { parseJson } from './exact-json.ts';
import { USUAL_TIME_RULES, type DeviceTime, type TimeRules } from './time.ts';
import { TIME_KEYS, isTimedList, ownTime } from './timed-lists.ts';
import { Untold, flatten, isObject, scalarOf, type Tree, type TreeObject } from './tree.ts';

/**
 * `lists`: takes the members that are lists of objects with times of their own; without it they are flattened too. Throws
 * Undecodable.
 */
export function decodeTree(
  value: Tree,
  receivedMs: number,
  rules: TimeRules = USUAL_TIME_RULES,
  lists?: [string, TreeObject[]][],
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
      else if (lists !== undefined && isTimedList(child, receivedMs, rules))
        lists.push([key, child]);
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

/** An object of a list, under its list's name. Throws Undecodable. */
function decodeElement(
  name: string,
  value: TreeObject,
  receivedMs: number,
  rules: TimeRules,
): Decoded {
  const fields = new Fields();
  const own = ownTime(value, receivedMs, rules);
  for (const key of Object.keys(value))
    if (key !== own?.key) flatten(fields, `${name}_${key}`, value[key] as Tree, undefined, 2);
  return own === undefined ? { fields } : { fields, time: own.time };
}

/**
 * The same, but an object of a list that has times of its own is a point: at the top, and in a member, whose name is
 * before its fields then. Throws Undecodable.
 */
export function decodeTrees(value: Tree, receivedMs: number, rules: TimeRules): Decoded[] {
  if (Array.isArray(value))
    return isTimedList(value, receivedMs, rules)
      ? value.map((each) => decodeTree(each, receivedMs, rules))
      : [decodeTree(value, receivedMs, rules)];
  const lists: [string, TreeObject[]][] = [];
  const point = decodeTree(value, receivedMs, rules, lists);
  if (lists.length === 0) return [point];
  const points = lists.flatMap(([name, list]) =>
    list.map((each) => decodeElement(name, each, receivedMs, rules)),
  );
  if (points.length > POINTS_MAX)
    throw new Undecodable(`more than ${POINTS_MAX} points in one message`);
  return point.fields.isEmpty ? points : [point, ...points];
}

/** Throws Undecodable. */
export const decodeJson = (text: string, receivedMs: number): Decoded =>
  decodeTree(parseJson(text), receivedMs);
