/** MQTT over WebSocket [MQTT-6.0.0]: subprotocol `mqtt`, binary messages whose boundaries mean nothing. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import type { ClientCertificates, ServerTls } from '../../shared/access/tls.ts';
import { isLoopback } from '../../shared/net/address.ts';
import { listen, type Address } from '../../shared/net/listen.ts';
import type { MqttPeer } from '../../shared/mqtt/protocol.ts';
import { webRefusal } from '../../shared/net/web.ts';
import {
  certificateName,
  showsForeignCertificate,
  type MqttServer,
} from '../../shared/mqtt/server.ts';
import { FrameError, FrameReader, GOING, binaryHead, goodbye, pong } from './websocket-frames.ts';

/** RFC 6455, 1.3. */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
/** Answers to pings that may be unread: beyond it nothing is read either. */
const UNREAD_BYTES_MAX = 64 * 1024;
const GOODBYE_MS = 1000;

/** A WebSocket as a stream of bytes. */
class WebSocketStream extends Duplex {
  private readonly under: Socket;
  private readonly reader: FrameReader;
  private isBehind = false;
  /** The other side has said that it ends. */
  private isLeft = false;
  /** It was told goodbye. */
  private isOver = false;

  constructor(under: Socket, head: Buffer) {
    super();
    this.under = under;
    this.reader = new FrameReader({
      ping: (payload) => this.answer(payload),
      close: () => (this.isLeft = true),
    });
    under.on('data', (chunk: Buffer) => this.unwrap(chunk));
    // What came before an end in order is still taken.
    under.on('end', () => this.push(null));
    under.on('close', () => {
      if (!under.readableEnded && !this.isLeft) this.destroy();
    });
    under.on('error', (error) => this.destroy(error));
    this.on('end', () => this.destroy());
    if (head.length > 0) this.unwrap(head);
  }

  private unwrap(chunk: Buffer): void {
    if (this.isOver) return;
    try {
      const data = this.reader.push(chunk);
      if (data.length > 0 && !this.push(data)) this.under.pause();
    } catch (error) {
      this.leave(error instanceof FrameError ? error.code : GOING);
      this.destroy(error as Error); // Nothing else is thrown there.
      return;
    }
    if (!this.isLeft) return;
    this.leave(GOING);
    this.push(null);
  }

  private answer(payload: Buffer): void {
    const { under } = this;
    if (this.isLeft || this.isOver) return;
    under.write(pong(payload));
    if (this.isBehind || under.writableLength <= UNREAD_BYTES_MAX) return;
    this.isBehind = true;
    under.pause();
    under.once('drain', () => {
      this.isBehind = false;
      under.resume();
    });
  }

  /** Says goodbye; a moment later it is closed. */
  private leave(code: number): void {
    if (this.isOver) return;
    this.isOver = true;
    const { under } = this;
    under.end(goodbye(code));
    setTimeout(() => under.destroy(), GOODBYE_MS).unref();
  }

  override _read(): void {
    if (!this.isBehind) this.under.resume();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    if (this.isOver) {
      done();
      return;
    }
    this.under.cork();
    this.under.write(binaryHead(chunk.length));
    this.under.write(chunk, done);
    this.under.uncork();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.leave(GOING);
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    // What it was told last is still on its way.
    if (!this.isOver) this.under.destroy();
    done(error);
  }
}

const isMqtt = ({ headers }: IncomingMessage): boolean =>
  (headers['sec-websocket-protocol'] ?? '').split(',').some((each) => each.trim() === 'mqtt');

/** What is wrong with it as a handshake (RFC 6455, 4.2.1), as the first lines of the answer. */
function refusalOf(request: IncomingMessage): string | undefined {
  const { headers, method } = request;
  if (headers['sec-websocket-version'] !== '13' && headers['sec-websocket-version'] !== undefined)
    return '426 Upgrade Required\r\nsec-websocket-version: 13';
  const isOne =
    method === 'GET' &&
    headers.upgrade?.toLowerCase() === 'websocket' &&
    headers['sec-websocket-version'] === '13' &&
    /^[+/0-9A-Za-z]{22}==$/.test(headers['sec-websocket-key'] ?? '');
  return isOne && isMqtt(request) ? undefined : '400 Bad Request';
}

export interface WebSocketOptions {
  address: Address;
  flag: string;
  /** Undefined: plain WebSocket. */
  tls: ServerTls | undefined;
  clients: ClientCertificates;
  /** Pages from elsewhere may connect; else only those of this address (a page must not publish in its visitor's name). */
  anyOrigin: boolean;
  handshakeMs: number;
}

export class WebSocketListener {
  private readonly options: WebSocketOptions;
  private readonly mqtt: MqttServer;
  private readonly server: Server;

  constructor(options: WebSocketOptions, mqtt: MqttServer) {
    this.options = options;
    this.mqtt = mqtt;
    const { tls, clients, handshakeMs } = options;
    const times = { noDelay: true, headersTimeout: handshakeMs, requestTimeout: handshakeMs };
    if (tls === undefined) {
      this.server = createServer(times);
      this.server.on('connection', (socket: Socket) => this.mqtt.admit(socket));
    } else {
      const secure = createSecureServer({
        ...times,
        ...tls.options,
        handshakeTimeout: handshakeMs,
        requestCert: clients !== 'none',
        rejectUnauthorized: clients === 'required',
      });
      tls.renew(secure);
      secure.on('connection', (socket: Socket) => this.mqtt.admit(socket));
      this.server = secure;
    }
  }

  async listen(): Promise<Address> {
    const { options, server } = this;
    server.on('request', (_request, response) => {
      response.writeHead(426, { 'content-type': 'text/plain' });
      response.end('MQTT over WebSocket is served here: connect with the subprotocol mqtt\n');
    });
    const door = {
      onlyLoopback: isLoopback(options.address.host),
      asksWho: options.anyOrigin,
      anyOrigin: options.anyOrigin,
    };
    server.on('upgrade', (request, socket: Socket, head) => {
      socket.on('error', () => socket.destroy());
      if (socket instanceof TLSSocket && showsForeignCertificate(socket)) {
        socket.destroy();
        return;
      }
      const { origin, host } = request.headers;
      const refused =
        refusalOf(request) ??
        (webRefusal({ host, origin, changes: true }, door) === undefined
          ? undefined
          : '403 Forbidden');
      if (refused !== undefined) {
        socket.end(`HTTP/1.1 ${refused}\r\nconnection: close\r\n\r\n`);
        setTimeout(() => socket.destroy(), GOODBYE_MS).unref();
        return;
      }
      this.accept(request, socket, head);
    });
    return await listen(server, options.address, options.flag);
  }

  private accept({ headers }: IncomingMessage, socket: Socket, head: Buffer): void {
    const key = headers['sec-websocket-key'] ?? '';
    const accept = createHash('sha1').update(`${key}${GUID}`).digest('base64');
    socket.setTimeout(0);
    // [MQTT-6.0.0-3], [MQTT-6.0.0-4].
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${accept}\r\nsec-websocket-protocol: mqtt\r\n\r\n`,
    );
    const secure = socket instanceof TLSSocket;
    const peer: MqttPeer = {
      address: socket.remoteAddress ?? '',
      transport: secure ? 'wss' : 'ws',
      certificateName: secure ? certificateName(socket) : undefined,
    };
    this.mqtt.serve(new WebSocketStream(socket, head), peer, socket);
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeAllConnections();
    await closed;
  }
}
