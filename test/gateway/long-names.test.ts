/** A name may be as long as its sender likes, 65,535 bytes: whatever is remembered by names is bounded in bytes, not only in number. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { passwordLine } from '../../shared/config/secrets.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { heldBytes } from '../support/heap.ts';
import { MIB, connectPacket, subscribePacket } from '../support/hostile.ts';
import { encodePublish } from '../support/load.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { connected, rawClient } from '../support/raw-mqtt.ts';
import { P, connect5, connected5, publish5, reader5, subscribe5 } from '../support/raw-mqtt5.ts';

let running: RunningGateway | undefined;
afterEach(async () => {
  await running?.gateway.close();
  running = undefined;
});

const LOGIN = { user: 'bad', password: 'correct horse' };
/** With rules, since what a connection may is remembered by topic too. */
async function start(): Promise<RunningGateway> {
  const folder = temporaryFolder();
  const [passwords, rules] = [join(folder, 'passwords'), join(folder, 'rules.yaml')];
  writeFileSync(passwords, `${await passwordLine('bad', Buffer.from(LOGIN.password))}\n`, {
    mode: 0o600,
  });
  writeFileSync(rules, 'rules:\n  - publish: ["#"]\n    subscribe: ["#"]\n');
  running = await runGateway(temporaryFolder(), {
    'mqtt.passwordFile': passwords,
    'mqtt.aclFile': rules,
    // What is written to disk is not what is tried.
    'buffer.diskBytesMax': `${64 * MIB}`,
    'buffer.whenFull': 'dropOldest',
  });
  return running;
}

it('ever new topics of 60 kB leave nothing behind in memory, with subscribers of both versions there', async () => {
  const { port } = await start();
  const old = await connected(port, 'old', connectPacket({ id: 'old', ...LOGIN }));
  old.send(subscribePacket(1, 'elsewhere/#', '+/+/c'));
  const five = reader5(await rawClient(port));
  five.send(
    connect5('five', {
      username: LOGIN.user,
      password: LOGIN.password,
      properties: [P.topicAliasMaximum(64)],
    }),
  );
  expect((await five.next(2)).reason).toBe(0);
  const bad = await connected(port, 'bad', connectPacket({ id: 'bad', ...LOGIN }));
  const publish = async (from: number, to: number): Promise<void> => {
    for (let at = from; at < to; at++) {
      bad.send(encodePublish(`a/${at}/${'x'.repeat(60_000)}`, '1', 1, 1 + at));
      if (at % 50 === 49) await bad.bytes(4 * (at + 2));
    }
  };
  await publish(0, 100);
  const before = heldBytes();
  await publish(100, 1600);
  expect(heldBytes() - before).toBeLessThan(16 * MIB); // They were 90.
  // What is short is remembered as before, and heard.
  bad.send(encodePublish('a/b/c', 'short', 1, 60_000));
  await until('the message', () => old.received().includes('short') || undefined);
});

it('topics of 60 kB get an alias as far as a connection has room for them', async () => {
  const { port } = await start();
  const client = reader5(await rawClient(port));
  client.send(connect5('bad', { username: LOGIN.user, password: LOGIN.password }));
  expect((await client.next(2)).reason).toBe(0);
  const say = (topic: string, alias: number): void =>
    client.send(publish5(topic, '1', { qos: 1, id: alias, properties: [P.topicAlias(alias)] }));
  for (let alias = 1; alias <= 16; alias++) {
    say(`sixteen/usual/topics/${alias}`, alias);
    expect((await client.next(4)).reason).toBe(0);
  }
  say('', 16);
  expect((await client.next(4)).reason).toBe(0);
  say('x'.repeat(60_000), 1);
  expect((await client.next(14)).reason).toBe(0x97);
});

it('what thousands of connections remember comes out of one room, and comes back as they go', async () => {
  const { port } = await start();
  const once = async (): Promise<void> => {
    const clients = await Promise.all(
      Array.from({ length: 10 }, (_, at) =>
        connected(port, `bad-${at}`, connectPacket({ id: `bad-${at}`, ...LOGIN })),
      ),
    );
    for (const [at, client] of clients.entries()) {
      for (let n = 0; n < 600; n++)
        client.send(encodePublish(`${at}/${n}/${'y'.repeat(200)}`, '1', 1, 1 + n));
      await client.bytes(4 + 4 * 600);
      client.socket.destroy();
    }
    for (const client of clients) await client.closed();
  };
  await once();
  const before = heldBytes();
  for (let times = 0; times < 4; times++) await once();
  expect(heldBytes() - before).toBeLessThan(4 * MIB);
});

it('long filters count as several of a client, since all that it has is written down with each change', async () => {
  const { port } = await start();
  const five = await connected5(port, 'hoard', {
    username: LOGIN.user,
    password: LOGIN.password,
    properties: [P.sessionExpiry(600)],
  });
  const reasonOf = async (id: number, filter: string): Promise<number | undefined> => {
    five.send(subscribe5(id, [[filter, 0]]));
    return (await five.next(9)).body.at(-1);
  };
  expect(await reasonOf(1, `a/${'x'.repeat(60_000)}`)).toBe(0);
  expect(await reasonOf(2, `b/${'x'.repeat(60_000)}`)).toBe(0x97);
  expect(await reasonOf(3, 'short')).toBe(0x97);
});
