/** The points of a chart: asked for once, and gone on with by what arrives. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Answer } from '../../../shared/http/client.ts';
import { gapText, rhythmOf, rhythmOfStates, silencesOf } from './gaps.ts';
import { Refused, get } from './net.ts';
import { keyOf, spanText, type Series, type Value } from './series.ts';
import { failed, onReading, useStore } from './store.ts';

export type Points = [time: number, value: Value][];

export interface Range {
  /** A name of RANGES, or '' with `from` and `to`. */
  name: string;
  fromMs: number;
  toMs: number;
}

/** Milliseconds back from the newest reading; 0: all. */
export const RANGES: Record<string, [label: string, ms: number]> = {
  '5m': ['5 minutes', 300_000],
  '1h': ['1 hour', 3_600_000],
  '1d': ['1 day', 86_400_000],
  '7d': ['7 days', 604_800_000],
  '30d': ['30 days', 2_592_000_000],
  all: ['all', 0],
};

export interface Drawn {
  points: Points;
  /** Width of the buckets of means; 0: as they were measured. */
  everyMs: number;
  error: string;
  isLoaded: boolean;
  /** There are more than are shown. */
  isCut: boolean;
}

/** More than that are asked for as means. */
const RAW_MAX = 3000;
const POINTS_WANTED = 600;
const ROUND_MS = [
  1000, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 10_800_000,
  21_600_000, 86_400_000, 604_800_000, 2_592_000_000,
];
/** Readings of the past come in crowds: the chart is read again once for all of them. */
const PAST_MS = 2000;
const NOTHING: Drawn = { points: [], everyMs: 0, error: '', isLoaded: false, isCut: false };

/** From where to where the newest reading of this series lets a range go. */
export function boundsOf(range: Range, newest: number): [from: number | undefined, to: number] {
  const ms = RANGES[range.name]?.[1];
  if (ms === undefined) return [range.fromMs, range.toMs];
  return [ms === 0 ? undefined : newest - ms, newest + 1];
}

/** The API's parameters for the same points. */
export function questionOf(
  { measurement, field, tags }: Series,
  from?: number,
  to?: number,
): URLSearchParams {
  const asked = new URLSearchParams({ measurement, field });
  for (const [name, each] of Object.entries(tags)) asked.set(`tag.${name}`, each);
  if (from !== undefined) asked.set('from', String(Math.floor(from)));
  if (to !== undefined) asked.set('to', String(Math.ceil(to)));
  return asked;
}

/** A filter by tags finds series with more tags as well: only this one is meant. */
const ownOf = ({ series }: Answer<'/api/v1/query'>, key: string): Points =>
  series.find((each) => keyOf(each.measurement, each.tags, each.field) === key)?.points ?? [];

async function load(series: Series, range: Range): Promise<Drawn> {
  const [from, to] = boundsOf(range, series.time);
  const asked = questionOf(series, from, to);
  asked.set('limit', String(RAW_MAX));
  const raw = await get('/api/v1/query', asked);
  const points = ownOf(raw, series.key);
  const found = { ...NOTHING, points, isLoaded: true, isCut: raw.next !== undefined };
  if (raw.next === undefined || typeof series.value !== 'number') return found;
  const begins = from ?? points[0]?.[0] ?? series.time;
  const everyMs = ROUND_MS.find((ms) => (to - begins) / ms <= POINTS_WANTED) ?? 2_592_000_000;
  asked.delete('limit');
  asked.set('every', String(everyMs));
  asked.set('fn', 'mean');
  const means = await get('/api/v1/query', asked);
  return { ...NOTHING, points: ownOf(means, series.key), everyMs, isLoaded: true };
}

/** What is drawn, and a count that grows with each change of it. */
export function usePoints(series: Series | undefined, range: Range): Drawn & { turn: number } {
  const { round } = useStore();
  const drawn = useRef<Drawn>(NOTHING);
  const [turn, setTurn] = useState(0);
  const key = series?.key;
  useEffect(() => {
    drawn.current = NOTHING;
    if (series === undefined) return undefined;
    let isWanted = true;
    const early: Points = [];
    let past: ReturnType<typeof setTimeout> | undefined;
    const show = (now: Drawn): void => {
      drawn.current = now;
      setTurn((count) => count + 1);
    };
    const ask = (): void =>
      void load(series, range).then(
        (answer) => {
          if (!isWanted) return;
          // What came while it was asked, and what the store has not written yet.
          const last = answer.points.at(-1)?.[0] ?? 0;
          const to = boundsOf(range, series.time)[1];
          if (early.length === 0 && series.time < to) early.push([series.time, series.value]);
          const later = early.filter(([time]) => time > last);
          show({ ...answer, points: [...answer.points, ...later] });
        },
        (error: unknown) => {
          if (!isWanted) return;
          failed(error);
          if (error instanceof Refused) show({ ...NOTHING, isLoaded: true, error: error.message });
        },
      );
    ask();
    const stop = onReading((of, time, value) => {
      if (of !== key || RANGES[range.name] === undefined) return;
      const { points, isLoaded } = drawn.current;
      if (!isLoaded) early.push([time, value]);
      else if (time >= (points.at(-1)?.[0] ?? 0)) {
        const [from = 0] = boundsOf(range, time);
        const kept = (points[0]?.[0] ?? 0) < from ? points.filter(([at]) => at >= from) : points;
        show({ ...drawn.current, points: [...kept, [time, value]] });
      } else {
        // A reading of the past has its place among them.
        past ??= setTimeout(() => {
          past = undefined;
          ask();
        }, PAST_MS);
      }
    });
    return () => {
      isWanted = false;
      clearTimeout(past);
      stop();
    };
  }, [key, range.name, range.fromMs, range.toMs, round]);
  return { ...drawn.current, turn };
}

/** What is drawn, and where nothing came, if it did not. */
export function noteOf({ points, everyMs, isCut }: Drawn): string {
  if (points.length === 0) return 'no readings here';
  const what = everyMs === 0 ? 'as measured' : `mean of each ${spanText(everyMs)}`;
  const times = points.map(([time]) => time);
  const isNumber = points.some(([, value]) => typeof value === 'number');
  const more = isNumber && everyMs === 0 ? '; a click tells where one comes from' : '';
  const rhythm = isNumber ? rhythmOf(times, everyMs) : rhythmOfStates(points);
  const count = silencesOf(times, rhythm).length;
  const gaps = rhythm === undefined || count === 0 ? '' : `; ${gapText(rhythm, count)}`;
  return `${points.length.toLocaleString('en')} ${points.length === 1 ? 'point' : 'points'}, ${what}${more}${gaps}${isCut ? '; there are more: choose a shorter range' : ''}`;
}
