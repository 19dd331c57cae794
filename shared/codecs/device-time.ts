/** The time that a value of a document says, by one rule for what no mapping describes and for what one does. */
import {
  fromEpoch,
  fromText,
  isHistoric,
  isLikely,
  isLocalTime,
  isPlausible,
  type DeviceTime,
  type EpochUnit,
  type TimeRules,
} from './time.ts';
import { Moment, isObject, own, type Tree, type TreeObject } from './tree.ts';
import { fromWritten } from './written-time.ts';

/** What a mapping says of a time. */
export interface TimeForm {
  /** Of a number; undefined: its magnitude tells. */
  unit?: EpochUnit | undefined;
  /** IANA zone of a text that names none; undefined: the site's. */
  zone?: string | undefined;
  /** It may lie long before receipt. */
  isHistory?: boolean | undefined;
}

const NO_FORM: TimeForm = {};
const NUMBER = /^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/;

const NANOS = 1e9;

/** The time of an object that is one: MongoDB's extended JSON, NGSI's attributes, protobuf's timestamps. */
function within(value: TreeObject): Tree | undefined {
  const date = own(value, '$date');
  if (isObject(date)) return own(date, '$numberLong');
  if (date !== undefined) return date;
  if (own(value, 'type') === 'DateTime') return own(value, 'value');
  const seconds = own(value, 'seconds');
  const nanos = own(value, 'nanos') ?? own(value, 'nanoseconds') ?? 0;
  if (typeof nanos !== 'number' || nanos < 0 || nanos >= NANOS) return undefined;
  if (typeof seconds !== 'number' || !Number.isSafeInteger(seconds)) return undefined;
  return BigInt(seconds) * BigInt(NANOS) + BigInt(Math.trunc(nanos));
}

/** Before it is looked at whether it is plausible. */
function readTime(
  value: Tree,
  receivedMs: number,
  rules: TimeRules,
  form: TimeForm,
): DeviceTime | undefined {
  const { unit, zone } = form;
  if (typeof value === 'number')
    return unit === undefined ? fromEpoch(value, undefined) : fromEpoch(value, undefined, unit);
  if (typeof value === 'bigint')
    return unit === undefined
      ? fromEpoch(Number(value), String(value))
      : fromEpoch(Number(value), String(value), unit);
  if (value instanceof Moment) return value.time;
  if (isObject(value)) {
    const inner = within(value);
    return inner === undefined || isObject(inner)
      ? undefined
      : readTime(inner, receivedMs, rules, form);
  }
  if (typeof value !== 'string') return undefined;
  const text = value.trim();
  if (unit !== undefined && NUMBER.test(text)) return fromEpoch(Number(text), text, unit);
  const local = zone ?? rules.localZone;
  // A clock reading of nobody knows which zone is not a time.
  if (local === undefined && isLocalTime(text)) return undefined;
  return fromText(text, local) ?? fromWritten(text, local, receivedMs);
}

/** Undefined: it says none that is plausible, and stays the value that it is. */
export function deviceTime(
  value: Tree,
  receivedMs: number,
  rules: TimeRules,
  form: TimeForm = NO_FORM,
): DeviceTime | undefined {
  const time = readTime(value, receivedMs, rules, form);
  if (time === undefined) return undefined;
  if (form.isHistory === true) return isHistoric(time.ms, receivedMs) ? time : undefined;
  // What the format itself marks as a time is one.
  const believed = value instanceof Moment ? isPlausible : isLikely;
  return believed(time.ms, receivedMs, rules) ? time : undefined;
}
