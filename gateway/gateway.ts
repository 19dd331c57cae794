/** A gateway: ingress → buffer → uplink, and the API that shows them. */
import { hostname } from 'node:os';
import { claimFolder } from '../shared/config/data-folder.ts';
import { checkExposure } from '../shared/config/exposure.ts';
import { Passwords, optionalSecret } from '../shared/config/secrets.ts';
import type { Env } from '../shared/env/env.ts';
import { HeadwaterError } from '../shared/errors.ts';
import type { Address } from '../shared/http/listen.ts';
import type { HttpServer } from '../shared/http/server.ts';
import type { Notify } from '../shared/telemetry/log.ts';
import { GATEWAY_ID } from '../shared/wire/wire.ts';
import type { BufferEvents, MessageBuffer } from './buffer/buffer.ts';
import type { Policy } from './buffer/upkeep.ts';
import { openBuffer, type OpenBufferOptions } from './buffer/open.ts';
import type { GatewayConfig } from './config.ts';
import { Ingress, type Ticket } from './ingress/ingress.ts';
import { gatewayApi } from './ops/api.ts';
import type { BacklogOrder } from './uplink/session.ts';
import { GatewayClock } from './clock.ts';
import { Uplink } from './uplink/uplink.ts';

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

export type BufferOpener = (
  env: Env,
  options: OpenBufferOptions,
  events: BufferEvents<Ticket>,
) => Promise<MessageBuffer<Ticket>>;

export interface GatewayAddresses {
  mqtt: Address | undefined;
  http: Address | undefined;
}

export class Gateway {
  readonly id: string;
  private readonly env: Env;
  private readonly config: GatewayConfig;
  private readonly notify: Notify;
  private readonly open: BufferOpener;
  private readonly clock: GatewayClock;
  private buffer: MessageBuffer<Ticket> | undefined;
  private ingress: Ingress | undefined;
  private uplink: Uplink | undefined;
  private api: HttpServer | undefined;
  private closing: Promise<void> | undefined;

  /** `open` stands in another buffer, for tests of what would happen without a promise kept. */
  constructor(env: Env, config: GatewayConfig, notify: Notify, open: BufferOpener = openBuffer) {
    this.env = env;
    this.config = config;
    this.notify = notify;
    this.open = open;
    this.id = gatewayId(config.id);
    this.clock = new GatewayClock(env, config['clock.trusted']);
  }

