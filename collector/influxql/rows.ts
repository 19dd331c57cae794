/** The rows of one SELECT over one measurement, group after group. */
import { HeadwaterError } from '../../shared/errors.ts';
import type { Kind } from '../store/duckdb-catalog.ts';
import type { Session } from '../store/session.ts';
import {
  aggregatesSql,
  cellValue,
  integralSql,
  modeSql,
  percentileSql,
  pointsOfSql,
  rowsSql,
} from './bases.ts';
import { GROUP_POINTS_MAX, evaluate, type Cell, type Row } from './evaluate.ts';
import { functionOf } from './functions.ts';
import { looksBack, type Base, type Stream } from './plan.ts';
import { newestOf } from './newest.ts';
import { Output } from './output.ts';
import { pickedRows } from './picked.ts';
import { recentGroups, recentRows } from './recent.ts';
import { bucketTimes, filled, filler, run, type Point } from './running.ts';
import type { Job, Part } from './job.ts';
import { TIME_MIN } from './time.ts';

export async function* rowParts(job: Job, session: Session): AsyncGenerator<Part> {
  const { isRaw, isPicked, streams } = job.plan;
  // Of several functions LIMIT and OFFSET count the values of each, as InfluxDB has it, and not the rows.
  const isOfEach = !isRaw && !isPicked && streams.length > 1;
  const output = new Output(
    isOfEach ? { ...job, select: { ...job.select, limit: 0, offset: 0 } } : job,
  );
  const rows = isPicked
    ? pickedRows(job, session)
    : isRaw
      ? rawRows(job, session)
      : bucketRows(job, session);
  for await (const list of rows) {
    for (const [group, row] of list) yield* output.add(group, row);
    if (output.isFull) break;
  }
  yield* output.end();
}

// ---- points as they are ----

async function* rawRows(job: Job, session: Session): AsyncGenerator<Iterable<[number, Row]>> {
  const { select, plan, source, groups, recent } = job;
  if (recent !== undefined) {
    yield recentRows(job, recent);
    return;
  }
  const { limit, offset } = select;
  const most = limit > 0 && groups.groups.length === 1 ? limit + offset : undefined;
  const kinds = source.fields.map((at) => source.kinds[at] as Kind); // One of them.
  const order = plan.streams.map(({ base: { field } }) => job.fieldNames.indexOf(field));
  for await (const chunk of session.chunks(
    rowsSql(source, select.descending, select.descending, most),
  )) {
    const list: [number, Row][] = [];
    for (const [g, t, time, ...values] of chunk) {
      const cells = order.map((at) => (at < 0 ? null : cellValue(kinds[at] as Kind, values[at]))); // The same.
      const tags = groups.tagsets[Number(t)] ?? {};
      const row: Row = [time as bigint];
      for (const { value } of plan.columns) row.push(evaluate(value, cells, tags));
      list.push([Number(g), row]);
    }
    yield list;
  }
}

// ---- buckets ----

async function* bucketRows(job: Job, session: Session): AsyncGenerator<Iterable<[number, Row]>> {
  for await (const [group, streams] of streamsOf(job, session))
    yield assembled(job, group, streams);
}

/** Values in the query's order of time, made when they are taken. */
type Points = Iterable<Point>;

/** For each group its points of every stream. */
async function* streamsOf(job: Job, session: Session): AsyncGenerator<[number, Points[]]> {
  const { plan, wanted, source, select } = job;
  const back = plan.streams.filter(looksBack);
  if (back.length === 0 || back.length === plan.streams.length) {
    for await (const [group, bases] of groupPoints(job, session))
      yield [group, plan.streams.map((stream) => streamPoints(job, stream, bases))];
    return;
  }
  // What looks back reads a bucket more; what stands beside it does not.
  const rest = plan.streams.filter((stream) => !looksBack(stream));
  const only = { ...source, from: wanted.from, to: wanted.to };
  const jobs: Job[] = [
    { ...job, plan: { ...plan, streams: back } },
    { ...job, plan: { ...plan, streams: rest }, source: only, range: wanted },
  ];
  const found = new Map<number, Map<Stream, Points>>();
  for (const each of jobs)
    for await (const [group, bases] of groupPoints(each, session)) {
      const own = found.get(group) ?? new Map<Stream, Points>();
      found.set(group, own);
      for (const stream of each.plan.streams) own.set(stream, streamPoints(each, stream, bases));
    }
  const sign = select.descending ? -1 : 1;
  for (const [group, own] of [...found].sort(([a], [b]) => sign * (a - b)))
    yield [group, plan.streams.map((stream) => own.get(stream) ?? [])];
}

const nameOf = (base: Base): string => JSON.stringify(base);

