/**
 * A SELECT: what it reads, in groups; base values by DuckDB, group after group; what runs over them, fills and sums here.
 * A subquery's rows become a table that the outer query reads like the store's own. Rules as InfluxDB 1.8 has them; where it
 * could be measured, `test/integration/influxql.test.ts` compares.
 */
import { setImmediate } from 'node:timers/promises';
import type { FieldValue } from '../../shared/model/reading.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Kind } from '../store/duckdb-catalog.ts';
import type { Session } from '../store/session.ts';
import type { Expr, Select } from './ast.ts';
import {
  conjuncts,
  equalsOf,
  matching,
  referencesOf,
  rowSql,
  tagsTest,
  type FieldOf,
} from './condition.ts';
import type { Context, Job, Part } from './job.ts';
import { functionOf } from './functions.ts';
import { looksBack, planOf, type Names, type Plan } from './plan.ts';
import { byMeasurement, byTag } from '../store/series-lists.ts';
import {
  grouped,
  groupTags,
  fieldsOf,
  measurementsOf,
  shownOf,
  tagsOf,
  type Grouped,
  type Relation,
  type RelationSeries,
} from './relation.ts';
import { boundsOf, mapOf } from './read.ts';
import { recentOf } from './recent.ts';
import { rowParts } from './rows.ts';
import {
  bucketsOf,
  invalid,
  splitCondition,
  timeOf,
  TIME_MAX,
  TIME_MIN,
  Zone,
  type Buckets,
  type TimeRange,
} from './time.ts';

/** What a subquery has from the query around it. */
interface Around {
  range: TimeRange;
  interval: Interval | undefined;
  tags: readonly string[];
  descending: boolean;
}

interface Interval {
  every: bigint;
  offset: bigint;
}

export const BUCKETS_MAX = 1_000_000;
/** Of a bucket: times and widths together are 64 bits. */
const EVERY_NS_MAX = 5000n * 604_800_000_000_000n;
/** Values of a subquery, which stand in memory. */
const INNER_VALUES_MAX = 2_000_000;

function intervalOf(select: Select, nowNs: bigint): Interval | undefined {
  const times = select.groupBy.filter((each) => each.type === 'time');
  const [time] = times;
  if (time === undefined) return undefined;
  if (times.length > 1) invalid('multiple time dimensions not allowed');
  if (time.every.type !== 'duration' || time.every.ns <= 0n)
    return invalid('time dimension must have a duration argument above 0');
  if (time.every.ns > EVERY_NS_MAX)
    return invalid('time dimension must have a duration argument of 5000 weeks at most');
  const { every } = { every: time.every.ns };
  return { every, offset: time.offset === null ? 0n : timeOf(time.offset, nowNs, undefined) };
}

/** Buckets that a running function reads before the range: one, however long it looks back, as InfluxDB 1.8 does. */
const extraOf = ({ streams }: Plan): bigint => (streams.some(looksBack) ? 1n : 0n);

