/**
 * A small HTTP server on node:http: routes, one form of errors, bodies with a limit, a token where one is set.
 * Errors are `{"error":{"code","message"}}` with the codes of `shared/errors.ts`.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { sameSecret } from '../config/secrets.ts';
import { HeadwaterError, messageOf, type ErrorCode } from '../errors.ts';
import { listen, type Address } from './listen.ts';

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
  raw: IncomingMessage;
}

/** Returns a reply, or undefined when it answers on `response` itself (a stream). */
export type Route = (
  request: Request,
  response: ServerResponse,
) => Promise<Reply | undefined> | Reply | undefined;

const STATUS: Partial<Record<ErrorCode, number>> = {
  QUERY_INVALID: 400,
  INPUT_FILE: 400,
  UNAUTHORIZED: 401,
  NOT_FOUND: 404,
  STORE_UNAVAILABLE: 503,
  DATA_UNUSABLE: 503,
  LOG_UNAVAILABLE: 503,
};

export interface HttpOptions {
  /** Asked of everybody when set, but for health checks. */
  token: string | undefined;
}

/** Paths that need no token: a load balancer has none. */
const HEALTH_PATHS = ['/healthz', '/readyz'];

export function json(value: unknown, status = 200): Reply {
  return { status, type: 'application/json; charset=utf-8', body: JSON.stringify(value) };
}

export class HttpServer {
  private readonly routes = new Map<string, Route>();
  private readonly options: HttpOptions;
  private readonly open = new Set(HEALTH_PATHS);
  private readonly server: Server;

  constructor(options: HttpOptions) {
    this.options = options;
    this.server = createServer(
      { requestTimeout: 30_000, headersTimeout: 10_000 },
      (request, response) => {
        void this.answer(request, response);
      },
    );
    this.server.maxConnections = 2000;
  }

  /** A path that holds no data and needs no token: the page itself, which then asks for one. */
  onOpen(path: string, route: Route): void {
    this.open.add(path);
    this.on('GET', path, route);
  }

  /** `path` is exact. */
  on(method: 'GET' | 'POST', path: string, route: Route): void {
    this.routes.set(`${method} ${path}`, route);
  }

  listen(address: Address, flag: string): Promise<Address> {
    return listen(this.server, address, flag);
  }

  private async answer(raw: IncomingMessage, response: ServerResponse): Promise<void> {
    const head = raw.method === 'HEAD';
    try {
      const url = new URL(raw.url ?? '/', 'http://localhost');
      this.authorize(raw, url);
      const method = head ? 'GET' : (raw.method ?? 'GET');
      const route = this.routes.get(`${method} ${url.pathname}`);
      if (route === undefined)
        throw new HeadwaterError(
          'NOT_FOUND',
          `nothing at ${method} ${url.pathname}: see /openapi.json`,
        );
      const reply = await route(
        { method, path: url.pathname, query: url.searchParams, headers: raw.headers, raw },
        response,
      );
      if (reply !== undefined) send(response, reply, head);
    } catch (error) {
      if (response.headersSent) {
        response.destroy();
        return;
      }
      const known = error instanceof HeadwaterError;
      const code = known ? error.code : 'INTERNAL';
      const status = known ? (STATUS[error.code] ?? 500) : 500;
      send(response, json({ error: { code, message: messageOf(error) } }, status), head);
    }
  }

  private authorize(raw: IncomingMessage, url: URL): void {
    const { token } = this.options;
    if (token === undefined || this.open.has(url.pathname)) return;
    const header = raw.headers.authorization ?? '';
    // A browser cannot set a header on its first request: the page may carry the token in a cookie that it sets itself.
    const cookie = /(?:^|;\s*)headwater_token=([^;]+)/.exec(raw.headers.cookie ?? '')?.[1] ?? '';
    const presented = /^Bearer (.+)$/.exec(header)?.[1] ?? decodeURIComponent(cookie);
    if (!sameSecret(presented, token)) {
      throw new HeadwaterError('UNAUTHORIZED', 'send the API token as Authorization: Bearer TOKEN');
    }
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeAllConnections();
    await closed;
  }
}

function send(response: ServerResponse, reply: Reply, head: boolean): void {
  const body = typeof reply.body === 'string' ? Buffer.from(reply.body) : reply.body;
  response.writeHead(reply.status ?? 200, {
    'content-type': reply.type ?? 'text/plain; charset=utf-8',
    'content-length': body.length,
    'x-content-type-options': 'nosniff',
    'cache-control': 'no-store',
    ...reply.headers,
  });
  response.end(head ? undefined : body);
}
