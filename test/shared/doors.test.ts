/** All listeners × all guards, and all routes × all kinds of identity, over the real sockets: made of the code's own tables. */
import { request } from 'node:http';
import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { COLLECTOR_PARTS, Collector } from '../../collector/collector.ts';
import { GATEWAY_CONFIG } from '../../gateway/config.ts';
import { GATEWAY_PARTS, Gateway } from '../../gateway/gateway.ts';
import { DOORS, checkDoors, type Door } from '../../shared/access/doors.ts';
import { SCOPES, hashOf } from '../../shared/access/tokens.ts';
import { environmentName, loadConfig, type ConfigSpec } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import { REACHES, answered } from '../../shared/http/rights.ts';
import type { Address } from '../../shared/net/listen.ts';
import { endpointsOf } from '../../shared/parts/site.ts';
import { temporaryFolder } from '../support/process.ts';

const silent = (): void => undefined;

/** Each token: `SCOPE-REACH`. On both sides the gateway that the server is has the name `here`. */
function tokensFile(): string {
  const lines = SCOPES.flatMap((scope) =>
    REACHES.map((reach) => {
      const name = `${scope}-${reach}`;
      const hash = hashOf(name).toString('hex');
      return `${name}:${scope}:${reach === 'all' ? '*' : reach}:${hash}`;
    }),
  );
  const path = join(temporaryFolder(), 'tokens');
  writeFileSync(path, `${lines.join('\n')}\n`, { mode: 0o600 });
  return path;
}

interface Servers {
  addresses: Record<string, Address | undefined>;
  close: () => Promise<void>;
}

async function start(tokens: string): Promise<Servers> {
  const collector = new Collector(
    realEnv(),
    loadConfig(COLLECTOR_CONFIG, {
      flags: {
        data: temporaryFolder(),
        lake: 'none',
        uplink: '127.0.0.1:0',
        http: '127.0.0.1:0',
        'tokens-file': tokens,
      },
      environment: { [environmentName('ingest.httpGateway')]: 'here' },
    }),
    silent,
  );
  const gateway = new Gateway(
    realEnv(),
    loadConfig(GATEWAY_CONFIG, {
      flags: {
        data: temporaryFolder(),
        id: 'here',
        mqtt: '127.0.0.1:0',
        ws: '127.0.0.1:0',
        'gateway-http': '127.0.0.1:0',
        'tokens-file': tokens,
      },
      environment: {},
    }),
    silent,
  );
  const { http: collectorHttp } = await collector.start(undefined);
  const { http, ws } = await gateway.start([]);
  return {
    addresses: { 'collector http': collectorHttp, 'gateway http': http, 'gateway websocket': ws },
    close: async () => {
      await gateway.close();
      await collector.close();
    },
  };
}

interface Asked {
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  body?: string;
}

