/** Pages of other origins at both servers, over the real sockets; and what a path answers to methods that no route is for. */
import { writeFileSync } from 'node:fs';
import { request, type IncomingHttpHeaders } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { Collector } from '../../collector/collector.ts';
import { GATEWAY_CONFIG } from '../../gateway/config.ts';
import { Gateway } from '../../gateway/gateway.ts';
import { hashOf } from '../../shared/access/tokens.ts';
import { loadConfig } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import { parseOrigins } from '../../shared/http/cors.ts';
import type { Address } from '../../shared/net/listen.ts';
import { temporaryFolder } from '../support/process.ts';

const silent = (): void => undefined;
const PAGE = 'https://dash.example.org:8443';

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

function ask(
  address: Address | undefined,
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body = '',
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { host, port } = address as Address; // It listens.
    const sent = request({ host, port, method, path, headers, agent: false }, (response) => {
      let text = '';
      response.on('data', (part: Buffer) => (text += part.toString()));
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }),
      );
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

interface Servers {
  collector: Address | undefined;
  gateway: Address | undefined;
  close: () => Promise<void>;
}

async function start(origins: readonly string[], tokens: string): Promise<Servers> {
  const environment = { HEADWATER_HTTP_CORS_ORIGINS: origins.join(',') };
  const listen = '127.0.0.1:0';
  const collector = new Collector(
    realEnv(),
    loadConfig(COLLECTOR_CONFIG, {
      flags: {
        data: temporaryFolder(),
        lake: 'none',
        uplink: listen,
        http: listen,
        'tokens-file': tokens,
      },
      environment,
    }),
    silent,
  );
  const gateway = new Gateway(
    realEnv(),
    loadConfig(GATEWAY_CONFIG, {
      flags: {
        data: temporaryFolder(),
        id: 'here',
        mqtt: listen,
        'gateway-http': listen,
        'tokens-file': tokens,
      },
      environment,
    }),
    silent,
  );
  const far = await collector.start(undefined);
  const near = await gateway.start([]);
  return {
    collector: far.http,
    gateway: near.http,
    close: async () => {
      await gateway.close();
      await collector.close();
    },
  };
}

function tokensFile(): string {
  const path = join(temporaryFolder(), 'tokens');
  writeFileSync(path, `page:admin:*:${hashOf('right').toString('hex')}\n`, { mode: 0o600 });
  return path;
}

const SIDES = ['collector', 'gateway'] as const;
const READ: Record<(typeof SIDES)[number], string> = {
  collector: '/api/v1/series',
  gateway: '/api/v1/buffer',
};
const INGEST = '/api/v1/ingest?topic=a';
const preflight = (origin: string, method = 'POST'): Record<string, string> => ({
  origin,
  'access-control-request-method': method,
  'access-control-request-headers': 'authorization,content-type',
});
const corsOf = ({ headers }: Answer): string[] =>
  Object.keys(headers).filter((name) => name.startsWith('access-control-'));

let open: Servers;
let listed: Servers;
let asks: Servers;
beforeAll(async () => {
  [open, listed, asks] = await Promise.all([
    start([], ''),
    start([PAGE], ''),
    start([PAGE], tokensFile()),
  ]);
});
afterAll(() => Promise.all([open, listed, asks].map((servers) => servers.close())));

