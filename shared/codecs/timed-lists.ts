/**
 * Lists whose elements are measurements of their own: objects of which some have a time, and objects that each are a name
 * with its value (`[{"id":"101","val":4},…]`), of which each name is a series.
 */
import { POINTS_MAX } from './codec.ts';
import type { TimeForm } from './device-time.ts';
import type { TimeRules } from './time.ts';
import { ownTime } from './time-keys.ts';
import { isObject, own, type Tree, type TreeObject } from './tree.ts';

const areObjects = (value: Tree): value is TreeObject[] =>
  Array.isArray(value) && value.length > 0 && value.length <= POINTS_MAX && value.every(isObject);

/** Objects alone, and one of them at least with a time of its own. */
export const isTimedList = (
  value: Tree,
  receivedMs: number,
  rules: TimeRules,
  form?: TimeForm,
): value is TreeObject[] =>
  areObjects(value) && value.some((each) => ownTime(each, receivedMs, rules, form) !== undefined);

/** Members that name what is measured, the plainest first. */
const NAMES = [
  'name',
  'Name',
  'tag',
  'Tag',
  'tagName',
  'tag_name',
  'TagName',
  'variable',
  'path',
  'key',
  'parameter',
  'metric',
  'signal',
  'sensor',
  'channel',
  'n',
  'N',
  'k',
  'id',
  'Id',
  'ID',
  'value_type',
  'type',
];
const VALUES = ['value', 'Value', 'val', 'v', 'V'];
const UNITS = ['unit', 'units', 'Unit'];

const isScalar = (value: Tree | undefined): boolean =>
  typeof value === 'number' ||
  typeof value === 'string' ||
  typeof value === 'boolean' ||
  typeof value === 'bigint';

const nameOf = (value: TreeObject, key: string): string | undefined => {
  const name = own(value, key);
  return (typeof name === 'string' && name !== '') || typeof name === 'number'
    ? String(name)
    : undefined;
};

/** The members of a list's elements that are the name, the value, and its unit. */
export interface Named {
  name: string;
  value: string;
  unit: string | undefined;
}

/** A name that comes twice names nothing, unless each element has its own time. */
function isNameKey(list: readonly TreeObject[], key: string, isTimed: boolean): boolean {
  const seen = new Set<string>();
  for (const each of list) {
    const name = nameOf(each, key);
    if (name === undefined) return false;
    seen.add(name);
  }
  return seen.size === list.length || (isTimed && key !== 'type');
}

/** Undefined: it is no list of names with their values. */
export function namedList(value: Tree, isTimed: boolean): Named | undefined {
  if (!areObjects(value)) return undefined;
  const [first] = value as [TreeObject, ...TreeObject[]];
  const member = VALUES.find((key) => value.some((each) => Object.hasOwn(each, key)));
  if (member === undefined) return undefined;
  const name = NAMES.find(
    (key) => nameOf(first, key) !== undefined && isNameKey(value, key, isTimed),
  );
  if (name === undefined) return undefined;
  const isOne = value.every(
    (each) =>
      !Object.hasOwn(each, member) || isScalar(own(each, member)) || own(each, member) === null,
  );
  const unit = isOne ? UNITS.find((key) => typeof own(first, key) === 'string') : undefined;
  return { name, value: member, unit };
}

/** What an element is named. */
export const elementName = (value: TreeObject, { name }: Named): string =>
  nameOf(value, name) ?? '';
