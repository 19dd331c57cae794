/** How far lake and store have come in the log, and waiting until each has what the others had. */
import { HeadwaterError } from '../../shared/errors.ts';
import type { Lake } from '../lake/lake.ts';
import { TOPIC_READINGS, TOPIC_RESULTS, type Log } from '../log/log.ts';
import type { StoreStage } from '../store/stage.ts';
import type { AuditBounds } from './compare.ts';
import { lakeState } from './log-side.ts';
import type { Other } from './mend.ts';

const POLL_MS = 200;
/** For the stages to come as far as each other. */
const SETTLE_MS = 600_000;
/** For what was said again, while more comes in all the time. */
const HEARD_MS = 30_000;

export interface Followed {
  log: Log;
  lake: Lake | undefined;
  storing: StoreStage | undefined;
}

export class Progress {
  private readonly stages: Followed;
  private readonly wait: (ms: number) => Promise<void>;
  private readonly isStopped: () => boolean;

  constructor(stages: Followed, wait: (ms: number) => Promise<void>, isStopped: () => boolean) {
    this.stages = stages;
    this.wait = wait;
    this.isStopped = isStopped;
  }

  /** What of the topic `readings` lake and store have taken. */
  async bounds(): Promise<Map<number, AuditBounds>> {
    const { log, lake } = this.stages;
    await this.looked();
    const bounds = new Map<number, AuditBounds>();
    for (let partition = 0; partition < log.partitions; partition++) {
      const stored = await this.stored(TOPIC_READINGS, partition);
      const state = lake === undefined ? undefined : await lakeState(log, 'readings', partition);
      if (lake !== undefined && state === undefined) continue;
      const to = Math.min(stored ?? Infinity, state?.next ?? Infinity);
      if (to !== Infinity)
        bounds.set(partition, {
          from: Math.min(state?.beside ?? state?.begins ?? 0, to),
          to,
          writer: state?.log,
        });
    }
    return bounds;
  }

  /** Until the lake's stages here know whether the log is an older copy. Throws LAKE_UNAVAILABLE after a while. */
  private async looked(): Promise<void> {
    const end = performance.now() + SETTLE_MS;
    while ((this.stages.lake?.settling.size ?? 0) > 0 && !this.isStopped()) {
      if (performance.now() > end)
        throw new HeadwaterError('LAKE_UNAVAILABLE', 'the lake has not been looked at yet');
      await this.wait(POLL_MS);
    }
  }

  private async stored(topic: string, partition: number): Promise<number | undefined> {
    const { log, storing } = this.stages;
    if (storing === undefined) return undefined;
    const own = storing.readTo(topic, partition);
    return own ?? (await log.committedBy?.(storing.group(topic), topic))?.get(partition);
  }

  /** The same once the stages have read what was said again just now, as far as the log can tell how much waits. */
  async heard(): Promise<void> {
    const { log } = this.stages;
    const end = performance.now() + HEARD_MS;
    for (let quiet = 0; quiet < 2 && performance.now() < end && !this.isStopped(); ) {
      await this.wait(POLL_MS);
      const groups = log.groups().filter(({ group }) => /-lake-re|-store-/.test(group));
      quiet = groups.every(({ lagRecords }) => lagRecords === 0) ? quiet + 1 : 0;
    }
    await this.settled();
  }

  /** Until every stage has what the others had when it was asked. Throws LAKE_UNAVAILABLE after a while. */
  async settled(): Promise<void> {
    const { log, lake } = this.stages;
    const end = performance.now() + SETTLE_MS;
    const far = async (topic: 'readings' | 'results', partition: number): Promise<number[]> => [
      (await this.stored(topic === 'readings' ? TOPIC_READINGS : TOPIC_RESULTS, partition)) ??
        Infinity,
      lake === undefined ? Infinity : ((await lakeState(log, topic, partition))?.next ?? 0),
    ];
    for (const topic of ['readings', 'results'] as const)
      for (let partition = 0; partition < log.partitions; partition++) {
        const target = Math.max(...(await far(topic, partition)).filter(Number.isFinite), 0);
        while (!this.isStopped() && Math.min(...(await far(topic, partition))) < target) {
          if (performance.now() > end)
            throw new HeadwaterError(
              'LAKE_UNAVAILABLE',
              `of ${topic} the stages have not come as far as each other in ${SETTLE_MS / 60_000} minutes`,
            );
          await this.wait(POLL_MS);
        }
      }
  }

  /** Whether what nothing but the store has may have been in a log or a lake that is lost. */
  async other(): Promise<Other | undefined> {
    const { storing, lake, log } = this.stages;
    const how = storing?.other;
    if (how === undefined || lake === undefined) return undefined;
    const own = new Set<string>();
    for (let partition = 0; partition < log.partitions; partition++)
      own.add((await lakeState(log, 'readings', partition))?.log ?? '');
    const isNew = (await lake.files('readings')).every((file) => own.has(file.log));
    return { isOurs: how === 'older' || isNew };
  }
}
