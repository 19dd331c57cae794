/**
 * The functions of InfluxQL that are answered, with their SQL over rows (time, num, txt) of a group: the one table from
 * which queries are checked and `docs/influxql.md` is made.
 */
import { HeadwaterError } from '../../shared/errors.ts';

export interface FunctionSpec {
  /**
   * aggregate: one value of a bucket; selector: one of its points; points: several; running: each value from those before
   * it, of a field's points or of another function's buckets; math: of a row's value.
   */
  kind: 'aggregate' | 'selector' | 'points' | 'running' | 'math';
  args: string;
  /** Takes texts and truth values as well. */
  ofAnything?: boolean;
  /** Takes truth values as well: false is less than true. */
  ofTruth?: boolean;
  /** Value and, of a selector, its time. `#` stands behind each aggregate, for its filter. */
  sql?: { value: string; text?: string; time?: string };
  /** A count is whole and begins at 0. */
  isCount?: boolean;
  math?: (...values: number[]) => number;
}

const FIRST = '(time, t)';

// Several points of one time: the first of the greater value, as InfluxDB breaks the tie.
export const FUNCTIONS: Readonly<Record<string, FunctionSpec>> = {
  count: {
    kind: 'aggregate',
    args: 'field | distinct(field)',
    ofAnything: true,
    isCount: true,
    sql: { value: 'count(*)#' },
  },
  mean: { kind: 'aggregate', args: 'field', sql: { value: 'avg(num)#' } },
  median: { kind: 'aggregate', args: 'field', sql: { value: 'median(num)#' } },
  mode: {
    kind: 'aggregate',
    args: 'field',
    ofAnything: true,
  },
  spread: { kind: 'aggregate', args: 'field', sql: { value: 'max(num)# - min(num)#' } },
  // Of one value it is there, and no number.
  stddev: {
    kind: 'aggregate',
    args: 'field',
    sql: {
      value: "CASE WHEN count(num)# = 1 THEN CAST('NaN' AS DOUBLE) ELSE stddev_samp(num)# END",
    },
  },
  sum: { kind: 'aggregate', args: 'field', sql: { value: 'sum(num)#' } },
  integral: { kind: 'aggregate', args: 'field [, unit]' },
  min: {
    kind: 'selector',
    args: 'field',
    ofTruth: true,
    sql: { value: 'min(num)#', time: 'arg_min(time, (num, time))#' },
  },
  max: {
    kind: 'selector',
    args: 'field',
    ofTruth: true,
    sql: { value: 'max(num)#', time: 'arg_min(time, (-num, time))#' },
  },
  first: {
    kind: 'selector',
    args: 'field',
    ofAnything: true,
    sql: {
      value: `arg_min(num, ${FIRST})#`,
      text: `arg_min(txt, ${FIRST})#`,
      time: 'min(time)#',
    },
  },
  last: {
    kind: 'selector',
    args: 'field',
    ofAnything: true,
    sql: {
      value: `arg_max(num, ${FIRST})#`,
      text: `arg_max(txt, ${FIRST})#`,
      time: 'max(time)#',
    },
  },
  percentile: {
    kind: 'selector',
    args: 'field, N',
  },
  distinct: { kind: 'points', args: 'field', ofAnything: true },
  top: { kind: 'points', args: 'field, N' },
  bottom: { kind: 'points', args: 'field, N' },
  derivative: { kind: 'running', args: 'field | function [, unit]' },
  non_negative_derivative: { kind: 'running', args: 'field | function [, unit]' },
  difference: { kind: 'running', args: 'field | function' },
  non_negative_difference: { kind: 'running', args: 'field | function' },
  moving_average: { kind: 'running', args: 'field | function, N' },
  cumulative_sum: { kind: 'running', args: 'field | function' },
  elapsed: { kind: 'running', args: 'field [, unit]', ofAnything: true },
  abs: { kind: 'math', args: 'value', math: Math.abs },
  acos: { kind: 'math', args: 'value', math: Math.acos },
  asin: { kind: 'math', args: 'value', math: Math.asin },
  atan: { kind: 'math', args: 'value', math: Math.atan },
  atan2: { kind: 'math', args: 'value, value', math: Math.atan2 },
  ceil: { kind: 'math', args: 'value', math: Math.ceil },
  cos: { kind: 'math', args: 'value', math: Math.cos },
  exp: { kind: 'math', args: 'value', math: Math.exp },
  floor: { kind: 'math', args: 'value', math: Math.floor },
  ln: { kind: 'math', args: 'value', math: Math.log },
  log: { kind: 'math', args: 'value, base', math: (x, base = 10) => Math.log(x) / Math.log(base) },
  log2: { kind: 'math', args: 'value', math: Math.log2 },
  log10: { kind: 'math', args: 'value', math: Math.log10 },
  pow: { kind: 'math', args: 'value, exponent', math: (x, y = 1) => x ** y },
  // Halves go away from zero, as Go has it.
  round: {
    kind: 'math',
    args: 'value',
    math: (x) => (x < 0 ? -Math.round(-x) : Math.round(x)),
  },
  sin: { kind: 'math', args: 'value', math: Math.sin },
  sqrt: { kind: 'math', args: 'value', math: Math.sqrt },
  tan: { kind: 'math', args: 'value', math: Math.tan },
};

/** Throws QUERY_INVALID for one that is not known. */
export function functionOf(name: string): FunctionSpec {
  const spec = Object.hasOwn(FUNCTIONS, name) ? FUNCTIONS[name] : undefined;
  if (spec === undefined)
    throw new HeadwaterError(
      'QUERY_INVALID',
      `undefined function ${name}(): this server has ${Object.keys(FUNCTIONS).join(', ')}`,
    );
  return spec;
}