/** For each group the points of every base, by `nameOf`. */
async function* groupPoints(
  job: Job,
  session: Session,
): AsyncGenerator<[number, Map<string, Point[]>]> {
  const { plan, source } = job;
  const bases = [...new Map(plan.streams.map(({ base }) => [nameOf(base), base])).values()];
  const [only] = bases;
  const placed = bases.flatMap((base) => {
    const at = source.fields[job.fieldNames.indexOf(base.field)];
    return at === undefined ? [] : [{ base, at }];
  });
  if (job.recent !== undefined) {
    const named = placed.map((each) => ({ ...each, name: nameOf(each.base) }));
    yield* recentGroups(job, job.recent, named, isLoneSelector(job));
    return;
  }
  if (only !== undefined && only.fn !== null && functionOf(only.fn).kind === 'points') {
    yield* collected(session, pointsOfSql(source, only, job.select.descending), (row) => [
      [nameOf(only), [row[1] as bigint, cellValue(only.kind, row[2])]],
    ]);
    return;
  }
  if (bases.every(({ fn }) => fn === null)) {
    yield* collected(
      session,
      rowsSql(source, false, job.select.descending, undefined),
      ([, , time, ...values]) =>
        placed.map(({ base }) => [
          nameOf(base),
          [time as bigint, cellValue(base.kind, values[job.fieldNames.indexOf(base.field)])],
        ]),
    );
    return;
  }
  const newest = newestOf(job);
  if (newest !== undefined) {
    const isAlone = isLoneSelector(job);
    for (const [group, byField] of newest)
      yield [
        group,
        new Map(
          placed.flatMap(({ base, at }) => {
            const [time, value] = byField.get(at)?.point ?? [0n, null];
            return value === null ? [] : [[nameOf(base), [[isAlone ? time : 0n, value]]]];
          }),
        ),
      ];
    return;
  }
  const apart = await apartPoints(job, session, placed);
  const plain = placed.filter(({ base: { fn } }) => functionOf(fn ?? '').sql !== undefined);
  if (plain.length === 0) {
    yield* job.select.descending ? [...apart].toReversed() : apart;
    return;
  }
  const isAlone = isLoneSelector(job);
  const sql = aggregatesSql(source, plain, isAlone, job.select.descending);
  for await (const [group, points] of collected(session, sql, ([, w, ...values]) =>
    plain.map(({ base }, index) => {
      const kind = functionOf(base.fn ?? '').isCount === true ? 'num' : base.kind;
      const found = values[isAlone ? 2 * index : index];
      const value =
        base.fn === 'stddev' && Number.isNaN(found) ? Number.NaN : cellValue(kind, found);
      return [nameOf(base), [(isAlone ? (values[2 * index + 1] ?? w) : w) as bigint, value]];
    }),
  ))
    yield [group, new Map([...(apart.get(group) ?? []), ...points])];
}

type Placed = { base: Base; at: number }[];

/** Values of functions that have statements of their own, of all groups. */
async function apartPoints(
  job: Job,
  session: Session,
  placed: Placed,
): Promise<Map<number, Map<string, Point[]>>> {
  const { source, buckets } = job;
  const isAlone = isLoneSelector(job);
  const all = new Map<number, Map<string, Point[]>>();
  for (const { base, at } of placed) {
    if (functionOf(base.fn ?? '').sql !== undefined) continue;
    const sql =
      base.fn === 'integral'
        ? integralSql(source, base, at, buckets?.every)
        : base.fn === 'percentile'
          ? percentileSql(source, base, at, isAlone)
          : modeSql(source, base, at);
    for await (const [group, points] of collected(session, sql, ([, w, value, time]) => [
      [nameOf(base), [(time ?? w) as bigint, cellValue(base.kind, value)]],
    ]))
      all.set(group, new Map([...(all.get(group) ?? []), ...points]));
  }
  return new Map([...all].sort(([a], [b]) => a - b));
}

/** One function alone that picks a point has that point's time. */
function isLoneSelector({ plan: { streams }, buckets }: Job): boolean {
  const [only, ...more] = streams;
  // What runs over a field as it is has no function of its own.
  const fn = only?.base.fn ?? null;
  return (
    buckets === undefined && more.length === 0 && fn !== null && functionOf(fn).kind === 'selector'
  );
}

/** Rows that begin with their group, in its order, as the points of each. */
async function* collected(
  session: Session,
  sql: string,
  pointsOf: (row: unknown[]) => [string, Point][],
): AsyncGenerator<[number, Map<string, Point[]>]> {
  let group = -1;
  let count = 0;
  let points = new Map<string, Point[]>();
  for await (const chunk of session.chunks(sql))
    for (const row of chunk) {
      if (Number(row[0]) !== group) {
        if (group >= 0) yield [group, points];
        group = Number(row[0]);
        points = new Map();
        count = 0;
      }
      for (const [name, point] of pointsOf(row)) {
        if (point[1] === null) continue;
        if (++count > GROUP_POINTS_MAX)
          throw new HeadwaterError(
            'QUERY_LIMIT',
            `a series of the answer has more than ${GROUP_POINTS_MAX} points: ask for a shorter time or wider buckets`,
          );
        const list = points.get(name);
        if (list === undefined) points.set(name, [point]);
        else list.push(point);
      }
    }
  if (group >= 0) yield [group, points];
}

