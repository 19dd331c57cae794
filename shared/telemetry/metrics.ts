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

export interface Metric<Running> {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  read(running: Running): number | readonly Sample[] | Histogram;
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
  read: (running: Running) => Histogram,
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
  if (typeof value === 'number') lines.push(`${name} ${numberText(value)}`);
  else if ('series' in value)
    for (const { suffix, labels, value: each } of value.series())
      lines.push(`${name}${suffix}${labelText(labels)} ${numberText(each)}`);
  else
    for (const { labels, value: each } of value)
      lines.push(`${name}${labelText(labels)} ${numberText(each)}`);
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

/** Counts by reason. */
export class CounterBy {
  private readonly counts = new Map<string, number>();
  private readonly label: string;

  constructor(label: string) {
    this.label = label;
  }

  add(reason: string, by = 1): void {
    this.counts.set(reason, (this.counts.get(reason) ?? 0) + by);
  }

  read = (): Sample[] =>
    [...this.counts].map(([reason, value]) => ({ labels: { [this.label]: reason }, value }));
}
