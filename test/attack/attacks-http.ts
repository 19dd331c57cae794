/** Attacks on the HTTP servers: connections, bodies, tokens, and every question that costs. */
import { gzipSync } from 'node:zlib';
import { randomBytes } from 'node:crypto';
import {
  BAD,
  anyAddress,
  drop,
  flood,
  portOf,
  swarm,
  type Ask,
  type Attack,
  type Target,
} from './attack.ts';

const MIB = 1024 * 1024;
const BOMB = gzipSync(Buffer.alloc(64 * MIB));
const tokenLine = ({ tokens }: Target): string =>
  tokens === undefined ? '' : `Authorization: Bearer ${tokens.write}\r\n`;

const open =
  (
    count: number,
    side: Ask['side'],
    text: (target: Target, index: number) => string | Buffer,
    from?: (index: number) => string,
  ): Attack =>
  (target, over) =>
    swarm(over, {
      count,
      againMs: 200,
      port: portOf(target, side),
      isSecure: target.isSecure,
      ...(from === undefined ? {} : { from }),
      onOpen: (socket, index) => socket.write(text(target, index)),
    });

const slowHeaders: Attack = (target, over) =>
  swarm(over, {
    count: 1500,
    againMs: 200,
    port: portOf(target, 'collector'),
    isSecure: target.isSecure,
    onOpen: (socket) => {
      socket.write('GET /api/v1/series HTTP/1.1\r\nHost: 127.0.0.1\r\n');
      const timer = setInterval(() => {
        if (socket.destroyed) clearInterval(timer);
        else socket.write('X-A: b\r\n');
      }, 1000);
      socket.on('close', () => clearInterval(timer));
    },
  });

const bodies = (side: Ask['side']): Attack =>
  open(900, side, (target) =>
    Buffer.concat([
      Buffer.from(
        `POST /api/v1/ingest?topic=bad/body HTTP/1.1\r\nHost: 127.0.0.1\r\n${tokenLine(target)}Content-Length: ${MIB}\r\n\r\n`,
      ),
      Buffer.alloc(MIB - 1, 0x20),
    ]),
  );

const asking =
  (atOnce: number, make: (index: number, target: Target) => Ask): Attack =>
  (target, over) =>
    flood(target, over, atOnce, (index) => make(index, target));

const get = (atOnce: number, path: string): Attack => asking(atOnce, () => ({ path }));

/** As many as may be had, from several addresses, none of them read. */
const unreadAnswers = (path: string): Attack =>
  asking(24, (index) => ({ path, isSlow: true, from: anyAddress(index % 6) }));

const ingest = (more: (index: number) => Partial<Ask>): Attack =>
  asking(16, (index) => ({
    method: 'POST',
    path: '/api/v1/ingest?topic=bad/http',
    body: '{"n":1}',
    side: index % 2 === 0 ? 'gateway' : 'collector',
    ...more(index),
  }));

const sql = (text: string): Attack =>
  asking(8, (_index, { tokens }) => ({
    method: 'POST',
    path: '/api/v1/sql',
    body: JSON.stringify({ sql: text }),
    ...(tokens === undefined ? {} : { token: tokens.read }),
  }));

const streams = (path: (index: number) => string, headers: Record<string, string> = {}): Attack =>
  asking(300, (index) => ({ path: path(index), headers, isSlow: index % 2 === 0 }));

const PATHS = [
  '/../../etc/passwd',
  '/%2e%2e/%2e%2e/etc/passwd',
  '//',
  '/page.js/../../x',
  '/api/v1/query?tag.__proto__=x',
  '/%00',
  '/api/v1/nothing',
];
const METHODS = ['GET', 'PUT', 'DELETE', 'TRACE', 'OPTIONS', 'PROPFIND'];

