/**
 * Device time: what a payload says of when it was measured, and whether that is plausible.
 *
 * A format that marks its times as such (line protocol, SenML, Sparkplug, CBOR's tag 1) is believed from 2001 to a day
 * ahead: so it can bring history. What is a time only by its key's name, or by a mapping, is believed in a window around
 * receipt, since a counter of milliseconds and a clock that was never set look like times too.
 */

export interface DeviceTime {
  ms: number;
  /** Nanoseconds below the millisecond that the device gave. */
  ns: number;
  /** Whether the device gave anything below the millisecond: then the digits are its own. */
  fine: boolean;
}

const DAY_MS = 24 * 3600 * 1000;
/** Clocks that were never set begin in 1970, 1980 or 2000. */
const EARLIEST_MS = Date.UTC(2001, 0, 1);
/** A clock that is ahead by more is wrong. */
const AHEAD_MS = DAY_MS;

/** Whether a time that a format marks as one is to be believed. */
export function isPlausible(ms: number, receivedMs: number): boolean {
  return ms >= EARLIEST_MS && ms <= receivedMs + AHEAD_MS;
}

/** Whether a time that somebody has declared history is to be believed. */
export const isHistoric = (ms: number, receivedMs: number): boolean =>
  ms > 0 && ms <= receivedMs + AHEAD_MS;

/** How texts and numbers are read as times at this site. */
export interface TimeRules {
  /** IANA zone of texts that name none; undefined: nobody has said, and such a text is no time. */
  localZone: string | undefined;
  /** Times that lie longer before receipt are not believed, milliseconds. */
  pastMs: number;
}

/** Days before receipt. */
export const DEVICE_TIME_PAST_DAYS = 3650;
export const timeRules = (
  localZone?: string,
  pastDays: number = DEVICE_TIME_PAST_DAYS,
): TimeRules => ({ localZone, pastMs: pastDays * DAY_MS });
export const USUAL_TIME_RULES: TimeRules = timeRules();

/** Whether what may be a time is to be believed. */
export function isLikely(ms: number, receivedMs: number, { pastMs }: TimeRules): boolean {
  return ms >= receivedMs - pastMs && isPlausible(ms, receivedMs);
}

export type EpochUnit = 's' | 'ms' | 'us' | 'ns';

/** Unit of an epoch by its magnitude: seconds until 5138, then milliseconds and so on. */
function unitOf(value: number): EpochUnit {
  if (value < 1e11) return 's';
  if (value < 1e14) return 'ms';
  return value < 1e17 ? 'us' : 'ns';
}

/** `digits` are the decimal digits as the device wrote them, where a double would bend them. */
export function fromEpoch(
  value: number,
  digits: string | undefined,
  unit: EpochUnit = unitOf(value),
): DeviceTime | undefined {
  if (!Number.isFinite(value) || value <= 0) return undefined;
  if (unit === 's') {
    const ms = Math.round(value * 1000);
    return { ms, ns: 0, fine: false };
  }
  if (unit === 'ms') {
    const ms = Math.floor(value);
    const ns = Math.round((value - ms) * 1e6) % 1_000_000;
    return { ms, ns, fine: ns !== 0 };
  }
  const whole = BigInt(digits !== undefined && /^\d+$/.test(digits) ? digits : Math.round(value));
  const nanos = unit === 'us' ? whole * 1000n : whole;
  const ns = Number(nanos % 1_000_000n);
  return { ms: Number(nanos / 1_000_000n), ns, fine: ns !== 0 };
}

/**
 * ISO 8601, also with dots or slashes in the date, without leading zeros, with a zone's name behind its offset (as Go and
 * Java write it), and its basic form without any mark (20261125T200000Z, 20261125200000).
 */
