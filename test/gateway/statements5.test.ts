/** MQTT 5, statement by statement (docs/conformance.md): connecting, what is retained, and what is answered. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { rawClient } from '../support/raw-mqtt.ts';
import {
  P,
  ack5,
  block,
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

const hex = (...properties: number[][]): string => Buffer.from(properties.flat()).toString('hex');
let running: RunningGateway;
beforeAll(async () => {
  running = await runGateway(temporaryFolder(), { 'ws.listen': '127.0.0.1:0' });
});
afterAll(async () => await running.gateway.close());

let count = 0;
const fresh = (name: string): string => `${name}-${++count}`;
const client = (name = 'c', options = {}): ReturnType<typeof connected5> =>
  connected5(running.port, fresh(name), options);
async function subscriber(filters: [string, number][], options = {}): Promise<Client5> {
  const each = await client('sub', options);
  each.send(subscribe5(1, filters));
  await each.next(9);
  return each;
}
const text = (value: string): number[] => [0, value.length, ...Buffer.from(value)];
/** A CONNECT whose header and payload are given as bytes. */
const rawConnect = (flags: number, payload: number[], version = 5, name = 'MQTT'): Buffer =>
  packet5(0x10, text(name), [version, flags, 0, 0, 0], payload);

describe('CONNECT', () => {
  it.each<[string, Buffer]>([
    ['[MQTT-3.1.2-1] another protocol name', rawConnect(2, text('a'), 5, 'MQTX')],
    ['[MQTT-3.1.2-2] another version', rawConnect(2, text('a'), 6)],
    ['[MQTT-3.1.2-3] the reserved flag', rawConnect(3, text('a'))],
    ['[MQTT-3.1.2-9] a will flag without a will', rawConnect(6, text('a'))],
    ['[MQTT-3.1.2-11] the QoS of no will', rawConnect(0x0a, text('a'))],
    ['[MQTT-3.1.2-12] a will of QoS 3', rawConnect(0x1e, [...text('a'), 0, ...text('t'), 0, 0])],
    ['[MQTT-3.1.2-13] the retain flag of no will', rawConnect(0x22, text('a'))],
    ['[MQTT-3.1.2-16] a user name without its flag', rawConnect(2, [...text('a'), ...text('u')])],
    ['[MQTT-3.1.2-17] the flag without a user name', rawConnect(0x82, text('a'))],
    [
      '[MQTT-3.1.2-18] a password without its flag',
      rawConnect(0x82, [...text('a'), ...text('u'), ...text('p')]),
    ],
    ['[MQTT-3.1.2-19] the flag without a password', rawConnect(0x42, text('a'))],
    [
      '[MQTT-3.1.3-1] fields in another order',
      rawConnect(6, [...text('t'), ...text('x'), 0, ...text('a')]),
    ],
    ['[MQTT-3.1.3-3] no client id', rawConnect(2, [])],
    ['[MQTT-3.1.3-4] a client id that is no UTF-8', rawConnect(2, [0, 1, 0xff])],
    [
      '[MQTT-3.1.3-11] a will topic that is no UTF-8',
      rawConnect(6, [...text('a'), 0, 0, 1, 0xff, 0, 0]),
    ],
    ['[MQTT-3.1.3-12] a user name that is no UTF-8', rawConnect(0x82, [...text('a'), 0, 1, 0xff])],
  ])('[MQTT-3.1.4-1] [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-3.2.2-8] %s closes, with a reason or none, and no session present', async (_name, bytes) => {
    const each = reader5(await rawClient(running.port));
    each.send(bytes);
    await each.closed();
    // A refusal of 3.1.1 where it was no CONNECT of 5.
    const [answer, more] = each.packets();
    expect(more).toBeUndefined();
    if (answer !== undefined) {
      expect(answer.type).toBe(2);
      expect(answer.body[0]).toBe(0);
      expect([1, 0x81, 0x82, 0x84]).toContain(answer.reason);
    }
  });

  it('[MQTT-3.1.0-1] [MQTT-3.14.0-1] another packet first closes without a word', async () => {
    const each = await rawClient(running.port);
    each.send(publish5('t', 'x'));
    await each.closed();
    expect(each.received().length).toBe(0);
  });

  it('[MQTT-3.1.3-5] [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.2-1] [MQTT-3.1.2-28] [MQTT-4.12.0-6] ids of 1 and 23 characters get a CONNACK 0x00 first, without method and response information', async () => {
    for (const id of ['Z', 'abcdefghijklmnopqrstuvw', 'XYZ0123456789']) {
      const each = await connected5(running.port, id);
      expect(each.packets()).toHaveLength(1);
      expect(each.connack.body[0]).toBe(0);
      const { properties } = each.connack;
      // Its properties, one after another: receive maximum, largest packet, aliases.
      expect(properties).toMatch(/^21.{4}27.{8}22.{4}$/);
      each.socket.destroy();
    }
  });

  it('[MQTT-3.1.4-6] [MQTT-3.2.0-2] what follows a refused CONNECT is not processed, and a second one has no second CONNACK', async () => {
    const topic = fresh('c/refused');
    const each = reader5(await rawClient(running.port));
    each.send(
      Buffer.concat([
        connect5('r', { properties: [P.authenticationMethod('x')] }),
        publish5(topic, 'x', { retain: true, qos: 1 }),
      ]),
    );
    await each.closed();
    expect(each.packets().map(({ type }) => type)).toEqual([2]);
    const listener = await subscriber([[topic, 0]]);
    await listener.silent();
    listener.send(connect5('again'));
    await listener.closed();
    expect(listener.packets().filter(({ type }) => type === 2)).toHaveLength(1);
  });

  it('[MQTT-3.2.2-22] without a server keep alive the one of the client counts, and its end has a reason', async () => {
    const each = await client('keep', { keepAlive: 1 });
    expect(each.connack.properties).not.toMatch(/^13/);
    const began = performance.now();
    expect(await each.next(14)).toMatchObject({ reason: 0x8d });
    expect(performance.now() - began).toBeGreaterThan(1400);
  });

  it('[MQTT-3.1.2-12] [MQTT-3.1.2-14] [MQTT-3.1.2-15] [MQTT-3.1.3-10] a will is retained or not as it says, with its user properties in order', async () => {
    const topic = fresh('c/will');
    const listener = await subscriber([[`${topic}/#`, 1]]);
    const properties = [P.user('b', '1'), P.user('a', '2'), P.user('b', '1')];
    for (const retain of [true, false]) {
      const each = await client('dying', {
        will: { topic: `${topic}/${retain}`, payload: 'w', qos: 1, retain, properties },
      });
      each.socket.destroy();
      const got = await listener.next(3);
      expect(got).toMatchObject({ topic: `${topic}/${retain}`, properties: hex(...properties) });
    }
    const without = await client('dying');
    without.socket.destroy();
    const late = await subscriber([[`${topic}/#`, 1]]);
    expect(await late.next(3)).toMatchObject({ topic: `${topic}/true`, retain: true });
    await late.silent();
    // Nothing of who had no will.
    await listener.silent();
  });
});

