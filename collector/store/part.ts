/** The store, and the stage that fills it, as parts of a collector. */
import { processTimers, within } from '../../shared/env/timers.ts';
import { counter, gauge } from '../../shared/telemetry/metrics.ts';
import { lakePart } from '../lake/part.ts';
import { logPart } from '../log/part.ts';
import { diskPart } from '../ops/parts.ts';
import type { CollectorPart } from '../part.ts';
import { createStore } from './open.ts';
import { StoreStage } from './stage.ts';
import type { TimeSeriesStore } from './store.ts';

/** A start waits for a server no longer. */
const OTHER_MS = 3000;

export const storePart: CollectorPart<TimeSeriesStore> = {
  name: 'store',
  where: ({ config }) => `the store at ${config.store}`,
  roles: ['store', 'query'],
  open: async (site) => {
    const { config, notify, nowMs, influxToken } = site.context;
    const store = await createStore({ config, notify, nowMs, token: influxToken });
    try {
      await store.open();
    } catch (error) {
      await store.close();
      throw error;
    }
    const { newFolder } = site.get(diskPart);
    // One that is away now says nothing, and is not waited for.
    const series = newFolder.isNew
      ? await within(processTimers, OTHER_MS, store.series()).catch(() => [])
      : undefined;
    if (series !== undefined && series.length > 0)
      newFolder.remember('store', `the store (${store.kind}) has ${series.length} series already`);
    return store;
  },
  close: (store) => store.close(),
};

export const storeStagePart: CollectorPart<StoreStage> = {
  name: 'storing',
  roles: ['store'],
  open: (site) => {
    const { config, notify } = site.context;
    const stage = new StoreStage({
      log: site.get(logPart),
      store: site.get(storePart),
      notify,
      fillRate: config['store.fillReadingsPerSecond'],
    });
    stage.start();
    return stage;
  },
  // What a store lacks comes from the lake and, where that is short as well, from raw: the rebuild says so itself.
  start: async (stage, site) => {
    stage.fill.lake = site.find(lakePart);
  },
  metrics: {
    headwater_store_up: gauge(
      '1 while what is decoded is stored; 0 while storing waits.',
      (stage) => (stage.running().some((each) => each.state().state === 'waits') ? 0 : 1),
    ),
    headwater_store_moved_readings_total: counter(
      'Readings whose time was put right after they had been written.',
      (stage) => stage.movedReadings,
    ),
    headwater_store_readings_total: counter(
      'Readings written to the store.',
      (stage) => stage.storedReadings,
    ),
    headwater_store_removed_readings_total: counter(
      'Points that a replay took away, since a changed mapping puts them elsewhere.',
      (stage) => stage.removedReadings,
    ),
    headwater_store_refused_total: counter(
      'Readings refused by the store, by reason.',
      ({ refusedBy }) => refusedBy.read(),
    ),
    headwater_store_filled_readings_total: counter(
      'Readings that the store was given from the lake, since the log no longer had them.',
      ({ fill }) => fill.filledReadings,
    ),
    headwater_store_incomplete: gauge(
      '1 while the store lacks something of what the lake or raw has.',
      ({ fill }) => (fill.incomplete().length > 0 ? 1 : 0),
    ),
  },
  close: (stage) => stage.close(),
};
