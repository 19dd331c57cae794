/**
 * What a place holds of earlier measurements, each with its own time: lists of objects (`history`), and texts of rows in
 * brackets of which each has one date and time (Dragino's DATALOG). `timed` of a rule makes a point of each.
 */
import type { TimeForm } from '../../../shared/codecs/device-time.ts';
import { deviceTime } from '../../../shared/codecs/device-time.ts';
import { scalarTree } from '../../../shared/codecs/scalar.ts';
import type { DeviceTime, TimeRules } from '../../../shared/codecs/time.ts';
import { ownTime } from '../../../shared/codecs/time-keys.ts';
import { isTimedList } from '../../../shared/codecs/timed-lists.ts';
import { isObject, type Tree, type TreeObject } from '../../../shared/codecs/tree.ts';

export interface Earlier {
  node: TreeObject;
  time: DeviceTime | undefined;
}

/** Rows such as `[TRUE,12,2026-05-01 10:00:00],[…]`. */
const ROWS = /^\s*(?:\[[^[\]]+\]\s*,?\s*)+$/;
const ROW = /\[([^[\]]+)\]/g;

function withoutTime(value: TreeObject, key: string): TreeObject {
  return Object.fromEntries(Object.entries(value).filter(([name]) => name !== key));
}

/** Undefined: it is no text of rows with a time each. */
function rowsOf(
  name: string,
  text: string,
  receivedMs: number,
  rules: TimeRules,
  form: TimeForm,
): Earlier[] | undefined {
  if (!text.includes('[') || !ROWS.test(text)) return undefined;
  const rows: Earlier[] = [];
  for (const [, row = ''] of text.matchAll(ROW)) {
    const cells = row.split(',').map((cell) => cell.trim());
    const times = cells.map((cell) =>
      cell.includes(':') ? deviceTime(cell, receivedMs, rules, form) : undefined,
    );
    const at = times.findIndex((time) => time !== undefined);
    if (at < 0 || times.findLastIndex((time) => time !== undefined) !== at) return undefined;
    const values = cells.flatMap((cell, index): [string, Tree][] =>
      index === at ? [] : [[`${name}_${index}`, scalarTree(cell)]],
    );
    rows.push({ node: Object.fromEntries(values), time: times[at] });
  }
  return rows;
}

/** The place without them, and them. Undefined: there are none. */
export function splitTimed(
  node: Tree,
  receivedMs: number,
  rules: TimeRules,
  form: TimeForm,
): { rest: TreeObject; earlier: Earlier[] } | undefined {
  if (!isObject(node)) return undefined;
  const earlier: Earlier[] = [];
  const rest: [string, Tree][] = [];
  for (const [key, value] of Object.entries(node)) {
    if (isTimedList(value, receivedMs, rules, form)) {
      for (const each of value) {
        const own = ownTime(each, receivedMs, rules, form);
        if (own === undefined) earlier.push({ node: each, time: undefined });
        else earlier.push({ node: withoutTime(each, own.key), time: own.time });
      }
      continue;
    }
    const rows =
      typeof value === 'string' ? rowsOf(key, value, receivedMs, rules, form) : undefined;
    if (rows === undefined) rest.push([key, value]);
    else earlier.push(...rows);
  }
  return earlier.length === 0 ? undefined : { rest: Object.fromEntries(rest), earlier };
}
