/** The rows of the list of sensors: searched, sorted and grouped; over 10,000 series within a frame or two. */
import { ageOf, plain, sensorOf, type Series } from './series.ts';
import { state } from './store.ts';

export type Row = { series: Series } | { heading: string; count: number };

const collator = new Intl.Collator('en', { numeric: true });
let ranked = -1;
const ranks = new Map<string, number>();

/** By name, computed when there are new series only. */
function rank(): Map<string, number> {
  if (ranked === state.kinds) return ranks;
  ranked = state.kinds;
  const named = [...state.series.values()].map((each) => ({
    key: each.key,
    name: `${each.measurement} ${sensorOf(each)} ${each.field}`,
  }));
  named.sort((a, b) => collator.compare(a.name, b.name));
  ranks.clear();
  for (const [index, { key }] of named.entries()) ranks.set(key, index);
  return ranks;
}

const AGES = { fresh: 0, old: 1, stale: 2 };
/** Positions say where a sensor is; they are not what one opens the page for. */
const POSITION = /^(lat|lon|latitude|longitude|altitude|location|location_text)$/i;

type Compare = (a: Series, b: Series) => number;

function comparing(sort: string, nowMs: number): Compare {
  const order = rank();
  const byName: Compare = (a, b) => (order.get(a.key) ?? 0) - (order.get(b.key) ?? 0);
  if (sort === 'name') return byName;
  if (sort === 'last') return (a, b) => b.time - a.time || byName(a, b);
  if (sort === 'oldest') return (a, b) => a.time - b.time || byName(a, b);
  if (sort === 'value')
    return (a, b) =>
      (typeof b.value === 'number' ? b.value : Number.NEGATIVE_INFINITY) -
        (typeof a.value === 'number' ? a.value : Number.NEGATIVE_INFINITY) || byName(a, b);
  // What is new comes first, then what is fresh; positions last.
  const place = ({ time, field }: Series): number =>
    AGES[ageOf(time, nowMs)] + (POSITION.test(field) ? 4 : 0);
  return (a, b) => b.appeared - a.appeared || place(a) - place(b) || byName(a, b);
}

const groupOf = ({ measurement, tags, field }: Series, group: string): string =>
  plain(
    group === 'measurement'
      ? measurement
      : group === 'field'
        ? field
        : (tags[group] ?? `without ${group}`),
  );

export function rowsOf(search: string, sort: string, group: string, nowMs: number): Row[] {
  const words = search
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '');
  const found: Series[] = [];
  for (const series of state.series.values())
    if (words.every((word) => series.text.includes(word))) found.push(series);
  found.sort(comparing(sort, nowMs));
  if (group === '') return found.map((series) => ({ series }));
  const groups = new Map<string, Series[]>();
  for (const series of found) {
    const name = groupOf(series, group);
    const list = groups.get(name);
    if (list === undefined) groups.set(name, [series]);
    else list.push(series);
  }
  return [...groups]
    .sort(([a], [b]) => collator.compare(a, b))
    .flatMap(([heading, list]) => [
      { heading, count: list.length },
      ...list.map((series) => ({ series })),
    ]);
}
