/**
 * MQTT 3.1.1 as a server, clause by clause: what OASIS's specification (29 October 2014) requires of it and can be seen
 * from outside. What a server must not accept is in hostile-packets.test.ts (S2 to S4, S17, S18, S23) as well.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectPacket, packet, subscribePacket, tryConnect } from '../support/hostile.ts';
import { encodePublish } from '../support/load.ts';
import { startGateway, type Headwater } from '../support/process.ts';
import { connectWith, connected, rawClient, type RawClient } from '../support/raw-mqtt.ts';

let gateway: Headwater;
let port: number;
beforeAll(async () => {
  gateway = await startGateway(undefined, [], { HEADWATER_LIMITS_CONNECT_TIMEOUT_MS: '2000' });
  port = gateway.port('mqtt');
});
afterAll(async () => {
  expect(await gateway.kill()).toBe(0);
});

const hexAfter = (client: RawClient, bytes: number): string =>
  client.received().subarray(bytes).toString('hex');
/** What has come after `from` bytes, once it has been quiet. */
async function quiet(client: RawClient, from: number): Promise<string> {
  let size = -1;
  while (client.received().length !== size) {
    size = client.received().length;
    await new Promise((resolve) => setTimeout(resolve, 80));
  }
  return hexAfter(client, from);
}
let count = 0;
const fresh = (): string => `conformance-${++count}`;
const publishText = (topic: string, payload: string, flags = 0): string =>
  encodePublish(topic, payload, 0, 0, flags).toString('hex');

describe('CONNECT', () => {
  it('[MQTT-3.1.0-1] the first packet must be a CONNECT', async () => {
    const client = await rawClient(port);
    client.send(Buffer.from('c000', 'hex'));
    await client.closed();
  });
  it('[MQTT-3.1.0-2] a second CONNECT closes the connection', async () => {
    const client = await connected(port, fresh());
    client.send(connectPacket({ id: fresh() }));
    await client.closed();
  });
  it.each([
    ['[MQTT-3.1.2-1] a wrong protocol name', '00044d51545804020000000161'],
    ['[MQTT-3.1.2-3] the reserved flag', '00044d51545404030000000161'],
    ['[MQTT-3.1.2-13] will QoS without a will', '00044d515454040a0000000161'],
    ['[MQTT-3.1.2-14] will QoS 3', '00044d515454041e0000000161000162000163'],
    ['[MQTT-3.1.2-15] will retain without a will', '00044d51545404220000000161'],
    ['[MQTT-3.1.2-22] a password without a user name', '00044d51545404420000000161000170'],
    ['[MQTT-3.1.3-4] a client id that is not UTF-8', '00044d515454040200000001ff'],
    ['[MQTT-3.1.4-1] [MQTT-3.1.2-19] a payload that ends early', '00044d515454048200000001610005'],
    ['bytes after the payload', '00044d5154540402000000016100'],
  ])('%s closes without a CONNACK', async (_name, body) => {
    const client = await rawClient(port);
    client.send(packet(0x10, Buffer.from(body, 'hex')));
    await client.closed();
    expect(client.received().length).toBe(0);
  });
  it('[MQTT-3.1.2-2] an unknown protocol level is answered with return code 1', async () => {
    const client = await rawClient(port);
    client.send(packet(0x10, Buffer.from('00044d51545407020000000161', 'hex')));
    await client.closed();
    expect(client.received().toString('hex')).toBe('20020001');
  });
  it('MQTT 3.1 (MQIsdp, level 3) is spoken', async () => {
    const client = await rawClient(port);
    client.send(packet(0x10, Buffer.from('00064d514973647003020000000161', 'hex')));
    expect((await client.bytes(4)).toString('hex')).toBe('20020000');
    client.socket.destroy();
  });
  it('[MQTT-3.1.3-6] [MQTT-3.1.3-7] an empty client id gets one with a clean session, [MQTT-3.1.3-8] and return code 2 without', async () => {
    expect((await tryConnect(port, { id: '' })).code).toBe(0);
    const { code, client } = await tryConnect(port, { id: '', clean: false });
    expect(code).toBe(2);
    await client.closed();
  });
  it('[MQTT-3.1.4-2] [MQTT-3.1.3-2] a client id that is in use takes the older connection over', async () => {
    const id = fresh();
    const older = await connected(port, id);
    const newer = await connected(port, id);
    await older.closed();
    newer.send(Buffer.from('c000', 'hex'));
    expect((await newer.bytes(6)).subarray(4).toString('hex')).toBe('d000');
    newer.socket.destroy();
  });
  it('[MQTT-3.2.2-1] to [MQTT-3.2.2-3], [MQTT-3.1.2-4] session present is 0 for a clean session and a new one, 1 for one that is kept', async () => {
    const id = fresh();
    const present = async (clean: boolean): Promise<number> => {
      const { client } = await tryConnect(port, { id, clean });
      const flag = client.received()[2] as number;
      client.send(subscribePacket(1, 'present'));
      await client.bytes(9);
      client.send(Buffer.from('e000', 'hex'));
      await client.closed();
      return flag;
    };
    expect([
      await present(true),
      await present(false),
      await present(false),
      await present(true),
      await present(false),
    ]).toEqual([0, 0, 1, 0, 0]);
  });
  it('[MQTT-3.1.2-24] a client that is silent for one and a half keep alives is cut', async () => {
    const client = await connected(port, 'keep', connectWith('keep', 2, 1));
    const began = performance.now();
    await client.closed();
    expect(performance.now() - began).toBeGreaterThan(1400);
  });
  it('a connection without a CONNECT is closed in reasonable time (3.1.4)', async () => {
    await (await rawClient(port)).closed();
  });
  it('[MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3] a will is published when a client is lost, and not after a DISCONNECT', async () => {
    const listener = await connected(port, fresh());
    listener.send(subscribePacket(1, 'will/#'));
    await listener.bytes(9);
    for (const [end, expected] of [
      ['lost', publishText('will/lost', 'gone')],
      ['said', ''],
    ] as const) {
      const from = listener.received().length;
      const { client } = await tryConnect(port, {
        id: fresh(),
        will: { topic: `will/${end}`, payload: 'gone' },
      });
      if (end === 'lost') client.socket.resetAndDestroy();
      else client.send(Buffer.from('e000', 'hex'));
      await client.closed();
      const heard = await quiet(listener, from);
      // At QoS 0, as the will was.
      expect(heard).toBe(expected);
    }
    listener.socket.destroy();
  });
});

