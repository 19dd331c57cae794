/**
 * Small questions, as panels ask them again and again: points of few series up to now, which the store gives without SQL of its
 * own (`store/duckdb-recent.ts`), in groups and buckets here. What this does not know goes to SQL; where both do, they answer the same.
 */
import { cellValue } from './bases.ts';
import { evaluate, type Row } from './evaluate.ts';
import type { Context, Job, Recent } from './job.ts';
import type { Base } from './plan.ts';
import { byNumber, type RelationSeries } from './relation.ts';
import type { Point } from './running.ts';
import { TIME_MIN } from './time.ts';
import { TAIL_SERIES_MAX, type TailPoints } from '../store/tails.ts';

/** A value of a bucket's points, which are at least one, in order of time; with the place of the point that it is of. */
type Fold = (points: readonly Timed[], argument: number) => [value: number, at: Timed] | undefined;
type Timed = readonly [time: bigint, value: number];

const sumOf = (points: readonly Timed[]): number =>
  points.reduce((sum, [, value]) => sum + value, 0);

const best = (points: readonly Timed[], isBetter: (a: number, b: number) => boolean): Timed =>
  points.reduce((found, each) => (isBetter(each[1], found[1]) ? each : found));

const sorted = (points: readonly Timed[]): Timed[] =>
  points.toSorted(([s, a], [t, b]) => (a === b ? (s < t ? -1 : s > t ? 1 : 0) : a - b));

const least = (points: readonly Timed[]): Timed => best(points, (a, b) => a < b);
const most = (points: readonly Timed[]): Timed => best(points, (a, b) => a > b);
const one = (point: Timed): [number, Timed] => [point[1], point];
const first = (points: readonly Timed[]): Timed => points[0] as Timed; // At least one.

const FOLDS: Readonly<Record<string, Fold>> = {
  count: (points) => [points.length, first(points)],
  mean: (points) => [sumOf(points) / points.length, first(points)],
  sum: (points) => [sumOf(points), first(points)],
  spread: (points) => [most(points)[1] - least(points)[1], first(points)],
  min: (points) => one(least(points)),
  max: (points) => one(most(points)),
  first: (points) => one(first(points)),
  last: (points) => one(points.at(-1) as Timed), // At least one.
  median: (points) => {
    const list = sorted(points);
    const middle = list.length >> 1;
    const [upper = 0, lower = 0] = [list[middle]?.[1], list[middle - 1]?.[1]];
    return [list.length % 2 === 1 ? upper : (lower + upper) / 2, first(points)];
  },
  percentile: (points, percent) => {
    const rank = Math.floor((points.length * percent) / 100 + 0.5);
    const point = sorted(points)[rank - 1];
    return point && one(point);
  },
};

/** The points of a job, where it is one for here. */
export async function recentOf(
  job: Omit<Job, 'recent'>,
  { session, recent }: Context,
): Promise<Recent | undefined> {
  const { plan, relation, source, range, groups } = job;
  if (recent === undefined || relation.table !== 'points' || source.condition !== undefined)
    return undefined;
  // Without a begin it is all that there is, which may be little of points as they are.
  if (range.from === TIME_MIN && !plan.isRaw) return undefined;
  if (plan.isPicked || source.kinds.includes('txt')) return undefined;
  // Rows of several fields are put together by SQL.
  if (plan.isRaw && source.kinds.length > 1) return undefined;
  const isKnown = ({ fn, isDistinct }: Base): boolean =>
    fn === null
      ? source.kinds.length === 1
      : !isDistinct && Object.hasOwn(FOLDS, fn) && !plan.isRaw;
  if (!plan.streams.every(({ base }) => isKnown(base))) return undefined;
  if (groups.rows.length > TAIL_SERIES_MAX) return undefined;
  const series = byNumber(relation.series);
  const some = groups.rows.map(([id]) => series.get(id) as RelationSeries); // Of the relation.
  const found = await recent(session, some, range.from, range.to);
  return found && new Map(some.map(({ id }, at) => [id, found[at] as TailPoints]));
}

interface Group {
  group: number;
  /** By field, in order of time, then of tags. */
  byField: Map<number, { points: Timed[]; tags: number[] }>;
}

