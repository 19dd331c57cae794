/** MQTT 5 at a real gateway, packet by packet: what each statement of the specification asks of a server, as far as a client can see it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { passwordLine } from '../../shared/config/secrets.ts';
import { checkFrame, readRecords, type FrameRecord } from '../../shared/frame/frame.ts';
import { connectPacket } from '../support/hostile.ts';
import { encodePublish } from '../support/load.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { connected, connectWith, rawClient } from '../support/raw-mqtt.ts';
import {
  P,
  ack5,
  connect5,
  connected5,
  disconnect5,
  packet5,
  publish5,
  reader5,
  subscribe5,
  unsubscribe5,
  type Client5,
} from '../support/raw-mqtt5.ts';

const NEVER = 0xffff_ffff;
const hex = (...properties: number[][]): string => Buffer.from(properties.flat()).toString('hex');
const subscribe311 = (id: number, filter: string, qos: number): Buffer => {
  const bytes = Buffer.from(filter);
  const body = Buffer.concat([
    Buffer.from([id >> 8, id & 255, bytes.length >> 8, bytes.length & 255]),
    bytes,
    Buffer.from([qos]),
  ]);
  return Buffer.concat([Buffer.from([0x82, body.length]), body]);
};

let running: RunningGateway;
const folder = temporaryFolder();
beforeAll(async () => {
  running = await runGateway(folder, { 'limits.packetBytesMax': '65536' });
});
afterAll(async () => await running.gateway.close());

let count = 0;
const fresh = (name: string): string => `${name}-${++count}`;
const client = (name = 'c', options = {}): ReturnType<typeof connected5> =>
  connected5(running.port, fresh(name), options);
async function subscriber(
  filters: [string, number][],
  options = {},
  properties: number[][] = [],
): Promise<Client5> {
  const each = await client('sub', options);
  each.send(subscribe5(1, filters, properties));
  const suback = await each.next(9);
  expect(suback.payload).toMatch(/^(0[012])+$/);
  return each;
}
async function records(topic: string, of = running): Promise<FrameRecord[]> {
  const frames = (await of.gateway.store?.read(undefined, Number.POSITIVE_INFINITY)) ?? [];
  return frames
    .flatMap(({ frame }) => readRecords(frame, checkFrame(frame)))
    .filter((record) => record.topic === topic);
}

describe('publishing', () => {
  it('[MQTT-3.3.4-1] [MQTT-2.2.1-5] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.7.2-1] [MQTT-4.6.0-2] [MQTT-4.6.0-3] PUBACK and PUBREC come after the message is stored, with its properties as they came, in order and doubled', async () => {
    const topic = fresh('t/stored');
    const each = await client();
    const properties = [
      P.user('a', '1'),
      P.contentType('application/json'),
      P.user('b', '2'),
      P.user('a', '1'),
      P.user('', 'x'),
      P.correlationData('c'),
    ];
    each.send(
      Buffer.concat([
        publish5(topic, 'one', { qos: 1, id: 5, properties }),
        publish5(topic, 'two', { qos: 2, id: 6 }),
      ]),
    );
    expect(await each.next()).toMatchObject({ type: 4, id: 5, reason: 0 });
    expect(await each.next()).toMatchObject({ type: 5, id: 6, reason: 0 });
    const [one, two] = await records(topic);
    expect(Buffer.from(one?.properties ?? []).toString('hex')).toBe(hex(...properties));
    expect(two?.properties).toBeUndefined();
    each.send(ack5(6, 6));
    expect(await each.next(7)).toMatchObject({ id: 6, reason: 0 });
    // [MQTT-4.3.3-11]: nobody waits for it any more.
    each.send(ack5(6, 6));
    expect(await each.next(7)).toMatchObject({ id: 6, reason: 0x92 });
  });

  it('[MQTT-4.3.3-10] [MQTT-4.3.3-12] a QoS 2 message that comes again under its id is stored once; after PUBREL the id is another message', async () => {
    const topic = fresh('t/two');
    const each = await client();
    for (const dup of [false, true, true])
      each.send(publish5(topic, 'same', { qos: 2, id: 9, dup }));
    for (let i = 0; i < 3; i++) expect(await each.next(5)).toMatchObject({ id: 9, reason: 0 });
    each.send(ack5(6, 9));
    await each.next(7);
    each.send(publish5(topic, 'other', { qos: 2, id: 9 }));
    await each.next(5);
    expect((await records(topic)).map(({ payload }) => Buffer.from(payload).toString())).toEqual([
      'same',
      'other',
    ]);
  });

  it('[MQTT-3.3.2-7] [MQTT-3.3.2-12] a topic alias stands for its topic, on its own connection', async () => {
    const topic = fresh('t/alias');
    const each = await client();
    each.send(publish5(topic, '1', { qos: 1, id: 1, properties: [P.topicAlias(16)] }));
    each.send(publish5('', '2', { qos: 1, id: 2, properties: [P.topicAlias(16)] }));
    await each.next(4);
    await each.next(4);
    expect(await records(topic)).toHaveLength(2);
    // An alias is not a thing of the message: it is neither stored nor passed on.
    expect((await records(topic)).every(({ properties }) => properties === undefined)).toBe(true);
    const other = await client();
    other.send(publish5('', '3', { qos: 1, id: 1, properties: [P.topicAlias(16)] }));
    expect(await other.next(14)).toMatchObject({ reason: 0x82 });
  });

  it('a payload that says it is UTF-8 and is not, is refused alone: 0x99', async () => {
    const topic = fresh('t/utf8');
    const each = await client();
    each.send(
      publish5(topic, Buffer.from([0xff, 0xfe]), {
        qos: 1,
        id: 1,
        properties: [P.payloadFormat(1)],
      }),
    );
    each.send(publish5(topic, 'ok', { qos: 1, id: 2, properties: [P.payloadFormat(1)] }));
    expect(await each.next(4)).toMatchObject({ id: 1, reason: 0x99 });
    expect(await each.next(4)).toMatchObject({ id: 2, reason: 0 });
    expect(await records(topic)).toHaveLength(1);
  });
});

describe('what is not allowed gets one reason, and a second client goes on', () => {
  it.each<[string, () => Buffer, number]>([
    ['[MQTT-3.1.0-2] a second CONNECT', () => connect5('again'), 0x82],
    ['[MQTT-4.12.0-7] AUTH that nobody began', () => packet5(0xf0, [0x18, 0]), 0x82],
    ['[MQTT-3.3.1-4] QoS 3', () => packet5(0x36, [0, 1], Buffer.from('t'), [0, 1, 0]), 0x81],
    ['[MQTT-3.3.1-2] DUP on QoS 0', () => packet5(0x38, [0, 1], Buffer.from('t'), [0]), 0x81],
    ['[MQTT-2.2.1-3] packet id 0', () => publish5('t', 'x', { qos: 1, id: 0 }), 0x82],
    ['[MQTT-3.3.2-2] [MQTT-4.7.0-1] a wildcard in a topic', () => publish5('a/#', 'x'), 0x90],
    ['a topic of the broker', () => publish5('$SYS/x', 'x'), 0x90],
    ['[MQTT-4.7.3-1] neither topic nor alias', () => publish5('', 'x'), 0x82],
    ['[MQTT-3.3.2-8] alias 0', () => publish5('t', 'x', { properties: [P.topicAlias(0)] }), 0x94],
    [
      '[MQTT-3.3.2-9] [MQTT-3.2.2-17] an alias above the largest',
      () => publish5('t', 'x', { properties: [P.topicAlias(17)] }),
      0x94,
    ],
    [
      'an alias that is not known',
      () => publish5('', 'x', { properties: [P.topicAlias(3)] }),
      0x82,
    ],
    [
      '[MQTT-3.3.4-6] a subscription identifier from a client',
      () => publish5('t', 'x', { properties: [P.subscriptionId(1)] }),
      0x82,
    ],
    [
      'a property twice',
      () => publish5('t', 'x', { properties: [P.contentType('a'), P.contentType('b')] }),
      0x82,
    ],
    [
      'a property of another packet',
      () => publish5('t', 'x', { properties: [P.willDelay(1)] }),
      0x81,
    ],
    ['a property that does not exist', () => publish5('t', 'x', { properties: [[0x7f, 0]] }), 0x81],
    ['a payload format of 2', () => publish5('t', 'x', { properties: [P.payloadFormat(2)] }), 0x82],
    [
      '[MQTT-3.3.2-14] a response topic with a wildcard',
      () => publish5('t', 'x', { properties: [P.responseTopic('a/+')] }),
      0x82,
    ],
    [
      'properties that lie about their length',
      () => packet5(0x30, [0, 1], Buffer.from('t'), [200, 1]),
      0x81,
    ],
    [
      '[MQTT-1.5.5-1] a length that needs no more bytes',
      () => packet5(0x30, [0, 1], Buffer.from('t'), [0x80, 0x00]),
      0x81,
    ],
    [
      '[MQTT-1.5.4-1] [MQTT-3.3.2-1] a topic that is no UTF-8',
      () => packet5(0x30, [0, 2, 0xff, 0xfe, 0]),
      0x81,
    ],
    ['[MQTT-1.5.4-2] [MQTT-4.7.3-2] a NUL in a topic', () => publish5('a\0b', 'x'), 0x81],
    ['[MQTT-3.8.3-2] a SUBSCRIBE without filters', () => packet5(0x82, [0, 1, 0]), 0x82],
    [
      '[MQTT-3.8.3-5] subscription options with reserved bits',
      () => subscribe5(1, [['a', 0x40]]),
      0x81,
    ],
    ['retain handling 3', () => subscribe5(1, [['a', 0x30]]), 0x81],
    [
      '[MQTT-3.8.3-4] noLocal on a shared subscription',
      () => subscribe5(1, [['$share/g/a', 4]]),
      0x82,
    ],
    ['subscription identifier 0', () => subscribe5(1, [['a', 0]], [P.subscriptionId(0)]), 0x82],
    ['[MQTT-3.2.2-15] a packet that is too large', () => publish5('t', Buffer.alloc(70_000)), 0x95],
    [
      'a session expiry at the end of a connection without one',
      () => disconnect5(0, [P.sessionExpiry(10)]),
      0x82,
    ],
    [
      '[MQTT-3.8.1-1] [MQTT-2.1.3-1] flags of a SUBSCRIBE',
      () => packet5(0x80, [0, 1, 0, 0, 1, 97, 0]),
      0x81,
    ],
    ['[MQTT-3.6.1-1] flags of a PUBREL', () => packet5(0x60, [0, 1]), 0x81],
    ['[MQTT-3.10.1-1] flags of an UNSUBSCRIBE', () => packet5(0xa0, [0, 1, 0, 0, 1, 97]), 0x81],
    ['[MQTT-3.14.1-1] flags of a DISCONNECT', () => packet5(0xe1, []), 0x81],
    ['[MQTT-3.15.1-1] flags of an AUTH', () => packet5(0xf1, [0x18, 0]), 0x81],
    ['[MQTT-3.10.3-2] an UNSUBSCRIBE without filters', () => packet5(0xa2, [0, 1, 0]), 0x82],
    [
      '[MQTT-3.10.3-1] an UNSUBSCRIBE that is no UTF-8',
      () => packet5(0xa2, [0, 1, 0, 0, 1, 0xff]),
      0x81,
    ],
    [
      '[MQTT-3.8.3-1] a filter that is no UTF-8',
      () => packet5(0x82, [0, 1, 0, 0, 1, 0xff, 0]),
      0x81,
    ],
    [
      '[MQTT-1.5.7-1] a user property that is no UTF-8',
      () => publish5('t', 'x', { properties: [[0x26, 0, 1, 97, 0, 1, 0xff]] }),
      0x81,
    ],
    [
      '[MQTT-3.3.2-19] a content type that is no UTF-8',
      () => publish5('t', 'x', { properties: [[0x03, 0, 1, 0xff]] }),
      0x81,
    ],
    [
      '[MQTT-3.3.2-13] a response topic that is no UTF-8',
      () => publish5('t', 'x', { properties: [[0x08, 0, 1, 0xff]] }),
      0x81,
    ],
    [
      '[MQTT-2.2.2-1] a PUBLISH without a length of properties',
      () => packet5(0x30, [0, 1], Buffer.from('t')),
      0x81,
    ],
    ['a packet that only servers send', () => packet5(0x20, [0, 0, 0]), 0x82],
  ])('[MQTT-4.13.1-1] [MQTT-4.13.2-1] [MQTT-3.14.4-2] [MQTT-3.14.2-1] %s', async (_name, bytes, reason) => {
    const good = await client('good');
    const each = await client('bad');
    each.send(bytes());
    const goodbye = await each.next(14);
    expect(goodbye.reason).toBe(reason);
    await each.closed();
    good.send(publish5('alive', 'x', { qos: 1, id: 1 }));
    expect(await good.next(4)).toMatchObject({ id: 1, reason: 0 });
    good.socket.destroy();
  });

  it.each<[string, () => Buffer, number]>([
    [
      '[MQTT-4.12.0-1] [MQTT-4.12.0-4] an authentication method',
      () => connect5('m', { properties: [P.authenticationMethod('SCRAM-SHA-1')] }),
      0x8c,
    ],
    ['a receive maximum of 0', () => connect5('m', { properties: [P.receiveMaximum(0)] }), 0x82],
    ['a largest packet of 0', () => connect5('m', { properties: [P.maximumPacketSize(0)] }), 0x82],
    [
      'a property of another packet',
      () => connect5('m', { properties: [P.contentType('x')] }),
      0x81,
    ],
    ['[MQTT-3.1.3-8] a client id with a wildcard', () => connect5('a/+'), 0x85],
    ['a client id that is too long', () => connect5('x'.repeat(2000)), 0x85],
    ['a will on a wildcard', () => connect5('m', { will: { topic: 'a/#', payload: 'x' } }), 0x90],
    [
      'a will that says it is UTF-8 and is not',
      () => {
        const properties = [P.payloadFormat(1)];
        const bytes = connect5('m', { will: { topic: 'a', payload: '~', properties } });
        bytes[bytes.lastIndexOf(0x7e)] = 0xff;
        return bytes;
      },
      0x99,
    ],
  ])('CONNECT with %s', async (_name, bytes, reason) => {
    const each = reader5(await rawClient(running.port));
    each.send(bytes());
    expect((await each.next(2)).reason).toBe(reason);
    await each.closed();
  });

  it('problem information that is not asked for is not given [MQTT-3.1.2-29]', async () => {
    const quiet = await client('quiet', { properties: [P.requestProblemInformation(0)] });
    quiet.send(
      publish5('t', Buffer.from([0xff]), { qos: 1, id: 1, properties: [P.payloadFormat(1)] }),
    );
    expect(await quiet.next(4)).toMatchObject({ reason: 0x99, properties: '' });
    const asks = await client('asks');
    asks.send(
      publish5('t', Buffer.from([0xff]), { qos: 1, id: 1, properties: [P.payloadFormat(1)] }),
    );
    expect((await asks.next(4)).properties).toMatch(/^1f/);
  });
});

describe('subscribing', () => {
  it('[MQTT-3.3.2-5] [MQTT-3.3.2-6] [MQTT-3.3.2-17] [MQTT-3.3.2-18] a message arrives with its properties, without the alias; an expired one does not, and what is left of a life is said', async () => {
    const topic = fresh('s/props');
    const each = await subscriber([[topic, 1]]);
    const from = await client();
    const properties = [P.user('z', '1'), P.responseTopic('r'), P.user('a', '2'), P.user('z', '1')];
    from.send(
      publish5(topic, 'x', {
        qos: 1,
        id: 1,
        properties: [...properties, P.topicAlias(2), P.messageExpiry(60)],
      }),
    );
    const got = await each.next(3);
    expect(got).toMatchObject({ topic, payload: 'x', qos: 1, retain: false });
    expect(got.properties.endsWith(hex(...properties))).toBe(true);
    expect([hex(P.messageExpiry(60)), hex(P.messageExpiry(59))]).toContain(
      got.properties.slice(0, 10),
    );
    expect(got.properties).not.toContain('2300');
  });

  it('[MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2] [MQTT-2.2.1-6] [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2] [MQTT-4.7.1-1] [MQTT-4.8.2-1] [MQTT-4.8.2-2] each filter gets its own reason, in their order; unsubscribing too', async () => {
    const each = await client();
    each.send(
      subscribe5(7, [
        ['a/b', 0],
        ['a#', 0],
        ['$SYS/#', 0],
        ['$share/g/x/+', 2],
        ['$share//x', 1],
        ['c/#', 2],
      ]),
    );
    expect(await each.next(9)).toMatchObject({ id: 7, payload: '008f87028f02' });
    each.send(unsubscribe5(8, ['a/b', 'a/b', '$share/g/x/+', 'nothing']));
    expect(await each.next(11)).toMatchObject({ id: 8, payload: '00110011' });
  });

  it('[MQTT-3.8.3-3] [MQTT-3.3.1-12] [MQTT-3.3.1-13] [MQTT-3.8.4-8] noLocal, retain as published, and the QoS of the subscription', async () => {
    const topic = fresh('s/options');
    const own = await subscriber([[topic, 1 | 4]]);
    const asPublished = await subscriber([[topic, 0 | 8]]);
    const plain = await subscriber([[topic, 1]]);
    own.send(publish5(topic, 'x', { qos: 2, id: 1, retain: true }));
    expect(await own.next()).toMatchObject({ type: 5 });
    expect(await asPublished.next(3)).toMatchObject({ qos: 0, retain: true });
    expect(await plain.next(3)).toMatchObject({ qos: 1, retain: false });
    await own.silent();
  });

  it('[MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-5] [MQTT-3.8.4-3] one copy for each identified subscription, with its one identifier; the rest is one copy at the highest QoS', async () => {
    const topic = fresh('s/ids');
    const each = await client('ids');
    each.send(subscribe5(1, [[topic, 0]], [P.subscriptionId(1)]));
    each.send(subscribe5(2, [[`${topic}/#`, 1]], [P.subscriptionId(268_435_455)]));
    each.send(
      subscribe5(3, [
        ['s/+', 0x20],
        [`s/${topic.slice(2)}/#`, 2],
      ]),
    );
    for (let i = 0; i < 3; i++) await each.next(9);
    (await client()).send(publish5(topic, 'x', { qos: 2, id: 1 }));
    const got = [await each.next(3), await each.next(3)];
    expect(got.map(({ properties, qos }) => [properties, qos]).sort()).toEqual([
      ['', 2],
      [hex(P.subscriptionId(1)), 0],
    ]);
    // The second and the fourth are one filter: the newer subscription took the place of the one before [MQTT-3.8.4-3].
    await each.silent();
  });

  it('[MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.8.4-4] retain handling: always, only when new, never; retained messages keep their properties and their life', async () => {
    const topic = fresh('s/retained');
    const from = await client();
    from.send(
      publish5(topic, 'old', {
        qos: 1,
        id: 1,
        retain: true,
        properties: [P.user('k', 'v'), P.messageExpiry(100)],
      }),
    );
    from.send(
      publish5(`${topic}/short`, 'gone', {
        qos: 1,
        id: 2,
        retain: true,
        properties: [P.messageExpiry(1)],
      }),
    );
    await from.next(4);
    await from.next(4);
    const each = await client('rh');
    each.send(subscribe5(1, [[topic, 0x10]]));
    const first = await each.next(3);
    expect(first).toMatchObject({ payload: 'old', retain: true });
    expect(first.properties).toContain(hex(P.user('k', 'v')));
    each.send(subscribe5(2, [[topic, 0x10]]));
    each.send(subscribe5(3, [[topic, 0x20]]));
    await each.next(9);
    await each.next(9);
    await each.silent();
    each.send(subscribe5(4, [[topic, 0]]));
    expect(await each.next(3)).toMatchObject({ payload: 'old' });
    await new Promise((resolve) => setTimeout(resolve, 1100));
    each.send(subscribe5(5, [[`${topic}/short`, 0]]));
    await each.next(9);
    await each.silent();
  });

  it('[MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.3.3-4] [MQTT-4.3.3-5] a receive maximum is kept: so many unacknowledged, and the next when one is acknowledged, in order', async () => {
    const topic = fresh('s/rm');
    const each = await subscriber([[topic, 2]], { properties: [P.receiveMaximum(2)] });
    const from = await client();
    for (let i = 1; i <= 5; i++)
      from.send(publish5(topic, `m${i}`, { qos: i % 2 === 0 ? 2 : 1, id: i }));
    const [a, b] = [await each.next(3), await each.next(3)];
    expect([a.payload, b.payload]).toEqual(['m1', 'm2']);
    await each.silent();
    each.send(ack5(4, a.id));
    expect(await each.next(3)).toMatchObject({ payload: 'm3' });
    each.send(ack5(5, b.id));
    expect(await each.next(6)).toMatchObject({ id: b.id });
    await each.silent();
    each.send(ack5(7, b.id));
    expect(await each.next(3)).toMatchObject({ payload: 'm4' });
  });

  it('[MQTT-3.1.2-24] [MQTT-3.1.2-25] a message that is larger than the client takes is not sent to it, and holds up nothing', async () => {
    const topic = fresh('s/size');
    const each = await subscriber([[topic, 1]], {
      properties: [P.maximumPacketSize(100), P.receiveMaximum(1)],
    });
    const from = await client();
    from.send(publish5(topic, 'x'.repeat(200), { qos: 1, id: 1 }));
    from.send(publish5(topic, 'small', { qos: 1, id: 2 }));
    expect(await each.next(3)).toMatchObject({ payload: 'small' });
  });

  it('[MQTT-3.1.2-26] [MQTT-3.3.2-11] aliases of the server, if the client takes them: the topic once', async () => {
    const topic = fresh('s/alias');
    const each = await subscriber([[`${topic}/+`, 0]], { properties: [P.topicAliasMaximum(1)] });
    const from = await client();
    for (const level of ['a', 'a', 'b'])
      from.send(publish5(`${topic}/${level}`, 'x', { qos: 1, id: 1 }));
    const got = [await each.next(3), await each.next(3), await each.next(3)];
    expect(got.map((packet) => [packet.topic, packet.properties])).toEqual([
      [`${topic}/a`, hex(P.topicAlias(1))],
      ['', hex(P.topicAlias(1))],
      [`${topic}/b`, ''],
    ]);
  });

  it('a shared subscription: each message once for the group, also what a member had when it died', async () => {
    const topic = fresh('s/shared');
    const members = await Promise.all(
      [1, 2, 3].map(() =>
        subscriber([[`$share/g/${topic}`, 1]], { properties: [P.receiveMaximum(5)] }),
      ),
    );
    const plain = await subscriber([[topic, 1]]);
    const from = await client();
    for (let i = 1; i <= 30; i++) from.send(publish5(topic, `m${i}`, { qos: 1, id: i }));
    for (let i = 1; i <= 30; i++) {
      const packet = await plain.next(3);
      plain.send(ack5(4, packet.id));
    }
    // The first takes nothing and dies; the others acknowledge.
    const got = new Set<string>();
    const [dead, ...living] = members;
    dead?.socket.destroy();
    const seen = new Map(living.map((each) => [each, 0]));
    await until('all of them', () => {
      for (const each of living) {
        const publishes = each.packets().filter(({ type }) => type === 3);
        for (const packet of publishes.slice(seen.get(each) ?? 0)) {
          got.add(packet.payload);
          each.send(ack5(4, packet.id));
        }
        seen.set(each, publishes.length);
      }
      return got.size === 30 || undefined;
    });
    expect([...seen.values()].reduce((sum, each) => sum + each, 0)).toBe(30);
  });

  it('who subscribes to a topic that others listen to already is heard of at once, and let go of as well', async () => {
    const topic = fresh('s/known');
    const publisher = await client('pub');
    const say = async (payload: string): Promise<void> => {
      publisher.send(publish5(topic, payload, { qos: 1, id: 1 }));
      await publisher.next(4);
    };
    const steady = await subscriber([[topic, 0]]);
    const payloads = (each: Client5): string[] =>
      each.packets().flatMap(({ type, payload }) => (type === 3 ? [payload] : []));
    await say('one');
    const late = await subscriber([[`${topic}/#`, 0]]);
    const three = await connected(running.port, fresh('three'));
    const threeHas = (text: string): true | undefined =>
      three.received().includes(Buffer.from(text)) || undefined;
    three.send(subscribe311(1, topic, 0));
    await three.bytes(5);
    await say('two');
    await until('two at the third', () => threeHas(`${topic}two`));
    late.send(unsubscribe5(2, [`${topic}/#`]));
    await late.next(11);
    three.send(
      Buffer.concat([
        Buffer.from([0xa2, topic.length + 4, 0, 2, 0, topic.length]),
        Buffer.from(topic),
      ]),
    );
    await until(
      'the UNSUBACK',
      () => three.received().includes(Buffer.from([0xb0, 2])) || undefined,
    );
    await say('three');
    await until('three', () => payloads(steady).length === 3 || undefined);
    expect(payloads(steady)).toEqual(['one', 'two', 'three']);
    expect(payloads(late)).toEqual(['two']);
    expect(threeHas(`${topic}one`) ?? threeHas(`${topic}three`)).toBeUndefined();
  });

  it('3.1.1 and 5 hear each other: live, retained, and by will', async () => {
    const topic = fresh('s/both');
    const five = await subscriber([[`${topic}/#`, 1]]);
    const three = await connected(running.port, fresh('three'));
    three.send(subscribe311(1, `${topic}/#`, 0));
    await three.bytes(9);
    three.send(encodePublish(`${topic}/from3`, 'a', 1, 9));
    expect(await five.next(3)).toMatchObject({ topic: `${topic}/from3`, payload: 'a', qos: 1 });
    five.send(publish5(`${topic}/from5`, 'b', { qos: 1, id: 3, properties: [P.user('x', 'y')] }));
    await until(
      'the message at the other',
      () => three.received().includes(Buffer.from('from5b')) || undefined,
    );
    // [MQTT-3.1.2-8] of each, to the other.
    const dying = await client('dying', {
      will: { topic: `${topic}/will5`, payload: 'w5', qos: 1 },
    });
    dying.socket.destroy();
    await until('the will', () => three.received().includes(Buffer.from('will5w5')) || undefined);
    const will = Buffer.concat([
      Buffer.from([0, topic.length + 6]),
      Buffer.from(`${topic}/will3`),
      Buffer.from([0, 2]),
      Buffer.from('w3'),
    ]);
    const dying3 = await connected(
      running.port,
      'dying3',
      connectWith('dying3', 2 | 4 | 8, 0, will),
    );
    dying3.socket.destroy();
    await until(
      'the will of 3.1.1',
      async () => (await five.next(3)).payload === 'w3' || undefined,
    );
  });
});

describe('sessions', () => {
  const persistent = { clean: false, properties: [P.sessionExpiry(NEVER)] };

  it('[MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.2-23] [MQTT-3.1.4-4] [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.5.0-1] [MQTT-4.6.0-5] [MQTT-4.6.0-6] [MQTT-4.3.2-3] a session that waits gets what came meanwhile, in order; session present says so', async () => {
    const topic = fresh('q/wait');
    const id = fresh('waits');
    const first = await connected5(running.port, id, persistent);
    expect(first.connack.body[0]).toBe(0);
    first.send(subscribe5(1, [[topic, 1]]));
    await first.next(9);
    first.send(disconnect5());
    await first.closed();
    const from = await client();
    for (let i = 1; i <= 20; i++) from.send(publish5(topic, `m${i}`, { qos: 1, id: i }));
    for (let i = 1; i <= 20; i++) await from.next(4);
    const second = await connected5(running.port, id, persistent);
    expect(second.connack.body[0]).toBe(1);
    for (let i = 1; i <= 20; i++) expect((await second.next(3)).payload).toBe(`m${i}`);
    // Nothing was acknowledged: it comes again, marked [MQTT-4.4.0-1].
    second.socket.destroy();
    await second.closed();
    const third = await connected5(running.port, id, persistent);
    expect(await third.next(3)).toMatchObject({ payload: 'm1', dup: true });
    const clean = await connected5(running.port, id, { clean: true });
    expect(clean.connack.body[0]).toBe(0);
    await clean.silent();
  });

  it('[MQTT-3.1.4-3] [MQTT-3.1.3-2] the newer connection takes the session over: 0x8E', async () => {
    const id = fresh('taken');
    const first = await connected5(running.port, id, persistent);
    const second = await connected5(running.port, id, persistent);
    expect(await first.next(14)).toMatchObject({ reason: 0x8e });
    await first.closed();
    second.send(publish5('alive', 'x', { qos: 1, id: 1 }));
    expect(await second.next(4)).toMatchObject({ reason: 0 });
    // And across versions: the id has one session.
    const three = await connected(running.port, id);
    expect(await second.next(14)).toMatchObject({ reason: 0x8e });
    const back = await connected5(running.port, id, persistent);
    await three.closed();
    expect(back.connack.body[0]).toBe(0);
  });

  it('[MQTT-4.1.0-2] a session ends when its time is over, and no earlier', async () => {
    const id = fresh('expires');
    const first = await connected5(running.port, id, {
      clean: false,
      properties: [P.sessionExpiry(2)],
    });
    first.socket.destroy();
    await first.closed();
    const second = await connected5(running.port, id, {
      clean: false,
      properties: [P.sessionExpiry(1)],
    });
    expect(second.connack.body[0]).toBe(1);
    second.send(disconnect5());
    await second.closed();
    await new Promise((resolve) => setTimeout(resolve, 2200));
    const third = await connected5(running.port, id, { clean: false });
    expect(third.connack.body[0]).toBe(0);
  });

  it('[MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.1.3-9] [MQTT-3.14.4-3] a will waits for its delay, is called off by a return, and is sent on DISCONNECT 0x04 but not on 0x00', async () => {
    const topic = fresh('q/will');
    const listener = await subscriber([[`${topic}/#`, 0]]);
    const withWill = (id: string, delay: number) =>
      connected5(running.port, id, {
        clean: false,
        properties: [P.sessionExpiry(60)],
        will: {
          topic: `${topic}/${id}`,
          payload: id,
          properties: [P.willDelay(delay), P.user('w', '1')],
        },
      });
    const [calm, back, late] = [fresh('calm'), fresh('back'), fresh('late')];
    const one = await withWill(calm, 0);
    one.send(disconnect5(0));
    const two = await withWill(back, 1);
    two.socket.destroy();
    await two.closed();
    const again = await withWill(back, 1);
    const three = await withWill(late, 1);
    three.send(disconnect5(4));
    const got = await listener.next(3);
    expect(got).toMatchObject({ payload: late, properties: hex(P.user('w', '1')) });
    await listener.silent(300);
    again.send(disconnect5(4));
    expect(await listener.next(3)).toMatchObject({ payload: back });
  });

  it('[MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] an id that the server gives is said, and works later', async () => {
    const each = reader5(await rawClient(running.port));
    each.send(connect5('', { properties: [P.sessionExpiry(60)] }));
    const connack = await each.next(2);
    const at = connack.properties.indexOf('12');
    const length = Number.parseInt(connack.properties.slice(at + 2, at + 6), 16);
    const id = Buffer.from(connack.properties.slice(at + 6, at + 6 + 2 * length), 'hex').toString();
    expect(id).toMatch(/^auto-/);
    each.send(disconnect5());
    await each.closed();
    expect((await connected5(running.port, id, { clean: false })).connack.body[0]).toBe(1);
  });

  it('[MQTT-4.1.0-1] [MQTT-4.3.3-6] subscriptions, queued messages, QoS 2 in flight and wills come back after kill -9 and a restart', async () => {
    const data = temporaryFolder();
    let gateway = await runGateway(data);
    const topic = fresh('q/restart');
    const session = { clean: false, properties: [P.sessionExpiry(3600)] };
    const away = await connected5(gateway.port, 'away', session);
    away.send(subscribe5(1, [[`${topic}/#`, 2 | 8]], [P.subscriptionId(7)]));
    await away.next(9);
    const from = await connected5(gateway.port, 'from', {
      clean: false,
      properties: [P.sessionExpiry(3600)],
      will: { topic: `${topic}/will`, payload: 'w', qos: 1, properties: [P.willDelay(0)] },
    });
    from.send(publish5(topic, 'two', { qos: 2, id: 1, properties: [P.user('a', 'b')] }));
    await from.next(5);
    const two = await away.next(3);
    away.send(ack5(5, two.id));
    await away.next(6);
    away.socket.destroy();
    await away.closed();
    for (let i = 0; i < 5; i++) from.send(publish5(topic, `q${i}`, { qos: 1, id: 10 + i }));
    for (let i = 0; i < 5; i++) await from.next(4);
    // As a kill leaves it: nothing more is written, what is on disk is all there is.
    await gateway.gateway.close();
    gateway = await runGateway(data);
    const back = await connected5(gateway.port, 'away', session);
    expect(back.connack.body[0]).toBe(1);
    // The PUBREL that is owed comes with its id, not the message again.
    expect(await back.next(6)).toMatchObject({ id: two.id });
    back.send(ack5(7, two.id));
    for (let i = 0; i < 5; i++) {
      const packet = await back.next(3);
      expect(packet).toMatchObject({
        payload: `q${i}`,
        qos: 1,
        properties: hex(P.subscriptionId(7)),
      });
      back.send(ack5(4, packet.id));
    }
    expect(await back.next(3)).toMatchObject({ topic: `${topic}/will`, payload: 'w' });
    await gateway.gateway.close();
  });
});

describe('who may what', () => {
  it.each([
    ['mqtt.useServer', 0x9c],
    ['mqtt.movedTo', 0x9d],
  ])('%s: who is known is told where to go, a stranger is not, and 3.1.1 gets return code 3', async (setting, reason) => {
    const data = temporaryFolder();
    const passwords = join(data, 'passwords');
    writeFileSync(passwords, `${await passwordLine('dev', Buffer.from('secret'))}\n`, {
      mode: 0o600,
    });
    const gateway = await runGateway(join(data, 'g'), {
      'mqtt.passwordFile': passwords,
      [setting]: 'other:1883',
    });
    const refused = async (password: string) => {
      const each = reader5(await rawClient(gateway.port));
      each.send(connect5('dev', { username: 'dev', password }));
      const connack = await each.next(2);
      await each.closed();
      return connack;
    };
    const told = await refused('secret');
    expect(told.reason).toBe(reason);
    expect(told.properties.startsWith(`1c000a${Buffer.from('other:1883').toString('hex')}`)).toBe(
      true,
    );
    const stranger = await refused('no');
    expect([stranger.reason, stranger.properties.includes('1c000a')]).toEqual([0x87, false]);
    for (const clean of [true, false]) {
      const three = await rawClient(gateway.port);
      three.send(connectPacket({ id: 'dev', clean, user: 'dev', password: 'secret' }));
      await three.closed();
      expect(three.received().toString('hex')).toBe('20020003');
    }
    await gateway.gateway.close();
  });

  it('[MQTT-3.1.4-2] a denied message is refused alone, a denied filter too; wrong credentials get 0x87; rights that are taken end the session', async () => {
    const data = temporaryFolder();
    const passwords = join(data, 'passwords');
    const rules = join(data, 'rules.yaml');
    writeFileSync(passwords, `${await passwordLine('dev', Buffer.from('secret'))}\n`, {
      mode: 0o600,
    });
    const granted = (topic: string): string =>
      `rules:\n  - { users: [dev], publish: ["${topic}/#"], subscribe: ["${topic}/#"] }\n`;
    writeFileSync(rules, granted('own'));
    const gateway = await runGateway(join(data, 'g'), {
      'mqtt.passwordFile': passwords,
      'mqtt.aclFile': rules,
    });
    const wrong = reader5(await rawClient(gateway.port));
    wrong.send(connect5('dev', { username: 'dev', password: 'no' }));
    expect((await wrong.next(2)).reason).toBe(0x87);
    const each = await connected5(gateway.port, 'dev', {
      clean: false,
      username: 'dev',
      password: 'secret',
      properties: [P.sessionExpiry(600)],
    });
    each.send(publish5('foreign/x', 'x', { qos: 1, id: 1 }));
    each.send(publish5('own/x', 'x', { qos: 1, id: 2 }));
    expect(await each.next(4)).toMatchObject({ id: 1, reason: 0x87 });
    expect(await each.next(4)).toMatchObject({ id: 2, reason: 0 });
    each.send(
      subscribe5(3, [
        ['own/#', 1],
        ['#', 0],
        ['$share/g/foreign/#', 0],
      ]),
    );
    expect((await each.next(9)).payload).toBe('018787');
    writeFileSync(rules, granted('other'));
    expect(await each.next(14)).toMatchObject({ reason: 0x87 });
    await gateway.gateway.close();
  });
});
