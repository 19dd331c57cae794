/**
 * A small HTTP server on node:http and node:https that serves a table of routes: rights, parameters and bodies are checked
 * against it, unknown ones refused. Errors are problem details (RFC 9457) with `{"error":{"code","message"}}`, the codes of `shared/errors.ts`.
 */
import {
  ServerResponse,
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
} from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Notify } from '../../contracts/notice.ts';
import type { ServerTls } from '../access/tls.ts';
import type { HttpLimitName } from '../access/limits.ts';
import { Doorway } from '../access/doorway.ts';
import { Share, addressGroup } from '../access/shares.ts';
import type { Identity } from '../access/tokens.ts';
import { ERRORS, HeadwaterError, assert, errorCode, messageOf } from '../errors.ts';
import { asksFirst, readBody } from './body.ts';
import { allow, isPreflight, preflightHeaders, type Origins } from './cors.ts';
import { isLoopback } from '../net/address.ts';
import { listen, type Address } from '../net/listen.ts';
import {
  READ_EACH,
  checkParameters,
  json,
  notServed,
  parseFields,
  type Endpoint,
  type Request,
  type Route,
} from './route.ts';
import { Order } from './order.ts';
import { problem, retryAfterSeconds, turnAway } from './problem.ts';
import { send } from './send.ts';
import { checkOnce, urlOf } from './target.ts';
import { Busy, CATCH_UPS_MAX, QUESTIONS_MAX, QUEUED_MAX, Turns } from './turns.ts';
import { WebSockets, asOrdinary, wantsWebSocket } from './upgrade.ts';
import { NO_ORIGINS, Who, type WhoOptions } from './who.ts';

export interface HttpOptions extends WhoOptions {
  /** Undefined: plain HTTP. */
  tls: ServerTls | undefined;
  /** Asks for a certificate without insisting on a good one: for routes that look at it themselves. */
  asksCertificate?: boolean;
  /** Told of what nobody expected, which the asker is not. */
  notify: Notify;
  /** Milliseconds, where not the usual ones. */
  stallMs?: number;
}

export const CONNECTIONS_MAX = 2000;
export const STREAMS_MAX = 500;
const BODIES_BYTES_MAX = 32 * 1024 * 1024;
const KEYS_MAX = 10_000;
/** An answer of which nobody takes anything for so long ends: it holds a turn of all. */
const STALL_MS = 30_000;
/** For the next request: not closed under one that is on its way by a client that asks every few seconds. */
const IDLE_MS = 65_000;
const FIELDS_BYTES_MAX = 64 * 1024;

export class HttpServer {
  private readonly paths = new Map<string, Map<string, Endpoint>>();
  private readonly options: HttpOptions;
  private readonly server: Server;
  private readonly who: Who;
  private readonly origins: Origins;
  private readonly turns = new Turns(
    new Share('questions', QUESTIONS_MAX),
    new Share('queued_questions', QUEUED_MAX),
  );
  private readonly catchUps = new Turns(
    new Share('catch_ups', CATCH_UPS_MAX),
    // Each of them is a stream that was counted.
    new Share('streams', STREAMS_MAX),
  );
  private readonly webSockets = new WebSockets();
  private readonly order = new Order();
  private said = { text: '', atMs: 0 };
  /** What is there for all, by its name in `HTTP_LIMITS`. */
  readonly shares = {
    connections: new Share('connections', CONNECTIONS_MAX),
    questions: this.turns.running,
    queued_questions: this.turns.queued,
    streams: new Share('streams', STREAMS_MAX),
    catch_ups: this.catchUps.running,
    bodies: new Share('bodies', BODIES_BYTES_MAX),
    idempotency_keys: new Share('idempotency_keys', KEYS_MAX),
  } satisfies Record<HttpLimitName, Share>;
  private readonly doorway = new Doorway(this.shares.connections);