describe('PUBLISH', () => {
  it('[MQTT-4.3.2-2] [MQTT-2.3.1-6] [MQTT-3.3.4-1] QoS 1 is answered with its PUBACK, [MQTT-4.6.0-2] in order', async () => {
    const client = await connected(port, fresh());
    client.send(Buffer.concat([7, 3, 65_535, 1].map((id) => encodePublish('q/1', 'x', 1, id))));
    await client.bytes(20);
    expect(hexAfter(client, 4)).toBe('40020007400200034002ffff40020001');
    client.socket.destroy();
  });
  it('[MQTT-4.3.3-2] QoS 2: PUBREC, PUBCOMP, a repeat is not a second message', async () => {
    const listener = await connected(port, fresh());
    listener.send(subscribePacket(1, 'q/2'));
    await listener.bytes(9);
    const client = await connected(port, fresh());
    for (let round = 0; round < 2; round++) client.send(encodePublish('q/2', 'x', 2, 5, round * 8));
    await client.bytes(12);
    client.send(Buffer.from('62020005', 'hex'));
    client.send(Buffer.from('62020005', 'hex'));
    await client.bytes(20);
    expect(hexAfter(client, 4)).toBe('50020005500200057002000570020005');
    const heard = await quiet(listener, 9);
    expect(heard.match(/0003712f32/g)).toHaveLength(1);
    for (const each of [client, listener]) each.socket.destroy();
  });
  it("[MQTT-3.3.1-1] DUP is the sender's own: what is delivered has 0", async () => {
    const listener = await connected(port, fresh());
    listener.send(subscribePacket(1, 'dup'));
    await listener.bytes(9);
    const client = await connected(port, fresh());
    client.send(encodePublish('dup', 'x', 1, 5, 8));
    await client.bytes(8);
    expect((parseInt((await quiet(listener, 9)).slice(0, 2), 16) & 8) === 0).toBe(true);
    for (const each of [client, listener]) each.socket.destroy();
  });
  it('[MQTT-3.3.1-5] to [MQTT-3.3.1-12] retained: to new subscribers with the flag, to others without, empty removes, zero QoS replaces', async () => {
    const client = await connected(port, fresh());
    const before = await connected(port, fresh());
    before.send(subscribePacket(1, 'kept/#'));
    await before.bytes(9);
    client.send(encodePublish('kept/a', '1', 1, 1, 1));
    client.send(encodePublish('kept/a', '2', 0, 0, 1));
    client.send(encodePublish('kept/b', '3', 1, 2, 1));
    client.send(encodePublish('kept/b', '', 1, 3, 1));
    await client.bytes(4 + 12);
    expect(
      (await quiet(before, 9))
        .match(/3[0-9a-f]0[0-9a-f]00066b657074/g)
        ?.every((each) => (parseInt(each.slice(0, 2), 16) & 1) === 0),
    ).toBe(true);
    const after = await connected(port, fresh());
    after.send(subscribePacket(1, 'kept/#'));
    await after.bytes(9);
    expect(await quiet(after, 9)).toBe(publishText('kept/a', '2', 1));
    for (const each of [client, before, after]) each.socket.destroy();
  });
  it('[MQTT-3.3.5-1] overlapping subscriptions get a message at their highest QoS, at least once', async () => {
    const listener = await connected(port, fresh());
    listener.send(subscribePacket(1, 'over/#', 'over/+'));
    await listener.bytes(10);
    const client = await connected(port, fresh());
    client.send(encodePublish('over/x', 'y', 1, 1));
    await client.bytes(8);
    expect((await quiet(listener, 10)).match(/6f7665722f78/g)?.length).toBeGreaterThanOrEqual(1);
    for (const each of [client, listener]) each.socket.destroy();
  });
});

