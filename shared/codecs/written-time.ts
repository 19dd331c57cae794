/**
 * Times as people write them, where there is one way to read them: a month by its name (`Fri, 01 May 2026 10:00:00 GMT`,
 * `01-May-2026 10:00`), day and month with dots (day first), and with slashes or dashes while one of the two cannot be a
 * month. Where both can, the order is the one that lies within 13 days of receipt (the two are 27 apart at least); if
 * neither does, nobody knows, and it is no time.
 */
import { fromEpoch, fromText, type DeviceTime } from './time.ts';

const CLOCK =
  '(?<h>\\d{1,2}):(?<m>\\d{2})(?::(?<s>\\d{2})(?:[.,](?<f>\\d{1,9})\\d*)?)?(?:\\s*(?<half>[ap])\\.?m\\.?)?';
const ZONE = '(?:\\s*(?<z>Z|UTC|GMT|[+-]\\d{2}(?::?\\d{2})?))?';
const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const NAME = `(?<name>${MONTHS.join('|')})[a-z]*\\.?`;

const NUMBERS = new RegExp(
  `^(?<one>\\d{1,2})(?<mark>[./-])(?<two>\\d{1,2})\\k<mark>(?<y>\\d{4})(?:T|,?\\s+)${CLOCK}${ZONE}$`,
  'i',
);
/** RFC 5322's and HTTP's date, and without its weekday. */
const NAMED = new RegExp(
  `^(?:[a-z]{3,9},?\\s+)?(?<d>\\d{1,2})[\\s-]+${NAME}[\\s-]+(?<y>\\d{4}),?\\s+${CLOCK}${ZONE}$`,
  'i',
);
/** C's `asctime`, and `date`'s where its zone is UTC. */
const ASCTIME = new RegExp(
  `^[a-z]{3}\\s+${NAME}\\s+(?<d>\\d{1,2})\\s+${CLOCK}(?:\\s+(?<z>UTC|GMT))?\\s+(?<y>\\d{4})$`,
  'i',
);
/** JavaScript's `Date` as a text. */
const DATE = new RegExp(
  `^[a-z]{3}\\s+${NAME}\\s+(?<d>\\d{1,2})\\s+(?<y>\\d{4})\\s+${CLOCK}\\s+GMT(?<z>[+-]\\d{4})(?:\\s+\\([^()]*\\))?$`,
  'i',
);
/** .NET's in JSON: milliseconds. */
const SERIAL = /^\/Date\((\d+)(?:[+-]\d{4})?\)\/$/;
const CHARS_MAX = 80;
const NEAR_MS = 13 * 24 * 3600 * 1000;

const two = (text: string | number): string => String(text).padStart(2, '0');

type Groups = Record<string, string | undefined>;

/** Undefined: there is no such hour, day or month, or nobody knows the zone. */
function at(
  groups: Groups,
  month: number,
  day: number,
  localZone?: string,
): DeviceTime | undefined {
  const { y = '', h = '', m = '', s = '0', f, half, z } = groups;
  let hour = Number(h);
  if (half !== undefined) {
    if (hour < 1 || hour > 12) return undefined;
    hour = (hour % 12) + (half.toLowerCase() === 'p' ? 12 : 0);
  }
  if (z === undefined && localZone === undefined) return undefined;
  const fraction = f === undefined ? '' : `.${f}`;
  const iso = `${y}-${two(month)}-${two(day)}T${two(hour)}:${m}:${two(s)}${fraction}${z ?? ''}`;
  return fromText(iso, localZone);
}

/** `localZone`: of a text that names none; undefined: such a text is no time. */
export function fromWritten(
  text: string,
  localZone: string | undefined,
  receivedMs: number,
): DeviceTime | undefined {
  if (text.length > CHARS_MAX) return undefined;
  const named = (NAMED.exec(text) ?? ASCTIME.exec(text) ?? DATE.exec(text))?.groups as
    | Groups
    | undefined;
  if (named !== undefined) {
    const month = MONTHS.indexOf((named['name'] ?? '').toLowerCase()) + 1;
    return at(named, month, Number(named['d']), localZone);
  }
  const groups = NUMBERS.exec(text)?.groups as Groups | undefined;
  if (groups === undefined) {
    const ms = SERIAL.exec(text)?.[1];
    return ms === undefined ? undefined : fromEpoch(Number(ms), ms, 'ms');
  }
  const [one, other] = [Number(groups['one']), Number(groups['two'])];
  const dayFirst = at(groups, other, one, localZone);
  if (groups['mark'] === '.' || one === other) return dayFirst;
  const monthFirst = at(groups, one, other, localZone);
  if (dayFirst === undefined || monthFirst === undefined) return dayFirst ?? monthFirst;
  return [dayFirst, monthFirst].find(({ ms }) => Math.abs(ms - receivedMs) <= NEAR_MS);
}
