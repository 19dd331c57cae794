/**
 * Metrics as tables: a name with its type and help text, and what reads it from the part that it is about, when it is
 * asked for. Written as Prometheus text exposition 0.0.4. Why no client library: docs/decisions/0014.
 */
import type { Histogram } from './histogram.ts';

export type Labels = Readonly<Record<string, string>>;

export interface Sample {
  labels: Labels;
  value: number;
}

/** One of several histograms of one name. */
export interface HistogramSample {
  labels: Labels;
  histogram: Histogram;
}

export interface Metric<Running> {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  read(running: Running): number | readonly (Sample | HistogramSample)[] | Histogram;
}

/** By name. */
export type MetricTable<Running> = Readonly<Record<string, Metric<Running>>>;

/** A value that only grows; its name ends in `_total`. */
export function counter<Running>(
  help: string,
  read: (running: Running) => number | readonly Sample[],
): Metric<Running> {
  return { type: 'counter', help, read };
}

export function gauge<Running>(
  help: string,
  read: (running: Running) => number | readonly Sample[],
): Metric<Running> {
  return { type: 'gauge', help, read };
}

/** Its unit, seconds or bytes, ends its name. */
export function histogram<Running>(
  help: string,
  read: (running: Running) => Histogram | readonly HistogramSample[],
): Metric<Running> {
  return { type: 'histogram', help, read };
}

/** One metric with its values, as text. */
export function exposition<Running>(
  name: string,
  { type, help, read }: Metric<Running>,
  running: Running,
): string {
  const lines = [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
  const value = read(running);
  const series = (histogram: Histogram, own?: Labels): void => {
    for (const { suffix, labels, value: each } of histogram.series(own))
      lines.push(`${name}${suffix}${labelText(labels)} ${numberText(each)}`);
  };
  if (typeof value === 'number') lines.push(`${name} ${numberText(value)}`);
  else if ('series' in value) series(value);
  else
    for (const each of value)
      if ('histogram' in each) series(each.histogram, each.labels);
      else lines.push(`${name}${labelText(each.labels)} ${numberText(each.value)}`);
  return `${lines.join('\n')}\n`;
}

const numberText = (value: number): string =>
  value === Number.POSITIVE_INFINITY
    ? '+Inf'
    : value === Number.NEGATIVE_INFINITY
      ? '-Inf'
      : String(value);

function labelText(labels: Labels): string {
  const parts = Object.entries(labels).map(([key, value]) => {
    const escaped = value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
    return `${key}="${escaped}"`;
  });
  return parts.length === 0 ? '' : `{${parts.join(',')}}`;
}

/** Reasons that are counted apart: some have words of devices and strangers in them. */
const LABELS_MAX = 200;
const OTHER = 'other';

/** Counts by reason; reasons beyond LABELS_MAX together. */
export class CounterBy {
  private readonly counts = new Map<string, number>();
  private readonly label: string;

  constructor(label: string) {
    this.label = label;
  }

  add(reason: string, by = 1): void {
    const isKnown = this.counts.has(reason) || this.counts.size < LABELS_MAX;
    const label = isKnown ? reason : OTHER;
    this.counts.set(label, (this.counts.get(label) ?? 0) + by);
  }

  read = (): Sample[] =>
    [...this.counts].map(([reason, value]) => ({ labels: { [this.label]: reason }, value }));
}
