/** The SQL of base values: points of fields as rows, functions over the points of buckets. */
import type { FieldValue } from '../../shared/model/reading.ts';
import { valueOf, type Kind } from '../store/duckdb-catalog.ts';
import { functionOf } from './functions.ts';
import type { Base } from './plan.ts';
import type { Grouped } from './relation.ts';
import { TIME_MAX, TIME_MIN } from './time.ts';

/** Where rows come from: `table` with its series in `map`, in a range of times, those of a condition alone. */
export interface From {
  table: string;
  map: string;
  /** The only one, which needs no `map`. */
  one: Grouped['rows'][number] | undefined;
  /** Numbers that its series lie between: what the scan itself can leave out. */
  ids: readonly [least: number, most: number];
  from: bigint;
  to: bigint;
  /** SQL of a bucket's begin, or a time for all. */
  bucket: string;
  /** Numbers of the fields that are asked; the others are the condition's. */
  fields: readonly number[];
  kinds: readonly Kind[];
  condition: string | undefined;
}

export const pointsSql = ({ table, map, one, ids: [least, most], from, to }: From): string => {
  const times = [
    ...(from === TIME_MIN ? [] : [` AND p.time >= ${from}`]),
    ...(to === TIME_MAX ? [] : [` AND p.time <= ${to}`]),
  ];
  if (one !== undefined) {
    const [series, group, tags, field] = one;
    return `SELECT ${group} AS g, ${tags} AS t, ${field} AS f, p.time, p.num, p.txt FROM ${table} AS p WHERE p.series = ${series}${times.join('')}`;
  }
  const only = least === most ? `= ${least}` : `BETWEEN ${least} AND ${most}`;
  return `SELECT m.g, m.t, m.f, p.time, p.num, p.txt FROM ${table} AS p JOIN ${map} AS m ON p.series = m.series WHERE p.series ${only}${times.join('')}`;
};

/** A field of a row: `f0` of a number or truth, `s0` of a text. */
export const cellsSql = (kinds: readonly Kind[]): string =>
  kinds
    .map((kind, at) =>
      kind === 'txt'
        ? `max(txt) FILTER (WHERE f = ${at}) AS s${at}`
        : `max(num) FILTER (WHERE f = ${at}) AS f${at}`,
    )
    .join(', ');

/** Points of the asked fields, of rows that meet the condition. */
export function askedSql(from: From): string {
  const { fields, kinds, condition, one } = from;
  const isAll = one === undefined ? fields.length === kinds.length : fields.includes(one[3]);
  const some = isAll ? '' : one === undefined ? ` AND m.f IN (${fields.join(',')})` : ' AND false';
  const points = `${pointsSql(from)}${some}`;
  if (condition === undefined) return points;
  const rows = `SELECT t, time, ${cellsSql(kinds)} FROM (${pointsSql(from)}) GROUP BY t, time`;
  return `SELECT * FROM (${points}) SEMI JOIN (SELECT t, time FROM (${rows}) WHERE ${condition}) USING (t, time)`;
}

export const cell = (kind: Kind, at: number): string => `${kind === 'txt' ? 's' : 'f'}${at}`;

/** Group, tags, time, and each asked field's value. */
export function rowsSql(
  from: From,
  descending: boolean,
  groupsDescending: boolean,
  limit: number | undefined,
): string {
  const { fields, kinds, condition } = from;
  const down = descending ? ' DESC' : '';
  const order = `ORDER BY g${groupsDescending ? ' DESC' : ''}, time${down}, t${limit === undefined ? '' : ` LIMIT ${limit}`}`;
  const [first] = fields;
  if (kinds.length === 1 && condition === undefined && first !== undefined)
    return `SELECT g, t, time, ${kinds[0] === 'txt' ? 'txt' : 'num'} FROM (${pointsSql(from)}) ${order}`;
  const some = fields.map((at) => cell(kinds[at] as Kind, at)); // One of them.
  const where = [`(${some.map((name) => `${name} IS NOT NULL`).join(' OR ')})`];
  if (condition !== undefined) where.push(condition);
  return `SELECT g, t, time, ${some.join(', ')} FROM (SELECT g, t, time, ${cellsSql(kinds)} FROM (${pointsSql(from)}) GROUP BY g, t, time) WHERE ${where.join(' AND ')} ${order}`;
}

/** What an answer of SQL is as a value of a field. */
export function cellValue(kind: Kind, value: unknown): FieldValue | null {
  if (value === null || value === undefined) return null;
  if (kind === 'txt') return typeof value === 'string' ? value : null;
  const number = valueOf(kind, value, undefined);
  return typeof number === 'number' && !Number.isFinite(number) ? null : number;
}

function baseSql({ fn, kind, isDistinct }: Base, at: number): [value: string, time: string] {
  const { sql, isCount } = functionOf(fn ?? '');
  const text = isDistinct
    ? `count(DISTINCT ${kind === 'txt' ? 'txt' : 'num'})#`
    : kind === 'txt' && sql?.text !== undefined
      ? sql.text
      : (sql?.value ?? '');
  const fill = (text: string): string => text.replaceAll('#', ` FILTER (WHERE f = ${at})`);
  const value = fill(text);
  return [isCount === true ? `nullif(${value}, 0)` : value, fill(sql?.time ?? '')];
}

