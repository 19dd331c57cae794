/** The rows of the list of sensors: searched, sorted and grouped; over 10,000 series within a frame or two. */
import { ageOf, plain, sensorOf, type Series } from './series.ts';
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

const AGES = { fresh: 0, old: 1, stale: 2 };
/** More than there are series. */
const OF_NOW = 1e9;
/** Positions say where a sensor is; they are not what one opens the page for. */
const POSITION = /^(lat|lon|latitude|longitude|altitude|location|location_text)$/i;

/** What Headwater has made, and no device has said: results of rules and batches, alerts, and what it measures of itself. */
export function areResults(): (series: Series) => boolean {
  const made = new Set([...(state.overview?.results ?? []), 'alerts']);
  return ({ measurement }) => made.has(measurement) || measurement.startsWith('headwater_');
}

/** What is ordered by, greatest first; among equals by name, since sorting is stable. */
function weightOf(sort: string, nowMs: number): ((series: Series) => number) | undefined {
  if (sort === 'name') return undefined;
  if (sort === 'last') return ({ time }) => time;
  if (sort === 'oldest') return ({ time }) => -time;
  if (sort === 'value')
    return ({ value }) => (typeof value === 'number' ? value : Number.NEGATIVE_INFINITY);
  // What is new and of now comes first, then what is new and of the past (a sample, a backlog), then what is fresh;
  // positions and what was made of others last.
  const isResult = areResults();
  return (series) => {
    if (isResult(series)) return -8;
    const { appeared, time, field } = series;
    const age = ageOf(time, nowMs);
    if (appeared > 0) return age === 'fresh' ? OF_NOW + appeared : appeared;
    return -AGES[age] - (POSITION.test(field) ? 4 : 0);
  };
}

function sorted(found: Series[], sort: string, nowMs: number): Series[] {
  const weight = weightOf(sort, nowMs);
  if (weight === undefined) return found;
  const weighed = found.map((series) => ({ series, weight: weight(series) }));
  // Not by subtraction: two infinities have no difference.
  weighed.sort((a, b) => (a.weight === b.weight ? 0 : a.weight > b.weight ? -1 : 1));
  return weighed.map(({ series }) => series);
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
  const found = sorted(matching, sort, nowMs);
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
