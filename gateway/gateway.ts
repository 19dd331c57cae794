/** A gateway: its parts in their order. Ingress → buffer → uplink, and the API that shows them. */
import { hostname } from 'node:os';
import type { Env } from '../shared/env/env.ts';
import { HeadwaterError } from '../shared/errors.ts';
import type { Address } from '../shared/net/listen.ts';
import { Site, type Part } from '../shared/parts/site.ts';
import type { Notify } from '../shared/telemetry/log.ts';
import { GATEWAY_ID } from '../shared/wire/wire.ts';
import type { MessageBuffer } from './buffer/buffer.ts';
import { bufferPart, clockPart, openerPart, type BufferOpener } from './buffer/part.ts';
import type { Ticket } from './buffer/ticket.ts';
import type { GatewayConfig } from './config.ts';
import { guardPart } from './ingress/guard-part.ts';
import { ingressPart, type MqttAddresses } from './ingress/part.ts';
import { boardPart } from './ops/board.ts';
import { historyPart } from './ops/history.ts';
import { gatewayHttpPart, statusPart } from './ops/http.ts';
import { sinkPart } from './ops/ingest.ts';
import { pagePart } from './ops/page.ts';
import type { GatewayContext } from './part.ts';
import { enrollPart } from './uplink/enroll-part.ts';
import { uplinkAccessPart, uplinkPart } from './uplink/part.ts';
import { standingOf, type Standing } from './standing.ts';

/**
 * In this order they open. They close in reverse: first nothing comes in any more, then what came is made durable, and
 * senders by HTTP hear of that before their server goes.
 */
export const GATEWAY_PARTS: readonly Part<GatewayContext, unknown>[] = [
  guardPart,
  uplinkAccessPart,
  gatewayHttpPart,
  clockPart,
  openerPart,
  bufferPart,
  uplinkPart,
  enrollPart,
  ingressPart,
  sinkPart,
  statusPart,
  historyPart,
  boardPart,
  pagePart,
];

/** The gateway's id: configured, or made of the host's name. Throws CONFIG_INVALID. */
export function gatewayId(configured: string): string {
  const id =
    configured === ''
      ? hostname()
          .replaceAll(/[^A-Za-z0-9_.-]/g, '-')
          .slice(0, 64)
      : configured;
  if (!GATEWAY_ID.test(id)) {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `'${id}' cannot be a gateway's id: letters, digits, '_', '-' and '.', at most 64, the first a letter or digit (--id NAME)`,
    );
  }
  return id;
}

export interface GatewayAddresses extends MqttAddresses {
  http: Address | undefined;
}

export class Gateway {
  readonly id: string;
  private readonly standing: Standing | undefined;
  private readonly context: Omit<GatewayContext, 'collectors'>;
  private readonly standIns: ReadonlyMap<unknown, unknown>;
  private site: Site<GatewayContext> | undefined;

  /** `open` stands in another buffer, for tests of what would happen without a promise kept. */
  constructor(env: Env, config: GatewayConfig, notify: Notify, open?: BufferOpener) {
    this.standing = standingOf(config.data, config['enroll.tokenFile'], config.id);
    this.id = gatewayId(this.standing?.gateway ?? config.id);
    this.standIns = new Map(open === undefined ? [] : [[openerPart, open]]);
    this.context = {
      standing: this.standing,
      id: this.id,
      config,
      env,
      notify,
      nowMs: () => env.clock.wallUs() / 1000,
    };
  }

  /** Opens the buffer, then listens. `collectors` replaces the configured ones. Rejects with one clear sentence. */
  async start(collectors: readonly string[] = this.collectors()): Promise<GatewayAddresses> {
    const site = new Site<GatewayContext>(
      { ...this.context, collectors },
      GATEWAY_PARTS,
      new Set(),
      this.standIns,
    );
    this.site = site;
    await site.start();
    const { addresses } = site.get(ingressPart);
    return { ...addresses, http: site.find(gatewayHttpPart)?.listening };
  }

  /** What is configured counts; an enrolled gateway knows its own. */
  private collectors(): readonly string[] {
    const { collectors } = this.context.config;
    return collectors.length > 0 ? collectors : (this.standing?.collectors ?? []);
  }

  /** What waits in the buffer, for the process that holds both sides. */
  get store(): MessageBuffer<Ticket> | undefined {
    return this.site?.find(bufferPart)?.buffer;
  }

  /** Stops taking messages, makes pending ones durable and closes. Idempotent. */
  async close(): Promise<void> {
    await this.site?.close();
  }
}
