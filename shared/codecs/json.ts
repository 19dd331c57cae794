/**
 * Documents without a mapping: scalars flattened with `_`, arrays by index, nulls skipped, a bare number as `value`,
 * and a key that is plainly a time, at the top level and plausible, as the device's time.
 */
import { Fields, POINTS_MAX, Undecodable, type Decoded } from './codec.ts';
import { parseJson } from './exact-json.ts';
import { USUAL_TIME_RULES, type DeviceTime, type TimeRules } from './time.ts';
import { enclosedTime, isEnvelope, isTimeKey, ownTime, timeUnder } from './time-keys.ts';
import { apartOf, elementName, withoutApart, type Apart } from './timed-lists.ts';
import { Untold, flatten, isObject, scalarOf, type Tree, type TreeObject } from './tree.ts';

/**
 * `apart`: takes what is points of its own; without it that is flattened too. Throws Undecodable.
 */
export function decodeTree(
  value: Tree,
  receivedMs: number,
  rules: TimeRules = USUAL_TIME_RULES,
  apart?: Apart[],
): Decoded {
  const fields = new Fields();
  let time: DeviceTime | undefined;
  let timeKey: string | undefined;
  if (isObject(value)) {
    const keys = Object.keys(value);
    let envelopes: [string, TreeObject][] | undefined;
    for (const key of keys) {
      const child = value[key] as Tree;
      if (time === undefined && isTimeKey(key)) {
        time = timeUnder(key, child, receivedMs, rules);
        if (time !== undefined) {
          timeKey = key;
          continue;
        }
      }
      if (typeof child === 'number' || typeof child === 'string' || typeof child === 'boolean') {
        fields.set(key, child);
        continue;
      }
      if (isEnvelope(key, child, keys.length)) {
        (envelopes ??= []).push([key, child]);
        continue;
      }
      const own = apart === undefined ? undefined : apartOf(key, child, receivedMs, rules);
      if (own !== undefined) apart?.push(own);
      else flatten(fields, key, rest(key, child, receivedMs, rules, apart), undefined, 1);
    }
    if (envelopes !== undefined)
      for (const [key, child] of envelopes) {
        const found = time === undefined ? enclosedTime(key, child, receivedMs, rules) : undefined;
        time ??= found?.time;
        const left = rest(key, child, receivedMs, rules, apart) as TreeObject; // Of an object.
        flattenWithout(fields, key, left, found?.name);
      }
    // A message that says nothing but its time says that.
    if (timeKey !== undefined && fields.isEmpty && (apart === undefined || apart.length === 0))
      flatten(fields, timeKey, value[timeKey] as Tree, undefined, 1);
  } else if (Array.isArray(value)) {
    flatten(fields, '', value);
  } else if (value instanceof Untold) {
    fields.problem(value.reason);
  } else if (value !== null) {
    fields.set('value', scalarOf(value));
  }
  return time === undefined ? { fields } : { fields, time };
}

/** Without what is apart below it. */
const rest = (
  name: string,
  value: Tree,
  receivedMs: number,
  rules: TimeRules,
  apart: Apart[] | undefined,
): Tree =>
  apart === undefined || !isObject(value)
    ? value
    : withoutApart(name, value, receivedMs, rules, apart);

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

/** An object of a list, under its list's name, and what is apart in it. What is named is a series by its name. Throws Undecodable. */
function decodeElement(
  { name, named }: Apart,
  value: TreeObject,
  outer: Decoded,
  receivedMs: number,
  rules: TimeRules,
): Decoded[] {
  const fields = new Fields();
  const own = ownTime(value, receivedMs, rules);
  const isMark = (key: string): boolean =>
    key === own?.key || (named !== undefined && (key === named.name || key === named.unit));
  const under = (key: string): string => (name === '' ? key : `${name}_${key}`);
  const apart: Apart[] = [];
  const left = withoutApart(name, value, receivedMs, rules, apart);
  for (const key of Object.keys(left))
    if (!isMark(key)) flatten(fields, under(key), left[key] as Tree, undefined, 2);
  // As a message that says nothing but its time.
  if (own !== undefined && Object.keys(value).length === 1)
    flatten(fields, under(own.key), value[own.key] as Tree, undefined, 2);
  const decoded: Decoded = { fields };
  const time = own?.time ?? (named === undefined ? undefined : outer.time);
  if (time !== undefined) decoded.time = time;
  if (outer.tags !== undefined) decoded.tags = outer.tags;
  if (named !== undefined) {
    decoded.tags = { ...outer.tags, [named.name]: elementName(value, named) };
    const unit = named.unit === undefined ? undefined : value[named.unit];
    if (typeof unit === 'string' && unit !== '' && named.value !== undefined)
      decoded.meta = new Map([[under(named.value), { unit }]]);
  }
  return withApart(decoded, apart, receivedMs, rules);
}

const isSameTime = (one: Decoded, other: Decoded): boolean =>
  one.time?.ms === other.time?.ms && one.time?.ns === other.time?.ns;

/** A point, and the points of what is apart from it: values with their times are one where these are the same. Throws Undecodable. */
function withApart(
  point: Decoded,
  apart: readonly Apart[],
  receivedMs: number,
  rules: TimeRules,
): Decoded[] {
  if (apart.length === 0) return [point];
  const points: Decoded[] = point.fields.isEmpty ? [] : [point];
  let last: Decoded | undefined;
  for (const each of apart) {
    const isValue = each.named === undefined && each.elements.length === 1;
    for (const element of each.elements) {
      const made = decodeElement(each, element, point, receivedMs, rules);
      const [first] = made;
      if (isValue && first !== undefined && last !== undefined && isSameTime(first, last)) {
        last.fields.join(first.fields);
        made.shift();
      } else if (isValue) last = first;
      points.push(...made);
    }
  }
  if (points.length > POINTS_MAX)
    throw new Undecodable(`more than ${POINTS_MAX} points in one message`);
  return points;
}

/**
 * The same, but what is measurements of its own (`timed-lists.ts`) is a point each, whose fields begin with its members'
 * names. Throws Undecodable.
 */
export function decodeTrees(value: Tree, receivedMs: number, rules: TimeRules): Decoded[] {
  if (Array.isArray(value)) {
    const list = apartOf('', value, receivedMs, rules);
    if (list === undefined) return [decodeTree(value, receivedMs, rules)];
    return withApart({ fields: new Fields() }, [list], receivedMs, rules);
  }
  const apart: Apart[] = [];
  return withApart(decodeTree(value, receivedMs, rules, apart), apart, receivedMs, rules);
}

/** Throws Undecodable. */
export const decodeJson = (text: string, receivedMs: number): Decoded =>
  decodeTree(parseJson(text), receivedMs);
