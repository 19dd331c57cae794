/** What a SELECT reads: series with their points in a table, of the store or of a subquery; and how they fall into groups. */
import type { FieldValue } from '../../shared/model/reading.ts';
import type { Kind } from '../store/duckdb-catalog.ts';
import { byMeasurement, once } from '../store/series-lists.ts';
import type { Session } from '../store/session.ts';
import type { Dimension, Name } from './ast.ts';
import { matching, type Tags } from './condition.ts';
import { invalid } from './time.ts';

export interface RelationSeries {
  id: number;
  measurement: string;
  field: string;
  kind: Kind;
  tags: Tags;
  /** Of the store's own, where it is known. */
  latest?: { timeMs: number; ns: number; value: FieldValue } | undefined;
}

/** Series of one measurement. */
export interface Relation {
  name: string;
  table: string;
  series: readonly RelationSeries[];
  /** Of a subquery: the tags that can be columns, by which it groups itself; the others only tell its groups apart. */
  shown?: ReadonlySet<string>;
}

export const SERIES_MAX = 1_000_000;

/** Measurements by a name or a regular expression, in order of their names. */
export async function measurementsOf(
  session: Session,
  name: Name,
  series: readonly RelationSeries[],
): Promise<Set<string>> {
  if (name.type === 'string') return new Set([name.value]);
  return await matching(session, name.source, [...byMeasurement(series).keys()]);
}

const RANK: Record<Kind, number> = { num: 0, txt: 1, bool: 2 };

/** Fields with their kinds; numbers before texts where a name has both. */
export const fieldsOf = once((series: readonly RelationSeries[]): ReadonlyMap<string, Kind> => {
  const fields = new Map<string, Kind>();
  for (const { field, kind } of series) {
    const known = fields.get(field);
    if (known === undefined || RANK[kind] < RANK[known]) fields.set(field, kind);
  }
  return fields;
});

export const tagsOf = once((series: readonly RelationSeries[]): ReadonlySet<string> => {
  const names = new Set<string>();
  for (const { tags } of series) for (const name in tags) names.add(name);
  return names;
});

export const byNumber = once(
  (series: readonly RelationSeries[]) => new Map(series.map((each) => [each.id, each])),
);

/** The tags that a GROUP BY names, of those that there are. */
export async function groupTags(
  session: Session,
  dimensions: readonly Dimension[],
  tags: ReadonlySet<string>,
): Promise<string[]> {
  const names = new Set<string>();
  for (const each of dimensions) {
    if (each.type === 'tag') {
      if (each.name.toLowerCase() === 'time')
        invalid('time() is a function and expects at least one argument');
      names.add(each.name);
    } else if (each.type === 'wildcard') for (const tag of tags) names.add(tag);
    else if (each.type === 'regex')
      for (const tag of await matching(session, each.source, [...tags])) names.add(tag);
  }
  return [...names].sort();
}

export interface Grouped {
  groups: Tags[];
  /** All tags of a row, by its number. */
  tagsets: Tags[];
  /** Series, group, tags, field. */
  rows: [series: number, group: number, tags: number, field: number][];
}

const wholes = new WeakMap<Tags, string>();
/** Series of one topic share their tags. */
function wholeOf(tags: Tags): string {
  let whole = wholes.get(tags);
  if (whole === undefined) {
    whole = Object.entries(tags)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .join(SEPARATOR);
    wholes.set(tags, whole);
  }
  return whole;
}

const SEPARATOR = '\u0000';

/** Series of these fields in groups, in order of their values. */
export function grouped(
  series: readonly RelationSeries[],
  fields: readonly { name: string; kind: Kind }[],
  tags: readonly string[],
): Grouped {
  if (series.length > SERIES_MAX) invalid(`more than ${SERIES_MAX} series`);
  const index = new Map(fields.map(({ name, kind }, at) => [`${kind}/${name}`, at]));
  const groups = new Map<string, { tags: Tags; rows: Grouped['rows'] }>();
  const tagsets = new Map<string, number>();
  const all: Tags[] = [];
  for (const each of series) {
    const field = index.get(`${each.kind}/${each.field}`);
    if (field === undefined) continue;
    const values = tags.map((name) => each.tags[name] ?? '');
    const name = values.join(SEPARATOR);
    let group = groups.get(name);
    if (group === undefined) {
      group = {
        tags: Object.fromEntries(tags.map((tag, at) => [tag, values[at] ?? ''])),
        rows: [],
      };
      groups.set(name, group);
    }
    const whole = wholeOf(each.tags);
    let tagset = tagsets.get(whole);
    if (tagset === undefined) {
      tagset = all.push(each.tags) - 1;
      tagsets.set(whole, tagset);
    }
    group.rows.push([each.id, 0, tagset, field]);
  }
  const sorted = [...groups].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group);
  return {
    groups: sorted.map(({ tags }) => tags),
    tagsets: all,
    rows: sorted.flatMap(({ rows }, at) =>
      rows.map(([id, , tagset, field]): [number, number, number, number] => [
        id,
        at,
        tagset,
        field,
      ]),
    ),
  };
}

/** Tags as columns show them. */
export const shownOf = (tagsets: Tags[], { shown }: Relation): Tags[] =>
  shown === undefined
    ? tagsets
    : tagsets.map((tags) =>
        Object.fromEntries(Object.entries(tags).filter(([name]) => shown.has(name))),
      );
