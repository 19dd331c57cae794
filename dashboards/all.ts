/** All dashboards: file name → model. */
import type { Dashboard } from '@grafana/schema';
import { ALERTS } from './alerts.ts';
import { EXPLORER } from './explorer.ts';
import { FLEET } from './fleet.ts';
import { dashboard, type DashboardSpec } from './model.ts';

export const SPECS: Record<string, DashboardSpec> = {
  fleet: FLEET,
  explorer: EXPLORER,
  alerts: ALERTS,
};

export function dashboards(): Record<string, Dashboard> {
  return Object.fromEntries(Object.entries(SPECS).map(([name, spec]) => [name, dashboard(spec)]));
}
