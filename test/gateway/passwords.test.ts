/** Wrong passwords cost whoever sends them, and rights that are gone are gone for those who are away too. Real sockets. */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { FailureLimiter } from '../../shared/access/failures.ts';
import { HashQueue, type HashJob } from '../../shared/access/hash-queue.ts';
import { passwordLine } from '../../shared/config/secrets.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { connectPacket, subscribePacket, tryConnect } from '../support/hostile.ts';
import { encodePublish } from '../support/load.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { connected, rawClient } from '../support/raw-mqtt.ts';
import { P, connect5, connected5, subscribe5 } from '../support/raw-mqtt5.ts';

const BAD = '127.0.0.2';
const GOOD = '127.0.0.3';
const PASSWORD = 'correct horse battery';

let running: RunningGateway | undefined;
afterEach(async () => {
  await running?.gateway.close();
  running = undefined;
});

async function start(
  settings: Record<string, string> = {},
  acl?: string,
  users = ['a', 'b'],
): Promise<{ gateway: RunningGateway; passwords: string; rules: string }> {
  const folder = temporaryFolder();
  const passwords = join(folder, 'passwords');
  const rules = join(folder, 'acl.yaml');
  await writePasswords(passwords, users);
  if (acl !== undefined) writeFileSync(rules, acl);
  running = await runGateway(join(folder, 'data'), settings, {
    'password-file': passwords,
    ...(acl === undefined ? {} : { 'acl-file': rules }),
  });
  return { gateway: running, passwords, rules };
}

async function writePasswords(file: string, users: string[]): Promise<void> {
  const lines = await Promise.all(users.map((user) => passwordLine(user, Buffer.from(PASSWORD))));
  writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 });
}

const login = async (port: number, user: string, from: string, password = PASSWORD) => {
  const { code, client } = await tryConnect(port, { id: `${user}-${from}`, user, password }, from);
  client.socket.destroy();
  return code;
};

describe('wrong passwords', () => {
  it('400 at once from one address do not keep a device elsewhere waiting, nor one behind the same address that is known', async () => {
    const { gateway } = await start();
    expect(await login(gateway.port, 'b', BAD)).toBe(0);
    const attack = Array.from({ length: 400 }, async (_, at) => {
      const client = await rawClient(gateway.port, BAD);
      client.send(connectPacket({ id: `x${at}`, user: at % 2 === 0 ? 'a' : 'b', password: 'no' }));
      return client;
    });
    const clients = await Promise.all(attack);
    expect(await login(gateway.port, 'a', GOOD), 'from elsewhere, never seen before').toBe(0);
    expect(await login(gateway.port, 'b', BAD), 'known, behind the same address').toBe(0);
    // They did not wait for the others: of the 400 hardly any was looked at meanwhile. (Before: no CONNACK in nine seconds.)
    expect(clients.filter((each) => each.received()[3] === 5).length).toBeLessThan(20);
    await until('all to be answered or refused', () =>
      clients.filter((each) => each.isClosed()).length > 300 ? true : undefined,
    );
    expect(clients.some((each) => each.received()[3] === 0)).toBe(false);
    for (const { socket } of clients) socket.destroy();
  });

  it('right ones behind an address that is blocked get in, though never seen before', async () => {
    const { gateway } = await start({ 'limits.authFailuresPerMinute': '5' });
    for (let at = 0; at < 8; at++) await login(gateway.port, 'b', BAD, `wrong-${at}`);
    expect(await login(gateway.port, 'b', BAD, 'wrong')).toBe(3);
    expect(await login(gateway.port, 'a', BAD)).toBe(0);
  });

  it('a socket that is gone drops its hash', async () => {
    const { gateway } = await start({ 'limits.authFailuresPerMinute': '100' });
    for (let at = 0; at < 20; at++) {
      const client = await rawClient(gateway.port, BAD);
      client.send(connectPacket({ id: `x${at}`, user: `u${at}`, password: 'no' }));
      client.socket.destroy();
    }
    await until('some to be dropped', async () =>
      (await gateway.metric('headwater_ingress_logins_unchecked_total')) > 10 ? true : undefined,
    );
  });

  it('an API token is right behind an address that sends wrong ones, which are not looked at any more', async () => {
    const folder = temporaryFolder();
    const token = 'a token of more than sixteen characters';
    const tokenFile = join(folder, 'token');
    writeFileSync(tokenFile, token, { mode: 0o600 });
    running = await runGateway(
      join(folder, 'data'),
      { 'limits.authFailuresPerMinute': '5' },
      { 'token-file': tokenFile },
    );
    const ask = async (presented: string): Promise<number> =>
      (
        await fetch(`${running?.http}/api/v1/buffer`, {
          headers: { authorization: `Bearer ${presented}` },
        })
      ).status;
    const statuses: number[] = [];
    for (let at = 0; at < 8; at++) statuses.push(await ask(`wrong ${at}`));
    expect(statuses).toEqual([401, 401, 401, 401, 401, 429, 429, 429]);
    expect(await ask(token)).toBe(200);
  });

  it('failures of an IPv6 address are those of its /64', () => {
    const failures = new FailureLimiter(3, () => 0);
    for (const end of ['1', 'aaaa:1', '3:4:5']) failures.fail(`2001:db8:0:1::${end}`);
    expect(failures.isBlocked('2001:db8:0:1:ffff:ffff:ffff:ffff')).toBe(true);
    expect(failures.isBlocked('2001:db8:0:2::1')).toBe(false);
    failures.forgive('2001:db8:0:1::9');
    expect(failures.isBlocked('2001:db8:0:1::1')).toBe(false);
  });
});

