/**
 * Lists whose elements are measurements of their own: objects of which some have a time, objects that each are a name
 * with its value (`[{"id":"101","val":4},…]`) or of another device (`[{"mac":"AC23","rssi":-61},…]`), of which each is a
 * series, and rows that begin with their time (`[[1790000000,21.5],…]`). Numbers with the text of their time before or
 * behind them (`[21.5,45,"2026-05-01T10:00:00Z"]`) and a value that stands with its time in an object
 * (`{"value":21.5,"time":…}`) are one, too.
 */
import { POINTS_MAX } from './codec.ts';
import type { TimeForm } from './device-time.ts';
import type { TimeRules } from './time.ts';
import { ownTime, timeUnder } from './time-keys.ts';
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
  'flag',
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

/** The members of a list's elements that are the name, or the device's, the value, and its unit. */
export interface Named {
  name: string;
  /** Undefined: what is named is a device with values of any name. */
  value: string | undefined;
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

/** A member whose value is measurements of their own. */
export interface Apart {
  name: string;
  elements: readonly TreeObject[];
  named: Named | undefined;
}

/** Members of an object that is a value with its time and what is said of it, at most. */
const VALUE_MEMBERS_MAX = 6;

/** A value with its time, and nothing below it. */
function isTimedValue(value: TreeObject, receivedMs: number, rules: TimeRules): boolean {
  const member = VALUES.find((key) => Object.hasOwn(value, key));
  if (member === undefined || !isScalar(value[member])) return false;
  if (Object.keys(value).length > VALUE_MEMBERS_MAX) return false;
  return ownTime(value, receivedMs, rules) !== undefined;
}

/** Rows of scalars of which the first says a time; as objects, whose other members are named by their place. */
function timedRows(
  list: readonly Tree[],
  receivedMs: number,
  rules: TimeRules,
): TreeObject[] | undefined {
  if (!Array.isArray(list[0]) || list.length > POINTS_MAX) return undefined;
  const rows: TreeObject[] = [];
  for (const row of list) {
    if (!Array.isArray(row) || row.length < 2) return undefined;
    const [ts = null, ...cells] = row;
    if (timeUnder('ts', ts, receivedMs, rules) === undefined) return undefined;
    if (!cells.every((cell) => cell === null || isScalar(cell))) return undefined;
    rows.push({ ts, ...Object.fromEntries(cells.map((cell, index) => [index + 1, cell])) });
  }
  return rows;
}

/** Numbers and one text at the end, or at the beginning, that is their time. */
function timedRow(
  row: readonly Tree[],
  receivedMs: number,
  rules: TimeRules,
): TreeObject | undefined {
  const isLast = typeof row.at(-1) === 'string';
  const ts = row.at(isLast ? -1 : 0);
  if (row.length < 2 || typeof ts !== 'string') return undefined;
  const cells = Object.entries(isLast ? row.slice(0, -1) : row.with(0, null));
  if (!cells.every(([, cell]) => cell === null || typeof cell === 'number')) return undefined;
  if (timeUnder('ts', ts, receivedMs, rules) === undefined) return undefined;
  return { ts, ...Object.fromEntries(cells) };
}

/** Members that say which device an object of a list is of. */
const DEVICES = [
  'mac',
  'MAC',
  'dmac',
  'macAddress',
  'mac_address',
  'addr',
  'devEui',
  'devEUI',
  'DevEUI',
  'dev_eui',
  'imei',
  'IMEI',
  'serial',
  'serialNumber',
  'serial_number',
  'deviceId',
  'deviceID',
  'device_id',
  'device',
  'sensorId',
  'sensor_id',
  'sensor',
  'nodeId',
  'node_id',
  'node',
];

/** The member that says of each which device it is of; where they have no times, each of another. */
function deviceKey(list: readonly TreeObject[], isTimed: boolean): string | undefined {
  const [first] = list as readonly [TreeObject, ...TreeObject[]];
  return DEVICES.find((key) => nameOf(first, key) !== undefined && isNameKey(list, key, isTimed));
}

/** Undefined: it is no measurements of their own. */
export function apartOf(
  name: string,
  value: Tree,
  receivedMs: number,
  rules: TimeRules,
): Apart | undefined {
  if (!Array.isArray(value))
    return isObject(value) && isTimedValue(value, receivedMs, rules)
      ? { name, elements: [value], named: undefined }
      : undefined;
  const rows = timedRows(value, receivedMs, rules);
  if (rows !== undefined) return { name, elements: rows, named: undefined };
  const row = timedRow(value, receivedMs, rules);
  if (row !== undefined) return { name, elements: [row], named: undefined };
  const isTimed = isTimedList(value, receivedMs, rules);
  const named = namedList(value, isTimed);
  if (!areObjects(value)) return undefined;
  const device = named === undefined ? deviceKey(value, isTimed) : undefined;
  if (!isTimed && named === undefined && device === undefined) return undefined;
  return {
    name,
    elements: value,
    named: device === undefined ? named : { name: device, value: undefined, unit: undefined },
  };
}

/** Levels below a message's members that are looked through. */
const APART_DEEP = 4;

/** An object without what is apart below it, which `found` gets. `name` is that of the object; '' has none. */
export function withoutApart(
  name: string,
  value: TreeObject,
  receivedMs: number,
  rules: TimeRules,
  found: Apart[],
  depth = 1,
): TreeObject {
  let rest: Map<string, Tree> | undefined;
  for (const key of Object.keys(value)) {
    const child = value[key] as Tree;
    if (typeof child !== 'object' || child === null) continue;
    const at = name === '' ? key : `${name}_${key}`;
    const apart = apartOf(at, child, receivedMs, rules);
    if (apart !== undefined) {
      found.push(apart);
      rest ??= new Map(Object.entries(value));
      rest.delete(key);
    } else if (isObject(child) && depth < APART_DEEP) {
      const left = withoutApart(at, child, receivedMs, rules, found, depth + 1);
      if (left !== child) (rest ??= new Map(Object.entries(value))).set(key, left);
    }
  }
  return rest === undefined ? value : Object.fromEntries(rest);
}

/** What an element is named. */
export const elementName = (value: TreeObject, { name }: Named): string =>
  nameOf(value, name) ?? '';
