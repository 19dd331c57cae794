/**
 * Hostile packets and connections against a gateway as it is started by default (loopback, nobody asked). Numbers are those
 * of docs/threats.md. After every one: ALIVE.
 */
import { connect } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  Alive,
  MIB,
  connectPacket,
  cpuMs,
  packet,
  publishRaw,
  subscribePacket,
  tryConnect,
} from '../support/hostile.ts';
import { encodePublish, runLoad } from '../support/load.ts';
import { crowding, startDevice, startGateway, until, type Headwater } from '../support/process.ts';
import { FULL } from '../support/seed.ts';
import { connected, rawClient, type RawClient } from '../support/raw-mqtt.ts';
import { getJson } from '../support/reconcile.ts';

let gateway: Headwater;
let port: number;
let alive: Alive;
beforeAll(async () => {
  gateway = await startDevice([], { HEADWATER_LIMITS_SESSIONS_MAX: '500' });
  port = gateway.port('mqtt');
  // The baseline is that of a gateway at work, with its caches and the database's filled.
  await runLoad({
    host: '127.0.0.1',
    port,
    connections: 10,
    messages: 100_000,
    window: 200,
    topic: (connection) => `warm/${connection}`,
    payload: (index) => `{"value":${index},"text":"${'x'.repeat(200)}"}`,
  });
});
beforeEach(() => {
  alive = new Alive(gateway);
});
afterAll(async () => {
  expect(await gateway.kill(), 'it ended as it should').toBe(0);
});

interface History {
  messages: { topic: string; client: string }[];
}
const stored = async (topic: string): Promise<number> =>
  (
    await getJson<History>(
      `http://${gateway.address['http']}/api/v1/query?topic=${encodeURIComponent(topic)}`,
    )
  ).messages.length;

/** Writes until the other side hangs up, and no more than `bytesMax`. Returns what was handed to the kernel. */
async function flood(client: RawClient, chunk: Buffer, bytesMax: number): Promise<number> {
  let sent = 0;
  while (!client.isClosed() && sent < bytesMax) {
    if (!client.socket.write(chunk))
      await new Promise<void>((resolve) => {
        const done = (): void => resolve();
        client.socket.once('drain', done);
        client.socket.once('close', done);
      });
    sent += chunk.length;
    await new Promise((resolve) => setImmediate(resolve));
  }
  return sent;
}