const ZONE = '(?:\\s*(Z|UTC|GMT|[+-]\\d{2}(?::?\\d{2})?)(?:\\s*\\[[\\w/+-]+\\]| [A-Z]{3,5})?)?$';
const ISO = new RegExp(
  `^(\\d{4})[-./](\\d{1,2})[-./](\\d{1,2})[T ](\\d{1,2}):(\\d{1,2})(?::(\\d{1,2})(?:[.,](\\d{1,9})\\d*)?)?${ZONE}`,
  'i',
);
const BASIC = new RegExp(
  `^(\\d{4})(\\d{2})(\\d{2})T?(\\d{2})(\\d{2})(?:(\\d{2})(?:[.,](\\d{1,9})\\d*)?)?${ZONE}`,
  'i',
);
const EPOCH_TEXT = /^\d{9,19}(?:\.\d+)?$/;
const partsOf = (text: string): RegExpExecArray | null =>
  text.length > 40 ? null : (ISO.exec(text) ?? BASIC.exec(text));

/** Whether a text says a time without saying in which zone. */
export const isLocalTime = (text: string): boolean => {
  const match = partsOf(text);
  return match !== null && match[8] === undefined;
};

const formats = new Map<string, Intl.DateTimeFormat>();

/** What a zone's clocks show beyond UTC at a moment, milliseconds. Throws RangeError for a zone that nobody knows. */
function offsetMs(zone: string, ms: number): number {
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
    formats.set(zone, format);
  }
  const part: Record<string, number> = {};
  for (const { type, value } of format.formatToParts(ms)) part[type] = Number(value);
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = part;
  return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(ms / 1000) * 1000;
}

/** Whether day and month are what they were said to be: `Date.UTC` takes a 31st of June for the 1st of July. */
export function isCalendar(ms: number, month: number, day: number): boolean {
  const check = new Date(ms);
  return check.getUTCDate() === day && check.getUTCMonth() === month - 1;
}

/** Throws RangeError. */
export function checkZone(zone: string): void {
  offsetMs(zone, 0);
}

/** A zone's wall clock reading as UTC; of an hour that comes twice, the first. */
function fromZone(wallMs: number, zone: string): number {
  const first = wallMs - offsetMs(zone, wallMs - offsetMs(zone, wallMs));
  const earlier = wallMs - offsetMs(zone, first - 3_600_000);
  return earlier < first && earlier + offsetMs(zone, earlier) === wallMs ? earlier : first;
}

const LEAP_SECOND = 60;
/** Of the easternmost zone there is. */
const OFFSET_HOURS_MAX = 14;

function isOffset(zone: string | undefined): boolean {
  if (zone === undefined || !/^[+-]/.test(zone)) return true;
  return (
    Number(zone.slice(1, 3)) <= OFFSET_HOURS_MAX &&
    (zone.length < 4 || Number(zone.slice(-2)) <= 59)
  );
}

/** ISO 8601 / RFC 3339 with up to nanoseconds, or an epoch's digits; without a zone it is `localZone`. */
export function fromText(text: string, localZone = 'UTC'): DeviceTime | undefined {
  const match = partsOf(text);
  if (match === null) return EPOCH_TEXT.test(text) ? fromEpoch(Number(text), text) : undefined;
  const [, year, month, day, hour, minute, second = '0', fraction = '', zone] = match;
  let ms = Date.UTC(
    Number(year),
    Number(month) - 1,
    Number(day),
    Number(hour),
    Number(minute),
    Number(second),
  );
  // A minute of 60 or more, a second beyond a leap second and an offset of nowhere only look right.
  if (Number(minute) > 59 || Number(second) > LEAP_SECOND) return undefined;
  if (
    !isCalendar(Date.UTC(Number(year), Number(month) - 1, Number(day)), Number(month), Number(day))
  )
    return undefined;
  if (Number(hour) > 23 || !isOffset(zone)) return undefined;
  if (zone === undefined) {
    if (localZone !== 'UTC') ms = fromZone(ms, localZone);
  } else if (/^[+-]/.test(zone)) {
    const sign = zone.startsWith('-') ? -1 : 1;
    const minutes = zone.length > 3 ? Number(zone.slice(-2)) : 0;
    ms -= sign * (Number(zone.slice(1, 3)) * 60 + minutes) * 60_000;
  }
  const nanos = Number(fraction.padEnd(9, '0'));
  const ns = nanos % 1_000_000;
  return { ms: ms + Math.floor(nanos / 1_000_000), ns, fine: ns !== 0 };
}