  constructor(endpoints: readonly Endpoint[], options: HttpOptions) {
    this.options = options;
    this.who = new Who(options);
    this.origins = options.origins ?? NO_ORIGINS;
    for (const endpoint of endpoints) {
      const { method, path } = endpoint.route;
      const methods = this.paths.get(path) ?? new Map<string, Endpoint>();
      assert(!methods.has(method), `${method} ${path} is there twice`);
      this.paths.set(path, methods.set(method, endpoint));
    }
    const times = {
      requestTimeout: 30_000,
      headersTimeout: 10_000,
      connectionsCheckingInterval: 5000,
      keepAliveTimeout: IDLE_MS,
    };
    const answer: RequestListener = (request, response) => {
      const { socket } = request;
      this.doorway.enter(socket, () => !request.complete);
      response.once('close', () => this.doorway.enter(socket, () => !this.order.isBusy(socket)));
      this.order.begin(socket, response, () => void this.answer(request, response));
    };
    const { tls } = options;
    if (tls === undefined) {
      this.server = createServer(times, answer);
    } else {
      const secure = createSecureServer(
        {
          ...times,
          ...tls.options,
          handshakeTimeout: 10_000,
          requestCert: options.asksCertificate === true,
          rejectUnauthorized: false,
        },
        answer,
      );
      tls.renew(secure);
      this.server = secure;
    }
    this.server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      asksFirst(request, () => response.writeContinue());
      answer(request, response);
    });
    this.server.on('clientError', (error: Error, socket: Socket) => {
      if (this.order.isBusy(socket)) socket.destroy();
      else turnAway(socket, error);
    });
    // Before TLS: who may not come costs no handshake. One that was asked to speak something else, and does not, comes by again.
    this.server.on('connection', (socket: Socket) => {
      if (!this.doorway.admit(socket)) socket.destroy();
    });
    this.server.on('upgrade', (raw: IncomingMessage, socket: Socket, rest: Buffer) => {
      void this.upgrade(raw, socket, rest);
    });
  }

  /** Throws TOO_MANY_REQUESTS. */
  private takeStream(principal: string, signal: AbortSignal): void {
    const { streams } = this.shares;
    if (!streams.take(principal)) throw new Busy('too many streams are open', 10);
    signal.addEventListener('abort', () => streams.give(principal), { once: true });
  }

  /** What it is asked for is there until the request is answered. It throws TOO_MANY_REQUESTS. */
  private bodyRoom(principal: string, signal: AbortSignal): (bytes: number) => void {
    const { bodies } = this.shares;
    let taken = 0;
    const give = (): void => {
      bodies.give(principal, taken);
      taken = 0;
    };
    signal.addEventListener('abort', give, { once: true });
    return (bytes) => {
      if (!bodies.take(principal, bytes)) throw new Busy('too much is being sent at once');
      taken += bytes;
      if (signal.aborted) give();
    };
  }

  async listen(address: Address, flag: string): Promise<Address> {
    this.who.onlyLoopback = isLoopback(address.host);
    return await listen(this.server, address, flag);
  }

  private async answer(raw: IncomingMessage, response: ServerResponse): Promise<void> {
    const head = raw.method === 'HEAD';
    const method = head ? 'GET' : (raw.method ?? 'GET');
    let errors: Route<unknown>['errors'];
    try {
      const url = urlOf(raw);
      checkOnce(raw);
      this.who.checkWeb(raw, method !== 'GET');
      allow(this.origins, raw, response);
      const methods = this.paths.get(url.pathname);
      const found = methods?.get(method);
      errors = found?.route.errors;
      if (isPreflight(this.origins, raw)) {
        const headers = preflightHeaders(methodsOf(methods));
        await send(raw, response, { status: 204, body: '', headers }, head);
        return;
      }
      // Of a method that is not there, as of the others of its path.
      const { right = READ_EACH } = (found ?? methods?.values().next().value)?.route ?? {};
      const identity = this.who.authorize(raw, url, right);
      if (found === undefined) await this.answerOther(raw, response, url, method);
      else await this.serve(found, raw, response, url, identity);
    } catch (error) {
      await this.fail(raw, response, error, head, errors);
    }
  }

  /** Of a method that no route is for. Throws NOT_FOUND and METHOD_NOT_ALLOWED. */
  private async answerOther(
    raw: IncomingMessage,
    response: ServerResponse,
    url: URL,
    method: string,
  ): Promise<void> {
    const methods = this.paths.get(url.pathname);
    // RFC 9110, 9.3.7 and 15.5.6.
    if (methods !== undefined) response.setHeader('allow', methodsOf(methods).join(', '));
    const isAnswered = method === 'OPTIONS' && (methods !== undefined || raw.url === '*');
    if (!isAnswered) throw notServed(method, url.pathname, [...(methods?.keys() ?? [])]);
    await send(raw, response, { status: 204, body: '' }, false);
  }

  private async serve(
    { route, running, absent }: Endpoint,
    raw: IncomingMessage,
    response: ServerResponse,
    url: URL,
    identity: Identity,
  ): Promise<void> {
    if (running === undefined) throw new HeadwaterError('NOT_FOUND', absent);
    const head = raw.method === 'HEAD';
    const request = await this.requestOf(route, raw, url, identity, signalOf(response));
    if (route.isStream === true) {
      // Nothing would ever end it.
      if (head) {
        const [type = 'text/plain'] = [route.replies[200]?.type ?? []].flat();
        await send(raw, response, { type, body: '' }, head);
        return;
      }
      this.takeStream(request.principal, request.signal);
    }
    // What goes out in parts has its turn until it is out, or nobody takes it.
    if (route.isStream !== true)
      response.setTimeout(this.options.stallMs ?? STALL_MS, () => {
        if (response.writableLength > 0) response.destroy();
      });
    const answer = async (): Promise<void> => {
      const reply = await route.handle(running, request, response);
      if (reply !== undefined) await send(raw, response, reply, head);
    };
    if (route.isCostly === true)
      await this.turns.run(request.principal, () => !response.destroyed, answer);
    else await answer();
  }

  /** A WebSocket where the route has one; what else a client would rather speak is not spoken. */
  private async upgrade(raw: IncomingMessage, socket: Socket, rest: Buffer): Promise<void> {
    const path = raw.url?.split('?')[0] ?? '';
    const found = raw.method === 'GET' ? this.paths.get(path)?.get('GET') : undefined;
    const { route, running, absent = '' } = found ?? {};
    if (!wantsWebSocket(raw) || route?.socket === undefined) {
      asOrdinary(this.server, raw, socket, rest);
      return;
    }
    socket.on('error', () => socket.destroy());
    this.doorway.enter(socket, () => false);
    const response = new ServerResponse(raw);
    response.assignSocket(socket);
    response.shouldKeepAlive = false;
    try {
      const url = urlOf(raw);
      checkOnce(raw);
      // It is no answer that a page's browser would keep from it.
      this.who.checkWeb(raw, true);
      const identity = this.who.authorize(raw, url, route.right);
      if (running === undefined) throw new HeadwaterError('NOT_FOUND', absent);
      const closed = new AbortController();
      const request = await this.requestOf(route, raw, url, identity, closed.signal);
      const begin = route.socket(running, request);
      if (socket.destroyed) return;
      this.takeStream(request.principal, closed.signal);
      socket.once('close', () => closed.abort());
      response.detachSocket(socket);
      this.webSockets.accept(raw, socket, rest, begin);
    } catch (error) {
      await this.fail(raw, response, error, false, route.errors);
      socket.end();
    }
  }

  /** What a handler may rely on. Throws QUERY_INVALID and BODY_TOO_LARGE. */
  private async requestOf(
    route: Route<unknown>,
    raw: IncomingMessage,
    url: URL,
    identity: Identity,
    signal: AbortSignal,
  ): Promise<Request> {
    if (route.query !== 'any') checkParameters(route.query ?? {}, url.searchParams);
    const address = raw.socket.remoteAddress ?? '';
    const principal = identity.name === '' ? addressGroup(address) : identity.name;
    const body = (bytesMax: number): Promise<Buffer> =>
      readBody(raw, bytesMax, this.bodyRoom(principal, signal));
    const fields =
      route.body === undefined || 'type' in route.body
        ? {}
        : parseFields((await body(FIELDS_BYTES_MAX)).toString('utf8'), route.body.fields);
    return {
      method: route.method,
      path: url.pathname,
      query: url.searchParams,
      headers: raw.headers,
      identity,
      address,
      principal,
      fields,
      signal,
      keys: this.shares.idempotency_keys,
      catchUp: (isWanted, work) => this.catchUps.run(principal, isWanted, work),
      certificate: () => shownCertificate(raw.socket),
      body,
    };
  }

  private async fail(
    raw: IncomingMessage,
    response: ServerResponse,
    error: unknown,
    head: boolean,
    shape: Route<unknown>['errors'],
  ): Promise<void> {
    if (response.headersSent) {
      response.destroy();
      return;
    }
    const code = errorCode(error);
    const { status } = ERRORS[code];
    if (status === 429 || status === 503)
      response.setHeader('retry-after', retryAfterSeconds(error, status));
    // `message` and `error` at the top are where InfluxDB's clients look.
    const text = code === 'INTERNAL' ? this.unexpected(raw, error) : messageOf(error);
    const body =
      shape === 'influxdb'
        ? { error: text }
        : { ...problem(code, text), code: code.toLowerCase(), message: text };
    const isOurs = shape === undefined && raw.url?.startsWith('/api/v1/') === true;
    const type = isOurs ? 'application/problem+json' : 'application/json; charset=utf-8';
    await send(raw, response, { ...json(body, status), type }, head);
  }

  /** Its words may be a library's, with paths and data in them: they are for the log, and the same ones once a minute. */
  private unexpected({ method = '', url = '' }: IncomingMessage, error: unknown): string {
    const text = `${method} ${url.split('?')[0]}: ${messageOf(error)}`;
    const nowMs = performance.now();
    if (text !== this.said.text || nowMs - this.said.atMs > 60_000) {
      this.said = { text, atMs: nowMs };
      this.options.notify({ level: 'error', event: 'http_unexpected', text });
    }
    return 'something that was not expected went wrong; the log of this process says more';
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeAllConnections();
    this.webSockets.close();
    await closed;
  }
}

/** With those that the server answers for every path, RFC 9110. */
const methodsOf = (methods: ReadonlyMap<string, Endpoint> | undefined): string[] => [
  ...[...(methods?.keys() ?? ['GET', 'POST'])].flatMap((each) =>
    each === 'GET' ? ['GET', 'HEAD'] : [each],
  ),
  'OPTIONS',
];

/** Its key was shown with it: the handshake is complete. */
const shownCertificate = (socket: Socket): X509Certificate | undefined =>
  socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;

/** The same for all: one of its own, with its stack, would cost each request more than the abort. */
const ENDED = new Error('the request has ended');

function signalOf(response: ServerResponse): AbortSignal {
  const controller = new AbortController();
  response.once('close', () => controller.abort(ENDED));
  return controller.signal;
}