describe('SUBSCRIBE, UNSUBSCRIBE, PINGREQ', () => {
  it('[MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-4] [MQTT-3.8.4-5] [MQTT-3.9.3-1] [MQTT-2.3.1-7] SUBACK has the packet id and a return code for each filter, in order', async () => {
    const client = await connected(port, fresh());
    client.send(packet(0x82, Buffer.from('1234000161000001620100016302', 'hex')));
    await client.bytes(4 + 7);
    expect(hexAfter(client, 4)).toBe('90051234000102');
    client.socket.destroy();
  });
  it('[MQTT-3.10.4-2] [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6] UNSUBACK comes also for a filter that nobody had, and delivery ends', async () => {
    const client = await connected(port, fresh());
    client.send(subscribePacket(1, 'un'));
    await client.bytes(9);
    client.send(packet(0xa2, Buffer.from('00020002756e0001ff'.replace('ff', '7a'), 'hex')));
    await client.bytes(13);
    expect(hexAfter(client, 9)).toBe('b0020002');
    client.send(encodePublish('un', 'x', 1, 3));
    await client.bytes(17);
    expect(await quiet(client, 13)).toBe('40020003');
    client.socket.destroy();
  });
  it('[MQTT-3.12.4-1] PINGREQ is answered', async () => {
    const client = await connected(port, fresh());
    client.send(Buffer.from('c000', 'hex'));
    expect((await client.bytes(6)).subarray(4).toString('hex')).toBe('d000');
    client.socket.destroy();
  });
  it.each([
    [
      'sport/tennis/#',
      ['sport/tennis', 'sport/tennis/x', 'sport/tennis/x/y'],
      ['sport', 'sport/tennisx'],
    ],
    ['sport/+', ['sport/', 'sport/x'], ['sport', 'sport/x/y']],
    ['+/+', ['/finance', 'a/b'], ['finance', 'a/b/c']],
    ['/+', ['/finance'], ['finance']],
    ['+', ['finance', 'a'], ['/finance', 'a/b']],
    ['a//b', ['a//b'], ['a/b']],
    ['Accounts', ['Accounts'], ['ACCOUNTS', '/Accounts']],
    ['#', ['a', '/', 'a/b'], ['$x/a']],
    ['$x/#', ['$x/a'], ['x/a']],
    ['+/monitor', ['a/monitor'], ['$x/monitor']],
  ])('[MQTT-4.7.1-2] to [MQTT-4.7.1-3], [MQTT-4.7.2-1], [MQTT-4.7.3-4], [MQTT-3.3.2-3]: %s matches what it should', async (filter, matching, others) => {
    const listener = await connected(port, fresh());
    listener.send(subscribePacket(1, filter));
    await listener.bytes(9);
    const before = await quiet(listener, 9);
    const client = await connected(port, fresh());
    const all = [...matching, ...others];
    client.send(
      Buffer.concat(all.map((topic, index) => encodePublish(topic, `m${index}`, 1, index + 1))),
    );
    await client.bytes(4 + 4 * all.length);
    const heard = (await quiet(listener, 9)).slice(before.length);
    const payloads = [...Buffer.from(heard, 'hex').toString('latin1').matchAll(/m(\d)/g)].map(
      ([, index]) => Number(index),
    );
    expect([...new Set(payloads)].toSorted()).toEqual(matching.map((_topic, index) => index));
    for (const each of [client, listener]) each.socket.destroy();
  });
});

describe('sessions', () => {
  it('[MQTT-3.1.2-5] [MQTT-4.4.0-1] [MQTT-4.5.0-1] QoS 1 messages wait for a session that is away, and come again until acknowledged', async () => {
    const id = fresh();
    const first = await tryConnect(port, { id, clean: false });
    first.client.send(subscribePacket(1, `away/${id}`));
    await first.client.bytes(9);
    first.client.send(Buffer.from('e000', 'hex'));
    await first.client.closed();
    const client = await connected(port, fresh());
    client.send(encodePublish(`away/${id}`, 'waiting', 1, 1));
    await client.bytes(8);
    const heard: string[] = [];
    for (let round = 0; round < 2; round++) {
      const { client: again } = await tryConnect(port, { id, clean: false });
      heard.push(await quiet(again, 4));
      // Not acknowledged the first time.
      again.socket.destroy();
      await again.closed();
    }
    expect(heard.every((each) => each.includes(Buffer.from('waiting').toString('hex')))).toBe(true);
    client.socket.destroy();
  });
  it('[MQTT-3.1.2-6] a clean session forgets what was before it', async () => {
    const id = fresh();
    const first = await tryConnect(port, { id, clean: false });
    first.client.send(subscribePacket(1, `clean/${id}`));
    await first.client.bytes(9);
    first.client.socket.destroy();
    await first.client.closed();
    const second = await tryConnect(port, { id, clean: true });
    const client = await connected(port, fresh());
    client.send(encodePublish(`clean/${id}`, 'x', 1, 1));
    await client.bytes(8);
    expect(await quiet(second.client, 4)).toBe('');
    for (const each of [client, second.client]) each.socket.destroy();
  });
});