describe('within what the client takes', () => {
  it('[MQTT-3.2.2-19] [MQTT-3.4.2-2] [MQTT-3.5.2-2] [MQTT-3.14.2-3] a reason string is left out where there is no room for it', async () => {
    for (const [size, isSaid] of [
      [40, false],
      [1000, true],
    ] as const) {
      const each = await client('small', { properties: [P.maximumPacketSize(size)] });
      for (const qos of [1, 2]) {
        const invalid = { qos, id: qos, properties: [P.payloadFormat(1)] };
        each.send(publish5('a/topic', Buffer.from([0xff]), invalid));
        const answer = await each.next(qos === 1 ? 4 : 5);
        expect(answer.reason).toBe(0x99);
        expect(answer.properties.startsWith('1f')).toBe(isSaid || answer.properties !== '');
        expect(answer.body.length + 2).toBeLessThanOrEqual(size);
      }
      each.send(subscribe5(1, [['$share/group/a', 4]]));
      const goodbye = await each.next(14);
      expect(goodbye.reason).toBe(0x82);
      expect(goodbye.body.length + 2).toBeLessThanOrEqual(size);
      await each.closed();
      const refused = reader5(await rawClient(running.port));
      const method = P.authenticationMethod('a method with a rather long name');
      refused.send(connect5('m', { properties: [P.maximumPacketSize(size), method] }));
      const connack = await refused.next(2);
      expect(connack.properties !== '').toBe(isSaid);
      expect(connack.body.length + 2).toBeLessThanOrEqual(size);
    }
  });

  it('[MQTT-3.2.2-20] [MQTT-3.4.2-3] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2] [MQTT-3.14.2-4] nothing that could be left out makes an answer too large, whatever the client says beside its packets', async () => {
    const said = [P.user('name', 'x'.repeat(500))];
    const size = 60;
    const properties = [P.maximumPacketSize(size), ...said];
    const each = await client('answered', { properties });
    const topic = fresh('s/answers');
    const withProperties = (first: number, id: number, reason: number): Buffer =>
      packet5(first, [0, id, reason], block(said));
    each.send(subscribe5(1, [[topic, 2]], said));
    await each.next(9);
    for (const qos of [1, 2])
      each.send(publish5('s/other', 'x', { qos, id: qos, properties: said }));
    for (const type of [4, 5]) await each.next(type);
    each.send(withProperties(0x62, 2, 0));
    await each.next(7);
    // PUBREL of an id that nobody has, and a PUBREC of one: answered with reasons.
    each.send(withProperties(0x62, 77, 0));
    expect(await each.next(7)).toMatchObject({ reason: 0x92 });
    each.send(withProperties(0x50, 78, 0));
    expect(await each.next(6)).toMatchObject({ reason: 0x92 });
    each.send(publish5(topic, 'x', { qos: 2, id: 3 }));
    const { id } = await each.next(3);
    each.send(withProperties(0x50, id, 0));
    expect(await each.next(6)).toMatchObject({ id, reason: 0 });
    each.send(packet5(0xa2, [0, 9], block(said), text(topic)));
    await each.next(11);
    each.send(subscribe5(2, [['$share/group/a', 4]], said));
    await each.closed();
    const answers = each.packets().filter(({ type }) => type !== 3);
    expect(new Set(answers.map(({ type }) => type))).toEqual(new Set([2, 4, 5, 6, 7, 9, 11, 14]));
    for (const { type, body, properties: bytes } of answers) {
      expect(body.length + 2).toBeLessThanOrEqual(size);
      if (type !== 2 && type !== 14) expect([type, bytes]).toEqual([type, '']);
    }
  });

  it('[MQTT-3.1.2-24] who takes no CONNACK gets none, and who takes no SUBACK of so many filters is told', async () => {
    const tiny = reader5(await rawClient(running.port));
    tiny.send(connect5('tiny', { properties: [P.maximumPacketSize(8)] }));
    await tiny.closed();
    expect(tiny.packets().every(({ body }) => body.length + 2 <= 8)).toBe(true);
    const each = await client('small', { properties: [P.maximumPacketSize(60)] });
    each.send(
      subscribe5(
        1,
        Array.from({ length: 80 }, (_, i) => [`f/${i}`, 0]),
      ),
    );
    expect(await each.next(14)).toMatchObject({ reason: 0x95 });
  });

  it('[MQTT-3.1.2-27] [MQTT-4.3.1-1] [MQTT-2.2.1-2] who allows no alias gets none; QoS 0 has neither DUP nor id', async () => {
    const topic = fresh('w/alias');
    const each = await subscriber([[topic, 2]]);
    const from = await client();
    for (let i = 0; i < 2; i++) from.send(publish5(topic, `m${i}`));
    for (let i = 0; i < 2; i++)
      expect(await each.next(3)).toMatchObject({
        topic,
        properties: '',
        flags: 0,
        payload: `m${i}`,
      });
  });
});

