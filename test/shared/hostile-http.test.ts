/**
 * Every route of both servers, and of the listener for enrolment, as somebody asks who means no good: made of the code's own tables, so that a new route is asked
 * as well. Nothing is answered 5xx but what says "not now", nothing of a request comes back in a header, nothing stays taken.
 */
import { request } from 'node:http';
import { request as requestTls } from 'node:https';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { join } from 'node:path';
import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { COLLECTOR_PARTS, Collector } from '../../collector/collector.ts';
import { EST_ROUTES } from '../../collector/enroll/est.ts';
import { GATEWAY_CONFIG } from '../../gateway/config.ts';
import { GATEWAY_PARTS, Gateway } from '../../gateway/gateway.ts';
import { loadConfig } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import type { Route } from '../../shared/http/route.ts';
import type { Notice } from '../../shared/telemetry/log.ts';
import { endpointsOf } from '../../shared/parts/site.ts';
import { temporaryFolder, until } from '../support/process.ts';

const parts = { collector: COLLECTOR_PARTS, gateway: GATEWAY_PARTS };
const SIDES = ['collector', 'gateway', 'enroll'] as const;
type Side = (typeof SIDES)[number];
const routesOf = (side: Side): readonly Route<never>[] =>
  side === 'enroll' ? EST_ROUTES : endpointsOf(parts[side]).map(({ route }) => route);

const ports: Record<Side, number> = { collector: 0, gateway: 0, enroll: 0 };
const notices: Notice[] = [];
const folder = temporaryFolder();
let close: () => Promise<void>;
beforeAll(async () => {
  const notify = (notice: Notice): void => void notices.push(notice);
  const collector = new Collector(
    realEnv(),
    loadConfig(COLLECTOR_CONFIG, {
      flags: {
        data: join(folder, 'collector'),
        uplink: '127.0.0.1:0',
        uplinks: '127.0.0.1:0',
        http: '127.0.0.1:0',
        enroll: '127.0.0.1:0',
      },
      environment: {},
    }),
    notify,
  );
  const gateway = new Gateway(
    realEnv(),
    loadConfig(GATEWAY_CONFIG, {
      flags: {
        data: join(folder, 'gateway'),
        id: 'gw',
        mqtt: '127.0.0.1:0',
        'gateway-http': '127.0.0.1:0',
      },
      environment: {},
    }),
    notify,
  );
  const { http, enroll } = await collector.start(undefined);
  ports.collector = http?.port ?? 0;
  ports.enroll = enroll?.port ?? 0;
  ports.gateway = (await gateway.start([])).http?.port ?? 0;
  close = async () => {
    await gateway.close();
    await collector.close();
  };
});
afterAll(() => close());

interface Answer {
  status: number;
  headers: Record<string, unknown>;
  body: string;
}

interface Asked {
  method?: string;
  path: string;
  headers?: Record<string, string>;
  body?: string | Buffer;
}

