/**
 * Settings from afar as a part of a gateway: they come over the uplink, and the uplink proves them. Proven is what has
 * heard a collector and still has the link SETTLE_MS later: one that comes and goes is not back.
 */
import { checkLocation } from '../../shared/config/remote.ts';
import { messageOf } from '../../shared/errors.ts';
import type { About } from '../../shared/frame/notes.ts';
import { ownVersion } from '../../shared/parts/http.ts';
import { gauge } from '../../shared/telemetry/metrics.ts';
import type { GatewayContext, GatewayPart } from '../part.ts';
import type { Remote } from '../remote.ts';
import { uplinkPart } from './part.ts';
import type { Uplink } from './uplink.ts';

const SETTLE_MS = 10_000;

class Trying {
  readonly remote: Remote;
  private readonly context: GatewayContext;
  private readonly uplink: Uplink | undefined;
  private readonly settleMs: number;
  private endTimer: NodeJS.Timeout | undefined;
  private settleTimer: NodeJS.Timeout | undefined;
  private turn: Promise<void> = Promise.resolve();
  private isOver = false;

  constructor(context: GatewayContext, uplink: Uplink | undefined) {
    this.remote = context.remote;
    this.context = context;
    this.uplink = uplink;
    const seconds = this.remote.backAfterSeconds ?? 0;
    this.settleMs = Math.min(SETTLE_MS, (seconds * 1000) / 4);
  }

  start(): void {
    const { remote, uplink } = this;
    const seconds = remote.backAfterSeconds;
    if (uplink !== undefined) {
      uplink.onConfig = (config, collector) =>
        this.does(async () => {
          if (await remote.offer(config, collector)) this.context.reopen();
          else uplink.tell();
        });
      uplink.onHeard = () => this.heard();
      uplink.onLost = () => this.lost();
    }
    if (seconds === undefined) return;
    this.endTimer = setTimeout(() => {
      const { lastError } = uplink?.stats() ?? { lastError: 'no collector is named' };
      const why = lastError === '' ? '' : ` (${lastError})`;
      this.does(async () => {
        await remote.back(`the uplink did not come back within ${seconds} s${why}`);
        this.context.reopen();
      });
    }, seconds * 1000);
    this.endTimer.unref();
  }

  private heard(): void {
    if (this.remote.backAfterSeconds === undefined || this.settleTimer !== undefined) return;
    this.settleTimer = setTimeout(() => {
      clearTimeout(this.endTimer);
      this.does(async () => {
        await this.remote.prove();
        this.uplink?.tell();
      });
    }, this.settleMs);
    this.settleTimer.unref();
  }

  private lost(): void {
    clearTimeout(this.settleTimer);
    this.settleTimer = undefined;
  }

  /** One after the other. What cannot be written down is not done, and comes again with the next status. */
  private does(work: () => Promise<void>): void {
    this.turn = this.turn.then(async () => {
      if (!this.isOver) await work();
    });
    this.turn = this.turn.catch((error: unknown) => {
      const text = `what came from afar could not be noted: ${messageOf(error)}`;
      this.context.notify({ level: 'error', event: 'remote_config', text });
    });
  }

  async stop(): Promise<void> {
    this.isOver = true;
    clearTimeout(this.endTimer);
    clearTimeout(this.settleTimer);
    await this.turn;
  }
}

/** What a status tells beside what is held. */
function aboutOf({ config }: GatewayContext): About {
  const [latitude, longitude] = [config['location.latitude'], config['location.longitude']];
  return {
    version: ownVersion(),
    ...(latitude === '' ? {} : { location: [Number(latitude), Number(longitude)] }),
  };
}

export const remotePart: GatewayPart<Trying> = {
  name: 'settings from afar',
  open: (site) => {
    const { context } = site;
    checkLocation(context.config);
    const uplink = site.find(uplinkPart);
    if (uplink !== undefined) {
      const about = aboutOf(context);
      uplink.about = () => ({ about, config: context.remote.report() });
    }
    return new Trying(context, uplink);
  },
  start: (trying) => {
    trying.start();
    return Promise.resolve();
  },
  health: ({ remote }) => {
    const { failed } = remote.report();
    const why = failed && `settings from afar were ${failed.state}: ${failed.why}`;
    return [{ name: 'settings from afar', why, isEssential: false }];
  },
  metrics: {
    headwater_gateway_remote_config_state: gauge(
      'Settings from afar: 0 none, 1 in force, 2 on trial, 3 the last were refused or rolled back.',
      ({ remote }) => {
        const { applied, trying, failed } = remote.report();
        if (trying !== undefined) return 2;
        if (failed !== undefined) return 3;
        return applied === undefined ? 0 : 1;
      },
    ),
  },
  close: (trying) => trying.stop(),
};