describe('whose password is hashed next', () => {
  const job = (address: string, name: string, lane: HashJob['lane'] = 'usual'): HashJob => ({
    lane,
    address,
    name,
    isWanted: () => true,
  });

  it('known addresses first, then addresses in turn, for each its names in turn', async () => {
    const queue = new HashQueue(() => 0);
    const order: string[] = [];
    const run = (address: string, name: string, lane?: HashJob['lane']): Promise<unknown> =>
      queue.run(job(address, name, lane), () => {
        order.push(`${address}/${name}`);
        return Promise.resolve();
      });
    await Promise.all([
      run('first', 'x'),
      run('bad', '1'),
      run('bad', '1'),
      run('bad', '2'),
      run('good', 'a'),
      run('known', 'k', 'known'),
    ]);
    expect(order).toEqual(['first/x', 'known/k', 'bad/1', 'good/a', 'bad/2', 'bad/1']);
  });

  it('is bounded for an address and in all, and what nobody waits for is not done', async () => {
    const queue = new HashQueue(() => 0);
    let done = 0;
    let wanted = true;
    const all = Array.from({ length: 200 }, (_, at) =>
      queue.run({ ...job('bad', `u${at}`), isWanted: () => wanted }, () => {
        done++;
        wanted = false;
        return Promise.resolve();
      }),
    );
    await Promise.all(all);
    expect(done).toBe(1);
    expect(queue.refused).toBe(200 - 129);
    expect(queue.dropped).toBe(128);
  });
});

