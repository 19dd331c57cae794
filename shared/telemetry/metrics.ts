/** Prometheus text exposition 0.0.4. A metric is declared once with its help text and read when it is asked for. */

export type Labels = Record<string, string>;

interface Metric {
  type: 'counter' | 'gauge';
  help: string;
  read: () => number | { labels: Labels; value: number }[];
}

export class Metrics {
  private readonly metrics = new Map<string, Metric>();

  /** A value that only grows; `name` ends in `_total`. */
  counter(name: string, help: string, read: Metric['read']): void {
    this.metrics.set(name, { type: 'counter', help, read });
  }

  gauge(name: string, help: string, read: Metric['read']): void {
    this.metrics.set(name, { type: 'gauge', help, read });
  }

  /** Name, type and help of all that are declared: the reference page is made of it. */
  list(): { name: string; type: string; help: string }[] {
    return [...this.metrics].map(([name, { type, help }]) => ({ name, type, help }));
  }

  text(): string {
    const lines: string[] = [];
    for (const [name, { type, help, read }] of this.metrics) {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
      const value = read();
      if (typeof value === 'number') lines.push(`${name} ${value}`);
      else
        for (const { labels, value: each } of value)
          lines.push(`${name}${labelText(labels)} ${each}`);
    }
    return `${lines.join('\n')}\n`;
  }
}

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

  read = (): { labels: Labels; value: number }[] =>
    [...this.counts].map(([reason, value]) => ({ labels: { [this.label]: reason }, value }));
}

/** What every process shows: memory, CPU, start. */
export function processMetrics(metrics: Metrics): void {
  metrics.gauge('headwater_process_resident_memory_bytes', 'Resident memory of the process.', () =>
    process.memoryUsage.rss(),
  );
  metrics.counter(
    'headwater_process_cpu_seconds_total',
    'User and system CPU time of the process.',
    () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1e6;
    },
  );
  const startedSeconds = Math.round(performance.timeOrigin / 1000);
  metrics.gauge(
    'headwater_process_start_time_seconds',
    'When the process started, seconds since 1970 UTC.',
    () => startedSeconds,
  );
}