function ask(address: Address | undefined, asked: Asked): Promise<number> {
  const { method = 'GET', path = '/', headers = {}, body = '' } = asked;
  return new Promise((resolve, reject) => {
    const sent = request(
      { host: address?.host, port: address?.port, method, path, headers, agent: false },
      (response) => {
        resolve(response.statusCode ?? 0);
        response.destroy();
      },
    );
    sent.on('upgrade', (response, socket) => {
      socket.destroy();
      resolve(response.statusCode ?? 0);
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

const UPGRADE = {
  connection: 'upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
};

/** All that a browser could open there: the answers' statuses. */
async function knock(
  { side, speaks }: Door,
  address: Address | undefined,
  headers: Record<string, string>,
): Promise<number[]> {
  if (speaks === 'websocket')
    return [
      await ask(address, { headers: { ...UPGRADE, 'sec-websocket-protocol': 'mqtt', ...headers } }),
    ];
  const sent = await ask(address, {
    method: 'POST',
    path: '/api/v1/ingest?topic=a',
    headers,
    body: '1',
  });
  if (side === 'gateway') return [sent];
  const path = '/api/v1/stream';
  return [sent, await ask(address, { path, headers: { ...UPGRADE, ...headers } })];
}

describe('doors', () => {
  let open: Servers;
  beforeAll(async () => {
    open = await start('');
  });
  afterAll(() => open.close());

  it('every setting that listens has a row, and every row a setting', () => {
    const listening = (side: Door['side'], spec: ConfigSpec): string[] =>
      Object.entries(spec).flatMap(([key, { type }]) =>
        type === 'address' ? [`${side} ${key}`] : [],
      );
    const rows = DOORS.map(({ side, setting }) => `${side} ${setting}`);
    expect(rows.sort()).toEqual(
      [...listening('gateway', GATEWAY_CONFIG), ...listening('collector', COLLECTOR_CONFIG)].sort(),
    );
  });

  const beyond = { host: '127.0.0.1.evil.example', port: 1 };
  const known = { password: true, secret: true, token: true, join: true };
  const nobody = { password: false, secret: false, token: false, join: false };
  const base = {
    asked: known,
    asksCertificate: false,
    hasCertificate: true,
    allowPlaintext: false,
  };
  describe.each(
    DOORS.map((door) => [`${door.side} ${door.flag}`, door] as const),
  )('%s', (_name, door) => {
    const check =
      (change: Partial<typeof base>, tls = true) =>
      () =>
        checkDoors(
          [door],
          { [door.setting]: beyond, 'http.tls': tls },
          { ...base, ...change },
          silent,
        );

    it('beyond loopback it asks who comes, or does not open', () => {
      expect(check({ asked: nobody })).toThrow(/asks nobody who they are/);
    });
    it('beyond loopback it speaks TLS, or somebody has insisted', () => {
      if (door.tls === true) expect(check({})).not.toThrow();
      else {
        const advice = /without TLS: give --(http-tls|mqtts HOST|wss HOST|uplinks HOST)/;
        expect(check({}, false)).toThrow(advice);
      }
      expect(check({ allowPlaintext: true }, false)).not.toThrow();
    });
    it('TLS has a certificate, or it does not open', () => {
      if (door.tls === false) expect(check({ hasCertificate: false }, false)).toThrow(/TLS/);
      else if (door.certifiesItself === true)
        expect(check({ hasCertificate: false })).not.toThrow();
      else expect(check({ hasCertificate: false })).toThrow(/needs a certificate/);
    });
    // The other doors are not for browsers, or are these with TLS around them.
    it.runIf(door.isWeb && door.tls !== true)(
      'where nobody is asked, a foreign Host or Origin comes to nothing',
      async () => {
        const address = open.addresses[`${door.side} ${door.speaks}`];
        const own = `127.0.0.1:${address?.port}`;
        for (const headers of [{ host: own }, { host: own, origin: `http://${own}` }])
          for (const status of await knock(door, address, headers))
            expect([101, 204]).toContain(status);
        const evil = `127.0.0.1.evil.example:${address?.port}`;
        for (const headers of [
          { host: evil },
          { host: evil, origin: `http://${evil}` },
          { host: own, origin: `http://${evil}` },
          { host: own, origin: 'null' },
          { host: `2130706433:${address?.port}` },
          { host: `0177.0.0.1:${address?.port}` },
          { host: 'localhost.evil.example' },
          { host: `${own}@evil.example` },
        ])
          for (const status of await knock(door, address, headers))
            expect(status, JSON.stringify(headers)).toBe(403);
      },
    );
  });
});

describe('rights', () => {
  let servers: Servers;
  beforeAll(async () => {
    servers = await start(tokensFile());
  });
  afterAll(() => servers.close());

  const parts = { collector: COLLECTOR_PARTS, gateway: GATEWAY_PARTS };
  it.each([
    'collector',
    'gateway',
  ] as const)('%s: every route answers every kind of token as the table says, and no other', async (side) => {
    const address = servers.addresses[`${side} http`];
    for (const { route } of endpointsOf(parts[side])) {
      const { method, path, right, query } = route;
      const needed = Object.entries(query === 'any' ? {} : (query ?? {})).flatMap(
        ([name, { required }]) => (required === true ? [`${name}=x`] : []),
      );
      const status = (token: string | undefined, reach: string): Promise<number> =>
        ask(address, {
          method,
          path: `${path}${needed.length === 0 ? '' : `?${needed.join('&')}`}`,
          headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
          // Who may see some names the one that is meant.
          body: path === '/api/v1/replay' && reach !== 'all' ? `{"gateway":"${reach}"}` : '',
        });
      const expected = (is: boolean) => (is ? 'answered' : 'refused');
      const outcome = (code: number) => expected(code !== 401 && code !== 403);
      const isOpen = right === 'open';
      expect(outcome(await status(undefined, 'all')), `${path} without`).toBe(expected(isOpen));
      expect(outcome(await status('wrong', 'all')), `${path} wrong`).toBe(expected(isOpen));
      for (const scope of SCOPES)
        for (const reach of REACHES)
          expect(
            outcome(await status(`${scope}-${reach}`, reach)),
            `${method} ${path} ${scope} ${reach}`,
          ).toBe(expected(answered(route, scope, reach) !== 'no'));
    }
  });
});
