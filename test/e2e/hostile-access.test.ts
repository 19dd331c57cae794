/**
 * Hostile clients with and without credentials: passwords, client ids, access rules, certificates, tokens. Numbers are those
 * of docs/threats.md. The gateway has a password file, access rules and TLS; the collector tokens and TLS for gateways.
 */
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { connectAsync } from 'mqtt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hashOf } from '../../shared/access/tokens.ts';
import { passwordLine } from '../../shared/config/secrets.ts';
import { Authority } from '../support/certificates.ts';
import { Alive, subscribePacket, tryConnect } from '../support/hostile.ts';
import { encodePublish } from '../support/load.ts';
import {
  crowding,
  headwater,
  startCollector,
  startDevice,
  startGateway,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import type { RawClient } from '../support/raw-mqtt.ts';
import { getJson } from '../support/reconcile.ts';

const folder = temporaryFolder();
const passwordFile = join(folder, 'passwords');
const aclFile = join(folder, 'acl.yaml');
const PASSWORD = 'correct horse battery';
const ACL = `rules:
  - users: [a, b, dash]
    publish: ['devices/{user}/#', 'by-client/{client}/data']
    subscribe: ['commands/{user}/#']
  - users: [dash]
    subscribe: ['devices/#']
  - users: [quiet]
    publish: [quiet/#]
    retain: false
`;

const writePasswords = async (...users: string[]): Promise<void> => {
  const lines = await Promise.all(users.map((user) => passwordLine(user, Buffer.from(PASSWORD))));
  writeFileSync(passwordFile, `${lines.join('\n')}\n`, { mode: 0o600 });
};

let authority: Authority;
let gateway: Headwater;
let port: number;
let alive: Alive;
beforeAll(async () => {
  authority = new Authority(join(folder, 'ca'));
  const server = authority.issue({ name: 'gateway', hosts: ['127.0.0.1', 'localhost'] });
  await writePasswords('a', 'b', 'dash', 'quiet', 'gone');
  writeFileSync(aclFile, ACL);
  gateway = await startDevice(
    [
      '--password-file',
      passwordFile,
      '--acl-file',
      aclFile,
      '--mqtts',
      '127.0.0.1:0',
      '--tls-cert',
      server.cert,
      '--tls-key',
      server.key,
      '--tls-client-ca',
      authority.cert,
    ],
    { HEADWATER_LIMITS_AUTH_FAILURES_PER_MINUTE: '40', HEADWATER_LIMITS_CONNECTS_PER_MINUTE: '60' },
  );
  port = gateway.port('mqtt');
  // The baseline is that of a gateway at work.
  const warm = await login('warm', 'a');
  for (let index = 1; index <= 20_000; index++)
    warm.send(encodePublish('devices/a/warm', 'x'.repeat(300), 1, index));
  await warm.bytes(4 + 4 * 20_000);
  warm.socket.destroy();
  alive = new Alive(gateway, { id: 'alive', user: 'a', password: PASSWORD }, 'devices/a/alive');
});
afterAll(async () => {
  expect(await gateway.kill(), 'it ended as it should').toBe(0);
});

const login = async (id: string, user: string, more: object = {}): Promise<RawClient> => {
  const { code, client } = await tryConnect(port, { id, user, password: PASSWORD, ...more });
  expect(code, `${user} as ${id}`).toBe(0);
  return client;
};
const audit = (data = dataOf(gateway)): { event: string; [key: string]: unknown }[] =>
  readFileSync(join(data, 'audit.log'), 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { event: string });
const dataOf = (server: Headwater): string => {
  const args = readFileSync(`/proc/${server.pid}/cmdline`, 'utf8').split('\0');
  return args[args.lastIndexOf('--data') + 1] as string;
};
interface History {
  messages: { topic: string; payload: string }[];
}
const stored = async (topic: string): Promise<string[]> =>
  (
    await getJson<History>(
      `http://${gateway.address['http']}/api/v1/query?limit=10000&topic=${encodeURIComponent(topic)}`,
    )
  ).messages.map(({ payload }) => payload);

describe('who comes in', () => {
  it('S6: 500 TLS handshakes that never end are closed within 10 s', async () => {
    const sockets = await Promise.all(
      Array.from({ length: 500 }, async (_, index) => {
        const socket = connect(gateway.port('mqtts'), '127.0.0.1');
        await new Promise<void>((resolve) => socket.once('connect', () => resolve()));
        // A client hello begins, and nothing follows; others say nothing at all.
        if (index % 2 === 0) socket.write(Buffer.from('16030100c8010000c403', 'hex'));
        return socket;
      }),
    );
    await alive.check('S6, while they are there');
    const began = performance.now();
    await Promise.all(
      sockets.map(async (socket) => {
        socket.on('error', () => undefined);
        socket.resume();
        if (!socket.destroyed)
          await new Promise<void>((resolve) => socket.once('close', () => resolve()));
      }),
    );
    expect(performance.now() - began).toBeLessThan(12_000 * crowding());
    await alive.check('S6');
  });

  it('S9: a blank line or a malformed row in the credential file refuses to start', async () => {
    const good = await passwordLine('x', Buffer.from(PASSWORD));
    for (const text of [
      '\n',
      `${good}\n\n${good}\n`,
      'user:plain\n',
      `${good}:more\n`,
      ':scrypt:16384:AA==:AA==\n',
    ]) {
      const file = join(folder, 'bad');
      writeFileSync(file, text, { mode: 0o600 });
      await expect(startGateway(undefined, ['--password-file', file])).rejects.toThrow(
        /line \d+ is not a credential/,
      );
    }
  });

  it("S12: another user's valid credentials do not take a session over", async () => {
    const mine = await login('shared-id', 'a');
    const { code, client } = await tryConnect(port, {
      id: 'shared-id',
      user: 'b',
      password: PASSWORD,
    });
    expect(code).toBe(2);
    await client.closed();
    mine.send(encodePublish('devices/a/x', '1', 1, 1));
    await mine.bytes(8);
    expect(mine.isClosed()).toBe(false);
    mine.socket.destroy();
    expect(audit()).toContainEqual(
      expect.objectContaining({
        event: 'refused',
        user: 'b',
        reason: "the client id is another user's",
      }),
    );
    await alive.check('S12');
  });

  it('S13: a takeover fight is slowed down, and nothing acknowledged is lost', async () => {
    let refused = 0;
    let acked = 0;
    for (let index = 0; index < 200; index++) {
      const { code, client } = await tryConnect(port, {
        id: 'fight',
        user: 'a',
        password: PASSWORD,
      });
      if (code !== 0) {
        refused++;
        client.socket.destroy();
        continue;
      }
      client.send(encodePublish('devices/a/fight', String(index), 1, 1));
      await client.bytes(8);
      acked++;
    }
    expect(refused).toBeGreaterThanOrEqual(130);
    expect(await stored('devices/a/fight')).toHaveLength(acked);
    await alive.check('S13');
  });
});

describe('what it may do', () => {
  it('S10: empty rules deny everything', async () => {
    const empty = join(folder, 'empty.yaml');
    writeFileSync(empty, '');
    const strict = await startGateway(undefined, ['--acl-file', empty]);
    const { client } = await tryConnect(strict.port('mqtt'), { id: 'x' });
    client.send(subscribePacket(1, 'a'));
    expect((await client.bytes(9))[8]).toBe(0x80);
    client.send(encodePublish('a', '1', 1, 2));
    await client.closed();
    expect(client.received().length).toBe(9);
    expect(await strict.kill()).toBe(0);
  });

  it("S14: another device's topic, and everything that looks like its own, is closed, not stored, and in the audit log", async () => {
    const foreign = [
      'devices/b/x',
      'devices',
      'devicesA/a/x',
      '/devices/a/x',
      'devices//a/x',
      'Devices/a/x',
      'devices/A/x',
      'devices/b/../a/x',
      'devices%2fa/x',
      'devices/\u0430/x',
      'devices/a\u200b/x',
      'by-client/other/data',
      'by-client/s14/data/',
      'quiet/x',
    ];
    for (const [index, topic] of foreign.entries()) {
      const client = await login(`s14-${index}`, 'a');
      client.send(encodePublish(topic, 'x', 1, 1));
      await client.closed();
      expect(client.received().length, topic).toBe(4);
      expect(await stored(topic), topic).toEqual([]);
    }
    expect(audit().filter(({ event }) => event === 'publish_denied').length).toBe(foreign.length);
    // A name with a slash or a wildcard in it is one level, encoded: it grants nothing more.
    const slashed = await login('b/x', 'b');
    slashed.send(encodePublish('by-client/b/x/data', 'x', 1, 1));
    await slashed.closed();
    const own = await login('b/x', 'b');
    own.send(encodePublish('by-client/b%2fx/data', 'x', 1, 1));
    await own.bytes(8);
    own.socket.destroy();
    await alive.check('S14');
  });

  it('S15: subscriptions that are not granted get 0x80 and nothing', async () => {
    const client = await login('s15', 'a');
    const filters = [
      '#',
      '+/#',
      '$SYS/#',
      '$share/g/#',
      'commands/#',
      'commands/+/x',
      'commands/b/x',
      'devices/a/#',
      '+',
      '/#',
    ];
    client.send(subscribePacket(1, ...filters));
    const answer = await client.bytes(4 + 4 + filters.length);
    expect([...answer.subarray(8)]).toEqual(filters.map(() => 0x80));
    // What is no filter at all breaks the protocol: closed, which is more than denied [MQTT-4.8.0-1].
    for (const broken of ['a#', 'a+', '+a', 'a+/b', '#/a']) {
      const other = await login('s15-broken', 'b');
      other.send(subscribePacket(1, broken));
      await other.closed();
      expect(other.received().length, broken).toBe(4);
    }
    const publisher = await login('s15-publisher', 'b');
    publisher.send(encodePublish('devices/b/secret', 'x', 1, 1));
    await publisher.bytes(8);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(client.received().length).toBe(8 + filters.length);
    const allowed = await login('s15-own', 'a');
    allowed.send(subscribePacket(1, 'commands/a/reboot', 'commands/a/#'));
    expect([...(await allowed.bytes(10)).subarray(8)]).toEqual([1, 1]);
    for (const each of [client, publisher, allowed]) each.socket.destroy();
    await alive.check('S15');
  });

  it("S16: a PUBLISH to the broker's own topics is closed, and its victim stays connected", async () => {
    const victim = await login('victim', 'b');
    for (const topic of ['$SYS/x/new/clients', '$SYS/broker/disconnect/clients']) {
      const client = await login('s16', 'a');
      client.send(encodePublish(topic, 'victim', 1, 1));
      await client.closed();
    }
    victim.send(Buffer.from('c000', 'hex'));
    expect((await victim.bytes(6)).subarray(4).toString('hex')).toBe('d000');
    victim.socket.destroy();
    await alive.check('S16');
  });

  it('S24: a will on a topic that is not its own, or no longer, is not published', async () => {
    const die = async (
      id: string,
      topic: string,
      between: () => Promise<void> = () => Promise.resolve(),
    ): Promise<void> => {
      const client = await login(id, 'a', { will: { topic, payload: id } });
      await between();
      client.socket.destroy();
      await until('the connection to be gone', () => client.isClosed() || undefined);
      await new Promise((resolve) => setTimeout(resolve, 300));
    };
    await die('own', 'devices/a/will');
    await die('foreign', 'devices/b/will');
    expect(await stored('devices/a/will')).toEqual(['own']);
    expect(await stored('devices/b/will')).toEqual([]);
    const { client } = await tryConnect(port, {
      id: 'sys',
      user: 'a',
      password: PASSWORD,
      will: { topic: '$SYS/x', payload: 'x' },
    });
    await client.closed();
    // The right is taken away while the client is connected.
    await die('revoked', 'devices/a/will', async () => {
      writeFileSync(aclFile, ACL.replace('devices/{user}/#', 'devices/{user}/data'));
      await until(
        'the rules to be reloaded',
        () => /access rules .* changed and is in force/.test(gateway.output()) || undefined,
      );
    });
    expect(await stored('devices/a/will')).toEqual(['own']);
    expect(audit().filter(({ event }) => event === 'will_denied').length).toBe(2);
    writeFileSync(aclFile, `${ACL}\n`);
    await until(
      'the rules to be as before',
      () => (gateway.output().match(/access rules .* changed/g) ?? []).length >= 2 || undefined,
    );
  });

  it('S25: retained messages of a device that may not retain are stored as data and not retained', async () => {
    const client = await login('s25', 'quiet');
    client.send(encodePublish('quiet/x', 'kept as data', 1, 1, 1));
    await client.bytes(8);
    expect(await stored('quiet/x')).toEqual(['kept as data']);
    const metrics = await (await fetch(`http://${gateway.address['http']}/metrics`)).text();
    expect(metrics).toMatch(/^headwater_ingress_retained_messages 0$/m);
    client.socket.destroy();
  });

  it('S27: revoked credentials end the session within 5 s, and what waits for it is not delivered', async () => {
    const listener = await login('gone-1', 'gone', { clean: false });
    const began = performance.now();
    await writePasswords('a', 'b', 'dash', 'quiet');
    await listener.closed();
    expect(performance.now() - began).toBeLessThan(5000 * crowding());
    const { code, client } = await tryConnect(port, {
      id: 'gone-1',
      user: 'gone',
      password: PASSWORD,
    });
    expect(code).toBe(5);
    await client.closed();
    expect(audit()).toContainEqual(expect.objectContaining({ event: 'revoked', user: 'gone' }));
    // Others have not noticed.
    await alive.check('S27');
  });

  it('S8: 1,000 wrong passwords: blocked after the limit, no difference between users, in the audit log without the password', async () => {
    const began = performance.now();
    const codes = new Set<number>();
    let worked = 0;
    for (let index = 0; index < 1000; index++) {
      const { code, client } = await tryConnect(port, {
        id: `s8-${index}`,
        user: index % 2 === 0 ? 'a' : 'nobody',
        password: `hunter2-${index}`,
      });
      codes.add(code);
      if (code === 5) worked++;
      client.socket.destroy();
    }
    // 5: looked at and wrong; 3: not looked at any more.
    expect([...codes].sort()).toEqual([3, 5]);
    const tookMs = performance.now() - began;
    // limits.authFailuresPerMinute of each minute that it touched: one that earlier tests began may end in the middle.
    expect(worked).toBeLessThanOrEqual(60 * (1 + Math.ceil(tookMs / 60_000)));
    expect(tookMs).toBeLessThan(60_000 * crowding());
    expect(audit().some(({ reason }) => reason === 'wrong credentials')).toBe(true);
    expect(JSON.stringify(audit())).not.toContain('hunter2');
    expect(gateway.output()).not.toContain('hunter2');
    // Another address is served. The one that failed has to wait for its minute.
    const other = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.3' });
    await new Promise<void>((resolve) => other.once('connect', () => resolve()));
    other.destroy();
  });
});

describe('certificates', () => {
  it('S40: the uplink refuses what it should, on both sides, keeps what it has, and goes on when it is right', async () => {
    const other = new Authority(join(folder, 'other'), 'Other Authority');
    const host = ['127.0.0.1'];
    const good = authority.issue({ name: 'collector', hosts: host });
    const cases: Record<string, { cert: string; key: string; says: RegExp }> = {
      'self-signed by another authority': {
        ...other.issue({ name: 'collector', hosts: host }),
        says: /not accepted|unable to|self.signed/i,
      },
      expired: {
        ...authority.issue({
          name: 'collector',
          hosts: host,
          from: '20200101000000Z',
          to: '20240101000000Z',
        }),
        says: /CERT_HAS_EXPIRED|expired/,
      },
      'of another name': {
        ...authority.issue({ name: 'collector', hosts: ['10.9.9.9'] }),
        says: /IP: 127\.0\.0\.1 is not in the cert/,
      },
    };
    const files = { cert: join(folder, 'uplink.pem'), key: join(folder, 'uplink.key') };
    const put = (pair: { cert: string; key: string }): void => {
      writeFileSync(files.cert, readFileSync(pair.cert));
      writeFileSync(files.key, readFileSync(pair.key), { mode: 0o600 });
    };
    const own = authority.issue({ name: 'edge-1' });
    const stranger = authority.issue({ name: 'edge-2' });
    let revoked = authority.revoke(undefined);
    put(cases['expired'] as { cert: string; key: string });
    const collector = await startCollector(
      [
        '--uplinks',
        '127.0.0.1:0',
        '--tls-cert',
        files.cert,
        '--tls-key',
        files.key,
        '--tls-client-ca',
        authority.cert,
      ],
      {
        HEADWATER_TLS_CLIENT_CERTIFICATES: 'required',
        HEADWATER_TLS_CRL_FILE: revoked,
      },
    );
    const url = `mqtts://${collector.address['uplinks']}`;
    const edge = (pair: { cert: string; key: string }): Promise<Headwater> =>
      headwater(
        [
          'gateway',
          '--data',
          temporaryFolder(),
          '--id',
          'edge-1',
          '--mqtt',
          '127.0.0.1:0',
          '--http',
          '127.0.0.1:0',
          '--collector',
          url,
          '--uplink-ca',
          authority.cert,
          '--uplink-cert',
          pair.cert,
          '--uplink-key',
          pair.key,
        ],
        {
          HEADWATER_UPLINK_RECONNECT_MS_MAX: '300',
          HEADWATER_CLOCK_TRUSTED: 'true',
        },
      );
    const gate = await edge(own);
    const client = await connectAsync(`mqtt://127.0.0.1:${gate.port('mqtt')}`);
    for (let index = 0; index < 10; index++)
      await client.publishAsync('s40/x', `{"v":${index}}`, { qos: 1 });
    await client.endAsync();
    interface Buffered {
      why: string;
      waitingMessages: number;
    }
    const buffered = (): Promise<Buffered> =>
      getJson<Buffered>(`http://${gate.address['http']}/api/v1/buffer`);
    for (const [name, pair] of Object.entries(cases)) {
      put(pair);
      await until(
        `refused: ${name}`,
        async () => (pair.says.test((await buffered()).why) ? true : undefined),
        20_000,
      );
      expect((await buffered()).waitingMessages, name).toBe(10);
    }
    put(good);
    await until(
      'the uplink to be right',
      async () => ((await buffered()).waitingMessages === 0 ? true : undefined),
      20_000,
    );
    // A gateway with another's certificate cannot speak as this one.
    const liar = await edge(stranger);
    await until(
      'the liar to be refused',
      () => /its certificate is of 'edge-2'/.test(collector.output()) || undefined,
    );
    await liar.kill();
    // TLS 1.1 is not spoken.
    await expect(
      new Promise((resolve, reject) => {
        const socket = connectTls({
          port: collector.port('uplinks'),
          host: '127.0.0.1',
          maxVersion: 'TLSv1.1',
          minVersion: 'TLSv1',
          ciphers: 'ALL@SECLEVEL=0',
          rejectUnauthorized: false,
        });
        socket.once('secureConnect', () => resolve(socket.getProtocol()));
        socket.once('error', reject);
      }),
    ).rejects.toThrow();
    // Revoked while it is connected: cut, and the handshake fails from then on; what it gets meanwhile is kept.
    revoked = authority.revoke(own);
    await until(
      'the revoked gateway to be cut',
      async () =>
        /connected/.test((await buffered()).why) || /no connection/.test((await buffered()).why)
          ? true
          : undefined,
      20_000,
    );
    const again = await connectAsync(`mqtt://127.0.0.1:${gate.port('mqtt')}`);
    await again.publishAsync('s40/x', '{"v":11}', { qos: 1 });
    await again.endAsync();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect((await buffered()).waitingMessages).toBe(1);
    expect(await gate.kill()).toBe(0);
    expect(await collector.kill()).toBe(0);
  });

  it('a new certificate is taken without dropping a connection', async () => {
    const pair = { cert: join(folder, 'live.pem'), key: join(folder, 'live.key') };
    const put = (name: string): void => {
      const made = authority.issue({ name, hosts: ['127.0.0.1'] });
      writeFileSync(pair.key, readFileSync(made.key), { mode: 0o600 });
      writeFileSync(pair.cert, readFileSync(made.cert));
    };
    put('first');
    const live = await startGateway(undefined, [
      '--mqtts',
      '127.0.0.1:0',
      '--tls-cert',
      pair.cert,
      '--tls-key',
      pair.key,
    ]);
    const url = `mqtts://127.0.0.1:${live.port('mqtts')}`;
    const ca = readFileSync(authority.cert);
    const client = await connectAsync(url, { ca, reconnectPeriod: 0 });
    let closed = false;
    client.on('close', () => {
      closed = true;
    });
    put('second');
    await until(
      'the new certificate',
      () => /TLS certificate changed and is in force/.test(live.output()) || undefined,
    );
    const shown = await new Promise<string>((resolve) => {
      const socket = connectTls({ port: live.port('mqtts'), host: '127.0.0.1', ca }, () => {
        resolve(String(socket.getPeerCertificate().subject.CN));
        socket.destroy();
      });
    });
    expect(shown).toBe('second');
    await client.publishAsync('a', '1', { qos: 1 });
    expect(closed).toBe(false);
    await client.endAsync();
    // Files that do not go together change nothing.
    writeFileSync(
      pair.cert,
      readFileSync(authority.issue({ name: 'third', hosts: ['127.0.0.1'] }).cert),
    );
    await until(
      'the mistake to be said',
      () => /TLS certificate: .*stays/.test(live.output()) || undefined,
    );
    await (await connectAsync(url, { ca, reconnectPeriod: 0 })).endAsync();
    await live.kill();
  });
});

describe('the API', () => {
  it("S36: one tenant's token does not see another's data, whatever it says in path, query, header or body", async () => {
    const tokens = join(folder, 'tokens');
    const lines = [
      ['grafana', 'read', '*', 'all-of-it'],
      ['tenant-a', 'read,admin', 'edge-a', 'token-a'],
      ['writer', 'write', '*', 'token-w'],
    ].map(
      ([name, scopes, gateways, token]) =>
        `${name}:${scopes}:${gateways}:${hashOf(token as string).toString('hex')}`,
    );
    writeFileSync(tokens, `${lines.join('\n')}\n`, { mode: 0o600 });
    const collector = await startCollector(['--tokens-file', tokens]);
    const http = `http://${collector.address['http']}`;
    const gates = await Promise.all(
      ['edge-a', 'edge-b'].map(async (id) => {
        const gate = await startGateway(collector.address['uplink'], ['--id', id]);
        const client = await connectAsync(`mqtt://127.0.0.1:${gate.port('mqtt')}`);
        await client.publishAsync(`hall/${id}`, '{"v":1}', { qos: 1 });
        await client.publishAsync(`hall/bad`, '{"v":', { qos: 1 });
        await client.endAsync();
        return gate;
      }),
    );
    const call = async (
      token: string,
      path: string,
      init: RequestInit = {},
    ): Promise<{ status: number; text: string }> => {
      const response = await fetch(`${http}${path}`, {
        ...init,
        headers: {
          ...(init.headers as Record<string, string>),
          ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
        },
      });
      return { status: response.status, text: await response.text() };
    };
    await until(
      'both to be stored',
      async () =>
        (JSON.parse((await call('all-of-it', '/api/v1/latest')).text) as { series: unknown[] })
          .series.length === 2 || undefined,
    );
    for (const path of [
      '/api/v1/series',
      '/api/v1/latest',
      '/api/v1/query',
      '/api/v1/ledger',
      '/api/v1/gateways',
      '/api/v1/quarantine',
    ]) {
      expect((await call('', path)).status, path).toBe(401);
      expect((await call('wrong', path)).status, path).toBe(401);
      expect((await call('token-w', path)).status, path).toBe(403);
      const own = await call('token-a', path);
      expect(own.status, path).toBe(200);
      expect(own.text, path).toContain('edge-a');
      expect(own.text, path).not.toContain('edge-b');
    }
    for (const path of [
      '/api/v1/query?tag.gateway=edge-b',
      '/api/v1/latest?tag.gateway=edge-b',
      '/api/v1/status',
      '/metrics',
      '/api/v1/replay',
    ])
      expect((await call('token-a', path)).status, path).toBe(403);
    const replay = (body: object): Promise<{ status: number; text: string }> =>
      call('token-a', '/api/v1/replay', { method: 'POST', body: JSON.stringify(body) });
    expect((await replay({ which: 'all' })).status).toBe(403);
    expect((await replay({ which: 'all', gateway: 'edge-b' })).status).toBe(403);
    // Strings that would mean something in SQL, InfluxQL or Flux are names that nothing has.
    for (const evil of [
      `hall' OR '1'='1`,
      `"; DROP TABLE points; --`,
      `x") |> drop()`,
      '(a+)+$',
      '../../etc/passwd',
      '\u0000',
    ])
      for (const name of ['measurement', 'field', 'tag.gateway', 'tag.topic'])
        expect(
          JSON.parse(
            (
              await call(
                'all-of-it',
                `/api/v1/query?${new URLSearchParams({ [name]: evil }).toString()}`,
              )
            ).text,
          ),
          `${name}=${evil}`,
        ).toEqual({ series: [] });
    expect(
      (await call('all-of-it', '/api/v1/ingest?topic=a', { method: 'POST', body: '1' })).status,
    ).toBe(403);
    expect(
      (await call('token-w', '/api/v1/ingest?topic=a', { method: 'POST', body: '1' })).status,
    ).toBe(204);
    // A page from elsewhere cannot post in somebody's name.
    expect(
      (
        await call('token-w', '/api/v1/ingest?topic=a', {
          method: 'POST',
          body: '1',
          headers: { origin: 'http://evil.example' },
        })
      ).status,
    ).toBe(403);
    for (const gate of gates) await gate.kill();
    expect(await collector.kill()).toBe(0);
  });

  it('who is not asked for a token must have meant this machine (DNS rebinding)', async () => {
    const collector = await startCollector();
    const ask = async (host: string): Promise<string> =>
      await new Promise((resolve) => {
        const socket = connect(collector.port('http'), '127.0.0.1');
        let text = '';
        socket.on('data', (chunk: Buffer) => {
          text += chunk.toString();
        });
        socket.on('close', () => resolve(text.split('\r\n')[0] as string));
        socket.write(`GET /api/v1/series HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`);
      });
    expect(await ask('evil.example')).toBe('HTTP/1.1 403 Forbidden');
    expect(await ask(`localhost:${collector.port('http')}`)).toBe('HTTP/1.1 200 OK');
    await collector.kill();
  });
});

describe('files and processes', () => {
  it('S42: what a server writes is its own: no file of a data folder can be read by others', async () => {
    const collector = await startCollector();
    const gate = await startGateway(collector.address['uplink']);
    const client = await connectAsync(`mqtt://127.0.0.1:${gate.port('mqtt')}`);
    await client.publishAsync('a', '1', { qos: 1 });
    await client.endAsync();
    for (const server of [collector, gate]) {
      const data = dataOf(server);
      for (const name of readdirSync(data, { recursive: true }) as string[])
        expect(statSync(join(data, name)).mode & 0o077, name).toBe(0);
    }
    await gate.kill();
    await collector.kill();
  });

  it('a port that speaks something else is said to be so, and nothing is lost', async () => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.resume();
      socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
    const { port: wrong } = server.address() as { port: number };
    const gate = await startGateway(undefined, ['--collector', `mqtts://127.0.0.1:${wrong}`]);
    await until(
      'the reason',
      () =>
        /no connection to mqtts:.*\(no TLS: wrong version number, as of another server[^)]*\); messages wait/.test(
          gate.output(),
        ) || undefined,
    );
    expect(await gate.kill()).toBe(0);
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
});
