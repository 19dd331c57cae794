/** A gateway: ingress → buffer → uplink, and the API that shows them. */
import { hostname } from 'node:os';
import { claimFolder } from '../shared/config/data-folder.ts';
import { secureOptions } from '../shared/access/tls.ts';
import { checkExposure, clearSecret } from '../shared/config/exposure.ts';
import { optionalSecret } from '../shared/config/secrets.ts';
import type { Env } from '../shared/env/env.ts';
import { HeadwaterError } from '../shared/errors.ts';
import type { Address } from '../shared/net/listen.ts';
import type { HttpServer } from '../shared/http/server.ts';
import type { Notify } from '../shared/telemetry/log.ts';
import { GATEWAY_ID } from '../shared/wire/wire.ts';
import type { BufferEvents, MessageBuffer } from './buffer/buffer.ts';
import type { BacklogOrder, Policy } from './choices.ts';
import { openBuffer, type OpenBufferOptions } from './buffer/open.ts';
import type { GatewayConfig } from './config.ts';
import { Guard } from './ingress/guard.ts';
import type { Ticket } from './ingress/ack.ts';
import { Ingress } from './ingress/ingress.ts';
import { WebSocketListener } from './ingress/websocket.ts';
import { gatewayApi } from './ops/api.ts';
import { BufferSink } from './ops/ingest.ts';
import { GatewayClock } from './buffer/clock.ts';
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
  mqtts: Address | undefined;
  ws: Address | undefined;
  wss: Address | undefined;
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
  private guard: Guard | undefined;
  private readonly webSockets: WebSocketListener[] = [];
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
    const secret = optionalSecret(config['uplink.secretFile'], 'uplink secret');
    const guard = new Guard(config, env, notify);
    this.guard = guard;
    this.checkExposure(guard);
    // Told now, not with the first attempt to connect.
    secureOptions(
      {
        certFile: config['uplink.certFile'],
        keyFile: config['uplink.keyFile'],
        caFile: config['uplink.caFile'],
        crlFile: '',
      },
      'uplink',
    );
    for (const url of collectors) {
      checkCollector(url);
      this.checkClear(url, secret);
    }
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
      return await this.serve(buffer, collectors, guard, secret);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  private async serve(
    buffer: MessageBuffer<Ticket>,
    collectors: readonly string[],
    guard: Guard,
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
        shares: {
          connectionsMax: config['limits.connectionsMax'],
          sessionsMax: config['limits.sessionsMax'],
          subscriptionLevelsMax: config['limits.subscriptionLevelsMax'],
          qos2Max: config['limits.qos2Max'],
          offlineBytesMax: config['limits.offlineBytesMax'],
          retainedMessagesMax: config['limits.retainedMessagesMax'],
          retainedBytesMax: config['limits.retainedBytesMax'],
        },
        qos2InFlightMax: config['limits.qos2InFlightMax'],
        offlineMessagesMax: config['limits.offlineMessagesMax'],
        sessionExpiryMs: config['limits.sessionExpiryMs'],
        subscriberStallMs: config['limits.subscriberStallMs'],
        messagesPerSecond: config['limits.messagesPerSecond'],
        subscriptionsPerClientMax: config['limits.subscriptionsPerClientMax'],
      },
      guard,
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
          tls: {
            caFile: config['uplink.caFile'],
            certFile: config['uplink.certFile'],
            keyFile: config['uplink.keyFile'],
          },
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
    const http = await this.serveHttp(buffer, ingress, guard);
    const listening = await this.serveMqtt(ingress, guard);
    const { uplink } = this;
    if (uplink !== undefined) {
      buffer.protect((position) => uplink.isInFlight(position));
      uplink.onCommand = (topic, payload) => ingress.command(topic, payload);
      await uplink.start();
    }
    return { ...listening, http };
  }

  private async serveHttp(
    buffer: MessageBuffer<Ticket>,
    ingress: Ingress,
    guard: Guard,
  ): Promise<Address | undefined> {
    const { config, env } = this;
    const address = config['http.listen'];
    if (address === undefined) return undefined;
    this.api = gatewayApi(
      {
        id: this.id,
        buffer,
        ingress,
        uplink: this.uplink,
        sink: new BufferSink(buffer, guard.rules, config['limits.bodyBytesMax'], (topic, payload) =>
          ingress.announce(topic, payload),
        ),
        nowMs: () => env.clock.wallUs() / 1000,
      },
      {
        tokens: guard.tokens,
        failures: guard.failures,
        audit: guard.audit,
        tls: config['http.tls'] ? guard.tls : undefined,
      },
    );
    return await this.api.listen(address, '--gateway-http');
  }

  /** Every way in for devices. */
  private async serveMqtt(
    { server }: Ingress,
    { tls, clientCertificates, passwords }: Guard,
  ): Promise<Pick<GatewayAddresses, 'mqtt' | 'mqtts' | 'ws' | 'wss'>> {
    const { config } = this;
    const [tcp, secure] = [config['mqtt.listen'], config['mqtts.listen']];
    const mqtt = tcp === undefined ? undefined : await server.listen(tcp, '--mqtt');
    const mqtts =
      secure === undefined || tls === undefined
        ? undefined
        : await server.listenTls(secure, '--mqtts', tls, clientCertificates);
    const webSocket = async (
      address: Address | undefined,
      flag: string,
      own: Guard['tls'],
    ): Promise<Address | undefined> => {
      if (address === undefined) return undefined;
      const listener = new WebSocketListener(
        {
          address,
          flag,
          tls: own,
          clients: clientCertificates,
          // Whoever is asked who it is may come from any page.
          anyOrigin: passwords !== undefined,
          messageBytesMax: config['limits.packetBytesMax'] + 65_536,
          handshakeMs: config['limits.connectTimeoutMs'],
        },
        server,
      );
      this.webSockets.push(listener);
      return await listener.listen();
    };
    const ws = await webSocket(config['ws.listen'], '--ws', undefined);
    const wss = await webSocket(config['wss.listen'], '--wss', tls);
    return { mqtt, mqtts, ws, wss };
  }

  private checkExposure({ passwords, tokens, tls, clientCertificates }: Guard): void {
    const { config, notify } = this;
    const needsTls: [keyof GatewayConfig, string][] = [
      ['mqtts.listen', '--mqtts'],
      ['wss.listen', '--wss'],
      ['http.tls', '--http-tls'],
    ];
    for (const [key, flag] of needsTls)
      if (tls === undefined && config[key] !== undefined && config[key] !== false)
        throw new HeadwaterError(
          'CONFIG_INVALID',
          `${flag} needs a certificate: give --tls-cert FILE and --tls-key FILE`,
        );
    const credentialFlag = '--password-file FILE';
    const known = passwords !== undefined;
    const certified = known || clientCertificates === 'required';
    checkExposure(
      [
        { address: config['mqtt.listen'], flag: '--mqtt', protected: known, credentialFlag },
        { address: config['ws.listen'], flag: '--ws', protected: known, credentialFlag },
        {
          address: config['mqtts.listen'],
          flag: '--mqtts',
          protected: certified,
          secure: true,
          credentialFlag: `${credentialFlag}, or authorities for client certificates with --tls-client-ca FILE and tls.clientCertificates: required`,
        },
        {
          address: config['wss.listen'],
          flag: '--wss',
          protected: certified,
          secure: true,
          credentialFlag,
        },
        {
          address: config['http.listen'],
          flag: '--gateway-http',
          protected: tokens.areNeeded,
          secure: config['http.tls'],
          credentialFlag: '--token-file FILE or --tokens-file FILE',
        },
      ],
      config.allowPlaintext,
      notify,
    );
  }

  private checkClear(url: string, secret: string | undefined): void {
    if (secret === undefined) return;
    const clear = clearSecret({
      what: `--collector ${url}`,
      url,
      secret: 'the uplink secret',
      instead: 'mqtts:// with --uplink-ca FILE',
      insist: 'add --allow-plaintext',
    });
    if (clear === undefined) return;
    if (!this.config.allowPlaintext) throw new HeadwaterError('CONFIG_INVALID', clear);
    this.notify({ level: 'warn', event: 'plaintext', text: clear });
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
    for (const listener of this.webSockets) await listener.close();
    await this.ingress?.close();
    await this.uplink?.stop();
    await this.buffer?.close();
    await this.api?.close();
    await this.guard?.close();
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
