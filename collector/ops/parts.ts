/** Who may come, and whether there is room: the first parts of a collector. */
import { claimFolder, isNewFolder } from '../../shared/config/data-folder.ts';
import { CERTIFICATE_METRICS, certificateHealth } from '../../shared/access/tls-metrics.ts';
import { gauge } from '../../shared/telemetry/metrics.ts';
import { freeBytes } from '../../shared/telemetry/process.ts';
import { FolderLock } from '../../shared/kv/folder-lock.ts';
import type { CollectorPart } from '../part.ts';
import { DiskGuard } from './disk-guard.ts';
import { CollectorGuard } from './guard.ts';
import { changed, noteServed, servedBefore } from './served.ts';
import { NewFolder } from './new-folder.ts';

export const guardPart: CollectorPart<CollectorGuard> = {
  name: 'guard',
  open: (site) => {
    const { config, env, notify } = site.context;
    const guard = new CollectorGuard(config, env, notify);
    guard.check(config, site.hasRole('ingest'), notify);
    return guard;
  },
  metrics: CERTIFICATE_METRICS,
  health: certificateHealth,
  close: (guard) => guard.close(),
};

/** The data folder: this process's own, and watched. */
export const diskPart: CollectorPart<DiskGuard> = {
  name: 'disk',
  open: async ({ context: { config, notify } }) => {
    const isNew = await isNewFolder(config.data);
    const trouble = await claimFolder(config.data, 'collector', '');
    // The embedded log sees to it that one process has the folder.
    const lock = config.log === 'embedded' ? undefined : await FolderLock.take(config.data);
    if (trouble !== undefined) notify({ level: 'warn', event: 'data_folder', text: trouble });
    const was = await servedBefore(config.data);
    const guard = new DiskGuard(config.data, config['disk.freeBytesMin'], notify);
    guard.lock = lock;
    guard.others = changed(was, config);
    guard.found = trouble;
    guard.newFolder = new NewFolder(config.data, isNew, notify);
    await guard.start();
    return guard;
  },
  // Only what opened is noted: a mistyped one is not what was used.
  start: async ({ others }, { context: { config, notify } }) => {
    for (const text of others) notify({ level: 'warn', event: 'served_other', text });
    await noteServed(config.data, config);
  },
  metrics: {
    headwater_disk_free_bytes: gauge(
      'Free under the data folder; NaN where it cannot be asked.',
      (guard) => freeBytes(guard.folder),
    ),
  },
  health: ({ full }) => [{ name: 'disk', why: full, isEssential: true }],
  close: async (guard) => {
    guard.stop();
    await guard.lock?.close();
  },
};
