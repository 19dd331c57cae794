/**
 * A small HTTP server on node:http and node:https: routes with the scope that they need, one form of errors, bodies with
 * a limit, tokens where they are set. Errors are `{"error":{"code","message"}}` with the codes of `shared/errors.ts`.
 */
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { Audit } from '../access/audit.ts';
import type { FailureLimiter } from '../access/failures.ts';
import type { ServerTls } from '../access/tls.ts';
import type { Identity, Scope, Tokens } from '../access/tokens.ts';
import { ERRORS, HeadwaterError, errorCode, messageOf } from '../errors.ts';
import { readBody } from './body.ts';
import { isLoopback, listen, type Address } from '../net/listen.ts';

export interface Reply {
  status?: number;
  type?: string;
  body: string | Buffer;
  headers?: Record<string, string>;
}

export interface Request {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingMessage['headers'];
  identity: Identity;
  address: string;
  /** Throws BODY_TOO_LARGE. */
  body(bytesMax: number): Promise<Buffer>;
}

/** Returns a reply, or undefined when it answers on `response` itself (a stream). */
export type Route = (
  request: Request,
  response: ServerResponse,
) => Promise<Reply | undefined> | Reply | undefined;

export interface HttpOptions {
  tokens: Tokens;
  failures: FailureLimiter;
  audit: Audit | undefined;
  /** Undefined: plain HTTP. */
  tls: ServerTls | undefined;
}

/** Paths that need no token: a load balancer has none. */
const HEALTH_PATHS = ['/healthz', '/readyz', '/ping'];
const CONNECTIONS_MAX = 2000;

export function json(value: unknown, status = 200): Reply {
  return { status, type: 'application/json; charset=utf-8', body: JSON.stringify(value) };
}

export class HttpServer {
  private readonly routes = new Map<string, { route: Route; scope: Scope }>();
  private readonly options: HttpOptions;
  private readonly open = new Set(HEALTH_PATHS);
  private readonly server: Server;
  private onlyLoopback = false;

  constructor(options: HttpOptions) {
    this.options = options;
    const times = { requestTimeout: 30_000, headersTimeout: 10_000 };
    const answer: RequestListener = (request, response) => {
      void this.answer(request, response);
    };
    const { tls } = options;
    if (tls === undefined) {
      this.server = createServer(times, answer);
    } else {
      const secure = createSecureServer(
        { ...times, ...tls.options, handshakeTimeout: 10_000 },
        answer,
      );
      tls.renew(secure);
      this.server = secure;
    }
    this.server.maxConnections = CONNECTIONS_MAX;
  }

  /** A path that holds no data and needs no token: the page itself, which then asks for one. */
  onOpen(path: string, route: Route): void {
    this.open.add(path);
    this.on('GET', path, route);
  }

  /** `path` is exact. */
  on(
    method: 'GET' | 'POST',
    path: string,
    route: Route,
    scope: Scope = method === 'GET' ? 'read' : 'write',
  ): void {
    this.routes.set(`${method} ${path}`, { route, scope });
  }

  async listen(address: Address, flag: string): Promise<Address> {
    this.onlyLoopback = isLoopback(address.host);
    return await listen(this.server, address, flag);
  }

  private async answer(raw: IncomingMessage, response: ServerResponse): Promise<void> {
    const head = raw.method === 'HEAD';
    try {
      const url = new URL(raw.url ?? '/', 'http://localhost');
      const method = head ? 'GET' : (raw.method ?? 'GET');
      this.checkOrigin(raw, method);
      const found = this.routes.get(`${method} ${url.pathname}`);
      const identity = this.authorize(raw, url, found?.scope ?? 'read');
      if (found === undefined)
        throw new HeadwaterError(
          'NOT_FOUND',
          `nothing at ${method} ${url.pathname.slice(0, 200)}: see /openapi.json`,
        );
      const request: Request = {
        method,
        path: url.pathname,
        query: url.searchParams,
        headers: raw.headers,
        identity,
        address: raw.socket.remoteAddress ?? '',
        body: (bytesMax) => readBody(raw, bytesMax),
      };
      const reply = await found.route(request, response);
      if (reply !== undefined) send(response, reply, head);
    } catch (error) {
      this.fail(response, error, head);
    }
  }

