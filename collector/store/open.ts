/** The one place that knows the store adapters' names; it also loads a package that someone else wrote. */
import { HeadwaterError } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { CollectorConfig } from '../config.ts';
import { loadPackage } from '../log/open.ts';
import { STORE_CONTRACT_VERSION, type TimeSeriesStore } from './store.ts';

export interface StoreContext {
  config: CollectorConfig;
  notify: Notify;
  nowMs: () => number;
  /** From the environment only: a token on a command line can be read by everybody on the machine. */
  token: string | undefined;
}

/** What a third-party package exports: `contract` names the version it was written for. */
export interface StorePackage {
  contract: { store: number };
  createStore(context: StoreContext): TimeSeriesStore;
}

/** Creates the configured store; `open()` does the work. Throws ADAPTER_MISSING, ADAPTER_CONTRACT, CONFIG_INVALID. */
export async function createStore(context: StoreContext): Promise<TimeSeriesStore> {
  const { config, notify, nowMs, token } = context;
  const name = config.store;
  if (name === 'embedded') {
    const { DuckDbStore } = await import('./duckdb.ts');
    return new DuckDbStore(
      { folder: config.data, memoryBytes: config['store.memoryBytes'], now: nowMs },
      notify,
    );
  }
  if (name.startsWith('influxdb://') || name.startsWith('influxdbs://')) {
    const { InfluxStore, parseInfluxAddress } = await import('./influxdb.ts');
    return new InfluxStore({ ...parseInfluxAddress(name), token: token ?? '' }, notify);
  }
  const adapter = (await loadPackage(name, '--store')) as Partial<StorePackage>;
  if (
    adapter.contract?.store !== STORE_CONTRACT_VERSION ||
    typeof adapter.createStore !== 'function'
  ) {
    throw new HeadwaterError(
      'ADAPTER_CONTRACT',
      `--store ${name}: the package provides no store of contract version ${STORE_CONTRACT_VERSION}`,
    );
  }
  return adapter.createStore(context);
}
