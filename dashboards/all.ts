/** All dashboards: file name → model. */
import type { Dashboard } from '@grafana/schema';
import { ALERTS } from './alerts.ts';
import { EXPLORER } from './explorer.ts';
import { FLEET } from './fleet.ts';
import { GATEWAY } from './gateway.ts';
import { dashboard } from './grafana.ts';
import { LEDGER } from './ledger.ts';
import type { DashboardSpec } from './model.ts';
import { OPERATIONS } from './operations.ts';
import { QUALITY } from './quality.ts';
import { RESULTS } from './results.ts';

/** Those that ask the store, in InfluxQL. */
export const SPECS: Record<string, DashboardSpec> = {
  fleet: FLEET,
  explorer: EXPLORER,
  quality: QUALITY,
  ledger: LEDGER,
  results: RESULTS,
  alerts: ALERTS,
};

/** Those that ask Prometheus, in PromQL. */
export const METRIC_SPECS: Record<string, DashboardSpec> = {
  operations: OPERATIONS,
  gateway: GATEWAY,
};

export function dashboards(): Record<string, Dashboard> {
  return Object.fromEntries(
    Object.entries({ ...SPECS, ...METRIC_SPECS }).map(([name, spec]) => [name, dashboard(spec)]),
  );
}