async function relationsOf(select: Select, context: Context, around: Around): Promise<Relation[]> {
  const { session, series } = context;
  const found = new Map<string, Relation>();
  for (const source of select.sources) {
    if (source.type === 'subquery') {
      for (const relation of await innerRelations(source.select, context, around))
        found.set(`${relation.table}/${relation.name}`, relation);
      continue;
    }
    for (const name of await measurementsOf(session, source.name, series))
      found.set(name, {
        name,
        table: 'points',
        series: byMeasurement(series).get(name) ?? [],
      });
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

const kindOf = (value: FieldValue): Kind =>
  typeof value === 'number' ? 'num' : typeof value === 'string' ? 'txt' : 'bool';

/** A subquery's answer as tables of its own. */
async function innerRelations(
  select: Select,
  context: Context,
  around: Around,
): Promise<Relation[]> {
  const { session } = context;
  const byWildcard = select.groupBy.some(({ type }) => type === 'wildcard' || type === 'regex');
  const shown = new Set(select.groupBy.flatMap((each) => (each.type === 'tag' ? [each.name] : [])));
  const byName = new Map<
    string,
    Relation & {
      series: RelationSeries[];
      rows: [number, bigint, number | null, string | null][];
      ids: Map<string, number>;
    }
  >();
  let values = 0;
  for await (const { name, tags = {}, columns, rows } of selectParts(select, context, around)) {
    // A part is some milliseconds' work, and the next one may be in memory already.
    await setImmediate();
    let relation = byName.get(name);
    if (relation === undefined) {
      relation = { name, table: '', series: [], rows: [], ids: new Map() };
      if (!byWildcard) relation.shown = shown;
      byName.set(name, relation);
    }
    const { series, ids } = relation;
    for (const [time, ...cells] of rows)
      for (const [at, value] of cells.entries()) {
        if (value === null || Number.isNaN(value)) continue;
        if (++values > INNER_VALUES_MAX)
          throw new HeadwaterError(
            'QUERY_LIMIT',
            `a subquery gives more than ${INNER_VALUES_MAX} values: ask for wider buckets or a shorter time`,
          );
        const field = columns[at + 1] ?? '';
        const kind = kindOf(value);
        const key = JSON.stringify([field, kind, ...Object.values(tags)]);
        let id = ids.get(key);
        if (id === undefined) {
          id = series.length;
          ids.set(key, id);
          series.push({ id, measurement: name, field, kind, tags });
        }
        relation.rows.push([
          id,
          time,
          kind === 'txt' ? null : Number(value),
          kind === 'txt' ? String(value) : null,
        ]);
      }
  }
  for (const relation of byName.values()) {
    relation.table = await session.table({
      series: 'INTEGER',
      time: 'BIGINT',
      num: 'DOUBLE',
      txt: 'VARCHAR',
    });
    await session.append(relation.table, ['INTEGER', 'BIGINT', 'DOUBLE', 'VARCHAR'], relation.rows);
    relation.rows = [];
  }
  return [...byName.values()];
}

/** The names of fields that regular expressions in the list of columns find. */
async function namesOf(
  select: Select,
  session: Session,
  relations: readonly Relation[],
): Promise<Names> {
  const [only, ...more] = relations;
  const series =
    only !== undefined && more.length === 0
      ? only.series
      : relations.flatMap((relation) => relation.series);
  const [fields, tags] = [fieldsOf(series), tagsOf(series)];
  const sources = new Set<string>();
  const look = (expr: Expr): void => {
    if (expr.type === 'regex') sources.add(expr.source);
    else if (expr.type === 'call') for (const arg of expr.args) look(arg);
  };
  for (const { expr } of select.fields) look(expr);
  const found = new Map<string, ReadonlySet<string>>();
  for (const source of sources)
    found.set(source, await matching(session, source, [...new Set([...fields.keys(), ...tags])]));
  return { fields, tags, found: (source) => found.get(source) ?? new Set() };
}

const ALL: Around = {
  range: { from: TIME_MIN, to: TIME_MAX },
  interval: undefined,
  tags: [],
  descending: false,
};

const narrower = (a: TimeRange, b: TimeRange): TimeRange => ({
  from: a.from > b.from ? a.from : b.from,
  to: a.to < b.to ? a.to : b.to,
});

export async function* selectParts(
  given: Select,
  context: Context,
  around?: Around,
): AsyncGenerator<Part> {
  const { session, nowNs } = context;
  const zone = given.tz === null ? undefined : new Zone(given.tz);
  const split = splitCondition(given.where, nowNs, zone);
  const range = narrower(split.range, (around ?? ALL).range);
  const own = intervalOf(given, nowNs);
  const isAggregate = (expr: Expr): boolean =>
    expr.type === 'call'
      ? !['math', 'running'].includes(functionOf(expr.name).kind) || expr.args.some(isAggregate)
      : expr.type === 'binary' && (isAggregate(expr.left) || isAggregate(expr.right));
  const isOfBuckets = given.fields.some(({ expr }) => isAggregate(expr));
  const interval = own ?? (isOfBuckets ? around?.interval : undefined);
  if (interval !== undefined && range.to === TIME_MAX) range.to = nowNs;
  if (range.from > range.to) return;
  const select: Select = {
    ...given,
    descending: around?.descending ?? given.descending,
    fill: around !== undefined && given.fill.type === 'null' ? { type: 'none' } : given.fill,
  };
  // Tags of the outer query are known by name only: a wildcard outside asks for what the inside has grouped by.
  const named = select.groupBy.flatMap((each) => (each.type === 'tag' ? [each.name] : []));
  const relations = await relationsOf(select, context, {
    range,
    interval,
    tags: [...named, ...(around?.tags ?? [])],
    descending: select.descending,
  });
  if (relations.length === 0) return;
  const names = await namesOf(select, session, relations);
  const ownTags = await groupTags(session, select.groupBy, names.tags);
  const tags = [...new Set([...ownTags, ...(around?.tags ?? [])])].sort();
  const plan = planOf(
    select,
    names,
    new Set(tags),
    interval === undefined ? undefined : Number(interval.every),
  );
  const ordered = select.descending ? relations.toReversed() : relations;
  for (const relation of ordered) {
    const job = await jobOf(
      {
        select,
        plan,
        relation,
        names,
        tags,
        rest: split.rest,
        range,
        interval,
        zone,
      },
      context,
    );
    if (job !== undefined) yield* rowParts(job, session);
  }
}

interface Asked {
  select: Select;
  plan: Plan;
  relation: Relation;
  names: Names;
  tags: string[];
  rest: Expr | null;
  range: TimeRange;
  interval: Interval | undefined;
  zone: Zone | undefined;
}

/** Those whose tags are so. */
async function seriesOf(
  relation: Relation,
  conditions: readonly Expr[],
  session: Context['session'],
): Promise<Relation['series']> {
  let { series } = relation;
  for (const each of conditions) {
    const equals = equalsOf(each);
    if (equals !== undefined && series === relation.series) {
      series = byTag(series, equals.name).get(equals.value) ?? [];
      continue;
    }
    const test = await tagsTest(session, each, series);
    series = series.filter(({ tags }) => test(tags));
  }
  return series;
}

/** Undefined: nothing to read. */
async function jobOf(asked: Asked, context: Context): Promise<Job | undefined> {
  const { session, nowNs } = context;
  const { select, plan, relation, names, tags, rest, range, interval, zone } = asked;
  const isFieldName = ({ name, kind }: { name: string; kind: string | null }): boolean =>
    kind !== 'tag' && names.fields.has(name);
  const ofFields = conjuncts(rest).filter((each) => referencesOf(each).some(isFieldName));
  const ofTags = conjuncts(rest).filter((each) => !ofFields.includes(each));
  const series = await seriesOf(relation, ofTags, session);
  const wantedFields = [...new Set(plan.streams.map(({ base: { field } }) => field))].filter(
    (name) => names.fields.has(name),
  );
  const compared = ofFields.flatMap(referencesOf).filter(isFieldName);
  const fields = [...new Set([...wantedFields, ...compared.map(({ name }) => name)])]
    .filter((name) => names.fields.has(name))
    .map((name) => ({ name, kind: names.fields.get(name) as Kind })); // Has it.
  const groups = grouped(series, fields, tags);
  if (groups.rows.length === 0 || wantedFields.length === 0) return undefined;
  for (const { base } of plan.streams) if (base.refused !== undefined) invalid(base.refused);
  groups.tagsets = shownOf(groups.tagsets, relation);
  const at = (name: string): number => fields.findIndex((each) => each.name === name);
  const conditions = await conditionsOf(ofFields, groups, session, (reference) =>
    isFieldName(reference)
      ? { index: at(reference.name), kind: names.fields.get(reference.name) as Kind } // The same.
      : undefined,
  );
  const [only, ...others] = groups.rows;
  const one = others.length === 0 ? only : undefined;
  const map = one === undefined ? await mapOf(groups, session) : '';
  const ids = groups.rows.map(([id]) => id);
  const read = { ...range };
  if (interval !== undefined) {
    const extra = extraOf(plan) * interval.every;
    if (select.descending) read.to += extra;
    else if (read.from !== TIME_MIN) read.from -= extra;
  }
  const bounds =
    interval === undefined ? read : await boundsOf(session, relation.table, ids, read, nowNs);
  if (bounds === undefined) return undefined;
  const buckets = interval && bucketsOf(interval.every, interval.offset, zone, bounds);
  // Those without points are not made where nobody wants them.
  if (buckets !== undefined && !plan.isRaw && select.fill.type !== 'none')
    limitBuckets(buckets, bounds);
  const job: Omit<Job, 'recent'> = {
    select,
    plan,
    relation,
    groups,
    groupedTags: tags,
    buckets,
    range: read,
    wanted: range,
    fieldNames: wantedFields,
    source: {
      table: relation.table,
      map,
      one,
      ids: [ids.reduce((a, b) => Math.min(a, b)), ids.reduce((a, b) => Math.max(a, b))],
      // A subquery was asked for this range: its buckets that begin before it are of it as well.
      ...(relation.table === 'points'
        ? { from: read.from, to: read.to }
        : { from: TIME_MIN, to: TIME_MAX }),
      bucket: buckets?.sql ?? 'CAST(0 AS BIGINT)',
      fields: wantedFields.map(at),
      kinds: fields.map(({ kind }) => kind),
      condition: conditions.length === 0 ? undefined : conditions.join(' AND '),
    },
  };
  return { ...job, recent: await recentOf(job, context) };
}

/** Of fields, and what stands beside them of tags, as SQL. */
async function conditionsOf(
  ofFields: readonly Expr[],
  { tagsets }: Grouped,
  session: Session,
  fieldOf: FieldOf,
): Promise<string[]> {
  const tagsWith = async (expr: Expr): Promise<number[]> => {
    const test = await tagsTest(
      session,
      expr,
      tagsets.map((tags) => ({ tags })),
    );
    return tagsets.flatMap((tags, number) => (test(tags) ? [number] : []));
  };
  const conditions: string[] = [];
  for (const each of ofFields) conditions.push(await rowSql(each, fieldOf, tagsWith));
  return conditions;
}

function limitBuckets(buckets: Buckets, { from, to }: TimeRange): void {
  const count = (to - from) / buckets.every + 1n;
  if (count > BigInt(BUCKETS_MAX))
    throw new HeadwaterError(
      'QUERY_LIMIT',
      `max-select-buckets limit exceeded: (${count}/${BUCKETS_MAX})`,
    );
}
