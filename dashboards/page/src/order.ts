/** In which order the list of sensors stands. */
import { ageOf, type Series } from './series.ts';

const AGES = { fresh: 0, old: 1, stale: 2 };
/** More than there are series. */
const OF_NOW = 1e9;
/** Positions say where a sensor is; they are not what one opens the page for. */
const POSITION = /^(lat|lon|latitude|longitude|altitude|location|location_text)$/i;

/** What is ordered by, greatest first; among equals by name, since sorting is stable. */
function weightOf(
  sort: string,
  nowMs: number,
  isResult: (series: Series) => boolean,
): ((series: Series) => number) | undefined {
  if (sort === 'name') return undefined;
  if (sort === 'last') return ({ time }) => time;
  if (sort === 'oldest') return ({ time }) => -time;
  if (sort === 'value')
    return ({ value }) => (typeof value === 'number' ? value : Number.NEGATIVE_INFINITY);
  // What is new and of now comes first, then what is new and of the past (a sample, a backlog), then what is fresh;
  // positions and what was made of others last.
  return (series) => {
    if (isResult(series)) return -8;
    const { appeared, time, field } = series;
    const age = ageOf(time, nowMs);
    if (appeared > 0) return age === 'fresh' ? OF_NOW + appeared : appeared;
    return -AGES[age] - (POSITION.test(field) ? 4 : 0);
  };
}

/** `isResult`: what no device has said. */
export function sorted(
  found: Series[],
  sort: string,
  nowMs: number,
  isResult: (series: Series) => boolean,
): Series[] {
  const weight = weightOf(sort, nowMs, isResult);
  if (weight === undefined) return found;
  const weighed = found.map((series) => ({ series, weight: weight(series) }));
  // Not by subtraction: two infinities have no difference.
  weighed.sort((a, b) => (a.weight === b.weight ? 0 : a.weight > b.weight ? -1 : 1));
  return weighed.map(({ series }) => series);
}