/** Name → what it does. */
export const HTTP_ATTACKS: Record<string, Attack> = {
  'HTTP: headers that never end': slowHeaders,
  'HTTP: connections that say nothing, 2,500': open(2500, 'collector', () => ''),
  'HTTP: bodies of 1 MiB that never end, collector': bodies('collector'),
  'HTTP: bodies of 1 MiB that never end, gateway': bodies('gateway'),
  'HTTP: wrong tokens': asking(30, () => ({
    path: '/api/v1/series',
    token: `wrong-${Math.random()}`,
  })),
  'HTTP: other methods, other paths': asking(20, (index) => ({
    method: METHODS[index % METHODS.length] as string,
    path: PATHS[index % PATHS.length] as string,
  })),
  'HTTP: bodies that unpack to 64 MiB': ingest(() => ({
    body: BOMB,
    headers: { 'content-encoding': 'gzip' },
  })),
  'HTTP: ever new Idempotency-Keys': ingest((index) => ({
    headers: { 'idempotency-key': `k${index}-${'x'.repeat(200)}` },
  })),
  'HTTP: bodies of 1 MiB of noise': ingest(() => ({ body: randomBytes(MIB - 1) })),
  'HTTP: raw points of everything': get(50, '/api/v1/query?from=0'),
  'HTTP: raw points that nobody reads': unreadAnswers('/api/v1/query?from=0'),
  'HTTP: all series, latest values': asking(50, (index) => ({
    path: index % 2 === 0 ? '/api/v1/series' : '/api/v1/latest',
  })),
  'HTTP: as of then': get(20, '/api/v1/query?from=0&asOf=now-1s'),
  'HTTP: explain': get(20, '/api/v1/explain?measurement=device&time=now'),
  'HTTP: export as Parquet, CSV, lines': asking(20, (index) => ({
    path: `/api/v1/export?from=0&format=${['parquet', 'csv', 'jsonl'][index % 3]}`,
  })),
  'HTTP: raw messages that nobody reads': unreadAnswers('/api/v1/export/raw?format=jsonl'),
  'HTTP: SQL that never ends': sql(
    'SELECT count(*) FROM range(10000000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3',
  ),
  'HTTP: SQL that wants memory': sql(
    "SELECT list(range), max(repeat('x', 1000000)) FROM range(100000000)",
  ),
  'HTTP: InfluxQL, a hundred statements': asking(20, () => ({
    path: `/query?q=${encodeURIComponent('SELECT * FROM /.*/;'.repeat(99))}`,
  })),
  'HTTP: InfluxQL, 60 kB of parentheses': asking(20, (_index, target) => ({
    method: 'POST',
    path: '/query',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: `q=SELECT ${'('.repeat(60_000)}1`,
    ...(target.tokens === undefined ? {} : { token: target.tokens.read }),
  })),
  'HTTP: quarantine, ledger, gateways, overview': asking(30, (index) => ({
    path: [
      '/api/v1/quarantine?limit=1000',
      '/api/v1/ledger',
      '/api/v1/gateways',
      '/api/v1/overview',
    ][index % 4] as string,
  })),
  'HTTP: metrics and the description': asking(30, (index) => ({
    path: index % 2 === 0 ? '/openapi.json' : '/metrics',
    side: index % 4 < 2 ? 'gateway' : 'collector',
  })),
  "HTTP: the gateway's own hours": asking(30, () => ({
    side: 'gateway',
    path: '/api/v1/query?from=0&limit=10000',
  })),
  'HTTP: event streams, each with another filter': streams(
    (index) => `/api/v1/stream?topic=a${index}/%23`,
  ),
  'HTTP: event streams from the beginning': streams(() => '/api/v1/stream?after=r0.0'),
  'HTTP: WebSockets': streams((index) => `/api/v1/stream?field=f${index}`, {
    connection: 'upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
  }),
  'enrolment: guessed tokens': (target, over) =>
    swarm(over, {
      count: 20,
      againMs: 0,
      port: target.enroll ?? 0,
      isSecure: true,
      from: () => BAD,
      onOpen: (socket) =>
        socket.write(
          'POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer guess\r\nContent-Length: 4\r\n\r\nAAAA',
        ),
      onData: drop,
    }),
};
