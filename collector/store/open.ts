/** The one place that knows the store adapters' names; it also loads a package that someone else wrote. */
import { join } from 'node:path';
import type { AnyDefinition, StoreDefinition } from '../../contracts/define.ts';
import { TokenSource, checkPlaintext } from './credentials.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { loadAdapter } from '../adapters.ts';
import type { CollectorConfig } from '../config.ts';
import { made } from '../guard.ts';
import { GuardedStore, STORE_METHODS } from './guarded.ts';
import { STORE_CONTRACT_VERSION, type TimeSeriesStore } from './store.ts';

export interface StoreContext {
  config: CollectorConfig;
  notify: Notify;
  nowMs: () => number;
  /** From the environment only: a token on a command line can be read by everybody on the machine. */
  token: string | undefined;
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
  // Whoever gives InfluxDB's own URL is told how it is written here.
  if (/^(influxdb|https?:)/i.test(name)) {
    const { InfluxStore, parseInfluxAddress } = await import('./influxdb.ts');
    const target = parseInfluxAddress(name);
    const tokens = new TokenSource(config['store.tokenFile'], token ?? '', notify);
    checkPlaintext(target.url, tokens.now() !== '', config.allowPlaintext, notify);
    const caFile = config['store.caFile'];
    return new InfluxStore({ ...target, token: () => tokens.now(), caFile }, notify);
  }
  type Given = StoreDefinition & AnyDefinition;
  const found = await loadAdapter<Given>('store', STORE_CONTRACT_VERSION, name, '--store', config);
  const { definition, address, options } = found;
  const folder = join(config.data, `store-${definition.name}`);
  const store = made(
    `--store ${name}`,
    () => definition.create({ address, options, folder, notify, nowMs }),
    STORE_METHODS,
  );
  return new GuardedStore(store, definition.name, definition.supports);
}
