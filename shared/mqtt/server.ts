/**
 * Listens for MQTT connections, over TCP and TLS or brought by somebody else (WebSocket), and keeps the limits that
 * concern more than one of them: how many in all and from one address (an IPv6 one is its /64), how long a connection may take to introduce
 * itself, and keep alive [MQTT-3.1.2-24].
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { createServer as createSecureServer, type TLSSocket } from 'node:tls';
import { Doorway } from '../access/doorway.ts';
import { Share } from '../access/shares.ts';
import type { ClientCertificates, ServerTls } from '../access/tls.ts';
import { listen, type Address } from '../net/listen.ts';
import { Slice } from '../net/slice.ts';
import { MqttConnection, type MqttHandler } from './connection.ts';
import { KEEP_ALIVE_TIMEOUT, SERVER_SHUTTING_DOWN, type MqttPeer } from './protocol.ts';

export interface ServerLimits {
  connectionsMax: number;
  connectionsPerAddressMax: number;
  /** From TCP accept to CONNACK, a TLS handshake included, milliseconds. */
  connectTimeoutMs: number;
}

const SWEEP_MS = 1000;

/** Common name of the other side's certificate, if an accepted authority has signed it. */
export function certificateName(socket: TLSSocket): string | undefined {
  if (!socket.authorized) return undefined;
  const subject = socket.getPeerCertificate().subject as { CN?: string | string[] } | undefined;
  const name = subject?.CN;
  return typeof name === 'string' && name !== '' ? name : undefined;
}

function shownBy(socket: TLSSocket): MqttPeer['certificate'] {
  const { serialNumber, valid_from: from, raw } = socket.getPeerCertificate();
  return { serial: serialNumber, fromMs: Date.parse(from), raw };
}

/** Whether it shows a certificate that no accepted authority has signed: a mistake or worse, also where none is needed. */
export const showsForeignCertificate = (socket: TLSSocket): boolean =>
  !socket.authorized && Object.keys(socket.getPeerCertificate()).length > 0;

export class MqttServer {
  private readonly handler: MqttHandler;
  private readonly limits: ServerLimits;
  private readonly monotonicUs: () => number;
  private readonly servers: Server[] = [];
  private readonly connections = new Map<MqttConnection, number>();
  /** Connections by address, those included that have not said a word yet. */
  readonly share: Share;
  private readonly slice: Slice;
  private readonly doorway: Doorway;
  private sweeper: NodeJS.Timeout | undefined;
  refused = 0;

  constructor(handler: MqttHandler, limits: ServerLimits, monotonicUs: () => number) {
    this.handler = handler;
    this.limits = limits;
    this.monotonicUs = monotonicUs;
    this.share = new Share('connections', limits.connectionsMax);
    this.doorway = new Doorway(this.share);
    this.slice = new Slice(monotonicUs);
  }

  get connectionCount(): number {
    return this.connections.size;
  }

  /** Listens and returns the address it got. `flag` is named when the port is busy. Throws ADDRESS_IN_USE. */
  async listen(address: Address, flag: string): Promise<Address> {
    // Without noDelay a lone PUBACK waits for the delayed ACK of the segment before (F9: 23 ms each, measured).
    const server = createServer({ noDelay: true }, (socket) => {
      if (this.admit(socket)) this.serve(socket, this.peerOf(socket, 'tcp'), socket);
    });
    return await this.start(server, address, flag);
  }

