/** What every process shows of itself: memory, CPU, start. */
import { statfsSync } from 'node:fs';
import { counter, gauge, type MetricTable } from './metrics.ts';
import { standstill } from './standstill.ts';

const startedSeconds = Math.round(performance.timeOrigin / 1000);

export const PROCESS_METRICS: MetricTable<unknown> = {
  headwater_process_resident_memory_bytes: gauge('Resident memory of the process.', () =>
    process.memoryUsage.rss(),
  ),
  headwater_process_cpu_seconds_total: counter('User and system CPU time of the process.', () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  }),
  headwater_process_start_time_seconds: gauge(
    'When the process started, seconds since 1970 UTC.',
    () => startedSeconds,
  ),
  headwater_process_standstill_seconds_total: counter(
    'Seconds for which the process stood still and answered nobody, five or more at a time: it was stopped, or got no processor.',
    () => standstill.seconds,
  ),
};

/** Free for this process; NaN where the folder cannot be asked. One call of the system, microseconds. */
export function freeBytes(folder: string): number {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  } catch {
    return Number.NaN;
  }
}
