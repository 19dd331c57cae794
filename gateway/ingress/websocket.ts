/**
 * MQTT over WebSocket [MQTT-6.0.0]: subprotocol `mqtt`, binary messages whose boundaries mean nothing. The only file of the
 * gateway's that imports ws.
 */
import { createServer, type Server } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { WebSocketServer, type WebSocket } from 'ws';
import type { ClientCertificates, ServerTls } from '../../shared/access/tls.ts';
import { isLoopback } from '../../shared/net/address.ts';
import { listen, type Address } from '../../shared/net/listen.ts';
import { webRefusal } from '../../shared/net/web.ts';
import {
  certificateName,
  showsForeignCertificate,
  type MqttServer,
} from '../../shared/mqtt/server.ts';

/** A WebSocket as a stream of bytes. */
class WebSocketStream extends Duplex {
  private readonly webSocket: WebSocket;

  constructor(webSocket: WebSocket) {
    super();
    this.webSocket = webSocket;
    webSocket.on('message', (data: Buffer, isBinary: boolean) => {
      // [MQTT-6.0.0-1]: a text message closes the connection.
      if (!isBinary) this.destroy(new Error('text on an MQTT WebSocket'));
      else if (!this.push(data)) webSocket.pause();
    });
    webSocket.on('close', () => {
      this.push(null);
      this.destroy();
    });
    webSocket.on('error', (error) => this.destroy(error));
  }

  override _read(): void {
    if (this.webSocket.isPaused) this.webSocket.resume();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.webSocket.send(chunk, { binary: true }, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.webSocket.close();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.webSocket.terminate();
    done(error);
  }
}

export interface WebSocketOptions {
  address: Address;
  flag: string;
  /** Undefined: plain WebSocket. */
  tls: ServerTls | undefined;
  clients: ClientCertificates;
  /** Pages from elsewhere may connect; else only those of this address (a page must not publish in its visitor's name). */
  anyOrigin: boolean;
  /** Largest message; an MQTT packet may span several. */
  messageBytesMax: number;
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
    const { options, mqtt, server } = this;
    const webSockets = new WebSocketServer({
      noServer: true,
      maxPayload: options.messageBytesMax,
      perMessageDeflate: false,
      // [MQTT-6.0.0-3], [MQTT-6.0.0-4].
      handleProtocols: (protocols) => (protocols.has('mqtt') ? 'mqtt' : false),
    });
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
      if (socket instanceof TLSSocket && showsForeignCertificate(socket)) {
        socket.destroy();
        return;
      }
      const protocols = (request.headers['sec-websocket-protocol'] ?? '').split(',');
      if (!protocols.some((each) => each.trim() === 'mqtt')) {
        socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n');
        return;
      }
      const { origin, host } = request.headers;
      if (webRefusal({ host, origin, changes: true }, door) !== undefined) {
        socket.end('HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n');
        return;
      }
      webSockets.handleUpgrade(request, socket, head, (webSocket) => {
        const secure = socket instanceof TLSSocket;
        mqtt.serve(new WebSocketStream(webSocket), {
          address: socket.remoteAddress ?? '',
          transport: secure ? 'wss' : 'ws',
          certificateName: secure ? certificateName(socket) : undefined,
        });
      });
    });
    return await listen(server, options.address, options.flag);
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeAllConnections();
    await closed;
  }
}
