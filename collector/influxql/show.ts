/** SHOW: what there is, from the store's own catalogue; conditions on tags choose the series that are looked at. */
import type { Session } from '../store/session.ts';
import type { Expr, Show } from './ast.ts';
import { conjuncts, matching, tagsTest } from './condition.ts';
import { TYPE_NAMES } from './plan.ts';
import { byMeasurement, byTag } from '../store/series-lists.ts';
import { fieldsOf, measurementsOf, tagsOf, type RelationSeries } from './relation.ts';
import { isTime } from './time.ts';
import type { Context } from './job.ts';

/** A series of an answer without times. */
export interface Listing {
  name?: string;
  columns: string[];
  values: (string | number | boolean)[][];
}

/** The one that everything is in, whatever a client calls it. */
export const DATABASE = 'headwater';
export const POLICY = 'autogen';

const mentionsTime = (expr: Expr): boolean =>
  isTime(expr) || (expr.type === 'binary' && (mentionsTime(expr.left) || mentionsTime(expr.right)));

/** Series of these measurements whose tags are asked for. A range of times is taken for all, as InfluxDB does within a shard. */
async function chosen(
  show: Show,
  { session, series }: Context,
): Promise<readonly RelationSeries[]> {
  let some = series;
  if (show.sources !== null && show.sources !== undefined) {
    const names = new Set<string>();
    for (const { name } of show.sources)
      for (const each of await measurementsOf(session, name, series)) names.add(each);
    some = some.filter(({ measurement }) => names.has(measurement));
  }
  for (const each of conjuncts(show.where ?? null)) {
    if (mentionsTime(each)) continue;
    const test = await tagsTest(session, each, some);
    some = some.filter(({ tags }) => test(tags));
  }
  return some;
}

const page = <T>(list: T[], { limit = 0, offset = 0 }: Show): T[] =>
  list.slice(offset, limit === 0 ? undefined : offset + limit);

async function keysOf(
  show: Show,
  session: Session,
  names: readonly string[],
): Promise<Set<string>> {
  const { key } = show;
  if (key === undefined) return new Set(names);
  const found = new Set<string>();
  for (const value of key.values)
    if (value.type === 'string') found.add(value.value);
    else for (const name of await matching(session, value.source, names)) found.add(name);
  return key.op.startsWith('!') ? new Set(names.filter((name) => !found.has(name))) : found;
}

/** As InfluxDB writes a series: commas, blanks and equals signs are escaped. */
const seriesText = ({ measurement, tags }: RelationSeries): string => {
  const escape = (text: string): string => text.replaceAll(/[,= ]/g, String.raw`\$&`);
  const parts = Object.entries(tags)
    .filter(([, value]) => value !== '')
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${escape(key)}=${escape(value)}`);
  return [measurement.replaceAll(/[, ]/g, String.raw`\$&`), ...parts].join(',');
};

async function tagValues(
  show: Show,
  session: Session,
  some: readonly RelationSeries[],
): Promise<Listing[]> {
  const lists: Listing[] = [];
  for (const [name, series] of byMeasurement(some)) {
    const keys = await keysOf(show, session, [...tagsOf(series)]);
    const rows: [string, string][] = [];
    for (const key of [...keys].sort()) {
      for (const value of [...byTag(series, key).keys()].sort())
        if (value !== '') rows.push([key, value]);
    }
    const values = page(rows, show);
    if (values.length > 0) lists.push({ name, columns: ['key', 'value'], values });
  }
  return lists;
}

async function measurements(
  show: Show,
  { session }: Context,
  some: readonly RelationSeries[],
): Promise<Listing[]> {
  let names = [...byMeasurement(some).keys()];
  const { name } = show;
  if (name !== null && name !== undefined) {
    const { value } = name;
    const found =
      value.type === 'string'
        ? new Set([value.value])
        : await matching(session, value.source, names);
    names = names.filter((each) => found.has(each));
  }
  const values = page(names, show).map((each) => [each]);
  return values.length === 0 ? [] : [{ name: 'measurements', columns: ['name'], values }];
}

export async function showListings(show: Show, context: Context): Promise<Listing[]> {
  if (show.what === 'databases')
    return [{ name: 'databases', columns: ['name'], values: [[DATABASE]] }];
  if (show.what === 'retentionPolicies')
    return [
      {
        columns: ['name', 'duration', 'shardGroupDuration', 'replicaN', 'default'],
        values: [[POLICY, '0s', '168h0m0s', 1, true]],
      },
    ];
  const some = await chosen(show, context);
  if (show.what === 'measurements') return await measurements(show, context, some);
  if (show.what === 'tagValues') return await tagValues(show, context.session, some);
  if (show.what === 'series') {
    const values = page([...new Set(some.map(seriesText))].sort(), show).map((each) => [each]);
    return values.length === 0 ? [] : [{ columns: ['key'], values }];
  }
  return [...byMeasurement(some)].flatMap(([name, series]) => {
    const rows =
      show.what === 'tagKeys'
        ? [...tagsOf(series)].sort().map((key) => [key])
        : [...fieldsOf(series)]
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([field, kind]) => [field, TYPE_NAMES[kind]]);
    const values = page(rows, show);
    if (values.length === 0) return [];
    const columns = show.what === 'tagKeys' ? ['tagKey'] : ['fieldKey', 'fieldType'];
    return [{ name, columns, values }];
  });
}
