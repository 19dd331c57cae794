/**
 * Notes in the log which mappings are in force since when, so that a later replay knows what they wrote. What cannot be noted now is
 * tried again until it is, or others are in force.
 */
import { wallMs, type Env } from '../../shared/env/env.ts';
import { Backoff } from '../../shared/env/backoff.ts';
import { Rest } from '../../shared/env/timers.ts';
import { messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { TOPIC_LEDGER, type Log } from '../log/log.ts';
import { MAPPING_PREFIX, inForceOf, type KeptVersion, type MappingVersion } from './mapping/set.ts';

const AGAIN = { firstMs: 500, mostMs: 10_000 };

export class VersionKeeper {
  private readonly log: Log;
  private readonly env: Env;
  private readonly notify: Notify;
  private readonly rest: Rest;
  /** The one to note; undefined: it is noted. */
  private wanted: MappingVersion | undefined;
  private running: Promise<void> = Promise.resolve();

  constructor(log: Log, env: Env, notify: Notify) {
    this.log = log;
    this.env = env;
    this.notify = notify;
    this.rest = new Rest(env.timers);
  }

  /** Resolves when it is noted, or that has failed once: it is tried again then. */
  async keep(version: MappingVersion): Promise<void> {
    this.wanted = version;
    this.rest.wake();
    await this.running;
    if (this.wanted !== version) return;
    const atMs = Math.round(wallMs(this.env));
    if (!(await this.note(version, atMs, true))) this.running = this.again(version, atMs);
  }

  private async again(version: MappingVersion, atMs: number): Promise<void> {
    const backoff = new Backoff(AGAIN);
    do await this.rest.for(backoff.next());
    while (this.wanted === version && !(await this.note(version, atMs, false)));
  }

  /** Whether it is noted. */
  private async note(version: MappingVersion, at: number, isFirst: boolean): Promise<boolean> {
    const { log } = this;
    try {
      const kept: KeptVersion[] = [];
      for (let partition = 0; partition < log.partitions; partition++)
        for (const { value } of await log.state(TOPIC_LEDGER, partition, MAPPING_PREFIX))
          kept.push(JSON.parse(value.toString('utf8')) as KeptVersion);
      const record = { at, ...version, inForce: inForceOf(kept, version.hash, at) };
      const value = Buffer.from(JSON.stringify(record));
      await log.append(TOPIC_LEDGER, [
        { key: `${MAPPING_PREFIX}${version.hash}`, headers: {}, value },
      ]);
      if (this.wanted === version) this.wanted = undefined;
      return true;
    } catch (error) {
      // A log that is away speaks for itself.
      if (isFirst && log.health().up)
        this.notify({
          level: 'warn',
          event: 'mappings_kept',
          text: `the mappings in force cannot be noted in the log now: ${messageOf(error)}`,
        });
      return false;
    }
  }

  async close(): Promise<void> {
    this.wanted = undefined;
    this.rest.wake();
    await this.running;
  }
}
