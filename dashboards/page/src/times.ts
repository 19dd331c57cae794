/** Times below a chart: by the clock of twenty-four hours, the day before the month's name. */
import type uPlot from 'uplot';

const [S, M, H, D] = [1000, 60_000, 3_600_000, 86_400_000];
const DAY = '\n{D} {MMM}';
const DATE = '\n{D} {MMM} {YYYY}';
const row = (
  from: number,
  text: string,
  year: string | null,
  month: string | null,
  day: string | null,
): (number | string | null)[] => [from, text, year, month, day, null, null, null, 1];

/** Finest step, text, and what is added where year, month or day is another than at the tick before. */
const VALUES = [
  row(365 * D, '{YYYY}', null, null, null),
  row(28 * D, '{MMM}', '\n{YYYY}', null, null),
  row(D, '{D} {MMM}', '\n{YYYY}', null, null),
  row(H, '{HH}:{mm}', DATE, null, DAY),
  row(M, '{HH}:{mm}', DATE, null, DAY),
  row(S, '{HH}:{mm}:{ss}', DATE, null, DAY),
  row(1, '{HH}:{mm}:{ss}.{fff}', DATE, null, DAY),
] as uPlot.Axis.Values;

/** Of an axis of times: with seconds they have room beside one another. */
export const TIMES: Pick<uPlot.Axis, 'values' | 'space'> = { values: VALUES, space: 76 };