/** A stream is left once it has begun. */
function ask(
  side: Side,
  { method = 'GET', path, headers = {}, body = '' }: Asked,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const make = side === 'enroll' ? requestTls : request;
    const sent = make(
      {
        ...{ host: '127.0.0.1', port: ports[side], method, path, headers, agent: false },
        ...(side === 'enroll' ? { rejectUnauthorized: false } : {}),
      },
      (response) => {
        let text = '';
        const done = (): void =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text });
        response.on('data', (part: Buffer) => {
          text += part.toString();
          if (response.headers['content-type']?.startsWith('text/event-stream') === true) {
            done();
            response.destroy();
          }
        });
        response.on('end', done);
        response.on('error', done);
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

/** Exactly these bytes; all that comes back. */
function raw(side: Side, text: string): Promise<string> {
  return new Promise((resolve) => {
    const where = { host: '127.0.0.1', port: ports[side], rejectUnauthorized: false };
    const begin = (): void => void socket.write(text);
    const socket: Socket = side === 'enroll' ? connectTls(where, begin) : connect(where, begin);
    let all = '';
    const timer = setTimeout(() => socket.destroy(), 1500);
    socket.on('data', (data: Buffer) => {
      all += data.toString('latin1');
      if (/^HTTP\/1\.1 (?!2|1)/.test(all) || all.includes('\r\n\r\n'))
        setTimeout(() => socket.destroy(), 30);
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(all);
    });
  });
}

const neededOf = ({ query }: Route<never>): string[] =>
  Object.entries(query === 'any' ? {} : (query ?? {})).flatMap(([name, { required }]) =>
    required === true ? [`${name}=x`] : [],
  );
const at = (route: Route<never>, ...more: string[]): string => {
  const all = [...neededOf(route), ...more];
  return `${route.path}${all.length === 0 ? '' : `?${all.join('&')}`}`;
};
const isBroken = ({ status }: Answer): boolean => status >= 500 && status !== 503;
const unexpected = (): string[] =>
  notices.filter(({ event }) => event === 'http_unexpected').map(({ text }) => text);
/** Begins work that is meant to be done by whoever may: it is not repeated here without end. */
const WORKS = ['/api/v1/rebuild', '/api/v1/audit', '/api/v1/lake/check', '/api/v1/lake/forget'];

/** Two of them in turn: all of a list come by over the routes. */
let turn = 0;
function* some<T>(list: readonly T[]): Generator<T> {
  for (let count = 0; count < 2; count++) yield list[turn++ % list.length] as T;
}

const HEADER = 'x%0d%0ax-evil:%20yes%0d%0a%0d%0aevil';
const LONG = 'x'.repeat(12_000);
const VALUES = [
  '',
  '%00',
  HEADER,
  '..%2f..%2fetc%2fpasswd',
  '-1',
  '1e999',
  '99999999999999999999',
  'NaN',
  '%ff%fe',
  '%F0%9F%92%A9',
  LONG,
  '%27%3B%20DROP%20TABLE%20x%3B--',
  '__proto__',
  '2026-99-99T99:99:99Z',
];

describe.each(SIDES)('%s', (side) => {
  const routes = routesOf(side);

  it('another method is told which there are; HEAD answers as GET without a body', async () => {
    const paths = new Map<string, Set<string>>();
    for (const { path, method } of routes)
      paths.set(path, (paths.get(path) ?? new Set()).add(method));
    for (const [path, methods] of paths)
      for (const method of [
        'PUT',
        'DELETE',
        'PATCH',
        'TRACE',
        'PROPFIND',
        'OPTIONS',
        'POST',
        'HEAD',
        'GET',
      ]) {
        if (methods.has(method === 'HEAD' ? 'GET' : method)) continue;
        const answer = await ask(side, { method, path });
        expect([method, path, answer.status]).toEqual([
          method,
          path,
          method === 'OPTIONS' ? 204 : 405,
        ]);
        expect(answer.headers['allow']).toContain([...methods][0]);
      }
    for (const route of routes.filter(({ method }) => method === 'GET')) {
      const head = await ask(side, { method: 'HEAD', path: at(route) });
      expect(head.body).toBe('');
      expect([route.path, isBroken(head)]).toEqual([route.path, false]);
    }
  });

  it('whatever stands in its parameters: an answer that is no accident, and nothing of it in a header', async () => {
    for (const route of routes) {
      if (route.method !== 'GET') continue;
      const known = Object.entries(route.query === 'any' ? {} : (route.query ?? {}));
      const names = known.map(([name, { isMap }]) => (isMap === true ? `${name}.a` : name));
      const asked = [...names, ...some(['__proto__', 'constructor', 'tag.__proto__', 'a[b]'])];
      await Promise.all(
        asked.flatMap((name) =>
          [...some(VALUES)].map(async (value) => {
            const answer = await ask(side, { path: at(route, `${name}=${value}`) });
            const what = [route.path, name, value.slice(0, 40)];
            expect([...what, isBroken(answer) ? answer.status : 0]).toEqual([...what, 0]);
            expect(answer.headers).not.toHaveProperty('x-evil');
          }),
        ),
      );
      // Twice the same, and a hundred that are not known.
      const twice = await ask(side, {
        path: at(route, ...names.flatMap((name) => [`${name}=1`, `${name}=2`])),
      });
      expect([route.path, isBroken(twice)]).toEqual([route.path, false]);
    }
    expect(unexpected()).toEqual([]);
    expect(({} as { a?: unknown }).a).toBeUndefined();
  });

  const deep = `${'['.repeat(20_000)}${']'.repeat(20_000)}`;
  const BODIES: (string | Buffer)[] = [
    '',
    'null',
    '[]',
    '1',
    '"x"',
    '{',
    deep,
    `{"a":${deep}}`,
    '{"__proto__":{"a":1}}',
    '{"constructor":{"prototype":{"a":1}}}',
    '{"sql":1e999}',
    '{"a":"\\u0000"}',
    `{"x":"${LONG}"}`,
    Buffer.from('fffe00', 'hex'),
    `{${'"a":1,'.repeat(10_000)}"b":2}`,
  ];
  it('whatever its body is: an answer that is no accident', async () => {
    for (const route of routes) {
      if (route.method !== 'POST' || WORKS.includes(route.path)) continue;
      const fields =
        route.body === undefined || 'type' in route.body ? [] : Object.keys(route.body.fields);
      const own = fields.flatMap((name) =>
        VALUES.slice(0, 12).map((value) =>
          JSON.stringify({ [name]: decodeURIComponent(value.replace('%ff%fe', '')) }),
        ),
      );
      for (const body of [...some(BODIES), ...some(own)].filter((each) => each !== undefined))
        for (const type of ['application/json']) {
          const answer = await ask(side, {
            method: 'POST',
            path: at(route),
            body,
            headers: { 'content-type': type },
          });
          expect([
            route.path,
            body.toString().slice(0, 60),
            isBroken(answer) ? answer.status : 0,
          ]).toEqual([route.path, body.toString().slice(0, 60), 0]);
        }
      for (const coding of some([
        'br',
        'gzip, gzip',
        'compress',
        'gzip',
        'deflate',
        '\u00ff',
        'identity, gzip',
      ])) {
        const answer = await ask(side, {
          method: 'POST',
          path: at(route),
          body: 'not packed',
          headers: { 'content-encoding': coding },
        });
        expect([route.path, coding, isBroken(answer) ? answer.status : 0]).toEqual([
          route.path,
          coding,
          0,
        ]);
      }
    }
    expect(unexpected()).toEqual([]);
    expect(({} as { a?: unknown }).a).toBeUndefined();
  });

  it('a form of another site changes nothing, whatever its content type', async () => {
    for (const route of routes) {
      if (route.method !== 'POST') continue;
      for (const type of [
        'text/plain',
        'application/x-www-form-urlencoded',
        'multipart/form-data; boundary=x',
        'application/json',
      ])
        for (const origin of [
          'http://evil.example',
          `http://localhost.evil.example:${ports[side]}`,
        ]) {
          const answer = await ask(side, {
            method: 'POST',
            path: at(route),
            body: '{}',
            headers: { 'content-type': type, origin },
          });
          expect([route.path, type, origin, answer.status]).toEqual([
            route.path,
            type,
            origin,
            403,
          ]);
        }
    }
  });

  const HOST = 'Host: 127.0.0.1\r\n';
  it.each([
    ['no address', `GET // HTTP/1.1\r\n${HOST}\r\n`, /^HTTP\/1\.1 4/],
    [
      'an address of another server',
      `GET http://evil.example/healthz HTTP/1.1\r\n${HOST}\r\n`,
      /^HTTP\/1\.1 400/,
    ],
    [
      'an address with a host, its own',
      `GET http://127.0.0.1/healthz HTTP/1.1\r\n${HOST}\r\n`,
      /^HTTP\/1\.1 200/,
    ],
    ['a path like a host', `GET //evil.example/healthz HTTP/1.1\r\n${HOST}\r\n`, /^HTTP\/1\.1 4/],
    ['a name in it', `GET http://a:b@127.0.0.1/healthz HTTP/1.1\r\n${HOST}\r\n`, /^HTTP\/1\.1 400/],
    ['another scheme', `GET file:///etc/passwd HTTP/1.1\r\n${HOST}\r\n`, /^HTTP\/1\.1 400/],
    ['the whole server', `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`, /^HTTP\/1\.1 (?:204|401)/],
    ['the whole server, asked for', `GET * HTTP/1.1\r\n${HOST}\r\n`, /^HTTP\/1\.1 4/],
    ['a broken address', `GET http://[ HTTP/1.1\r\n${HOST}\r\n`, /^HTTP\/1\.1 4/],
    ['backslashes', `GET /\\..\\..\\etc HTTP/1.1\r\n${HOST}\r\n`, /^HTTP\/1\.1 4/],
    ['dots', `GET /../../../../etc/passwd HTTP/1.1\r\n${HOST}\r\n`, /^HTTP\/1\.1 4/],
    ['dots, encoded', `GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n${HOST}\r\n`, /^HTTP\/1\.1 4/],
    ['a tunnel', `CONNECT evil.example:443 HTTP/1.1\r\n${HOST}\r\n`, /^(?:HTTP\/1\.1 4|$)/],
    ['no host', 'GET /healthz HTTP/1.1\r\n\r\n', /^HTTP\/1\.1 4/],
    ['two hosts', `GET /healthz HTTP/1.1\r\n${HOST}Host: evil.example\r\n\r\n`, /^HTTP\/1\.1 400/],
    [
      'two tokens',
      `GET /healthz HTTP/1.1\r\n${HOST}Authorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n`,
      /^HTTP\/1\.1 400/,
    ],
    [
      'two codings of the body',
      `POST /write HTTP/1.1\r\n${HOST}Content-Encoding: gzip\r\nContent-Encoding: identity\r\nContent-Length: 0\r\n\r\n`,
      /^HTTP\/1\.1 400/,
    ],
    [
      'two lengths',
      `POST /write HTTP/1.1\r\n${HOST}Content-Length: 1\r\nContent-Length: 5\r\n\r\na`,
      /^HTTP\/1\.1 4/,
    ],
    [
      'length and chunks',
      `POST /write HTTP/1.1\r\n${HOST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      /^HTTP\/1\.1 4/,
    ],
    ...[
      ['a coding that is nearly chunks', 'Transfer-Encoding: xchunked'],
      ['chunks that are no longer the last coding', 'Transfer-Encoding: chunked, identity'],
      ['a length behind a coding of its own', 'Transfer-Encoding : chunked\r\nContent-Length: 5'],
      ['a line that goes on', 'Transfer-Encoding:\r\n chunked\r\nContent-Length: 5'],
      ['a length with a sign', 'Content-Length: +5'],
      ['lengths with a comma', 'Content-Length: 5, 5'],
      ['a line end that is half', 'A: b\nTransfer-Encoding: chunked\r\nContent-Length: 5'],
    ].map(([what = '', headers]): [string, string, RegExp] => [
      what,
      // What would be smuggled would be answered 2xx.
      `POST /write HTTP/1.1\r\n${HOST}${headers}\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n${HOST}\r\n`,
      /^HTTP\/1\.1 4/,
    ]),
    [
      'an address of 20 kB',
      `GET /healthz?${'x'.repeat(20_000)} HTTP/1.1\r\n${HOST}\r\n`,
      /^HTTP\/1\.1 431/,
    ],
    [
      'an expectation that is none',
      `GET /healthz HTTP/1.1\r\n${HOST}Expect: money\r\n\r\n`,
      /^HTTP\/1\.1 417/,
    ],
    [
      'a length below nothing',
      `POST /write HTTP/1.1\r\n${HOST}Content-Length: -1\r\n\r\n`,
      /^HTTP\/1\.1 4/,
    ],
    [
      'a chunk that is too long',
      `POST /write HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n`,
      /^HTTP\/1\.1 4|^$/,
    ],
    [
      'a range',
      `GET /healthz HTTP/1.1\r\n${HOST}Range: bytes=0-0,1-1,-1,999999-\r\n\r\n`,
      /^HTTP\/1\.1 200/,
    ],
    [
      'an upgrade to what is not spoken',
      `GET /healthz HTTP/1.1\r\n${HOST}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n`,
      /^HTTP\/1\.1 200/,
    ],
    [
      'a WebSocket where there is none',
      `GET /healthz HTTP/1.1\r\n${HOST}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 99\r\n\r\n`,
      /^HTTP\/1\.1 200/,
    ],
    [
      'headers without end',
      `GET /healthz HTTP/1.1\r\n${HOST}${'X-A: b\r\n'.repeat(5000)}\r\n`,
      /^HTTP\/1\.1 (?:431|200)/,
    ],
    ['what is no HTTP', '\u0016\u0003\u0001\u0002\u0000\u0001\u0000', /^HTTP\/1\.1 400|^$/],
  ])('%s', async (_what, text, expected) => {
    const page = side === 'enroll' ? '/.well-known/est/cacerts' : '/healthz';
    const taker = side === 'enroll' ? '/.well-known/est/simpleenroll' : '/write';
    const own = text.replace('/healthz', page).replace('/write', taker);
    expect((await raw(side, own)).split('\r\n')[0]).toMatch(expected);
    expect(unexpected()).toEqual([]);
    expect((await ask(side, { path: page })).status).toBe(200);
  });

  it('what is no request is told why, in a sentence, where it can be', async () => {
    const long = await raw(side, `GET /${'x'.repeat(20_000)} HTTP/1.1\r\n${HOST}\r\n`);
    expect(long).toMatch(/"detail":"the address and the headers have more than 16 KiB"/);
    const both = `Content-Length: 5\r\nTransfer-Encoding: chunked\r\n`;
    expect(await raw(side, `POST /x HTTP/1.1\r\n${HOST}${both}\r\n0\r\n\r\n`)).toMatch(
      /"detail":"that is no HTTP request: [^"]+"/,
    );
  });

  it('a parameter that is given twice is named, on every route that has one', async () => {
    for (const { method, path, query } of routes) {
      const [name] = query === undefined || query === 'any' ? [] : Object.keys(query);
      if (name === undefined) continue;
      const twice = query !== 'any' && query?.[name]?.isMap === true ? `${name}.k` : name;
      const value = query !== 'any' && (query?.[name]?.choices?.[0] ?? '1');
      const { status, body } = await ask(side, {
        method,
        path: `${path}?${twice}=${value}&${twice}=x`,
      });
      expect([path, status, body]).toEqual([
        path,
        400,
        expect.stringContaining(`${twice} is given twice`),
      ]);
    }
  });

  it('who asks before he sends is answered first: to go on where the body is wanted, else with the refusal', async () => {
    const taker = side === 'enroll' ? '/.well-known/est/simpleenroll' : '/api/v1/ingest?topic=a/b';
    const expecting = `Expect: 100-continue\r\nContent-Length: 7\r\n`;
    const refused = await raw(side, `POST /nothing HTTP/1.1\r\n${HOST}${expecting}\r\n`);
    expect(refused).toMatch(/^HTTP\/1\.1 4.*\r\nconnection: close\r\n/is);
    if (side === 'enroll') return; // Nobody is asked for a body there without a token.
    const twice = `POST ${taker} HTTP/1.1\r\n${HOST}${expecting}\r\n{"n":1}`;
    expect(await raw(side, twice)).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\n(?:HTTP\/1\.1 204|$)/);
  });

  it('who goes in the middle of an answer leaves nothing taken', async () => {
    if (side === 'enroll') return; // It has no such routes, and its metrics are the collector's.
    const asked = routes.filter(({ isCostly, isStream }) => isCostly === true || isStream === true);
    await Promise.all(
      asked.flatMap((route) =>
        Array.from({ length: 6 }, async (_, index) => {
          const sent = request({
            host: '127.0.0.1',
            port: ports[side],
            method: route.method,
            path: at(route),
            agent: false,
          });
          sent.on('error', () => undefined);
          sent.end(
            route.method === 'POST'
              ? JSON.stringify({ sql: 'SELECT sum(range) FROM range(3000000000)' })
              : '',
          );
          await new Promise((resolve) => setTimeout(resolve, index * 15));
          sent.destroy();
        }),
      ),
    );
    await until('all of it to be free', async () => {
      const { body } = await ask(side, { path: '/metrics' });
      const used = [...body.matchAll(/^headwater_http_limit_used\{limit="(\w+)"\} (\d+)$/gm)];
      return (
        used.every(([, limit, value]) => Number(value) <= (limit === 'connections' ? 3 : 0)) ||
        undefined
      );
    });
    const left = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
      /spill|\.tmp$|sealed/.test(name),
    );
    expect(left.filter((name) => !name.endsWith('spill'))).toEqual([]);
  });
});