describe('rights that are cut while a persistent session is away', () => {
  const ACL = `rules:
  - users: [a, b]
    publish: ['#']
  - users: [b]
    subscribe: ['secret/#']
`;
  const away = async ({ port }: RunningGateway, user: string): Promise<void> => {
    const fields = { id: user, user, password: PASSWORD, clean: false };
    const client = await connected(port, user, connectPacket(fields));
    client.send(subscribePacket(1, 'secret/#'));
    expect([...(await client.bytes(9)).subarray(8)]).toEqual([1]);
    client.socket.destroy();
  };
  const tell = async ({ port }: RunningGateway, payload: string): Promise<void> => {
    const fields = { id: 'a', user: 'a', password: PASSWORD };
    const client = await connected(port, 'a', connectPacket(fields));
    client.send(encodePublish('secret/x', payload, 1, 1));
    await client.bytes(8);
    client.socket.destroy();
  };

  it('it has neither its subscriptions nor what was queued for it when it comes back', async () => {
    const { gateway, rules } = await start({}, ACL);
    await away(gateway, 'b');
    await tell(gateway, 'before');
    writeFileSync(rules, ACL.replace('secret/#', 'other/#'));
    await until('the rules to be in force', () =>
      gateway.notices.find(({ event }) => event === 'session_ended'),
    );
    await tell(gateway, 'after');
    const back = await tryConnect(gateway.port, {
      id: 'b',
      user: 'b',
      password: PASSWORD,
      clean: false,
    });
    expect([...back.client.received().subarray(0, 4)]).toEqual([0x20, 2, 0, 0]);
    await tell(gateway, 'now');
    back.client.send([0xc0, 0]);
    const answer = await back.client.bytes(6);
    expect(answer.subarray(4).toString('hex'), 'nothing but the PINGRESP').toBe('d000');
  });

  it.each([
    4, 5,
  ] as const)('nor when they were cut while the gateway was down, version %d', async (version) => {
    const { gateway, passwords, rules } = await start({}, ACL);
    const folder = dirname(rules);
    if (version === 4) await away(gateway, 'b');
    else {
      const expiry = P.sessionExpiry(600);
      const options = { clean: false, username: 'b', password: PASSWORD, properties: [expiry] };
      const client = await connected5(gateway.port, 'b', options);
      client.send(subscribe5(1, [['secret/#', 1]]));
      expect((await client.next(9)).body.at(-1)).toBe(1);
      client.socket.destroy();
    }
    await tell(gateway, 'before');
    await gateway.gateway.close();
    writeFileSync(rules, ACL.replace('secret/#', 'other/#'));
    running = await runGateway(
      join(folder, 'data'),
      {},
      { 'password-file': passwords, 'acl-file': rules },
    );
    await tell(running, 'after');
    const heard = await rawClient(running.port);
    heard.send(
      version === 4
        ? connectPacket({ id: 'b', user: 'b', password: PASSWORD, clean: false })
        : connect5('b', {
            clean: false,
            username: 'b',
            password: PASSWORD,
            properties: [P.sessionExpiry(600)],
          }),
    );
    await heard.bytes(4);
    await tell(running, 'now');
    heard.send([0xc0, 0]);
    await until(
      'the PINGRESP',
      () => heard.received().includes(Buffer.from([0xd0, 0])) || undefined,
    );
    expect(heard.received().toString('latin1')).not.toMatch(/secret|before|after|now/);
    heard.socket.destroy();
  });

  it('the session of a user that is removed ends, and a new one of that name finds nothing', async () => {
    const { gateway, passwords } = await start({}, ACL);
    await away(gateway, 'b');
    await tell(gateway, 'before');
    await writePasswords(passwords, ['a']);
    await until('it to be noticed', () =>
      gateway.notices.find(({ event }) => event === 'session_ended'),
    );
    expect(await gateway.metric('headwater_limit_used{limit="offline_bytes"}')).toBe(0);
    expect(await gateway.metric('headwater_limit_used{limit="sessions"}')).toBe(0);
  });

  it('nor does one whose password was changed while the gateway was down; the others go on', async () => {
    const { gateway, passwords, rules } = await start({}, ACL.replace('[b]', '[a, b]'));
    await away(gateway, 'a');
    await away(gateway, 'b');
    await tell(gateway, 'before');
    await gateway.gateway.close();
    const again = async (): Promise<RunningGateway> =>
      (running = await runGateway(
        join(dirname(rules), 'data'),
        {},
        { 'password-file': passwords, 'acl-file': rules },
      ));
    const ended = ({ notices }: RunningGateway): string[] =>
      notices.flatMap(({ event, text }) => (event === 'session_ended' ? [text] : []));
    const kept = await again();
    expect(ended(kept), 'the file is as it was').toEqual([]);
    await kept.gateway.close();
    const lines = readFileSync(passwords, 'utf8')
      .split('\n')
      .filter((line) => !line.startsWith('b:'));
    lines.splice(1, 0, await passwordLine('b', Buffer.from('another horse')));
    writeFileSync(passwords, lines.join('\n'), { mode: 0o600 });
    expect(ended(await again())).toEqual([expect.stringContaining("session of 'b' has ended")]);
  });

  it('nor does one of a user that was removed while the gateway was down', async () => {
    const { gateway, passwords, rules } = await start({}, ACL);
    await away(gateway, 'b');
    await tell(gateway, 'before');
    await gateway.gateway.close();
    await writePasswords(passwords, ['a']);
    running = await runGateway(
      join(dirname(rules), 'data'),
      {},
      { 'password-file': passwords, 'acl-file': rules },
    );
    expect(running.notices.map(({ event }) => event)).toContain('session_ended');
    expect(await running.metric('headwater_limit_used{limit="offline_bytes"}')).toBe(0);
    expect(await running.metric('headwater_limit_used{limit="mqtt5_sessions"}')).toBe(0);
  });
});
