/** What the live stream's WebSocket guards against, over real sockets; and requests that would rather speak something else. */
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket, type ClientOptions } from 'ws';
import { Collector } from '../../collector/collector.ts';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { hashOf } from '../../shared/access/tokens.ts';
import { environmentName, loadConfig } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import { Authority } from '../support/certificates.ts';
import { temporaryFolder, until } from '../support/process.ts';

const PAGE = 'https://dash.example.org';

interface Site {
  port: number;
  close(): Promise<void>;
}

async function start(flags: Record<string, string | boolean>): Promise<Site> {
  const listen = '127.0.0.1:0';
  const collector = new Collector(
    realEnv(),
    loadConfig(COLLECTOR_CONFIG, {
      flags: { data: temporaryFolder(), lake: 'none', uplink: listen, http: listen, ...flags },
      environment: { [environmentName('http.corsOrigins')]: PAGE },
    }),
    () => undefined,
  );
  const { http } = await collector.start(undefined);
  return { port: http?.port ?? 0, close: () => collector.close() };
}

function tokensFile(): string {
  const path = join(temporaryFolder(), 'tokens');
  const line = (name: string, scope: string): string =>
    `${name}:${scope}:*:${hashOf(`${name}/+=`).toString('hex')}`;
  writeFileSync(path, `${line('reads', 'read')}\n${line('writes', 'write')}\n`, { mode: 0o600 });
  return path;
}

let open: Site;
let asks: Site;
let secure: Site;
beforeAll(async () => {
  const { cert, key } = new Authority(join(temporaryFolder(), 'ca')).issue({
    name: 'collector',
    hosts: ['127.0.0.1'],
  });
  [open, asks, secure] = await Promise.all([
    start({}),
    start({ 'tokens-file': tokensFile() }),
    start({ 'http-tls': true, 'tls-cert': cert, 'tls-key': key }),
  ]);
});
afterAll(() => Promise.all([open, asks, secure].map((site) => site.close())));

interface Outcome {
  status: number;
  protocol?: string;
  body?: string;
  webSocket?: WebSocket;
}

function knock(
  { port }: Site,
  options: ClientOptions & { protocols?: string[]; path?: string; scheme?: string } = {},
): Promise<Outcome> {
  const { protocols = [], path = '/api/v1/stream', scheme = 'ws', ...rest } = options;
  return new Promise((resolve, reject) => {
    const webSocket = new WebSocket(`${scheme}://127.0.0.1:${port}${path}`, protocols, rest);
    webSocket.on('open', () => resolve({ status: 101, protocol: webSocket.protocol, webSocket }));
    webSocket.on('unexpected-response', (_request, response) => {
      let body = '';
      response.on('data', (part: Buffer) => (body += part.toString()));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    });
    webSocket.on('error', reject);
  });
}

async function enters(site: Site, options: Parameters<typeof knock>[1] = {}): Promise<number> {
  const { status, webSocket } = await knock(site, options);
  webSocket?.terminate();
  return status;
}

/** Bytes there, and what comes back until the connection ends or that says enough. */
function raw({ port }: Site, text: string, isEnough: (got: string) => boolean): Promise<string> {
  return new Promise((resolve, reject) => {
    let got = '';
    const socket = connect({ host: '127.0.0.1', port }, () => socket.write(text));
    socket.on('data', (part) => {
      got += part.toString('latin1');
      if (isEnough(got)) socket.destroy();
    });
    socket.on('close', () => resolve(got));
    socket.on('error', reject);
  });
}

const bearer = (token: string): string => `bearer.${Buffer.from(token).toString('base64url')}`;

async function streams({ port }: Site): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return Number(/http_limit_used\{limit="streams"\} (\d+)/.exec(text)?.[1]);
}

