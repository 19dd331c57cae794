/** What every part of a collector may use, and how one is found: see `shared/part.ts`. */
import type { Env } from '../shared/env/env.ts';
import type { Part, Site } from '../shared/parts/site.ts';
import type { Notify } from '../shared/telemetry/log.ts';
import type { CollectorConfig, Role } from './config.ts';

export interface CollectorContext {
  config: CollectorConfig;
  env: Env;
  notify: Notify;
  /** After those of the configured file. */
  extraMappings: readonly { file: string; text: string }[];
  /** From the environment only. */
  influxToken: string | undefined;
  nowMs: () => number;
  /** Random, for jobs and for groups that are this process's own. */
  newId: () => string;
}

export type CollectorSite = Site<CollectorContext>;

export interface CollectorPart<Running> extends Part<CollectorContext, Running> {
  readonly roles?: readonly Role[];
}
