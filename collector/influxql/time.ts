/** The time range of a query and its buckets: aligned to the epoch, in a time zone to its midnights. Nanoseconds. */
import { fromText } from '../../shared/codecs/time.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Expr } from './ast.ts';

const NS_OF_MS = 1_000_000n;
/** As InfluxDB has them: what is asked beyond is asked up to there. */
export const TIME_MIN = -9_223_372_036_854_775_806n;
export const TIME_MAX = 9_223_372_036_854_775_806n;

export function invalid(why: string): never {
  throw new HeadwaterError('QUERY_INVALID', why);
}

export interface TimeRange {
  /** Inclusive, both. */
  from: bigint;
  to: bigint;
}

export const isTime = (expr: Expr): boolean =>
  expr.type === 'reference' && expr.name.toLowerCase() === 'time' && expr.kind === null;

/** A time as a query says it: epoch nanoseconds, a duration since the epoch, `now()`, a text, and sums of these. */
export function timeOf(expr: Expr, nowNs: bigint, zone: Zone | undefined): bigint {
  switch (expr.type) {
    case 'number':
      return BigInt(
        expr.digits === undefined || expr.value < 0
          ? Math.trunc(expr.value)
          : expr.digits.replace(/\..*$/, '') || '0',
      );
    case 'duration':
      return expr.ns;
    case 'string':
      return textTime(expr.value, zone);
    case 'call':
      if (expr.name === 'now' && expr.args.length === 0) return nowNs;
      break;
    case 'binary': {
      const left = timeOf(expr.left, nowNs, zone);
      const right = timeOf(expr.right, nowNs, zone);
      if (expr.op === '+') return left + right;
      if (expr.op === '-') return left - right;
      if (expr.op === '*') return left * right;
      break;
    }
    default:
  }
  return invalid('invalid operation: time is compared with a time, a duration, a number or now()');
}

function textTime(text: string, zone: Zone | undefined): bigint {
  const match = /^(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d:\d\d(?:\.\d{1,9})?))?(Z|[+-]\d\d:\d\d)?$/.exec(
    text,
  );
  const [, date, clock = '00:00:00', offset] = match ?? [];
  const time = date === undefined ? undefined : fromText(`${date}T${clock}${offset ?? 'Z'}`);
  if (time === undefined) return invalid(`invalid time: '${text.slice(0, 100)}' is not RFC 3339`);
  const ns = BigInt(time.ms) * NS_OF_MS + BigInt(time.ns);
  return offset !== undefined || zone === undefined ? ns : zone.toUtc(ns);
}

const FLIPPED: Record<string, string> = { '<': '>', '<=': '>=', '>': '<', '>=': '<=', '=': '=' };

const hasTime = (expr: Expr): boolean =>
  isTime(expr) || (expr.type === 'binary' && (hasTime(expr.left) || hasTime(expr.right)));

/** Splits a condition into its range of times and the rest. Throws QUERY_INVALID. */
export function splitCondition(
  where: Expr | null,
  nowNs: bigint,
  zone: Zone | undefined,
): { range: TimeRange; rest: Expr | null } {
  const range = { from: TIME_MIN, to: TIME_MAX };
  const later = (from: bigint): void => void (range.from = from > range.from ? from : range.from);
  const sooner = (to: bigint): void => void (range.to = to < range.to ? to : range.to);
  const walk = (expr: Expr): Expr | null => {
    if (expr.type !== 'binary') return expr;
    if (expr.op === 'AND') {
      const left = walk(expr.left);
      const right = walk(expr.right);
      return left === null ? right : right === null ? left : { ...expr, left, right };
    }
    if (!hasTime(expr)) return expr;
    if (expr.op === 'OR') return invalid('time ranges joined by OR are not answered: ask for each');
    const flips = isTime(expr.right);
    if (!flips && !isTime(expr.left)) return invalid('invalid time condition');
    const op = flips ? FLIPPED[expr.op] : expr.op;
    const at = timeOf(flips ? expr.left : expr.right, nowNs, zone);
    if (op === '>') later(at + 1n);
    else if (op === '>=') later(at);
    else if (op === '<') sooner(at - 1n);
    else if (op === '<=') sooner(at);
    else if (op === '=') {
      later(at);
      sooner(at);
    } else return invalid(`invalid operator for time: ${expr.op}`);
    return null;
  };
  const rest = where === null ? null : walk(where);
  return { range, rest };
}