  /** Opens the buffer, then listens. `collectors` replaces the configured ones. Rejects with one clear sentence. */
  async start(collectors: readonly string[] = this.config.collectors): Promise<GatewayAddresses> {
    const { config, env, notify } = this;
    const passwords =
      config['mqtt.passwordFile'] === '' ? undefined : new Passwords(config['mqtt.passwordFile']);
    const token = optionalSecret(config['http.tokenFile'], 'API token');
    const secret = optionalSecret(config['uplink.secretFile'], 'uplink secret');
    checkExposure(
      [
        {
          address: config['mqtt.listen'],
          flag: '--mqtt',
          protected: passwords !== undefined,
          credentialFlag: '--password-file FILE',
        },
        {
          address: config['http.listen'],
          flag: '--gateway-http',
          protected: token !== undefined,
          credentialFlag: '--token-file FILE',
        },
      ],
      config.allowPlaintext,
      notify,
    );
    for (const url of collectors) checkCollector(url);
    await claimFolder(config.data, 'gateway', this.id);
    const buffer = await this.open(
      env,
      {
        folder: config.data,
        gateway: this.id,
        diskBytesMax: config['buffer.diskBytesMax'],
        reserveBytes: config['buffer.reserveBytes'],
        frameBytes: config['buffer.frameBytes'],
        pendingBytesMax: config['buffer.pendingBytesMax'],
        cacheBytes: config['buffer.cacheBytes'],
        compress: config['buffer.compress'],
        historyBytesMax: config['buffer.historyBytesMax'],
        policy: config['buffer.whenFull'] as Policy, // One of the setting's choices.
        clock: this.clock,
      },
      {
        onDurable: (tickets) => this.ingress?.release(tickets),
        onFrame: () => this.uplink?.wake(),
        onRelief: () => this.ingress?.relieve(),
        onNotice: notify,
      },
    );
    this.buffer = buffer;
    try {
      return await this.serve(buffer, collectors, passwords, token, secret);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  private async serve(
    buffer: MessageBuffer<Ticket>,
    collectors: readonly string[],
    passwords: Passwords | undefined,
    token: string | undefined,
    secret: string | undefined,
  ): Promise<GatewayAddresses> {
    const { config, env, notify } = this;
    const ingress = new Ingress(
      env,
      {
        mqtt: {
          connectBytesMax: config['limits.connectBytesMax'],
          packetBytesMax: config['limits.packetBytesMax'],
          clientIdBytesMax: config['limits.clientIdBytesMax'],
          filtersMax: config['limits.filtersMax'],
        },
        server: {
          connectionsMax: config['limits.connectionsMax'],
          connectionsPerAddressMax: config['limits.connectionsPerAddressMax'],
          connectTimeoutMs: config['limits.connectTimeoutMs'],
        },
        retained: {
          messagesMax: config['limits.retainedMessagesMax'],
          bytesMax: config['limits.retainedBytesMax'],
        },
        qos2InFlightMax: config['limits.qos2InFlightMax'],
        offlineMessagesMax: config['limits.offlineMessagesMax'],
        subscriberStallMs: config['limits.subscriberStallMs'],
        verify: passwords?.verify,
      },
      buffer,
      notify,
    );
    this.ingress = ingress;
    await ingress.start();
    if (collectors.length > 0) {
      this.uplink = new Uplink(
        env,
        {
          gateway: this.id,
          collectors: [...collectors],
          secret,
          windowBytes: config['uplink.windowBytes'],
          publishBytesMax: config['uplink.publishBytesMax'],
          ackTimeoutMs: config['uplink.ackTimeoutMs'],
          keepAliveSeconds: config['uplink.keepAliveSeconds'],
          reconnectMs: { first: 250, most: config['uplink.reconnectMsMax'] },
          bytesPerSecond: config['uplink.bytesPerSecond'],
          bytesPerDay: config['uplink.bytesPerDay'],
          statusMs: config['uplink.statusMs'],
          order: config['uplink.backlogOrder'] as BacklogOrder, // One of the setting's choices.
          liveAgeMs: config['uplink.liveAgeMs'],
          backlogAgeMaxMs: config['uplink.backlogAgeMaxMs'],
        },
        buffer, // The uplink reads and releases; it never makes a ticket.
        this.clock,
        notify,
      );
    }
    const httpAddress = config['http.listen'];
    let http: Address | undefined;
    if (httpAddress !== undefined) {
      const parts = {
        id: this.id,
        buffer: buffer as MessageBuffer<never>,
        ingress,
        uplink: this.uplink,
        nowMs: () => env.clock.wallUs() / 1000,
      };
      this.api = gatewayApi(parts, token);
      http = await this.api.listen(httpAddress, '--gateway-http');
    }
    const mqttAddress = config['mqtt.listen'];
    const mqtt =
      mqttAddress === undefined ? undefined : await ingress.server.listen(mqttAddress, '--mqtt');
    const { uplink } = this;
    if (uplink !== undefined) {
      buffer.protect((position) => uplink.isInFlight(position));
      uplink.onCommand = (topic, payload) => ingress.command(topic, payload);
      await uplink.start();
    }
    return { mqtt, http };
  }

  /** What waits in the buffer, for the process that holds both sides. */
  get store(): MessageBuffer<Ticket> | undefined {
    return this.buffer;
  }

  /** Stops taking messages, makes pending ones durable and closes. Idempotent. */
  close(): Promise<void> {
    this.closing ??= this.shut();
    return this.closing;
  }

  private async shut(): Promise<void> {
    await this.ingress?.close();
    await this.uplink?.stop();
    await this.buffer?.close();
    await this.api?.close();
  }
}

function checkCollector(url: string): void {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch (error) {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `--collector '${url}' is not of the form mqtt://HOST:PORT`,
      { cause: error },
    );
  }
  if (parsed.protocol !== 'mqtt:' && parsed.protocol !== 'mqtts:') {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `--collector '${url}': only mqtt:// and mqtts:// are understood`,
    );
  }
  if (parsed.username !== '' || parsed.password !== '') {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      '--collector holds a password: put it into a file and name that with --uplink-secret-file',
    );
  }
}
