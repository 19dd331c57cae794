/** Notes in the log which mappings are in force since when, so that a later replay knows what they wrote. */
import { wallMs, type Env } from '../../shared/env/env.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { TOPIC_LEDGER, type Log } from '../log/log.ts';
import { Noting, unlessAway } from '../log/noting.ts';
import { MAPPING_PREFIX, inForceOf, type KeptVersion, type MappingVersion } from './mapping/set.ts';

export class VersionKeeper {
  private readonly log: Log;
  private readonly env: Env;
  private readonly noting: Noting;

  constructor(log: Log, env: Env, notify: Notify) {
    this.log = log;
    this.env = env;
    const tell = unlessAway(log, notify, 'mappings_kept', 'the mappings in force');
    this.noting = new Noting(env.timers, tell);
  }

  /** Resolves when it is noted, or that has failed once: it is tried again then, until it is or others are in force. */
  async keep(version: MappingVersion): Promise<void> {
    const atMs = Math.round(wallMs(this.env));
    await this.noting.note('in force', () => this.note(version, atMs));
  }

  private async note(version: MappingVersion, at: number): Promise<void> {
    const { log } = this;
    const kept: KeptVersion[] = [];
    for (let partition = 0; partition < log.partitions; partition++)
      for (const { value } of await log.state(TOPIC_LEDGER, partition, MAPPING_PREFIX))
        kept.push(JSON.parse(value.toString('utf8')) as KeptVersion);
    const record = { at, ...version, inForce: inForceOf(kept, version.hash, at) };
    const value = Buffer.from(JSON.stringify(record));
    const key = `${MAPPING_PREFIX}${version.hash}`;
    await log.append(TOPIC_LEDGER, [{ key, headers: {}, value }]);
  }

  async close(): Promise<void> {
    await this.noting.close();
  }
}
