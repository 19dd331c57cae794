/** Stands before a server of HTTP: counts its requests, and answers in its place where a test wants it to; by TLS too. */
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';

export interface HttpFront {
  port: number;
  /** Method and path of each, without the query. */
  requests: { what: string; authorization: string }[];
  /** How often this was asked, since the last time. */
  taken(what: string): number;
  /** Answers itself, when it gives something. */
  instead: (request: IncomingMessage, response: ServerResponse) => boolean;
  close(): Promise<void>;
}

export async function httpFront(
  to: { host: string; port: number },
  tls?: { cert: string; key: string },
): Promise<HttpFront> {
  const requests: HttpFront['requests'] = [];
  const front: Omit<HttpFront, 'port' | 'close'> = {
    requests,
    taken: (what) => {
      const count = requests.filter((each) => each.what === what).length;
      requests.length = 0;
      return count;
    },
    instead: () => false,
  };
  const pass: RequestListener = (request, response) => {
    const { method = '', url = '', headers } = request;
    requests.push({
      what: `${method} ${url.split('?')[0] ?? ''}`,
      authorization: headers.authorization ?? '',
    });
    if (front.instead(request, response)) return;
    const onward = httpRequest({ ...to, method, path: url, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  };
  const server: Server = tls === undefined ? createServer(pass) : createSecureServer(tls, pass);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo; // It listens on a port.
  return Object.assign(front, {
    port,
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  });
}
