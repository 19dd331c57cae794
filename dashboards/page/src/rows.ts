/** The rows of the list of sensors: searched, sorted and grouped; over 10,000 series within a frame or two. */
import { sorted } from './order.ts';
import { plain, sensorOf, type Series } from './series.ts';
import { state } from './store.ts';

export type Row = { series: Series } | { heading: string; count: number };

const collator = new Intl.Collator('en', { numeric: true });
let ranked = -1;
let byName: Series[] = [];

/** All by name, sorted when there are new series only. */
function named(): Series[] {
  if (ranked === state.kinds) return byName;
  ranked = state.kinds;
  byName = [...state.series.values()]
    .map((series) => ({
      series,
      name: `${series.measurement} ${sensorOf(series)} ${series.field}`,
    }))
    .sort((a, b) => collator.compare(a.name, b.name))
    .map(({ series }) => series);
  return byName;
}

/** What Headwater has made, and no device has said: results of rules and batches, alerts, and what it measures of itself. */
export function areResults(): (series: Series) => boolean {
  const made = new Set([...(state.overview?.results ?? []), 'alerts']);
  return ({ measurement }) => made.has(measurement) || measurement.startsWith('headwater_');
}

const groupOf = ({ measurement, tags, field }: Series, group: string): string =>
  plain(
    group === 'measurement'
      ? measurement
      : group === 'field'
        ? field
        : ((Object.hasOwn(tags, group) ? tags[group] : undefined) ?? `without ${group}`),
  );

export function rowsOf(search: string, sort: string, group: string, nowMs: number): Row[] {
  const words = search
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '');
  const matching = named().filter(({ text }) => words.every((word) => text.includes(word)));
  const found = sorted(matching, sort, nowMs, areResults());
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