/** Filled, then run over. */
function streamPoints(job: Job, { base, running }: Stream, bases: Map<string, Point[]>): Points {
  const { select, buckets, range, wanted } = job;
  const found = bases.get(nameOf(base)) ?? [];
  const [first] = found;
  if (first === undefined) return [];
  const { descending, fill: asked } = select;
  const known = descending ? found.toReversed() : found;
  let points: Points = known;
  if (buckets !== undefined && base.fn !== null && functionOf(base.fn).kind !== 'points') {
    const isCount = functionOf(base.fn).isCount === true;
    const fill =
      isCount && asked.type === 'null'
        ? ({ type: 'number', value: 0 } as const)
        : isCount && asked.type === 'number'
          ? { ...asked, value: Math.trunc(asked.value) }
          : asked;
    const from = range.from === TIME_MIN ? first[0] : range.from;
    if (fill.type !== 'none')
      points = filled(
        known,
        bucketTimes(buckets, from, range.to, descending),
        fill,
        isCount ? 'num' : base.kind,
      );
  }
  // A count is whole, also on a line.
  if (base.fn === 'count' && asked.type === 'linear') points = whole(points);
  for (const each of running) points = run(points, each);
  if (buckets === undefined) return points;
  const [low, high] = [wanted.from === TIME_MIN ? TIME_MIN : buckets.begin(wanted.from), wanted.to];
  return within(points, low, high);
}

function* whole(points: Points): Generator<Point> {
  for (const [time, value] of points)
    yield [time, typeof value === 'number' ? Math.trunc(value) : value];
}

function* limited(points: Points, { limit, offset }: Job['select']): Generator<Point> {
  let seen = 0;
  for (const point of points) {
    if (limit > 0 && seen >= offset + limit) return;
    if (seen++ >= offset) yield point;
  }
}

function* within(points: Points, low: bigint, high: bigint): Generator<Point> {
  for (const point of points) if (point[0] >= low && point[0] <= high) yield point;
}

/** Functions whose value is a number, whatever they are of. */
const NUMBERS = new Set(['count', 'mean', 'median', 'stddev', 'integral']);

/** Rows of all times that a stream has. */
function* assembled(
  { plan, buckets, wanted, select, fieldNames }: Job,
  group: number,
  streams: readonly Points[],
): Generator<[number, Row]> {
  const isBare = buckets === undefined && wanted.from !== TIME_MIN;
  // Without buckets a value of all is of the range's begin; an area has the epoch, as in InfluxDB.
  const at = (time: bigint, index: number): bigint =>
    isBare && time === 0n && plan.streams[index]?.base.fn !== 'integral' ? wanted.from : time;
  const rowOf = (time: bigint, cells: readonly Cell[]): [number, Row] => [
    group,
    [time, ...plan.columns.map(({ value }) => evaluate(value, cells, {}))],
  ];
  const [only, ...others] = streams;
  if (only !== undefined && others.length === 0) {
    for (const [time, value] of only) yield rowOf(at(time, 0), [value]);
    return;
  }
  const next = (of: Iterator<Point>, index: number): Point | undefined => {
    const { done, value } = of.next();
    return done === true ? undefined : [at(value[0], index), value[1]];
  };
  const iterators = streams.map((points) => limited(points, select));
  const heads = iterators.map(next);
  // Beside others a value that a running function does not have is filled by a number as well.
  const { fill } = select;
  const fillers = plan.streams.map(({ base, running }): Cell => {
    if (buckets === undefined || fill.type !== 'number') return null;
    // Of a field that is not there InfluxDB does not know what this would be.
    const isOfField = running.length === 0 && !NUMBERS.has(base.fn ?? '');
    if (isOfField && !fieldNames.includes(base.field)) return null;
    const value = base.fn === 'count' && running.length === 0 ? Math.trunc(fill.value) : fill.value;
    return filler(value, isOfField ? base.kind : 'num');
  });
  const isSooner = (a: bigint, b: bigint): boolean => (select.descending ? a > b : a < b);
  for (;;) {
    let time: bigint | undefined;
    for (const head of heads)
      if (head !== undefined && (time === undefined || isSooner(head[0], time))) time = head[0];
    if (time === undefined) return;
    const cells = iterators.map((iterator, index): Cell => {
      let cell = fillers[index] ?? null;
      for (let head = heads[index]; head?.[0] === time; head = heads[index]) {
        [, cell] = head;
        heads[index] = next(iterator, index);
      }
      if (fill.type === 'previous') fillers[index] = cell;
      return cell;
    });
    yield rowOf(time, cells);
  }
}
