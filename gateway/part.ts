/** What every part of a gateway may use, and how one is found: see `shared/parts/site.ts`. */
import type { Env } from '../shared/env/env.ts';
import type { Right } from '../shared/http/route.ts';
import type { Part, Site } from '../shared/parts/site.ts';
import type { Notify } from '../shared/telemetry/log.ts';
import type { GatewayConfig } from './config.ts';
import type { Remote } from './remote.ts';
import type { Standing } from './standing.ts';

export interface GatewayContext {
  id: string;
  config: GatewayConfig;
  env: Env;
  notify: Notify;
  collectors: readonly string[];
  /** Undefined: set up by hand. */
  standing: Standing | undefined;
  nowMs: () => number;
  remote: Remote;
  /** Closes every part and opens them again, with the settings that count by then. */
  reopen: () => void;
}

export type GatewayPart<Running> = Part<GatewayContext, Running>;
export type GatewaySite = Site<GatewayContext>;

/** What is about this gateway is for who may see it. */
export const READ_HERE: Right = { scope: 'read', subject: 'here' };