/** In the query's order of groups. */
function groupsOf({ groups, select, source }: Job, recent: Recent): Group[] {
  const list = new Map<number, Map<number, { time: bigint; value: number; tags: number }[]>>();
  for (const [id, group, tags, field] of groups.rows) {
    const { times, values } = recent.get(id) as TailPoints; // Of each series.
    if (times.length === 0) continue;
    let byField = list.get(group);
    if (byField === undefined) list.set(group, (byField = new Map()));
    let points = byField.get(field);
    if (points === undefined) byField.set(field, (points = []));
    for (let at = 0; at < times.length; at++) {
      const time = times[at] as bigint; // Within it.
      // What stands beside a function that looks back does not read its bucket before the range.
      if (time < source.from || time > source.to) continue;
      points.push({ time, value: values[at] as number, tags }); // As many of both.
    }
  }
  const made = [...list].map(
    ([group, byField]): Group => ({
      group,
      byField: new Map(
        [...byField].map(([field, points]) => {
          points.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : a.tags - b.tags));
          return [
            field,
            {
              points: points.map(({ time, value }): Timed => [time, value]),
              tags: points.map(({ tags }) => tags),
            },
          ];
        }),
      ),
    }),
  );
  return select.descending ? made.toReversed() : made;
}

/** As `groupPoints` of `rows.ts` gives them. */
export function* recentGroups(
  job: Job,
  recent: Recent,
  placed: readonly { base: Base; at: number; name: string }[],
  isAlone: boolean,
): Generator<[number, Map<string, Point[]>]> {
  const { buckets } = job;
  for (const { group, byField } of groupsOf(job, recent)) {
    const all = new Map<string, Point[]>();
    for (const { base, at, name } of placed) {
      const { points = [] } = byField.get(at) ?? {};
      const made: Point[] = [];
      if (base.fn === null)
        for (const [time, value] of points) made.push([time, cellValue(base.kind, value)]);
      else
        for (const [begin, own] of inBuckets(points, buckets)) {
          const folded = FOLDS[base.fn]?.(own, base.argument);
          if (folded === undefined) continue;
          const [value, of] = folded;
          const kind = base.fn === 'count' ? 'num' : base.kind;
          made.push([isAlone ? of[0] : begin, cellValue(kind, value)]);
        }
      const known = made.filter(([, value]) => value !== null);
      if (known.length > 0) all.set(name, known);
    }
    if (all.size > 0) yield [group, all];
  }
}

function* inBuckets(
  points: readonly Timed[],
  buckets: Job['buckets'],
): Generator<[bigint, readonly Timed[]]> {
  if (buckets === undefined) {
    if (points.length > 0) yield [0n, points];
    return;
  }
  let begin: bigint | undefined;
  let from = 0;
  for (const [at, [time]] of points.entries()) {
    const own = buckets.begin(time);
    if (own === begin) continue;
    if (begin !== undefined) yield [begin, points.slice(from, at)];
    [begin, from] = [own, at];
  }
  if (begin !== undefined) yield [begin, points.slice(from)];
}

/** Points as they are, of one field, as `rawRows` of `rows.ts` gives them. */
export function* recentRows(job: Job, recent: Recent): Generator<[number, Row]> {
  const { plan, groups, source, select, fieldNames } = job;
  const [kind = 'num'] = source.kinds;
  const [name] = fieldNames;
  for (const { group, byField } of groupsOf(job, recent))
    for (const { points, tags } of byField.values()) {
      for (const at of order(points, select.descending)) {
        const [time, value] = points[at] as Timed; // One of its places.
        // A column of a field that is not there has nothing.
        const cells = plan.streams.map(({ base: { field } }) =>
          field === name ? cellValue(kind, value) : null,
        );
        const own = groups.tagsets[tags[at] ?? 0] ?? {};
        yield [group, [time, ...plan.columns.map((column) => evaluate(column.value, cells, own))]];
      }
    }
}

/** Places in rising or falling order of time; of one time in rising order. */
function* order(points: readonly Timed[], descending: boolean): Generator<number> {
  if (!descending) {
    yield* points.keys();
    return;
  }
  for (let end = points.length; end > 0; ) {
    let begin = end - 1;
    while (begin > 0 && points[begin - 1]?.[0] === points[begin]?.[0]) begin--;
    for (let at = begin; at < end; at++) yield at;
    end = begin;
  }
}
