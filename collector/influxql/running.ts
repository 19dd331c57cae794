/**
 * What is made of values one after the other: differences, averages, sums; and what fills buckets that have none. Each is made when
 * it is taken: millions of them keep nobody waiting.
 */
import type { FieldValue } from '../../shared/model/reading.ts';
import type { Fill } from './ast.ts';
import type { Kind } from '../store/duckdb-catalog.ts';
import type { Running } from './plan.ts';
import type { Buckets } from './time.ts';

/** In order of the query; null: a bucket without a value. */
export type Point = [time: bigint, value: FieldValue | null];

const absolute = (ns: bigint): bigint => (ns < 0n ? -ns : ns);

/** Each value with the one before it, of those that are there. */
function* pairs(
  points: Iterable<Point>,
  make: (a: Point, b: Point) => number | undefined,
): Generator<Point> {
  let last: Point | undefined;
  for (const point of points) {
    if (point[1] === null) continue;
    if (last !== undefined) {
      // Of several values of one time the first counts.
      if (last[0] === point[0]) continue;
      const value = make(last, point);
      if (value !== undefined) yield [point[0], value];
    }
    last = point;
  }
}

function* movingAverage(points: Iterable<Point>, count: number): Generator<Point> {
  const window: number[] = [];
  let sum = 0;
  for (const [time, value] of points) {
    if (value === null) continue;
    window.push(Number(value));
    sum += Number(value);
    if (window.length > count) sum -= window.shift() as number; // Longer than one.
    if (window.length === count) yield [time, sum / count];
  }
}

function* cumulativeSum(points: Iterable<Point>): Generator<Point> {
  let sum = 0;
  for (const [time, value] of points) if (value !== null) yield [time, (sum += Number(value))];
}

export function run(points: Iterable<Point>, { name, argument = 1 }: Running): Iterable<Point> {
  const change = ([from, a]: Point, [to, b]: Point): number => {
    const by = Number(b) - Number(a);
    return name.endsWith('derivative') ? by / (Number(absolute(to - from)) / argument) : by;
  };
  switch (name) {
    case 'moving_average':
      return movingAverage(points, argument);
    case 'cumulative_sum':
      return cumulativeSum(points);
    case 'elapsed':
      return pairs(points, ([from], [to]) => Number((to - from) / BigInt(argument)));
    case 'derivative':
    case 'difference':
      return pairs(points, change);
    default:
      return pairs(points, (a, b) => {
        const value = change(a, b);
        return value < 0 ? undefined : value;
      });
  }
}

/** Every bucket from the one of `from` to that of `to`; in falling order when it is asked so. */
export function* bucketTimes(
  buckets: Buckets,
  from: bigint,
  to: bigint,
  descending: boolean,
): Generator<bigint> {
  const first = buckets.begin(from);
  const last = buckets.begin(to);
  // In a zone the next bucket is the one of the time a width later, or of half a width more where a day has 25 hours.
  const after = (at: bigint): bigint => {
    const next = buckets.begin(at + buckets.every);
    return next > at ? next : buckets.begin(at + buckets.every + buckets.every / 2n);
  };
  const before = (at: bigint): bigint => buckets.begin(at - 1n);
  if (descending) for (let at = last; at >= first; at = before(at)) yield at;
  else for (let at = first; at <= last; at = after(at)) yield at;
}

/** `points` of buckets, in order of `times`, none more than once. */
export function* filled(
  points: readonly Point[],
  times: Iterable<bigint>,
  fill: Fill,
  kind: Kind,
): Generator<Point> {
  let next = 0;
  let previous: Point | undefined;
  for (const time of times) {
    const point = points[next];
    if (point !== undefined && point[0] === time) {
      yield point;
      previous = point;
      next++;
    } else yield [time, fillValue(fill, time, previous, point, kind)];
  }
}

/** A number as a value of a field's kind: InfluxDB casts it to the one that says nothing. */
export const filler = (value: number, kind: Kind): FieldValue =>
  kind === 'num' ? value : kind === 'bool' ? false : '';

function fillValue(
  fill: Fill,
  time: bigint,
  before: Point | undefined,
  after: Point | undefined,
  kind: Kind,
): FieldValue | null {
  if (fill.type === 'number') return filler(fill.value, kind);
  if (fill.type === 'previous') return before?.[1] ?? null;
  if (fill.type !== 'linear' || typeof before?.[1] !== 'number' || typeof after?.[1] !== 'number')
    return null;
  const slope = (after[1] - before[1]) / Number(after[0] - before[0]);
  return before[1] + slope * Number(time - before[0]);
}
