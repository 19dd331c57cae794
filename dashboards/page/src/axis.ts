/** Numbers beside a chart: as many digits as tell two of them apart, whatever their size, and room for them. */
import type uPlot from 'uplot';

const PLAIN_MAX = 1e15;
const DIGITS_MAX = 6;
/** Longer ones are written with an exponent, if that is shorter. */
const LONG = 11;
const [WIDTH_MIN_PX, WIDTH_MAX_PX, CHARACTER_PX, BESIDE_PX] = [50, 120, 7, 20];

const isWhole = (value: number): boolean => Math.abs(value - Math.round(value)) < 1e-6;

/** `step`: from one of them to the next. */
export function axisText(value: number, step: number): string {
  if (value === 0) return '0';
  const size = Math.abs(value);
  const digits = [0, 1, 2, 3, 4, 5, DIGITS_MAX].find(
    (each) => step * 10 ** each >= 1 - 1e-6 && isWhole(step * 10 ** each),
  );
  const plain =
    size < PLAIN_MAX && digits !== undefined
      ? value.toLocaleString('en', { maximumFractionDigits: digits })
      : undefined;
  if (plain !== undefined && plain.length <= LONG) return plain;
  const apart = Math.ceil(Math.log10(size / step) + 1e-9);
  const precise = Number(value.toPrecision(Math.min(15, Math.max(1, apart + 1))));
  const short = precise.toExponential().replace('e+', 'e');
  return plain !== undefined && plain.length <= short.length ? plain : short;
}

/** Of an axis of numbers. */
export const NUMBERS: Pick<uPlot.Axis, 'values' | 'size'> = {
  values: (_, splits, _axis, _space, step) => splits.map((each) => axisText(each, step)),
  size: (_, values) => {
    const longest = Math.max(0, ...(values ?? []).map((each) => String(each).length));
    return Math.min(WIDTH_MAX_PX, Math.max(WIDTH_MIN_PX, longest * CHARACTER_PX + BESIDE_PX));
  },
};

/** Numbers that hardly differ get room around them, so that noise does not look like a storm. */
export function spread(_: uPlot, min: number | null, max: number | null): [number, number] {
  if (min === null || max === null) return [0, 1];
  // Halved first: the greatest numbers are too far apart for a number.
  const half = max / 2 - min / 2;
  const size = Math.max(Math.abs(min), Math.abs(max));
  const limit = Number.MAX_VALUE / 2;
  if (size > limit / 2)
    return half > limit
      ? [-limit, limit]
      : [min - Math.max(0, min / 2), max - Math.min(0, max / 2)];
  const room = Math.max(half * 0.16, size * 0.002) || 1;
  return [min - room, max + room];
}
