/**
 * Documents without a mapping: scalars flattened with `_`, arrays by index, nulls skipped, a bare number as `value`,
 * and a key that is plainly a time, at the top level and plausible, as the device's time.
 */
import { Fields, POINTS_MAX, Undecodable, type Decoded } from './codec.ts';
import { parseJson } from './exact-json.ts';
import { USUAL_TIME_RULES, type DeviceTime, type TimeRules } from './time.ts';
import { enclosedTime, isEnvelope, isTimeKey, ownTime, timeUnder } from './time-keys.ts';
import { elementName, isTimedList, namedList, type Named } from './timed-lists.ts';
import { Untold, flatten, isObject, scalarOf, type Tree, type TreeObject } from './tree.ts';

/** A member that is a list whose elements are points of their own. */
interface List {
  name: string;
  elements: readonly TreeObject[];
  named: Named | undefined;
}

function listOf(name: string, value: Tree, receivedMs: number, rules: TimeRules): List | undefined {
  if (!Array.isArray(value)) return undefined;
  const isTimed = isTimedList(value, receivedMs, rules);
  const named = namedList(value, isTimed);
  // Both are lists of objects.
  return isTimed || named !== undefined
    ? { name, elements: value as TreeObject[], named }
    : undefined;
}

/**
 * `lists`: takes the members whose elements are points of their own; without it they are flattened too. Throws Undecodable.
 */
export function decodeTree(
  value: Tree,
  receivedMs: number,
  rules: TimeRules = USUAL_TIME_RULES,
  lists?: List[],
): Decoded {
  const fields = new Fields();
  let time: DeviceTime | undefined;
  if (isObject(value)) {
    const keys = Object.keys(value);
    let envelopes: [string, TreeObject][] | undefined;
    for (const key of keys) {
      const child = value[key] as Tree;
      if (time === undefined && isTimeKey(key)) {
        time = timeUnder(key, child, receivedMs, rules);
        if (time !== undefined) continue;
      }
      if (typeof child === 'number' || typeof child === 'string' || typeof child === 'boolean') {
        fields.set(key, child);
        continue;
      }
      const list = lists === undefined ? undefined : listOf(key, child, receivedMs, rules);
      if (list !== undefined) lists?.push(list);
      else if (isEnvelope(key, child, keys.length)) (envelopes ??= []).push([key, child]);
      else flatten(fields, key, child, undefined, 1);
    }
    if (envelopes !== undefined)
      for (const [key, child] of envelopes) {
        const found = time === undefined ? enclosedTime(key, child, receivedMs, rules) : undefined;
        time ??= found?.time;
        flattenWithout(fields, key, child, found?.name);
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

/** Without the value that has become the time. */
function flattenWithout(fields: Fields, name: string, value: Tree, taken?: string): void {
  if (taken === undefined) flatten(fields, name, value, undefined, 1);
  else
    flatten(
      fields,
      name,
      value,
      (at, scalar) => {
        if (at !== taken) fields.set(at, scalarOf(scalar));
      },
      1,
    );
}

/** An object of a list, under its list's name. What is named is a series by its name. Throws Undecodable. */
function decodeElement(
  { name, named }: List,
  value: TreeObject,
  listTime: DeviceTime | undefined,
  receivedMs: number,
  rules: TimeRules,
): Decoded {
  const fields = new Fields();
  const own = ownTime(value, receivedMs, rules);
  const isApart = (key: string): boolean =>
    key === own?.key || (named !== undefined && (key === named.name || key === named.unit));
  const under = (key: string): string => (name === '' ? key : `${name}_${key}`);
  for (const key of Object.keys(value))
    if (!isApart(key)) flatten(fields, under(key), value[key] as Tree, undefined, 2);
  const decoded: Decoded = { fields };
  const time = own?.time ?? (named === undefined ? undefined : listTime);
  if (time !== undefined) decoded.time = time;
  if (named === undefined) return decoded;
  decoded.tags = { [named.name]: elementName(value, named) };
  const unit = named.unit === undefined ? undefined : value[named.unit];
  if (typeof unit === 'string' && unit !== '')
    decoded.meta = new Map([[under(named.value), { unit }]]);
  return decoded;
}

/**
 * The same, but an object of a list is a point where the list has times or names of its own: at the top, and in a member,
 * whose name is before its fields then. Throws Undecodable.
 */
export function decodeTrees(value: Tree, receivedMs: number, rules: TimeRules): Decoded[] {
  if (Array.isArray(value)) {
    const list = listOf('', value, receivedMs, rules);
    if (list === undefined) return [decodeTree(value, receivedMs, rules)];
    return list.elements.map((each) =>
      list.named === undefined
        ? decodeTree(each, receivedMs, rules)
        : decodeElement(list, each, undefined, receivedMs, rules),
    );
  }
  const lists: List[] = [];
  const point = decodeTree(value, receivedMs, rules, lists);
  if (lists.length === 0) return [point];
  const points = lists.flatMap((list) =>
    list.elements.map((each) => decodeElement(list, each, point.time, receivedMs, rules)),
  );
  if (points.length > POINTS_MAX)
    throw new Undecodable(`more than ${POINTS_MAX} points in one message`);
  return point.fields.isEmpty ? points : [point, ...points];
}

/** Throws Undecodable. */
export const decodeJson = (text: string, receivedMs: number): Decoded =>
  decodeTree(parseJson(text), receivedMs);