  private fail(response: ServerResponse, error: unknown, head: boolean): void {
    if (response.headersSent) {
      response.destroy();
      return;
    }
    const code = errorCode(error);
    const { status } = ERRORS[code];
    // What is left of a body is not read: the connection ends with the answer.
    if (status === 413) response.setHeader('connection', 'close');
    // `message` and `error` at the top are where InfluxDB's clients look.
    const text = messageOf(error);
    send(
      response,
      json({ error: { code, message: text }, code: code.toLowerCase(), message: text }, status),
      head,
    );
  }

  /** A page from elsewhere, open in a browser on this machine or network, must not use this server in its user's name. */
  private checkOrigin(raw: IncomingMessage, method: string): void {
    const host = raw.headers.host ?? '';
    const { origin } = raw.headers;
    if (method !== 'GET' && origin !== undefined && originHost(origin) !== host)
      throw new HeadwaterError(
        'FORBIDDEN',
        `requests from pages of ${origin.slice(0, 100)} are not taken`,
      );
    // Against DNS rebinding: who is not asked for a token must at least have meant this machine.
    if (
      this.onlyLoopback &&
      !this.options.tokens.areNeeded &&
      !isLoopback(host.replace(/:\d+$/, '').replaceAll(/[[\]]/g, ''))
    )
      throw new HeadwaterError(
        'FORBIDDEN',
        `'${host.slice(0, 100)}' is not a name of this machine`,
      );
  }

  private authorize(raw: IncomingMessage, url: URL, scope: Scope): Identity {
    const { tokens, failures, audit } = this.options;
    const address = raw.socket.remoteAddress ?? '';
    const isOpen = this.open.has(url.pathname);
    const presented = presentedToken(raw, url);
    const identity = tokens.identify(presented);
    // A right token is not refused for wrong ones from the same address: looking costs next to nothing.
    if (!isOpen && identity === undefined && failures.isBlocked(address))
      throw new HeadwaterError(
        'TOO_MANY_REQUESTS',
        'too many wrong tokens from this address: try again in a minute',
      );
    if (isOpen) return identity ?? { name: '', scopes: new Set(), gateways: new Set() };
    const deny = (reason: string): void =>
      audit?.say({
        event: 'http_denied',
        user: identity?.name,
        address,
        about: url.pathname,
        reason,
      });
    if (identity === undefined) {
      // Asking without any token is how a browser begins.
      if (presented !== '') {
        failures.fail(address);
        deny('wrong token');
      }
      throw new HeadwaterError('UNAUTHORIZED', 'send the API token as Authorization: Bearer TOKEN');
    }
    if (!identity.scopes.has(scope) && !identity.scopes.has('admin')) {
      deny(`scope ${scope} is missing`);
      throw new HeadwaterError('FORBIDDEN', `this token has no scope '${scope}'`);
    }
    return identity;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeAllConnections();
    await closed;
  }
}

function originHost(origin: string): string {
  try {
    return new URL(origin).host;
  } catch {
    return '';
  }
}

/** Bearer; `Token` and Basic as InfluxDB's clients and Grafana send it; the page's cookie; `p=` of InfluxDB 1.x on its own paths. */
function presentedToken(raw: IncomingMessage, url: URL): string {
  const header = raw.headers.authorization ?? '';
  const plain = /^(?:Bearer|Token) (.+)$/.exec(header)?.[1];
  if (plain !== undefined) return plain;
  const basic = /^Basic (.+)$/.exec(header)?.[1];
  if (basic !== undefined)
    return /:(.*)$/s.exec(Buffer.from(basic, 'base64').toString('utf8'))?.[1] ?? '';
  // A browser cannot set a header on its first request: the page may carry the token in a cookie that it sets itself.
  const cookie = /(?:^|;\s*)headwater_token=([^;]+)/.exec(raw.headers.cookie ?? '')?.[1];
  if (cookie !== undefined) return decode(cookie);
  return url.pathname === '/write' || url.pathname === '/query'
    ? (url.searchParams.get('p') ?? '')
    : '';
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return ''; // Not what the page wrote.
  }
}

function send(response: ServerResponse, reply: Reply, head: boolean): void {
  const body = typeof reply.body === 'string' ? Buffer.from(reply.body) : reply.body;
  const status = reply.status ?? 200;
  response.writeHead(status, {
    ...(status === 204
      ? {}
      : {
          'content-type': reply.type ?? 'text/plain; charset=utf-8',
          'content-length': body.length,
        }),
    'x-content-type-options': 'nosniff',
    'cache-control': 'no-store',
    ...reply.headers,
  });
  response.end(head || status === 204 ? undefined : body);
}