describe('retained', () => {
  it('[MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-8] the newest is kept with its QoS, one without the flag changes nothing, an empty one removes', async () => {
    const topic = fresh('r/kept');
    const from = await client();
    const say = async (payload: string, retain: boolean, id: number): Promise<void> => {
      from.send(publish5(topic, payload, { qos: 1, id, retain }));
      await from.next(4);
    };
    await say('one', true, 1);
    await say('two', true, 2);
    await say('three', false, 3);
    const first = await subscriber([[topic, 2]]);
    expect(await first.next(3)).toMatchObject({ payload: 'two', qos: 1, retain: true });
    await first.silent();
    await say('', true, 4);
    expect(await first.next(3)).toMatchObject({ payload: '', retain: false });
    const second = await subscriber([[topic, 2]]);
    await second.silent();
  });
});

describe('names', () => {
  it('[MQTT-1.5.4-3] [MQTT-4.7.1-2] [MQTT-4.7.2-1] [MQTT-4.7.3-4] [MQTT-3.3.2-3] + is a level, $ is hidden, nothing is normalised, U+FEFF stays', async () => {
    const root = fresh('n');
    const expected: [filter: string, topics: string[]][] = [
      [`${root}/+`, [`${root}/a`, `${root}/A`, `${root}/`, `${root}/\uFEFF`, `${root}/e\u0301`]],
      [`${root}/a`, [`${root}/a`]],
      [`${root}/\u00e9`, []],
      ['+/x', []],
      ['$n/x', ['$n/x']],
      [`${root}/\uFEFF`, [`${root}/\uFEFF`]],
    ];
    const from = await client();
    const topics = ['a', 'A', '', '\uFEFF', 'e\u0301', 'a/b'].map((level) => `${root}/${level}`);
    const listeners = await Promise.all(expected.map(([filter]) => subscriber([[filter, 0]])));
    for (const topic of [...topics, '$n/x']) from.send(publish5(topic, 'x', { qos: 1, id: 1 }));
    for (const _each of [...topics, 0]) await from.next(4);
    for (const [i, each] of listeners.entries()) {
      const [, topicsOf] = expected[i] ?? ['', []];
      for (const topic of topicsOf) expect((await each.next(3)).topic).toBe(topic);
      await each.silent(30);
    }
  });

  it('[MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-20] format, response topic, correlation data and content type are passed on', async () => {
    const topic = fresh('n/props');
    const each = await subscriber([[topic, 0]]);
    const properties = [
      P.contentType('text/plain'),
      P.correlationData('\0\xff'),
      P.payloadFormat(1),
      P.responseTopic('answers/here'),
    ];
    (await client()).send(publish5(topic, 'x', { properties }));
    expect(await each.next(3)).toMatchObject({ properties: hex(...properties) });
  });

  it('[MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-3] unsubscribing takes the filter that is the same; what was begun is completed', async () => {
    const topic = fresh('n/un');
    const each = await subscriber([[`${topic}/+`, 2]]);
    const from = await client();
    from.send(publish5(`${topic}/a`, 'begun', { qos: 2, id: 1 }));
    const begun = await each.next(3);
    each.send(unsubscribe5(2, [`${topic}/a`, `${topic}/#`, `${topic}/+`]));
    expect(await each.next(11)).toMatchObject({ id: 2, payload: '111100' });
    from.send(publish5(`${topic}/a`, 'after', { qos: 1, id: 2 }));
    await from.next(4);
    each.send(ack5(5, begun.id));
    expect(await each.next(6)).toMatchObject({ id: begun.id });
    each.send(ack5(7, begun.id));
    await each.silent();
  });

  it('[MQTT-3.12.4-1] [MQTT-3.14.2-2] [MQTT-3.14.4-1] PINGREQ is answered; the DISCONNECT that ends a connection says no expiry and is the last packet', async () => {
    const each = await client('ping', { properties: [P.sessionExpiry(60)] });
    each.send([0xc0, 0]);
    expect(await each.next()).toMatchObject({ type: 13 });
    each.send(Buffer.concat([packet5(0x36, text('t'), [0, 1, 0]), Buffer.from([0xc0, 0])]));
    const goodbye = await each.next(14);
    expect(goodbye.properties).toMatch(/^1f/);
    await each.closed();
    expect(each.packets().at(-1)).toMatchObject({ type: 14 });
    expect(each.packets().filter(({ type }) => type === 13)).toHaveLength(1);
  });
});

