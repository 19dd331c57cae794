/**
 * Where a document says its time without a mapping: a member whose name says that it is one, and only while its value is a
 * plausible time. It is looked for at the top, and where there is none in an envelope: a member that the sender has put
 * around all of it (`data`, `state.reported`, the only member there is).
 */
import { deviceTime, type TimeForm } from './device-time.ts';
import type { DeviceTime, TimeRules } from './time.ts';
import { isObject, type Tree, type TreeObject } from './tree.ts';

const WORDS = [
  't',
  'ts',
  'time',
  'timestamp',
  'time stamp',
  'tst',
  'date',
  'date time',
  'last seen',
  'rx time',
  'epoch',
  'unix time',
  'unix timestamp',
  'epoch time',
  'timestamp ms',
  'ts ms',
  'event time',
  'device time',
  'local time',
  'sample time',
  'sampled at',
  'measured at',
  'measurement time',
  'observed at',
  'recorded at',
  'reported at',
  'source timestamp',
  'unix',
  'dt',
  'time instant',
  'phenomenon time',
  'result time',
  'observation time',
  'date observed',
  'acquisition time',
  'captured at',
  'collected at',
  'zeitstempel',
  'fecha',
  'horodatage',
];
/** Whose name says the zone too. */
const WORDS_UTC = ['utc', 'date utc', 'time utc', 'datetime utc', 'timestamp utc', 'utc date time'];

const capital = (word: string): string => word.charAt(0).toUpperCase() + word.slice(1);

/** As programs write it: `date_time`, `dateTime`, `DateTime`, `datetime`, `DATE_TIME`, `_date_time`, `_DATE_TIME_` … */
function spellings(words: string): string[] {
  const parts = words.split(' ');
  const pascal = parts.map(capital).join('');
  const plain = [
    parts.join('_'),
    parts.join('-'),
    parts.join(''),
    capital(parts.join('')),
    pascal,
    pascal.charAt(0).toLowerCase() + pascal.slice(1),
    parts.map(capital).join('_'),
    parts.join('_').toUpperCase(),
    parts.join('').toUpperCase(),
  ];
  return plain.flatMap((each) => [each, `_${each}`, `_${each}_`]);
}

const USUAL: TimeForm = {};
const UTC: TimeForm = { zone: 'UTC' };
const KEYS: ReadonlyMap<string, TimeForm> = new Map([
  ...WORDS.flatMap((word) => spellings(word).map((key): [string, TimeForm] => [key, USUAL])),
  ...WORDS_UTC.flatMap((word) => spellings(word).map((key): [string, TimeForm] => [key, UTC])),
]);

/** Whether a member may say a time: most do not, and are known by their name. */
export const isTimeKey = (key: string): boolean => KEYS.has(key);

/** The time that a member says by its name, where it is plausible. `form`: what a mapping says of such times. */
export function timeUnder(
  key: string,
  value: Tree,
  receivedMs: number,
  rules: TimeRules,
  form?: TimeForm,
): DeviceTime | undefined {
  const known = KEYS.get(key);
  if (known === undefined) return undefined;
  return deviceTime(value, receivedMs, rules, known.zone === undefined ? form : known);
}

/** The first member that says a plausible time, by its key. */
export function ownTime(
  value: TreeObject,
  receivedMs: number,
  rules: TimeRules,
  form?: TimeForm,
): { key: string; time: DeviceTime } | undefined {
  for (const key of Object.keys(value)) {
    if (!isTimeKey(key)) continue;
    const time = timeUnder(key, value[key] as Tree, receivedMs, rules, form);
    if (time !== undefined) return { key, time };
  }
  return undefined;
}

const ENVELOPES: ReadonlySet<string> = new Set([
  'd',
  'data',
  'payload',
  'params',
  'state',
  'reported',
  'body',
  'Body',
  'head',
  'Head',
  'header',
  'Header',
  'message',
  'Message',
  'msg',
  'telemetry',
  'Telemetry',
  'properties',
]);
const ENVELOPES_DEEP = 2;

/** Whether a member is around the message, by its name or since it is the only one. */
export const isEnvelope = (key: string, value: Tree, members: number): value is TreeObject =>
  isObject(value) && (members === 1 || ENVELOPES.has(key));

/** The time within an envelope, and its name when everything is flattened. */
export function enclosedTime(
  name: string,
  value: TreeObject,
  receivedMs: number,
  rules: TimeRules,
  depth = 1,
): { name: string; time: DeviceTime } | undefined {
  const own = ownTime(value, receivedMs, rules);
  if (own !== undefined) return { name: `${name}_${own.key}`, time: own.time };
  if (depth === ENVELOPES_DEEP) return undefined;
  const keys = Object.keys(value);
  for (const key of keys) {
    const child = value[key] as Tree;
    if (!isEnvelope(key, child, keys.length)) continue;
    const found = enclosedTime(`${name}_${key}`, child, receivedMs, rules, depth + 1);
    if (found !== undefined) return found;
  }
  return undefined;
}
