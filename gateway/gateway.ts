/** A gateway: its parts in their order. Ingress → buffer → uplink, and the API that shows them. */
import { hostname } from 'node:os';
import { gatewayOf } from '../shared/config/data-folder.ts';
import type { Env } from '../shared/env/env.ts';
import { HeadwaterError, codeOf, messageOf } from '../shared/errors.ts';
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
import { remotePart } from './uplink/remote-part.ts';
import type { RemoteAcceptance } from './choices.ts';
import { Remote } from './remote.ts';
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
  remotePart,
  ingressPart,
  sinkPart,
  statusPart,
  historyPart,
  boardPart,
  pagePart,
];

/**
 * The gateway's id: configured, or the one that its data folder is of (a host may be named anew), or made of the host's name.
 * Throws CONFIG_INVALID.
 */
export function gatewayId(configured: string, data = ''): string {
  const id =
    configured ||
    gatewayOf(data) ||
    hostname()
      .replaceAll(/[^A-Za-z0-9_.-]/g, '-')
      .slice(0, 64);
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

/** Where a start that fails says nothing about the settings that are on trial. */
const NOT_OF_SETTINGS: ReadonlySet<string> = new Set(['DATA_LOCKED', 'ADDRESS_IN_USE']);

/** Keys whose port may be left to the system: it stays the same when the parts are opened again. */
const LISTENERS = ['mqtt', 'mqtts', 'ws', 'wss', 'http'] as const;

export class Gateway {
  readonly id: string;
  /** Called when it could not open its parts again: nothing listens any more. */
  onFatal: (error: unknown) => void = () => undefined;
  private standing: Standing | undefined;
  private readonly context: Omit<GatewayContext, 'collectors' | 'standing'>;
  private readonly standIns: ReadonlyMap<unknown, unknown>;
  private site: Site<GatewayContext> | undefined;
  private given: readonly string[] | undefined;
  private addresses: GatewayAddresses | undefined;
  private turn: Promise<void> = Promise.resolve();
  private isClosing = false;

  /** `open` stands in another buffer, for tests of what would happen without a promise kept. */
  constructor(env: Env, config: GatewayConfig, notify: Notify, open?: BufferOpener) {
    this.standing = standingOf(config.data, config['enroll.tokenFile'], config.id);
    this.id = gatewayId(this.standing?.gateway ?? config.id, config.data);
    this.standIns = new Map(open === undefined ? [] : [[openerPart, open]]);
    const nowMs = (): number => env.clock.wallUs() / 1000;
    const acceptance = config['remote.accept'] as RemoteAcceptance; // One of the setting's choices.
    this.context = {
      id: this.id,
      config,
      env,
      notify,
      nowMs,
      remote: new Remote(config.data, this.id, acceptance, nowMs, notify),
      reopen: () => this.reopen(),
    };
  }

  /** Opens the buffer, then listens. `collectors` replaces the configured ones. Rejects with one clear sentence. */
  async start(collectors?: readonly string[]): Promise<GatewayAddresses> {
    this.given = collectors;
    return await this.begin();
  }

  /** With what is on trial, or, where that keeps it from starting, with what was in force before. */
  private async begin(): Promise<GatewayAddresses> {
    const { remote } = this.context;
    try {
      return await this.open();
    } catch (error) {
      if (remote.backAfterSeconds === undefined || NOT_OF_SETTINGS.has(codeOf(error))) throw error;
      await remote.back(`the gateway does not start with it: ${messageOf(error)}`);
      return await this.open();
    }
  }

  private async open(): Promise<GatewayAddresses> {
    const told = await this.context.remote.begin();
    const config = Object.freeze({ ...this.context.config, ...told, ...this.bound() });
    const site = new Site<GatewayContext>(
      { ...this.context, standing: this.standing, config, collectors: this.collectors(told) },
      GATEWAY_PARTS,
      new Set(),
      this.standIns,
    );
    this.site = site;
    await site.start();
    const { addresses } = site.get(ingressPart);
    return (this.addresses = { ...addresses, http: site.find(gatewayHttpPart)?.listening });
  }

  /** Where the parts listened before. */
  private bound(): object {
    const { addresses } = this;
    return Object.fromEntries(
      LISTENERS.filter((name) => addresses?.[name] !== undefined).map((name) => [
        `${name}.listen`,
        addresses?.[name],
      ]),
    );
  }

  /** What was declared from afar counts, then what is configured; an enrolled gateway knows its own. */
  private collectors(told: Record<string, unknown>): readonly string[] {
    if (Array.isArray(told['collectors'])) return told['collectors'].map(String);
    const { collectors } = this.context.config;
    const own = collectors.length > 0 ? collectors : (this.standing?.collectors ?? []);
    return this.given ?? own;
  }

  /** Devices are cut for the moment that it takes; what they sent is on disk, and the rest they send again. */
  private reopen(): void {
    this.turn = this.turn.then(async () => {
      if (this.isClosing) return;
      try {
        await this.site?.close();
        if (this.isClosing) return;
        // It may have been enrolled since.
        const { config, id } = this.context;
        this.standing = standingOf(config.data, config['enroll.tokenFile'], id);
        await this.begin();
      } catch (error) {
        this.onFatal(error);
      }
    });
  }

  /** What waits in the buffer, for the process that holds both sides. */
  get store(): MessageBuffer<Ticket> | undefined {
    return this.site?.find(bufferPart)?.buffer;
  }

  /** While it starts or closes: for what. */
  get waitsFor(): string | undefined {
    return this.site?.waitsFor;
  }

  /** Stops taking messages, makes pending ones durable and closes. Idempotent. */
  async close(): Promise<void> {
    this.isClosing = true;
    await this.turn;
    await this.site?.close();
  }
}