describe.each(SIDES)('%s, for pages of other origins', (side) => {
  const right = { authorization: 'Bearer right' };

  it('names none of its own accord: no page may read or send', async () => {
    const to = open[side];
    const refused = await ask(to, 'OPTIONS', INGEST, preflight(PAGE));
    expect([refused.status, corsOf(refused)]).toEqual([403, []]);
    const read = await ask(to, 'GET', READ[side], { origin: PAGE });
    expect(corsOf(read)).toEqual([]);
    expect((await ask(to, 'POST', INGEST, { origin: PAGE }, '1')).status).toBe(403);
  });

  it('a listed one asks before, without a token, and then sends and reads with one', async () => {
    const to = asks[side];
    const asked = await ask(to, 'OPTIONS', INGEST, preflight(PAGE));
    expect(asked.status).toBe(204);
    expect(asked.headers).toMatchObject({
      'access-control-allow-origin': PAGE,
      'access-control-allow-methods': 'POST, OPTIONS',
      'access-control-allow-headers': expect.stringContaining('authorization') as string,
      'access-control-max-age': '600',
      vary: 'origin',
    });
    const sent = await ask(to, 'POST', INGEST, { origin: PAGE, ...right }, '1');
    expect([sent.status, sent.headers['access-control-allow-origin']]).toEqual([204, PAGE]);
    const read = await ask(to, 'GET', READ[side], { origin: PAGE, ...right });
    expect([read.status, read.headers['access-control-allow-origin']]).toEqual([200, PAGE]);
    // Why not, it may read as well.
    const nobody = await ask(to, 'GET', READ[side], { origin: PAGE });
    expect([nobody.status, nobody.headers['access-control-allow-origin']]).toEqual([401, PAGE]);
    for (const answer of [asked, sent, read, nobody])
      expect(answer.headers['access-control-allow-credentials']).toBeUndefined();
  });

  it.each([
    'https://dash.example.org',
    'http://dash.example.org:8443',
    'https://dash.example.org:84430',
    'https://dash.example.org:8443.evil.example',
    'https://evil.dash.example.org:8443',
    'https://DASH.example.org:8443',
    'https://dash.example.org:8443/',
    'null',
    '*',
  ])('what is nearly one is none: %s', async (origin) => {
    for (const servers of [listed, asks]) {
      const asked = await ask(servers[side], 'OPTIONS', INGEST, preflight(origin));
      expect([asked.status, corsOf(asked)]).toEqual([403, []]);
      const read = await ask(servers[side], 'GET', READ[side], { origin, ...right });
      expect([corsOf(read), read.headers.vary]).toEqual([
        [],
        expect.stringContaining('origin') as string,
      ]);
      const sent = await ask(servers[side], 'POST', INGEST, { origin, ...right }, '1');
      expect(sent.status).toBe(403);
    }
  });

  it('the guard of Host holds for it, and the cookie that a browser adds does not count', async () => {
    const rebound = { origin: PAGE, host: `evil.example:${listed[side]?.port}` };
    expect((await ask(listed[side], 'GET', READ[side], rebound)).status).toBe(403);
    expect((await ask(listed[side], 'POST', INGEST, rebound, '1')).status).toBe(403);
    expect(
      (await ask(listed[side], 'OPTIONS', INGEST, { ...preflight(PAGE), ...rebound })).status,
    ).toBe(403);
    const cookie = 'headwater_token=right';
    expect((await ask(asks[side], 'GET', READ[side], { cookie })).status).toBe(200);
    expect((await ask(asks[side], 'GET', READ[side], { cookie, origin: PAGE })).status).toBe(401);
    expect((await ask(asks[side], 'POST', INGEST, { cookie, origin: PAGE }, '1')).status).toBe(401);
  });

  it('a method that is not there is told from a path that is not, with those that are', async () => {
    const to = open[side];
    const other = await ask(to, 'DELETE', READ[side]);
    expect([other.status, other.headers.allow]).toEqual([405, 'GET, HEAD, OPTIONS']);
    expect(JSON.parse(other.body)).toMatchObject({ error: { code: 'METHOD_NOT_ALLOWED' } });
    const head = await ask(to, 'HEAD', INGEST);
    expect([head.status, head.headers.allow, head.body]).toEqual([405, 'POST, OPTIONS', '']);
    const none = await ask(to, 'DELETE', '/api/v1/nothing');
    expect([none.status, none.headers.allow]).toEqual([404, undefined]);
    expect((await ask(to, 'OPTIONS', '/api/v1/nothing')).status).toBe(404);
    const options = await ask(to, 'OPTIONS', READ[side]);
    expect([options.status, options.headers.allow, options.body]).toEqual([
      204,
      'GET, HEAD, OPTIONS',
      '',
    ]);
    expect((await ask(to, 'OPTIONS', '*')).status).toBe(204);
    // Who may send and not read is told so too, and who is nobody is not.
    expect((await ask(asks[side], 'DELETE', INGEST)).status).toBe(401);
    expect((await ask(asks[side], 'OPTIONS', READ[side])).status).toBe(401);
    expect((await ask(asks[side], 'DELETE', '/healthz')).status).toBe(405);
  });

  it('HEAD is GET without its body, and ends where GET would not', async () => {
    const [get, head] = [
      await ask(open[side], 'GET', '/healthz'),
      await ask(open[side], 'HEAD', '/healthz'),
    ];
    expect([head.status, head.headers['content-length'], head.body]).toEqual([
      200,
      get.headers['content-length'],
      '',
    ]);
    if (side === 'gateway') return;
    const stream = await ask(open[side], 'HEAD', '/api/v1/stream');
    expect([stream.status, stream.headers['content-type'], stream.body]).toEqual([
      200,
      'text/event-stream',
      '',
    ]);
    expect((await ask(open[side], 'GET', '/metrics')).body).toMatch(
      /http_limit_used\{limit="streams"\} 0/,
    );
  });
});

describe('origins in the settings', () => {
  it.each([
    '*',
    'https://*.example.org',
    'dash.example.org',
    'https://dash.example.org/',
    'https://dash.example.org/page',
    'https://Dash.example.org',
    'https://dash.example.org:443',
    'https://user@dash.example.org',
    'null',
    'file:///page.html',
    '',
  ])('what no browser sends is refused at the start: %s', (text) => {
    expect(() => parseOrigins([PAGE, text])).toThrow(/http\.corsOrigins: '.*' is not an origin/);
  });
});