  /** The same with TLS. A client certificate must be signed by one of `tls`'s authorities. */
  async listenTls(
    address: Address,
    flag: string,
    tls: ServerTls,
    clients: ClientCertificates,
  ): Promise<Address> {
    const server = createSecureServer(
      {
        ...tls.options,
        noDelay: true,
        handshakeTimeout: this.limits.connectTimeoutMs,
        requestCert: clients !== 'none',
        // Looked at below, right after the handshake, where it can be said why.
        rejectUnauthorized: false,
      },
      (socket) => {
        // An unacceptable certificate ends it also where none is required. The code is OpenSSL's; '' where none was shown.
        const isForeign = showsForeignCertificate(socket);
        if (isForeign || (clients === 'required' && !socket.authorized)) {
          const code = isForeign ? String(socket.authorizationError) : '';
          this.handler.distrusted?.(socket.remoteAddress ?? '', code);
          socket.destroy();
          return;
        }
        const name = certificateName(socket);
        const certificate = name === undefined ? undefined : shownBy(socket);
        const peer = { ...this.peerOf(socket, 'tls'), certificateName: name, certificate };
        this.serve(socket, peer, socket);
      },
    );
    // Counted before the handshake: what never finishes one takes its place as well.
    server.on('connection', (socket: Socket) => this.admit(socket));
    server.on('tlsClientError', (_error, socket) => socket.destroy());
    tls.renew(server);
    return await this.start(server, address, flag);
  }

  private async start(server: Server, address: Address, flag: string): Promise<Address> {
    const bound = await listen(server, address, flag);
    this.servers.push(server);
    this.watch();
    return bound;
  }

  private watch(): void {
    if (this.sweeper !== undefined) return;
    this.sweeper = setInterval(() => this.sweep(), SWEEP_MS);
    this.sweeper.unref();
  }

  private peerOf(socket: Socket, transport: MqttPeer['transport']): MqttPeer {
    return { address: socket.remoteAddress ?? '', transport, certificateName: undefined };
  }

  /** Counts a stream until it is closed; one too many is destroyed. */
  admit(socket: Socket): boolean {
    if (this.doorway.admit(socket, this.limits.connectionsPerAddressMax)) return true;
    this.refused++;
    socket.on('error', () => undefined); // Refused already; how it ends does not matter.
    socket.destroy();
    return false;
  }

  /** Speaks MQTT on a stream that runs on a socket that was admitted. */
  serve(stream: Duplex, peer: MqttPeer, socket: Socket): void {
    this.watch();
    const connection = new MqttConnection(stream, this.handler, this.monotonicUs, peer, this.slice);
    this.connections.set(connection, this.monotonicUs());
    this.doorway.enter(socket, () => connection.isConnecting);
    stream.on('close', () => this.connections.delete(connection));
  }

  private sweep(): void {
    const now = this.monotonicUs();
    for (const [connection, acceptedUs] of this.connections) {
      if (connection.isConnecting) {
        if (now - acceptedUs > this.limits.connectTimeoutMs * 1000)
          connection.close('no CONNECT in time');
        continue;
      }
      const keepAlive = connection.connect?.keepAliveSeconds ?? 0;
      // A connection that we do not read from cannot be blamed for its silence.
      if (
        keepAlive > 0 &&
        !connection.isHeld &&
        now - connection.lastReceivedUs > keepAlive * 1_500_000
      ) {
        connection.close('keep alive expired', KEEP_ALIVE_TIMEOUT); // [MQTT-3.1.2-22]
      }
    }
  }

  /** Stops listening and closes every connection. */
  async close(): Promise<void> {
    clearInterval(this.sweeper);
    this.sweeper = undefined;
    const closed = this.servers.map(
      (server) => new Promise<void>((resolve) => server.close(() => resolve())),
    );
    for (const connection of this.connections.keys())
      connection.close('the server stops', SERVER_SHUTTING_DOWN);
    await Promise.all(closed);
  }

  /** Whoever came in with a certificate (of this name) has to show it again: some are revoked now. */
  closeCertified(name?: string): void {
    for (const connection of this.connections.keys())
      if (
        connection.peer.certificateName !== undefined &&
        (name === undefined || connection.peer.certificateName === name)
      )
        connection.close('certificates were revoked: it has to show its own again');
  }

  all(): Iterable<MqttConnection> {
    return this.connections.keys();
  }
}
