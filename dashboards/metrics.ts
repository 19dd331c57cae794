/** What dashboards of metrics are put together from: PromQL over documented names (docs/metrics.md), and steps of colour. */
import type { PanelSpec, Step } from './model.ts';

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
