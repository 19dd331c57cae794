/**
 * What a window knows of one field. Every aggregate is a function of the set of values and not of the order in which they
 * came: sums are exact (Shewchuk 1997, as in Python's `math.fsum`) and rounded once, first and last go by time and identity.
 *
 * Percentiles are by linear interpolation between the closest ranks (Hyndman and Fan 1996, type 7): what NumPy, pandas,
 * DuckDB's `quantile_cont` and Spark's `percentile` give. Standard deviation is that of a sample (n - 1).
 */

/** In time, then by identity. */
export interface At {
  timeMs: number;
  ns: number;
  /** Gateway, epoch, sequence and index: decides among equal times. */
  id: string;
}

export interface Edge extends At {
  value: number;
}

/** As it is kept; `values` apart, in blocks. */
export interface AggregateState {
  count: number;
  sum: number[];
  squares?: number[];
  min: number;
  max: number;
  first: Edge;
  last: Edge;
}

export const SIMPLE = [
  'count',
  'sum',
  'mean',
  'min',
  'max',
  'range',
  'first',
  'last',
  'stddev',
] as const;
const PERCENTILE = /^p(\d{1,2}(?:\.\d+)?|100)$/;

export const isAggregate = (name: string): boolean =>
  (SIMPLE as readonly string[]).includes(name) || name === 'median' || PERCENTILE.test(name);

/** Whether it needs every value. */
export const needsValues = (name: string): boolean => name === 'median' || PERCENTILE.test(name);

/** Adds to a sum that is kept as parts that do not overlap, without any rounding. */
function addExactly(parts: number[], value: number): void {
  let x = value;
  let kept = 0;
  for (let part of parts) {
    if (Math.abs(x) < Math.abs(part)) [x, part] = [part, x];
    const high = x + part;
    const low = part - (high - x);
    if (low !== 0) parts[kept++] = low;
    x = high;
  }
  parts.length = kept;
  parts.push(x);
}

/** The sum, rounded once, to even (as CPython's msum does). */
function rounded(parts: readonly number[]): number {
  let at = parts.length - 1;
  let high = parts[at] ?? 0;
  let low = 0;
  while (at > 0) {
    const x = high;
    const y = parts[--at] as number;
    high = x + y;
    low = y - (high - x);
    if (low !== 0) break;
  }
  const below = parts[at - 1];
  if (at > 0 && below !== undefined && ((low < 0 && below < 0) || (low > 0 && below > 0))) {
    const twice = low * 2;
    const up = high + twice;
    if (twice === up - high) high = up;
  }
  return high;
}

/** The rounding error of a product (Dekker 1971, with Veltkamp's splitting). */
function productError(a: number, b: number, product: number): number {
  const split = (value: number): [number, number] => {
    const scaled = 134_217_729 * value;
    const high = scaled - (scaled - value);
    return [high, value - high];
  };
  const [ah, al] = split(a);
  const [bh, bl] = split(b);
  return al * bl - (product - ah * bh - al * bh - ah * bl);
}

const isBefore = (a: At, b: At): boolean =>
  a.timeMs !== b.timeMs ? a.timeMs < b.timeMs : a.ns !== b.ns ? a.ns < b.ns : a.id < b.id;

export class Aggregate {
  readonly state: AggregateState;
  readonly values: number[] | undefined;

  constructor(names: readonly string[], state?: AggregateState, values: number[] = []) {
    const none = { timeMs: 0, ns: 0, id: '', value: 0 };
    this.state = state ?? {
      count: 0,
      sum: [],
      ...(names.includes('stddev') ? { squares: [] } : {}),
      min: Infinity,
      max: -Infinity,
      first: none,
      last: none,
    };
    this.values = names.some(needsValues) ? values : undefined;
  }

  add(edge: Edge): void {
    const { state } = this;
    const { value } = edge;
    if (state.count === 0 || isBefore(edge, state.first)) state.first = edge;
    if (state.count === 0 || !isBefore(edge, state.last)) state.last = edge;
    state.count++;
    addExactly(state.sum, value);
    if (state.squares !== undefined) {
      const square = value * value;
      addExactly(state.squares, square);
      addExactly(state.squares, productError(value, value, square));
    }
    if (value < state.min) state.min = value;
    if (value > state.max) state.max = value;
    this.values?.push(value);
  }

  /** Undefined where it is not defined: the deviation of one value. */
  result(name: string): number | undefined {
    const { count, sum, min, max, first, last } = this.state;
    switch (name) {
      case 'count':
        return count;
      case 'sum':
        return rounded(sum);
      case 'mean':
        return rounded(sum) / count;
      case 'min':
        return min;
      case 'max':
        return max;
      case 'range':
        return max - min;
      case 'first':
        return first.value;
      case 'last':
        return last.value;
      case 'stddev':
        return this.deviation();
      default:
        return this.percentile(name === 'median' ? 50 : Number(name.slice(1)));
    }
  }

  private deviation(): number | undefined {
    const { count, sum, squares = [] } = this.state;
    if (count < 2) return undefined;
    const total = rounded(sum);
    // Sum of squares minus total² / n, with what both roundings lose.
    const mean = total / count;
    const parts = [...squares];
    const product = total * mean;
    addExactly(parts, -product);
    addExactly(parts, -productError(total, mean, product));
    return Math.sqrt(Math.max(0, rounded(parts)) / (count - 1));
  }

  private percentile(percent: number): number | undefined {
    const { values = [] } = this;
    if (values.length === 0) return undefined;
    const sorted = Float64Array.from(values).sort();
    const rank = (percent / 100) * (sorted.length - 1);
    const low = Math.floor(rank);
    const a = sorted[low] as number; // Within: percent is at most 100.
    const b = sorted[Math.min(low + 1, sorted.length - 1)] as number;
    return a + (b - a) * (rank - low);
  }
}