/** Group, bucket, then value (and time, of a selector that stands alone) of each base. */
export function aggregatesSql(
  from: From,
  bases: readonly { base: Base; at: number }[],
  withTime: boolean,
  descending: boolean,
): string {
  const columns = bases.flatMap(({ base, at }) => {
    const [value, time] = baseSql(base, at);
    return withTime ? [value, time] : [value];
  });
  return `SELECT g, w, ${columns.join(', ')} FROM (SELECT *, ${from.bucket} AS w FROM (${askedSql(from)})) GROUP BY g, w ORDER BY g${descending ? ' DESC' : ''}, w`;
}

/** `distinct`, `top`, `bottom`: group, time, value. */
export function pointsOfSql(from: From, { fn, kind, argument }: Base, descending: boolean): string {
  const down = descending ? ' DESC' : '';
  const rows = `SELECT *, ${from.bucket} AS w FROM (${askedSql(from)})`;
  const column = kind === 'txt' ? 'txt' : 'num';
  if (fn === 'distinct')
    return `SELECT g, w, ${column} FROM (${rows}) GROUP BY g, w, ${column} ORDER BY g${down}, w, ${descending ? 'max(time)' : 'min(time)'}, ${column}`;
  const order = fn === 'top' ? 'num DESC' : 'num';
  return `SELECT g, time, num FROM (${rows}) QUALIFY row_number() OVER (PARTITION BY g, w ORDER BY ${order}, time) <= ${Math.trunc(argument)} ORDER BY g${down}, time`;
}

/** The value that is there most often; of several the one that was there first: group, bucket, value. */
export function modeSql(from: From, { kind }: Base, at: number): string {
  const column = kind === 'txt' ? 'txt' : 'num';
  const rows = `SELECT *, ${from.bucket} AS w FROM (${askedSql(from)}) WHERE f = ${at}`;
  const counts = `SELECT g, w, ${column} AS v, count(*) AS c, min(time) AS since FROM (${rows}) GROUP BY g, w, ${column}`;
  return `SELECT g, w, arg_max(v, (c, -since)) FROM (${counts}) GROUP BY g, w ORDER BY g, w`;
}

/**
 * The value of that rank, as InfluxDB rounds it (none of rank 0), and its time where it stands alone: group, bucket, value, time.
 * Values are counted before they are put in order, so that millions of points take no lists in memory.
 */
export function percentileSql(
  from: From,
  { argument }: Base,
  at: number,
  withTime: boolean,
): string {
  const rows = `SELECT g, ${from.bucket} AS w, time, num FROM (${askedSql(from)}) WHERE f = ${at} AND num IS NOT NULL`;
  const counted = `SELECT g, w, num, count(*) AS c FROM (${rows}) GROUP BY g, w, num`;
  const ranked = `SELECT g, w, num, c, sum(c) OVER (PARTITION BY g, w ORDER BY num) AS upto, sum(c) OVER (PARTITION BY g, w) AS n FROM (${counted})`;
  const rank = `SELECT *, CAST(floor(n * ${argument} / 100.0 + 0.5) AS BIGINT) AS rank FROM (${ranked})`;
  const chosen = `SELECT g, w, num, CAST(rank - (upto - c) AS BIGINT) AS place FROM (${rank}) WHERE rank <= upto AND rank > upto - c`;
  if (!withTime) return `SELECT g, w, num FROM (${chosen}) ORDER BY g, w`;
  return `SELECT g, w, num, (list_sort(list(time)))[any_value(place)] FROM (${rows}) JOIN (${chosen}) USING (g, w, num) GROUP BY g, w, num ORDER BY g, w`;
}

/**
 * The area under straight lines from point to point, in units of time: group, bucket, value. A line that leaves a bucket is
 * cut at its end, and the rest is of the bucket of its other point.
 */
export function integralSql(
  from: From,
  { argument }: Base,
  at: number,
  everyNs: bigint | undefined,
): string {
  const points = `SELECT g, time, any_value(num) AS num FROM (${askedSql(from)}) WHERE f = ${at} GROUP BY g, time`;
  const lines = `SELECT g, time, num, ${from.bucket} AS w, lag(time) OVER o AS pt, lag(num) OVER o AS pv, lag(w) OVER o AS pw FROM (${points}) WINDOW o AS (PARTITION BY g ORDER BY time)`;
  const area = (a: string, b: string, since: string, until: string): string =>
    `0.5 * (${a} + ${b}) * (CAST(${until} - ${since} AS DOUBLE) / ${argument})`;
  if (everyNs === undefined)
    return `SELECT g, w, sum(CASE WHEN pt IS NULL THEN 0 ELSE ${area('pv', 'num', 'pt', 'time')} END) FROM (${lines}) GROUP BY g, w ORDER BY g, w`;
  const end = `(pw + ${everyNs})`;
  const middle = `(pv + (num - pv) * (CAST(${end} - pt AS DOUBLE) / CAST(time - pt AS DOUBLE)))`;
  const parts = [
    `SELECT g, w, 0.0 AS a FROM lines WHERE pt IS NULL`,
    `SELECT g, w, ${area('pv', 'num', 'pt', 'time')} AS a FROM lines WHERE pw = w`,
    `SELECT g, pw AS w, ${area('pv', middle, 'pt', end)} AS a FROM lines WHERE pw <> w`,
    `SELECT g, w, ${area(middle, 'num', end, 'time')} AS a FROM lines WHERE pw <> w`,
  ];
  return `WITH lines AS (${lines}) SELECT g, w, sum(a) FROM (${parts.join(' UNION ALL ')}) GROUP BY g, w ORDER BY g, w`;
}
