/** A selector beside fields and tags of the point that it picks (`SELECT last(a), b`), as InfluxDB 1.8 answers it. */
import { HeadwaterError } from '../../shared/errors.ts';
import type { Kind } from '../store/duckdb-catalog.ts';
import type { Session } from '../store/session.ts';
import { askedSql, cell, cellValue, cellsSql, pointsSql, type From } from './bases.ts';
import type { FieldValue } from '../../shared/model/reading.ts';
import { GROUP_POINTS_MAX, evaluate, type Cell, type Row } from './evaluate.ts';
import type { Job } from './job.ts';
import type { Base } from './plan.ts';
import { bucketTimes, filled, type Point } from './running.ts';
import { TIME_MIN } from './time.ts';

/** What orders the points of a group; of equal ones the earliest counts, of `last` the latest. */
const ORDERS: Readonly<Record<string, (value: string) => string>> = {
  first: () => 'time, t',
  last: () => 'time DESC, t DESC',
  min: (value) => `${value}, time, t`,
  max: (value) => `${value} DESC, time, t`,
  percentile: (value) => `${value}, time, t`,
};

/**
 * Group, bucket, tags and time of the point that is picked of field `at`, its value, and those of the fields `beside` that are of the
 * same tags and time.
 */
function pickedSql(
  from: From,
  { fn, kind, argument }: Base,
  at: number,
  beside: readonly number[],
  groupsDescending: boolean,
): string {
  const value = kind === 'txt' ? 'txt' : 'num';
  const rank =
    fn === 'percentile'
      ? `CAST(floor(count(*) OVER (PARTITION BY g, w) * ${argument} / 100.0 + 0.5) AS BIGINT)`
      : '1';
  const byValue = ORDERS[fn ?? '']?.(value) ?? 'time';
  const order = `ORDER BY g${groupsDescending ? ' DESC' : ''}, w`;
  const rows = `SELECT *, ${from.bucket} AS w FROM (${askedSql(from)}) WHERE f = ${at} AND ${value} IS NOT NULL`;
  const picked = `SELECT g, w, t, time, ${value} AS v FROM (${rows}) QUALIFY row_number() OVER (PARTITION BY g, w ORDER BY ${byValue}) = ${rank}`;
  if (beside.length === 0) return `${picked} ${order}`;
  const cells = beside.map((each) => cell(from.kinds[each] as Kind, each)); // One of them.
  const others = `SELECT t, time, ${cellsSql(from.kinds)} FROM (${pointsSql(from)}) AS o SEMI JOIN picked USING (t, time) GROUP BY t, time`;
  return `WITH picked AS MATERIALIZED (${picked}) SELECT g, w, t, time, v, ${cells.join(', ')} FROM picked LEFT JOIN (${others}) USING (t, time) ${order}`;
}

/** A row before its columns: a cell for each stream. */
interface Picked {
  time: bigint;
  tags: Readonly<Record<string, FieldValue>>;
  cells: Cell[];
}

/** Group after group, in the query's order of time. */
export async function* pickedRows(
  job: Job,
  session: Session,
): AsyncGenerator<Iterable<[number, Row]>> {
  const { plan, source, groups, fieldNames, buckets, select } = job;
  const picker = plan.streams.find(({ base }) => base.fn !== null)?.base;
  const at = source.fields[fieldNames.indexOf(picker?.field ?? '')];
  if (picker === undefined || at === undefined) return;
  const others = plan.streams.filter(({ base }) => base.fn === null).map(({ base }) => base);
  const beside = others.map(({ field }) => source.fields[fieldNames.indexOf(field)] ?? -1);
  const known = beside.filter((each) => each >= 0);
  let group = -1;
  let rows: Picked[] = [];
  function* told(of: number, picked: Picked[]): Generator<[number, Row]> {
    for (const { time, tags, cells } of inBuckets(job, picked))
      yield [of, [time, ...plan.columns.map(({ value }) => evaluate(value, cells, tags))]];
  }
  const sql = pickedSql(source, picker, at, known, select.descending);
  for await (const chunk of session.chunks(sql))
    for (const [g, w, t, time, value, ...values] of chunk) {
      if (Number(g) !== group) {
        if (rows.length > 0) yield told(group, rows);
        group = Number(g);
        rows = [];
      }
      if (rows.length >= GROUP_POINTS_MAX)
        throw new HeadwaterError(
          'QUERY_LIMIT',
          `a series of the answer has more than ${GROUP_POINTS_MAX} points: ask for a shorter time or wider buckets`,
        );
      const cells = plan.streams.map(({ base }): Cell => {
        if (base.fn !== null) return cellValue(base.kind, value);
        const place = known.indexOf(beside[others.indexOf(base)] ?? -1);
        return place < 0 ? null : cellValue(base.kind, values[place]);
      });
      const tags = groups.tagsets[Number(t)] ?? {};
      rows.push({ time: (buckets === undefined ? time : w) as bigint, tags, cells });
    }
  if (rows.length > 0) yield told(group, rows);
}

/** With those of buckets that have no point, where they are asked for. */
function* inBuckets(job: Job, rows: Picked[]): Generator<Picked> {
  const { plan, buckets, select, range } = job;
  const { descending, fill } = select;
  const ordered = descending ? rows.toReversed() : rows;
  const [first] = rows;
  if (buckets === undefined || fill.type === 'none' || first === undefined) {
    yield* ordered;
    return;
  }
  const from = range.from === TIME_MIN ? first.time : range.from;
  const times = (): Iterable<bigint> => bucketTimes(buckets, from, range.to, descending);
  const tags = new Map(ordered.map((row) => [row.time, row.tags]));
  // InfluxDB fills them with the number as well.
  const named = plan.columns.flatMap(({ value }) => (value.type === 'tag' ? [value.name] : []));
  const none =
    fill.type === 'number' ? Object.fromEntries(named.map((name) => [name, fill.value])) : {};
  const streams = plan.streams.map(({ base }, at) =>
    filled(
      // A field that the point does not have is filled as a bucket without points is, but for lines.
      ordered.flatMap(({ time, cells }): Point[] =>
        cells[at] === null && fill.type !== 'linear' ? [] : [[time, cells[at] ?? null]],
      ),
      times(),
      fill,
      // Beside the picked one InfluxDB fills with the number itself.
      base.fn === null ? 'num' : base.kind,
    ),
  );
  let before: Picked['tags'] = none;
  for (const time of times()) {
    const own = { ...none, ...(tags.get(time) ?? before) };
    if (fill.type === 'previous') before = own;
    yield {
      time,
      tags: own,
      cells: streams.map((points) => {
        const next = points.next();
        return next.done === true ? null : next.value[1];
      }),
    };
  }
}