describe('before anybody is known', () => {
  it('S1: a CONNECT that declares 256 MB is cut at its length, not after it', async () => {
    const client = await rawClient(port);
    client.send([0x10, 0xff, 0xff, 0xff, 0x7f]);
    await flood(client, Buffer.alloc(65_536, 'a'), 150 * MIB);
    await client.closed();
    await alive.check('S1');
  });

  it('S3: a length of five bytes', async () => {
    const client = await rawClient(port);
    client.send([0x10, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    await client.closed();
    await alive.check('S3');
  });

  it('S4: a first packet of every other type, large', async () => {
    for (let type = 0; type < 16; type++) {
      if (type === 1) continue;
      const client = await rawClient(port);
      client.send(packet(type << 4, Buffer.alloc(3000, 1)));
      await client.closed();
    }
    await alive.check('S4');
  });

  it('S5: nothing, half a CONNECT, a byte now and then: closed within 10 s, 2,000 of them', async () => {
    const began = performance.now();
    const silent = await Promise.all(
      Array.from({ length: 1999 }, async () => await rawClient(port)),
    );
    silent[0]?.send([0x10, 0x20, 0, 4]);
    const slow = await rawClient(port);
    const bytes = connectPacket({ id: 'slow' });
    const drip = setInterval(() => slow.send(bytes.subarray(0, 1)), 400);
    await alive.check('S5, while they are there');
    for (const client of [...silent, slow]) await client.closed();
    clearInterval(drip);
    expect(performance.now() - began).toBeLessThan(15_000 * crowding());
    await alive.check('S5');
  });

  it('S7: 10,000 connections from one address: beyond the cap refused, another address is served', async () => {
    const small = await startGateway(undefined, [], {
      HEADWATER_LIMITS_CONNECTIONS_PER_ADDRESS_MAX: '300',
    });
    const open = new Set<ReturnType<typeof connect>>();
    let refused = 0;
    for (let batch = 0; batch < 100; batch++) {
      await Promise.all(
        Array.from({ length: 100 }, async () => {
          const socket = connect({
            port: small.port('mqtt'),
            host: '127.0.0.1',
            localAddress: '127.0.0.2',
          });
          open.add(socket);
          await new Promise<void>((resolve) => {
            socket.once('connect', () => setTimeout(resolve, 20));
            socket.once('error', () => resolve());
            socket.once('close', () => {
              refused++;
              open.delete(socket);
              resolve();
            });
          });
        }),
      );
    }
    expect(refused).toBeGreaterThanOrEqual(9700);
    await new Alive(small).check('S7');
    for (const socket of open) socket.destroy();
    expect(await small.kill()).toBe(0);
  });

  it('S11: control characters, wildcards and ids that are too long are refused; slashes, dots and colons are not', async () => {
    for (const id of ['a+', '#', 'a\u0001b', 'a\nb', '\u007f', 'x'.repeat(60_000).slice(0, 3900)]) {
      const { code, client } = await tryConnect(port, { id });
      expect(code, JSON.stringify(id.slice(0, 20))).toBe(2);
      await client.closed();
    }
    const huge = await rawClient(port);
    huge.send(connectPacket({ id: 'x'.repeat(60_000) }));
    await huge.closed();
    const nul = await tryConnect(port, { id: 'a\0b' });
    await nul.client.closed();
    for (const id of ['A4:C1:38:6E:4A:E8', 'a/b', '../x', 'CON', 'ümlaut']) {
      const { code, client } = await tryConnect(port, { id });
      expect(code, id).toBe(0);
      client.socket.destroy();
    }
    await alive.check('S11');
  });
});

describe('packets of a connected client', () => {
  it('S2: a PUBLISH that declares 256 MB is cut when the length is read', async () => {
    const client = await connected(port, 's2');
    client.send([0x32, 0xff, 0xff, 0xff, 0x7f]);
    await flood(client, Buffer.alloc(65_536, 'a'), 150 * MIB);
    await client.closed();
    await alive.check('S2');
  });

  it('S17: a topic with NUL, invalid UTF-8 or a surrogate is closed and not stored; a BOM stays what it is', async () => {
    for (const bytes of ['61002f62', 'fffe', 'eda080', 'c0af', 'f4908080']) {
      const client = await connected(port, `s17-${bytes}`);
      client.send(publishRaw(Buffer.from(bytes, 'hex')));
      await client.closed();
      expect(client.received().length).toBe(4);
    }
    expect(await stored('\uFFFD#')).toBe(0);
    const bom = await connected(port, 's17-bom');
    bom.send(
      Buffer.concat([encodePublish('\uFEFFs17', '1', 1, 1), encodePublish('s17', '2', 1, 2)]),
    );
    await bom.bytes(12);
    expect([await stored('\uFEFFs17'), await stored('s17')]).toEqual([1, 1]);
    bom.socket.destroy();
    await alive.check('S17');
  });

  it('S18: 101 and 65,535 levels, as topic, will and filter', async () => {
    for (const levels of [101, 65_535]) {
      const topic = '/'.repeat(levels - 1);
      const publisher = await connected(port, `s18-${levels}`);
      publisher.send(publishRaw(Buffer.from(topic)));
      await publisher.closed();
      const subscriber = await connected(port, `s18s-${levels}`);
      subscriber.send(subscribePacket(1, topic));
      await subscriber.closed();
      const { client } = await tryConnect(port, { id: 'w', will: { topic, payload: 'x' } });
      await client.closed();
    }
    await alive.check('S18');
  });

  it('S19: names of the language are plain text', async () => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'prototype'];
    for (const name of names) {
      const client = await connected(port, name);
      client.send(subscribePacket(1, name, `${name}/#`));
      await client.bytes(4 + 6);
      client.send(
        packet(0xa2, Buffer.concat([Buffer.from([0, 2, 0, name.length]), Buffer.from(name)])),
      );
      client.send(encodePublish(`${name}/${name}`, name, 1, 3));
      await client.bytes(4 + 6 + 4 + 4);
      client.socket.destroy();
      expect(await stored(`${name}/${name}`)).toBe(1);
    }
    await alive.check('S19');
  });

  it('S20: 10,000 filters of wildcards over 100 levels, and publishes that match them', async () => {
    const tooDeep = await connected(port, 's20-deep');
    tooDeep.send(subscribePacket(1, Array.from({ length: 300 }, () => '+').join('/')));
    await tooDeep.closed();
    const clients: RawClient[] = [];
    for (let index = 0; index < 10; index++) {
      const client = await connected(port, `s20-${index}`);
      client.socket.on('data', () => undefined);
      for (let part = 0; part < 10; part++) {
        const filters = Array.from({ length: 100 }, (_, at) => {
          const levels: string[] = Array.from({ length: 100 }, () => '+');
          levels[(index * 1000 + part * 100 + at) % 100] = `n${index}-${part}-${at}`;
          return levels.join('/');
        });
        client.send(subscribePacket(part + 1, ...filters));
      }
      clients.push(client);
    }
    for (const client of clients) await client.bytes(4 + 10 * 104);
    // What is over the caps is denied, one by one; what is granted is bounded, whatever it looks like.
    const granted = clients.reduce(
      (sum, client) =>
        sum +
        client
          .received()
          .subarray(4)
          .filter((byte) => byte === 1).length,
      0,
    );
    expect(granted).toBeLessThan(2100);
    const publisher = await connected(port, 's20-publisher');
    const count = 200;
    const before = cpuMs(gateway.pid);
    for (let index = 0; index < count; index++) {
      const topic = Array.from({ length: 100 }, (_, at) => `t${index}-${at}`);
      topic[index % 100] = `n0-0-${index % 100}`;
      publisher.send(encodePublish(topic.join('/'), 'x', 1, index + 1));
    }
    await publisher.bytes(4 + 4 * count);
    expect((cpuMs(gateway.pid) - before) / count, 'CPU ms a publish').toBeLessThan(5);
    for (const client of [...clients, publisher]) client.socket.destroy();
    await alive.check('S20');
  });

  it('S21: 65,535 QoS 2 messages without a PUBREL are cut at the cap', async () => {
    const client = await connected(port, 's21');
    let id = 0;
    while (!client.isClosed() && id < 65_535) {
      const packets = Array.from({ length: 100 }, () =>
        encodePublish('s21', 'x', 2, Math.min(65_535, ++id)),
      );
      client.send(Buffer.concat(packets));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await client.closed();
    expect(id).toBeLessThan(65_535);
    await alive.check('S21');
  });

  it('S22: a QoS 2 id of an ended clean session is a new message in the next', async () => {
    for (const payload of ['first', 'second']) {
      const client = await connected(port, 's22');
      client.send(encodePublish('s22', payload, 2, 7));
      await client.bytes(8);
      client.socket.destroy();
      await client.closed();
    }
    expect(await stored('s22')).toBe(2);
    await alive.check('S22');
  });

  it('S23: what the specification forbids is closed, each', async () => {
    const cases: Record<string, Buffer> = {
      'QoS 1 with packet id 0': encodePublish('a', 'x', 1, 0),
      'QoS 3': packet(0x36, Buffer.from('0001610001', 'hex')),
      'SUBSCRIBE without filters': packet(0x82, Buffer.from('0001', 'hex')),
      'SUBSCRIBE with wrong flags': packet(0x80, Buffer.from('000100016101', 'hex')),
      'a second CONNECT': connectPacket({ id: 'again' }),
      'CONNACK from a client': Buffer.from('20020000', 'hex'),
      'PUBREL with reserved bits': Buffer.from('60020001', 'hex'),
      'PINGREQ with a body': Buffer.from('c00100', 'hex'),
      'type 0': Buffer.from('0000', 'hex'),
      'type 15': Buffer.from('f000', 'hex'),
    };
    for (const [name, bytes] of Object.entries(cases)) {
      const client = await connected(port, 's23');
      client.send(bytes);
      await client.closed();
      expect(client.received().length, name).toBe(4);
    }
    const connects: Record<string, Buffer> = {
      'will QoS 3': packet(0x10, Buffer.from('00044d515454041e0000000177000177000178', 'hex')),
      'password without user': packet(0x10, Buffer.from('00044d51545404420000000177000170', 'hex')),
      'reserved flag': packet(0x10, Buffer.from('00044d51545404030000000177', 'hex')),
    };
    for (const [name, bytes] of Object.entries(connects)) {
      const client = await rawClient(port);
      client.send(bytes);
      await client.closed();
      expect(client.received().length, name).toBe(0);
    }
    await alive.check('S23');
  });

  it(`S25: a flood of retained messages, ${FULL ? '100,000' : '5,000'} topics of 10 KB: kept to the limit, stored as data`, async () => {
    const client = await connected(port, 's25');
    const count = FULL ? 100_000 : 5000;
    const payload = Buffer.alloc(10_240, 'r');
    let acked = 0;
    client.socket.on('data', (chunk: Buffer) => {
      acked += chunk.length / 4;
    });
    for (let index = 0; index < count; index++) {
      if (!client.socket.write(encodePublish(`s25/${index}`, payload, 1, (index % 60_000) + 1, 1)))
        await new Promise<void>((resolve) => client.socket.once('drain', () => resolve()));
      if (index % 2000 === 1999)
        await until('acknowledgements', () => acked >= index - 1000 || undefined);
    }
    await until('all of them acknowledged', () => acked >= count || undefined, 60_000);
    const metrics = await (await fetch(`http://${gateway.address['http']}/metrics`)).text();
    const kept = Number(/^headwater_ingress_retained_messages (\d+)/m.exec(metrics)?.[1]);
    expect(kept).toBeLessThan(900);
    expect(gateway.output()).toMatch(/retained messages have reached their limit/);
    client.socket.destroy();
    await alive.check('S25');
  });

  it(`S26: ${FULL ? '10,000' : '2,000'} persistent sessions with subscriptions: beyond the limit nothing is kept`, async () => {
    const count = FULL ? 10_000 : 2000;
    let granted = 0;
    let denied = 0;
    const one = async (index: number): Promise<void> => {
      const { code, client } = await tryConnect(port, { id: `s26-${index}`, clean: false });
      if (code === 0) {
        client.send(subscribePacket(1, 's26/#'));
        const answer = await client.bytes(9);
        if (answer[8] !== 0x80) granted++;
      } else if (code === 3) denied++;
      client.socket.destroy();
    };
    for (let index = 0; index < count; index += 50)
      await Promise.all(Array.from({ length: 50 }, (_, at) => one(index + at)));
    expect(granted).toBeLessThanOrEqual(500);
    expect(granted + denied).toBe(count);
    const publisher = await connected(port, 's26-publisher');
    for (let index = 0; index < 1000; index++)
      publisher.send(encodePublish('s26/x', 'x'.repeat(100), 1, index + 1));
    await publisher.bytes(4 + 4000);
    publisher.socket.destroy();
    await alive.check('S26');
  });

  it('S41: a subscriber that never reads is cut, others go on', async () => {
    const quick = await startGateway(undefined, [], {
      HEADWATER_LIMITS_SUBSCRIBER_STALL_MS: '1000',
    });
    const lazy = await connected(quick.port('mqtt'), 'lazy');
    lazy.send(subscribePacket(1, 's41/#'));
    await lazy.bytes(9);
    lazy.socket.pause();
    const publisher = await connected(quick.port('mqtt'), 'publisher');
    const payload = Buffer.alloc(100_000, 'x');
    for (let index = 0; index < 300; index++) {
      publisher.send(encodePublish('s41/x', payload, 1, index + 1));
      await publisher.bytes(4 + 4 * (index + 1));
    }
    await until('the subscriber to be cut', async () => {
      const metrics = await (await fetch(`http://${quick.address['http']}/metrics`)).text();
      return /headwater_ingress_connections 1$/m.test(metrics) || undefined;
    });
    publisher.socket.destroy();
    lazy.socket.destroy();
    expect(await quick.kill()).toBe(0);
  });
});
