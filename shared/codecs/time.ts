/**
 * Device time: what a payload says of when it was measured, and whether that is plausible. 2019 is, 0 is not.
 */

export interface DeviceTime {
  ms: number;
  /** Nanoseconds below the millisecond that the device gave. */
  ns: number;
  /** Whether the device gave anything below the millisecond: then the digits are its own. */
  fine: boolean;
}

/** Sensors of this kind were not sold before; an earlier time is a clock that was never set. */
const EARLIEST_MS = Date.UTC(2000, 0, 1);
/** A clock that is ahead by more is wrong. */
const AHEAD_MS = 24 * 3600 * 1000;

export function isPlausible(ms: number, receivedMs: number): boolean {
  return ms >= EARLIEST_MS && ms <= receivedMs + AHEAD_MS;
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

const ISO =
  /^(\d{4})[-./](\d{2})[-./](\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?\d*)?\s*(Z|[+-]\d{2}:?\d{2})?$/i;

/** Whether a text says a time without saying in which zone. */
export const isLocalTime = (text: string): boolean => {
  const match = ISO.exec(text);
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

/** ISO 8601 / RFC 3339 with up to nanoseconds (dots and slashes in the date as well); without a zone it is `localZone`. */
export function fromText(text: string, localZone = 'UTC'): DeviceTime | undefined {
  const match = ISO.exec(text);
  if (match === null) return /^\d{9,19}$/.test(text) ? fromEpoch(Number(text), text) : undefined;
  const [, year, month, day, hour, minute, second = '0', fraction = '', zone] = match;
  let ms = Date.UTC(
    Number(year),
    Number(month) - 1,
    Number(day),
    Number(hour),
    Number(minute),
    Number(second),
  );
  const check = new Date(ms);
  if (
    Number.isNaN(ms) ||
    check.getUTCDate() !== Number(day) ||
    check.getUTCMonth() !== Number(month) - 1
  )
    return undefined;
  if (zone === undefined) {
    if (localZone !== 'UTC') ms = fromZone(ms, localZone);
  } else if (zone.toUpperCase() !== 'Z') {
    const sign = zone.startsWith('-') ? -1 : 1;
    ms -= sign * (Number(zone.slice(1, 3)) * 60 + Number(zone.slice(-2))) * 60_000;
  }
  const nanos = Number(fraction.padEnd(9, '0'));
  const ns = nanos % 1_000_000;
  return { ms: ms + Math.floor(nanos / 1_000_000), ns, fine: ns !== 0 };
}