describe('WebSocket', () => {
  const url = (): string => `ws://127.0.0.1:${running.ws}`;
  it('[MQTT-6.0.0-2] [MQTT-6.0.0-4] [MQTT-4.2-1] packets are not aligned to frames, and the subprotocol is mqtt', async () => {
    const socket = new WebSocket(url(), ['other', 'mqtt']);
    const heard: Buffer[] = [];
    socket.on('message', (data: Buffer) => heard.push(data));
    await new Promise((resolve) => socket.once('open', resolve));
    expect(socket.protocol).toBe('mqtt');
    const bytes = Buffer.concat([connect5('web'), Buffer.from([0xc0, 0]), disconnect5()]);
    for (const byte of bytes) socket.send(Buffer.from([byte]));
    await until(
      'the answers',
      () => Buffer.concat(heard).includes(Buffer.from([0xd0, 0])) || undefined,
    );
    expect(Buffer.concat(heard)[0]).toBe(0x20);
  });
  it('[MQTT-6.0.0-1] [MQTT-6.0.0-3] text closes, and so does another subprotocol', async () => {
    const socket = new WebSocket(url(), ['mqtt']);
    await new Promise((resolve) => socket.once('open', resolve));
    socket.send('text');
    await new Promise((resolve) => socket.once('close', resolve));
    const other = new WebSocket(url(), ['other']);
    expect(await new Promise((resolve) => other.once('error', () => resolve('refused')))).toBe(
      'refused',
    );
  });
});