/** What clocks of a zone are ahead of UTC, at any time. */
export class Zone {
  readonly name: string;
  private readonly format: Intl.DateTimeFormat;

  /** Throws QUERY_INVALID. */
  constructor(name: string) {
    this.name = name;
    try {
      this.format = new Intl.DateTimeFormat('en-US', {
        timeZone: name,
        timeZoneName: 'longOffset',
      });
    } catch {
      invalid(`unable to find time zone ${name.slice(0, 100)}`);
    }
  }

  offset(ns: bigint): bigint {
    const text =
      this.format.formatToParts(Number(ns / NS_OF_MS)).find(({ type }) => type === 'timeZoneName')
        ?.value ?? '';
    const [, sign, hours, minutes, seconds = '0'] =
      /GMT([+-])(\d+):(\d+)(?::(\d+))?/.exec(text) ?? [];
    if (hours === undefined) return 0n;
    const all = Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds);
    return BigInt(sign === '-' ? -all : all) * 1_000_000_000n;
  }

  /** Of what a clock on the wall shows. */
  toUtc(wall: bigint): bigint {
    return wall - this.offset(wall - this.offset(wall));
  }

  /** The offset at the start and each change of it up to the end, found by days. */
  changes(from: bigint, to: bigint): { at: bigint; offset: bigint }[] {
    const day = 86_400_000_000_000n;
    const list = [{ at: from, offset: this.offset(from) }];
    if ((to - from) / day > 36_600n) invalid('tz() needs a time range of at most 100 years');
    for (let at = from; at < to; at += day) {
      let [low, high] = [at, at + day];
      const after = this.offset(high);
      if (after === list.at(-1)?.offset) continue;
      while (high - low > NS_OF_MS) {
        const middle = (low + high) / 2n;
        if (this.offset(middle) === after) high = middle;
        else low = middle;
      }
      list.push({ at: (high / 1_000_000_000n) * 1_000_000_000n, offset: after });
    }
    return list;
  }
}

const modulo = (value: bigint, by: bigint): bigint => ((value % by) + by) % by;

export interface Buckets {
  every: bigint;
  /** Begin of the bucket of a time. */
  begin(time: bigint): bigint;
  /** The same as SQL, of the column `time`. */
  sql: string;
}

/** Buckets of a width, shifted by `offset`; in a zone as InfluxDB 1.8's `IteratorOptions.Window` has them. */
export function bucketsOf(
  every: bigint,
  offset: bigint,
  zone: Zone | undefined,
  { from, to }: TimeRange,
): Buckets {
  const shift = modulo(offset, every);
  if (zone === undefined) {
    const rest = `(((time - ${shift}) % ${every}) + ${every}) % ${every}`;
    return {
      every,
      begin: (time) => time - modulo(time - shift, every),
      sql: `(time - ${rest})`,
    };
  }
  const changes = zone.changes(from - every, to + every);
  const known = (time: bigint): bigint => {
    let offset = changes[0]?.offset ?? 0n;
    for (const change of changes) if (change.at <= time) offset = change.offset;
    return offset;
  };
  const begin = (given: bigint): bigint => {
    const time = given - offset;
    const ahead = known(time);
    const start = time - modulo(time + ahead, every);
    const change = ahead - known(start);
    const moves = change !== 0n && (change < 0n ? -change : change) < every;
    return (moves ? start + change : start) + offset;
  };
  const zoneSql = (column: string): string =>
    changes.length === 1
      ? `CAST(${changes[0]?.offset ?? 0n} AS BIGINT)`
      : `(CASE ${changes
          .slice(1)
          .toReversed()
          .map(({ at, offset }) => `WHEN ${column} >= ${at} THEN ${offset}`)
          .join(' ')} ELSE ${changes[0]?.offset ?? 0n} END)`;
  const time = `(time - ${offset})`;
  const start = `(${time} - (((${time} + ${zoneSql(time)}) % ${every}) + ${every}) % ${every})`;
  const change = `(${zoneSql(time)} - ${zoneSql(start)})`;
  return {
    every,
    begin,
    sql: `(${start} + (CASE WHEN abs(${change}) < ${every} THEN ${change} ELSE 0 END) + ${offset})`,
  };
}
