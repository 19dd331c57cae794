/** What dashboards of metrics are put together from: PromQL over documented names (docs/metrics.md), and steps of colour. */
import type { AnnotationSpec, PanelSpec, QuerySpec, Step } from './model.ts';

/** A metric of those that the variable `instance`, or another one, has chosen. */
export const of = (metric: string, chosen = 'instance'): string =>
  `${metric}{instance=~"$${chosen}"}`;

export const rate = (metric: string, chosen?: string): string =>
  `rate(${of(metric, chosen)}[$__rate_interval])`;

export const UP: NonNullable<PanelSpec['states']> = {
  0: { text: 'down', color: 'red' },
  1: { text: 'up', color: 'green' },
};

/** Less is worse. */
export const below = (red: number, orange: number): Step[] => [
  { from: -Infinity, color: 'red' },
  { from: red, color: 'orange' },
  { from: orange, color: 'green' },
];

/** More is worse. */
export const above = (orange: number, red: number): Step[] => [
  { from: -Infinity, color: 'green' },
  { from: orange, color: 'orange' },
  { from: red, color: 'red' },
];

export const NONE_IS_WELL: Step[] = [
  { from: -Infinity, color: 'green' },
  { from: 1, color: 'red' },
];

/** Without a name of an instance: what happened to any is told beside all. */
export const OUTAGES: AnnotationSpec[] = [
  {
    name: 'Outages',
    color: 'red',
    // Grafana marks the moments at which it is 1.
    query: 'headwater_uplink_connected == bool 0',
    text: '{{instance}} has no collector: it keeps what devices send',
    tags: 'instance',
  },
  {
    name: 'Backfill',
    color: 'orange',
    query: 'rate(headwater_uplink_backlog_bytes_total[$__rate_interval]) > bool 0',
    text: '{{instance}} sends what it held',
    tags: 'instance',
  },
];

type Panelled = Pick<PanelSpec, 'unit' | 'thresholds' | 'beyond' | 'queries'>;

/** A series of each instance, called after it; `more` tells several of one instance apart. */
export const each = (query: string, more?: string): QuerySpec => ({
  query,
  alias: more === undefined ? '{{instance}}' : `{{instance}} ${more}`,
});

/** What a panel of metrics has beside its kind and place. */
type Rest = Omit<PanelSpec, 'title' | 'kind' | 'about' | 'width' | 'height'> & { height?: number };

/** Lines over the range. */
export const chart = (title: string, about: string, width: number, rest: Rest): PanelSpec => ({
  title,
  kind: 'timeseries',
  about,
  width,
  height: 8,
  ...rest,
});

/** How it is now. */
export const figure = (title: string, about: string, width: number, rest: Rest): PanelSpec => ({
  title,
  kind: 'stat',
  about,
  width,
  height: 5,
  ...rest,
});

/** How full buffers are, of the gateways that a variable has chosen. */
export const bufferFill = (chosen?: string): Panelled => ({
  unit: 'percentunit',
  thresholds: above(0.7, 0.9),
  queries: [
    each(
      `${of('headwater_buffer_disk_bytes', chosen)} / ${of('headwater_buffer_disk_limit_bytes', chosen)}`,
    ),
  ],
});

export const bufferFullIn = (chosen?: string): Panelled => ({
  unit: 's',
  thresholds: below(6 * 3600, 24 * 3600),
  beyond: { from: 1e9, text: 'not in sight', color: 'green' },
  queries: [each(of('headwater_buffer_full_in_seconds', chosen))],
});