describe('the WebSocket of the live stream', () => {
  it('a foreign Host or Origin comes to nothing; its own and a listed one do', async () => {
    const own = `127.0.0.1:${open.port}`;
    for (const [headers, status] of [
      [{}, 101],
      [{ origin: `http://${own}` }, 101],
      [{ origin: PAGE }, 101],
      [{ origin: `${PAGE}.evil.example` }, 403],
      [{ origin: 'https://evil.example' }, 403],
      [{ origin: 'null' }, 403],
      [{ host: `evil.example:${open.port}` }, 403],
      [{ host: `evil.example:${open.port}`, origin: `http://evil.example:${open.port}` }, 403],
      [{ host: `evil.example:${open.port}`, origin: PAGE }, 403],
    ] as const)
      expect(await enters(open, { headers }), JSON.stringify(headers)).toBe(status);
    expect(await enters(asks, { headers: { origin: 'https://evil.example' } })).toBe(403);
  });

  it('a token comes as a header, as a protocol, or by the own page’s cookie; a wrong or a missing one gets nothing', async () => {
    const token = 'reads/+=';
    const cookie = `headwater_token=${encodeURIComponent(token)}`;
    expect(await enters(asks, { headers: { authorization: `Bearer ${token}` } })).toBe(101);
    expect(await enters(asks, { headers: { cookie } })).toBe(101);
    const { status, protocol, webSocket } = await knock(asks, {
      protocols: ['headwater', bearer(token)],
    });
    expect([status, protocol]).toEqual([101, 'headwater']);
    webSocket?.terminate();
    expect(await enters(asks)).toBe(401);
    expect(await enters(asks, { protocols: ['headwater', bearer('wrong')] })).toBe(401);
    expect(await enters(asks, { headers: { cookie, origin: PAGE } })).toBe(401);
    expect(await enters(asks, { protocols: ['headwater', bearer('writes/+=')] })).toBe(403);
    const { body } = await knock(asks);
    expect(JSON.parse(body ?? '')).toMatchObject({ status: 401, error: { code: 'UNAUTHORIZED' } });
  });

  it('nothing is taken from it: a message, a large one and pings without end close it', async () => {
    const { webSocket: talks } = await knock(open);
    const code = new Promise<number>((resolve) => talks?.on('close', resolve));
    talks?.send('{"subscribe":"all"}');
    expect(await code).toBe(1003);
    const { webSocket: floods } = await knock(open);
    const ended = new Promise<number>((resolve) => floods?.on('close', resolve));
    floods?.send(Buffer.alloc(1024 * 1024));
    expect([1003, 1006, 1009]).toContain(await ended);
    const { webSocket: pings } = await knock(open);
    let isOver = false;
    pings?.on('close', () => (isOver = true));
    pings?.on('error', () => undefined);
    pings?.pause();
    const payload = Buffer.alloc(125);
    await until('its end', async () => {
      for (let count = 0; count < 5000; count++) pings?.ping(payload, undefined, () => undefined);
      return isOver || (await streams(open)) === 0 || undefined;
    });
    pings?.terminate();
    await until('all to be given back', async () => (await streams(open)) === 0 || undefined);
  });

  it('one principal cannot have all streams, and gets 429 as a request does', async () => {
    const sockets: WebSocket[] = [];
    for (;;) {
      const { status, webSocket } = await knock(open, { localAddress: '127.0.0.9' });
      if (webSocket === undefined) {
        expect(status).toBe(429);
        break;
      }
      sockets.push(webSocket);
    }
    expect(sockets).toHaveLength(250);
    expect(await enters(open, { localAddress: '127.0.0.10' })).toBe(101);
    for (const webSocket of sockets) webSocket.terminate();
    await until('all to be given back', async () => (await streams(open)) === 0 || undefined);
  });

  it('a handshake that is none is refused, and costs nothing', async () => {
    const head = `GET /api/v1/stream HTTP/1.1\r\nhost: 127.0.0.1:${open.port}\r\n`;
    const upgrade = 'connection: upgrade\r\nupgrade: websocket\r\n';
    for (const rest of ['', 'sec-websocket-version: 13\r\nsec-websocket-key: short\r\n'])
      expect(await raw(open, `${head}${upgrade}${rest}\r\n`, () => false)).toMatch(
        /^HTTP\/1\.1 4\d\d /,
      );
    await until('nothing to be held', async () => (await streams(open)) === 0 || undefined);
    expect(await enters(open, { path: '/api/v1/stream?what=1' })).toBe(400);
    expect(await streams(open)).toBe(0);
  });

  it('speaks TLS where the server does', async () => {
    const scheme = 'wss';
    expect(await enters(secure, { scheme, rejectUnauthorized: false })).toBe(101);
  });
});

describe('a request that would rather speak something else', () => {
  const h2c = 'connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n';
  const host = (): string => `host: 127.0.0.1:${open.port}\r\n`;

  it('is answered as one without: h2c, as Java asks for it, with a body and without', async () => {
    const body = '{"v":1}';
    const post = `POST /api/v1/ingest?topic=a HTTP/1.1\r\n${host()}${h2c}content-length: ${body.length}\r\n\r\n${body}`;
    // Two, one after the other, on one connection.
    const got = await new Promise<string>((resolve) => {
      let text = '';
      const socket = connect({ host: '127.0.0.1', port: open.port }, () => socket.write(post));
      socket.on('data', (part) => {
        text += part.toString('latin1');
        if (text.includes('ok\n')) socket.destroy();
        else socket.write(`GET /healthz HTTP/1.1\r\n${host()}${h2c}\r\n`);
      });
      socket.on('close', () => resolve(text));
    });
    expect(got.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 204', 'HTTP/1.1 200']);
    // A body that comes later than its head.
    const answer = await new Promise<string>((resolve) => {
      let text = '';
      const socket = connect({ host: '127.0.0.1', port: open.port }, () => {
        socket.write(post.slice(0, -3));
        setTimeout(() => socket.write(post.slice(-3)), 50);
      });
      socket.on('data', (part) => {
        text += part.toString('latin1');
        socket.destroy();
      });
      socket.on('close', () => resolve(text));
    });
    expect(answer).toMatch(/^HTTP\/1\.1 204/);
  });

  it('the guards hold for it, it is counted as one connection, and a WebSocket where there is none is a request', async () => {
    const evil = `host: evil.example\r\n${h2c}\r\n`;
    const enough = (got: string): boolean => got.includes('\r\n\r\n');
    expect(await raw(open, `GET /api/v1/series HTTP/1.1\r\n${evil}`, enough)).toMatch(
      /^HTTP\/1\.1 403/,
    );
    expect(await enters(open, { path: '/healthz' })).toBe(200);
    expect(await enters(open, { path: '/api/v1/nothing' })).toBe(404);
    const used = async (): Promise<number> => {
      const text = await (await fetch(`http://127.0.0.1:${open.port}/metrics`)).text();
      return Number(/http_limit_used\{limit="connections"\} (\d+)/.exec(text)?.[1]);
    };
    const before = await used();
    for (let count = 0; count < 20; count++)
      await raw(open, `GET /healthz HTTP/1.1\r\n${host()}${h2c}\r\n`, enough);
    await until('none to be left', async () => (await used()) <= before || undefined);
  });
});
