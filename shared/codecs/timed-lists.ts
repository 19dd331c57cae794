/** Lists of objects of which some have a time of their own: each of them was measured by itself. */
import { POINTS_MAX } from './codec.ts';
import { deviceTime, type TimeForm } from './device-time.ts';
import type { DeviceTime, TimeRules } from './time.ts';
import { isObject, type Tree, type TreeObject } from './tree.ts';

/** Keys of an object that are a time when it is plausible. */
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

/** The first member that says a plausible time, by its key. */
export function ownTime(
  value: TreeObject,
  receivedMs: number,
  rules: TimeRules,
  form?: TimeForm,
): { key: string; time: DeviceTime } | undefined {
  for (const key of Object.keys(value)) {
    if (!TIME_KEYS.has(key)) continue;
    const time = deviceTime(value[key] as Tree, receivedMs, rules, form);
    if (time !== undefined) return { key, time };
  }
  return undefined;
}

/** Objects alone, and one of them at least with a time of its own. */
export const isTimedList = (
  value: Tree,
  receivedMs: number,
  rules: TimeRules,
  form?: TimeForm,
): value is TreeObject[] =>
  Array.isArray(value) &&
  value.length > 0 &&
  value.length <= POINTS_MAX &&
  value.every(isObject) &&
  value.some((each) => ownTime(each, receivedMs, rules, form) !== undefined);
