/** The log as a part of a collector. */
import { gauge } from '../../shared/telemetry/metrics.ts';
import type { CollectorPart } from '../part.ts';
import type { Log } from './log.ts';
import { AwaitedLog } from './awaited.ts';
import { createLog } from './open.ts';

export const logPart: CollectorPart<Log> = {
  name: 'log',
  where: ({ config }) => `the log at ${config.log}`,
  open: async ({ context: { config, notify, nowMs, env } }) => {
    const make = (): Promise<Log> => createLog({ config, notify, nowMs });
    // One of this machine is there, or is not; another one may be away.
    const isEmbedded = config.log === 'embedded';
    const log = isEmbedded
      ? await make()
      : new AwaitedLog({ address: config.log, make, notify, time: env });
    try {
      await log.open();
    } catch (error) {
      await log.close();
      throw error;
    }
    if (isEmbedded)
      for (const text of log.warnings()) notify({ level: 'warn', event: 'log', text });
    return log;
  },
  // Who takes messages can take none while they cannot be appended.
  health: (log, site) => {
    const { up, reason } = log.health();
    const why = up ? undefined : `the log: ${reason}`;
    return [{ name: 'log', why, isEssential: site.hasRole('ingest') }];
  },
  metrics: {
    headwater_log_up: gauge(
      '1 while the log can be read and written, as far as is known.',
      (log) => (log.health().up ? 1 : 0),
    ),
    headwater_log_since_time_seconds: gauge(
      'Since when the log is up or down, seconds since 1970 UTC.',
      (log) => log.health().sinceMs / 1000,
    ),
    headwater_log_lag_records: gauge(
      'Records that a stage has still to read; NaN while that is not known.',
      (log) =>
        log.groups().map(({ group, topic, lagRecords }) => ({
          labels: { group, topic },
          value: lagRecords ?? Number.NaN,
        })),
    ),
  },
  close: (log) => log.close(),
};
