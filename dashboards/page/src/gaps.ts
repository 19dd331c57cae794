/**
 * Where a series was silent: longer between two readings than it is by itself. How often it comes is the middle of the
 * distances between what is shown; a gap is more than four times that, and of means one bucket without a reading.
 */
import type uPlot from 'uplot';

export interface Rhythm {
  /** The usual distance of two readings, milliseconds. */
  usualMs: number;
  /** What is longer is a gap. */
  gapMs: number;
}

/** Fewer say nothing of how often something comes. */
const TIMES_MIN = 5;
const LONGER = 4;
/** Bucket after bucket, but for a leap second or what rounding does. */
const NEXT_BUCKET = 1.5;
/** A line that is hardly wider than it is thick is drawn as points. */
const NARROW_PX = 4;

/** Of times in ascending order; undefined where nothing can be said. `everyMs`: they are means of so long; 0: readings. */
export function rhythmOf(times: readonly number[], everyMs = 0): Rhythm | undefined {
  if (times.length < TIMES_MIN) return undefined;
  const apart: number[] = [];
  let last = times[0] ?? 0;
  for (const time of times) {
    if (time > last) apart.push(time - last);
    last = time;
  }
  apart.sort((a, b) => a - b);
  const usualMs = apart[Math.floor((apart.length - 1) / 2)];
  if (usualMs === undefined || apart.length < TIMES_MIN - 1) return undefined;
  return { usualMs, gapMs: usualMs * (usualMs <= everyMs ? NEXT_BUCKET : LONGER) };
}

/** From when to when nothing came. */
export function silencesOf(
  times: readonly number[],
  rhythm: Rhythm | undefined,
): [fromMs: number, toMs: number][] {
  if (rhythm === undefined) return [];
  return times.flatMap((time, at) => {
    const before = times[at - 1];
    return before !== undefined && time - before > rhythm.gapMs ? [[before, time]] : [];
  });
}

const UNITS: [unit: string, ms: number][] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1000],
  ['ms', 1],
];

/** Of two figures: 1.5 min. */
function apartText(ms: number): string {
  const [unit, size] = UNITS.find(([, each]) => ms >= each) ?? ['ms', 1];
  return `${Number((ms / size).toPrecision(2))} ${unit}`;
}

/**
 * Of states: one that is told when it changes has no rhythm, and holds until the next word; where most readings only
 * repeat the one before, silence is one.
 */
export function rhythmOfStates(
  points: readonly [time: number, value: unknown][],
): Rhythm | undefined {
  const repeated = points.filter(([, value], at) => at > 0 && points[at - 1]?.[1] === value);
  return repeated.length * 2 < points.length ? undefined : rhythmOf(points.map(([time]) => time));
}

/** For people: what an interrupted line means. */
export const gapText = ({ gapMs, usualMs }: Rhythm, count: number): string =>
  `${count === 1 ? 'one gap' : `${count.toLocaleString('en')} gaps`}: nothing for more than ${apartText(gapMs)}, where usually one comes every ${apartText(usualMs)}`;

/** Times of a chart's line that have a value, and when it was silent between them. */
export function silentIn(
  data: uPlot.AlignedData,
  line: number,
  everyMs: number,
): { times: number[]; silences: [fromMs: number, toMs: number][] } {
  const values = data[line] ?? [];
  const times = Array.from(data[0]).filter((_, at) => values[at] != null);
  return { times, silences: silencesOf(times, rhythmOf(times, everyMs)) };
}

/** How a line is drawn that ends where nothing came, with what stands alone as points. `isMarked`: each point is one. */
export function broken(
  everyMs: () => number,
  isMarked: (plot: uPlot) => boolean,
  size: number,
): Pick<uPlot.Series, 'spanGaps' | 'gaps' | 'points'> {
  const pxOf = (plot: uPlot, ms: number): number => Math.round(plot.valToPos(ms, 'x', true));
  return {
    spanGaps: false,
    gaps: (plot, line) =>
      silentIn(plot.data, line, everyMs()).silences.map(([from, to]) => [
        pxOf(plot, from),
        pxOf(plot, to),
      ]),
    points: {
      size,
      show: isMarked,
      filter: (plot, line, isShown) => {
        if (isShown) return null;
        const { times, silences } = silentIn(plot.data, line, everyMs());
        const lone = new Set<number>();
        let from = times[0] ?? 0;
        for (const [to, next] of [...silences, [times.at(-1) ?? 0, 0] as const]) {
          if (pxOf(plot, to) - pxOf(plot, from) < NARROW_PX) lone.add(from).add(to);
          from = next;
        }
        return Array.from(plot.data[0]).flatMap((time, at) => (lone.has(time) ? [at] : []));
      },
    },
  };
}
