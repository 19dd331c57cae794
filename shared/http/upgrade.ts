/**
 * WebSockets of routes that have them. They pass the same guards as requests, and are refused with the same answers. Nothing is taken
 * from them: a message, or pings whose answers nobody reads, end the connection. Other upgrades (such as `h2c`, which Java's client
 * asks of everybody) are not made: the request is answered as one without (RFC 9110, 7.8).
 */
import type { IncomingMessage, Server } from 'node:http';
import { TLSSocket } from 'node:tls';
import type { Socket } from 'node:net';
import { WebSocketServer, type WebSocket } from 'ws';

/** The protocol that a client names; a token may come as one of its own beside it, since a browser can send no header. */
export const WEB_SOCKET_PROTOCOL = 'headwater';
const MESSAGE_BYTES_MAX = 1024;
const UNREAD_BYTES_MAX = 64 * 1024;

export const wantsWebSocket = ({ headers }: IncomingMessage): boolean =>
  headers.upgrade?.toLowerCase() === 'websocket';

/** `bearer.` and the token in base64url, among the protocols. */
export function tokenOfProtocols(request: IncomingMessage): string {
  if (!wantsWebSocket(request)) return '';
  const protocols = (request.headers['sec-websocket-protocol'] ?? '').split(',');
  const coded = protocols.map((each) => /^\s*bearer\.([\w-]+)\s*$/.exec(each)?.[1]).find(Boolean);
  return coded === undefined ? '' : Buffer.from(coded, 'base64url').toString('utf8');
}

export class WebSockets {
  private readonly sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MESSAGE_BYTES_MAX,
    perMessageDeflate: false,
    handleProtocols: (protocols) =>
      protocols.has(WEB_SOCKET_PROTOCOL) ? WEB_SOCKET_PROTOCOL : false,
  });

  /** Undefined where the handshake is none: that has been answered. */
  accept(
    request: IncomingMessage,
    socket: Socket,
    head: Buffer,
    begin: (webSocket: WebSocket) => void,
  ): void {
    this.sockets.handleUpgrade(request, socket, head, (webSocket) => {
      webSocket.on('error', () => webSocket.terminate());
      webSocket.on('message', () => webSocket.close(1003, 'nothing is taken here'));
      webSocket.on('ping', () => {
        if (webSocket.bufferedAmount > UNREAD_BYTES_MAX) webSocket.terminate();
      });
      begin(webSocket);
    });
  }

  close(): void {
    for (const webSocket of this.sockets.clients) webSocket.terminate();
  }
}

/** Hands a request that asked for an upgrade back to its server, without that. */
export function asOrdinary(
  server: Server,
  { method, url, httpVersion, rawHeaders }: IncomingMessage,
  socket: Socket,
  head: Buffer,
): void {
  const lines = [`${method} ${url} HTTP/${httpVersion}`];
  for (let at = 0; at < rawHeaders.length; at += 2)
    if (rawHeaders[at]?.toLowerCase() !== 'upgrade')
      lines.push(`${rawHeaders[at]}: ${rawHeaders[at + 1]}`);
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), head]));
  server.emit(socket instanceof TLSSocket ? 'secureConnection' : 'connection', socket);
}
