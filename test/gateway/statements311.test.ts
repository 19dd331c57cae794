/** MQTT 3.1.1, statement by statement (docs/conformance.md): what test/e2e/conformance.test.ts does not try, for sessions of both kinds. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { connectPacket, packet, subscribePacket } from '../support/hostile.ts';
import { encodePublish } from '../support/load.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { connected, rawClient, type RawClient } from '../support/raw-mqtt.ts';

let running: RunningGateway;
beforeAll(async () => {
  running = await runGateway(temporaryFolder(), { 'ws.listen': '127.0.0.1:0' });
});
afterAll(async () => await running.gateway.close());

let count = 0;
const fresh = (name = 'c'): string => `${name}-${++count}`;
const text = (value: string): number[] => {
  const bytes = Buffer.from(value);
  return [0, bytes.length, ...bytes];
};
const raw = (flags: number, payload: number[]): Buffer =>
  packet(0x10, Buffer.from([...text('MQTT'), 4, flags, 0, 0, ...payload]));
const subscribe = (id: number, ...filters: [filter: string, qos: number][]): Buffer =>
  packet(
    0x82,
    Buffer.from([id >> 8, id & 255, ...filters.flatMap(([f, qos]) => [...text(f), qos])]),
  );
const ack = (first: number, id: number): Buffer => Buffer.from([first, 2, id >> 8, id & 255]);

interface Packet {
  type: number;
  flags: number;
  id: number;
  topic: string;
  payload: string;
}
/** Packets after the CONNACK; all of them are short. */
function packets(client: RawClient): Packet[] {
  const bytes = client.received();
  const found: Packet[] = [];
  for (let at = 4; at + 2 <= bytes.length && at + 2 + (bytes[at + 1] ?? 0) <= bytes.length; ) {
    const [first, length] = [bytes[at] ?? 0, bytes[at + 1] ?? 0];
    const body = bytes.subarray(at + 2, at + 2 + length);
    const qos = (first >> 1) & 3;
    const isPublish = first >> 4 === 3;
    const topicEnd = isPublish ? 2 + body.readUInt16BE(0) : 0;
    const hasId = !isPublish || qos > 0;
    found.push({
      type: first >> 4,
      flags: first & 15,
      id: hasId && length >= 2 ? body.readUInt16BE(topicEnd) : 0,
      topic: body.toString('utf8', 2, Math.max(2, topicEnd)),
      payload: body.toString('utf8', topicEnd + (isPublish && qos > 0 ? 2 : 0)),
    });
    at += 2 + length;
  }
  return found;
}
const of = (client: RawClient, type: number): Packet[] =>
  packets(client).filter((each) => each.type === type);
const nth = (client: RawClient, type: number, count = 1): Promise<Packet> =>
  until(`packet ${count} of type ${type}`, () => of(client, type)[count - 1], 10_000);
const calm = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 150));
const connect = (id = fresh(), fields = {}): Promise<RawClient> =>
  connected(running.port, id, connectPacket({ id, ...fields }));
async function subscriber(
  filter: string,
  qos: number,
  fields = {},
  id = fresh(),
): Promise<RawClient> {
  const each = await connect(id, fields);
  each.send(subscribe(1, [filter, qos]));
  await nth(each, 9);
  return each;
}
let ids = 0;
async function say(
  from: RawClient,
  topic: string,
  payload: string,
  qos = 1,
  retain = 0,
): Promise<void> {
  const before = of(from, qos === 2 ? 5 : 4).length;
  const id = ++ids;
  from.send(encodePublish(topic, payload, qos, id, retain));
  await nth(from, qos === 2 ? 5 : 4, before + 1);
  if (qos === 2) from.send(ack(0x62, id));
}

describe('CONNECT', () => {
  it.each<[string, Buffer]>([
    ['[MQTT-1.5.3-2] U+0000 in a client id', raw(2, text('a\0'))],
    ['[MQTT-3.1.2-9] a will flag without a will', raw(6, text('a'))],
    ['[MQTT-3.1.2-11] a will without its flag', raw(2, [...text('a'), ...text('t'), ...text('x')])],
    ['[MQTT-3.1.2-18] a user name without its flag', raw(2, [...text('a'), ...text('u')])],
    [
      '[MQTT-3.1.2-20] a password without its flag',
      raw(0x82, [...text('a'), ...text('u'), ...text('p')]),
    ],
    ['[MQTT-3.1.2-21] the flag without a password', raw(0xc2, [...text('a'), ...text('u')])],
    ['[MQTT-3.1.3-3] no client id', raw(2, [])],
    ['[MQTT-3.1.3-10] a will topic that is no UTF-8', raw(6, [...text('a'), 0, 1, 0xff, 0, 0])],
    ['[MQTT-3.1.3-11] a user name that is no UTF-8', raw(0x82, [...text('a'), 0, 1, 0xff])],
    [
      '[MQTT-3.1.3-1] user name before the will',
      raw(0x86, [...text('a'), ...text('u#'), ...text('t'), ...text('x')]),
    ],
  ])('[MQTT-4.8.0-1] [MQTT-3.2.2-6] %s closes without a CONNACK', async (_name, bytes) => {
    const each = await rawClient(running.port);
    each.send(bytes);
    await each.closed();
    expect(each.received().length).toBe(0);
  });

  it('[MQTT-3.1.3-5] [MQTT-3.1.4-4] [MQTT-3.2.0-1] [MQTT-4.2.0-1] [MQTT-7.1.1-1] ids of 1 and 23 characters get CONNACK 0, first', async () => {
    for (const id of ['Z', 'abcdefghijklmnopqrstuvw', 'XYZ0123456789']) {
      const each = await connect(id);
      expect(each.received().toString('hex')).toBe('20020000');
      each.socket.destroy();
    }
  });

  it('[MQTT-3.1.3-9] [MQTT-3.1.4-5] [MQTT-3.2.2-4] [MQTT-3.2.2-5] a refused id gets 2 and no session present, is closed, and what follows is not processed', async () => {
    const topic = fresh('refused');
    const each = await rawClient(running.port);
    const connectBytes = connectPacket({ id: 'x'.repeat(2000) });
    each.send(Buffer.concat([connectBytes, encodePublish(topic, 'x', 1, 1, 1)]));
    await each.closed();
    expect(each.received().toString('hex')).toBe('20020002');
    const listener = await subscriber(topic, 0);
    await calm();
    expect(of(listener, 3)).toEqual([]);
  });

  it('[MQTT-3.1.2-12] [MQTT-3.1.2-16] [MQTT-3.1.2-17] a will is retained or not as it says; without one nothing is said', async () => {
    const topic = fresh('will');
    const listener = await subscriber(`${topic}/#`, 1);
    for (const retain of [true, false]) {
      const will = { topic: `${topic}/${retain}`, payload: 'w', retain };
      (await connect(fresh(), { will })).socket.destroy();
    }
    (await connect()).socket.destroy();
    await nth(listener, 3, 2);
    const late = await subscriber(`${topic}/#`, 1);
    expect(await nth(late, 3)).toMatchObject({ topic: `${topic}/true`, flags: 1 });
    await calm();
    expect([of(late, 3).length, of(listener, 3).length]).toEqual([1, 2]);
  });

  it('[MQTT-3.3.5-2] what is not authorized is not delivered: acknowledged, or the connection closes', async () => {
    const data = temporaryFolder();
    const rules = join(data, 'rules.yaml');
    writeFileSync(rules, 'rules:\n  - { publish: ["own/#"], subscribe: ["#"] }\n');
    const gateway = await runGateway(join(data, 'g'), { 'mqtt.aclFile': rules });
    const listener = await connected(gateway.port, 'listener');
    listener.send(subscribe(1, ['#', 0]));
    await nth(listener, 9);
    const each = await connected(gateway.port, 'c');
    each.send(encodePublish('own/x', 'x', 1, 1));
    expect(await nth(each, 4)).toMatchObject({ id: 1 });
    each.send(encodePublish('foreign/x', 'x', 1, 2));
    await Promise.race([each.closed(), nth(each, 4, 2)]);
    await calm();
    expect(of(listener, 3).map(({ topic }) => topic)).toEqual(['own/x']);
    await gateway.gateway.close();
  });
});

describe('packets that are not valid close the connection', () => {
  it.each<[string, Buffer | number[]]>([
    ['[MQTT-1.5.3-1] [MQTT-3.3.2-1] a topic that is no UTF-8', [0x30, 3, 0, 1, 0xff]],
    ['[MQTT-2.2.2-1] [MQTT-2.2.2-2] flags of a PUBACK', [0x41, 2, 0, 1]],
    ['[MQTT-2.3.1-1] packet id 0', encodePublish('t', 'x', 1, 0)],
    ['[MQTT-3.3.1-2] DUP on QoS 0', [0x38, 3, 0, 1, 97]],
    ['[MQTT-3.3.1-4] QoS 3', [0x36, 5, 0, 1, 97, 0, 1]],
    ['[MQTT-3.3.2-2] [MQTT-4.7.1-1] a wildcard in a topic', encodePublish('a/#', 'x', 0, 0)],
    ['[MQTT-4.7.3-1] an empty topic', [0x30, 2, 0, 0]],
    ['[MQTT-4.7.3-2] U+0000 in a topic', encodePublish('a\0b', 'x', 0, 0)],
    ['[MQTT-3.6.1-1] flags of a PUBREL', [0x60, 2, 0, 1]],
    ['[MQTT-3.8.1-1] flags of a SUBSCRIBE', [0x80, 6, 0, 1, 0, 1, 97, 0]],
    ['[MQTT-3.8.3-1] a filter that is no UTF-8', [0x82, 6, 0, 1, 0, 1, 0xff, 0]],
    ['[MQTT-3.8.3-3] a SUBSCRIBE without filters', [0x82, 2, 0, 1]],
    ['[MQTT-3.8.3-4] reserved bits of a QoS', [0x82, 6, 0, 1, 0, 1, 97, 4]],
    ['[MQTT-3.10.1-1] flags of an UNSUBSCRIBE', [0xa0, 5, 0, 1, 0, 1, 97]],
    ['[MQTT-3.10.3-1] an UNSUBSCRIBE that is no UTF-8', [0xa2, 5, 0, 1, 0, 1, 0xff]],
    ['[MQTT-3.10.3-2] an UNSUBSCRIBE without filters', [0xa2, 2, 0, 1]],
    ['[MQTT-3.14.1-1] flags of a DISCONNECT', [0xe1, 0]],
  ])('%s', async (_name, bytes) => {
    for (const clean of [true, false]) {
      const each = await connect(fresh(), { clean });
      each.send(bytes);
      await each.closed();
      expect(packets(each)).toEqual([]);
    }
  });
});

describe.each([true, false])('delivery, clean session %s', (clean) => {
  it('[MQTT-1.5.3-3] [MQTT-3.10.4-1] U+FEFF stays, and filters are compared as they are', async () => {
    const topic = `${fresh('bom')}/\uFEFF`;
    const each = await subscriber(topic, 0, { clean });
    each.send(packet(0xa2, Buffer.from([0, 2, ...text(topic.slice(0, -1)), ...text('+/+')])));
    await nth(each, 11);
    await say(await connect(), topic, 'x');
    expect(await nth(each, 3)).toMatchObject({ topic });
  });

  it('[MQTT-2.3.1-4] [MQTT-4.3.2-1] [MQTT-4.3.1-1] [MQTT-2.3.1-5] ids of their own without DUP; QoS 0 has neither', async () => {
    const topic = fresh('ids');
    const each = await subscriber(topic, 1, { clean });
    const from = await connect();
    for (const payload of ['a', 'b', 'c']) await say(from, topic, payload);
    from.send(encodePublish(topic, 'zero', 0, 0));
    await nth(each, 3, 4);
    const got = of(each, 3);
    expect(new Set(got.filter(({ flags }) => flags === 2).map(({ id }) => id)).size).toBe(3);
    expect(got.find(({ payload }) => payload === 'zero')).toMatchObject({ flags: 0 });
  });

  it('[MQTT-4.3.3-1] [MQTT-3.10.4-3] QoS 2 to its end, also when the filter is gone', async () => {
    const topic = fresh('two');
    const each = await subscriber(topic, 2, { clean });
    await say(await connect(), topic, 'x', 2);
    const { id, flags } = await nth(each, 3);
    expect(flags).toBe(4);
    each.send(packet(0xa2, Buffer.from([0, 2, ...text(topic)])));
    await nth(each, 11);
    each.send(ack(0x50, id));
    expect(await nth(each, 6)).toMatchObject({ id, flags: 2 });
    each.send(ack(0x70, id));
    await calm();
    expect(of(each, 3)).toHaveLength(1);
  });

  it('[MQTT-4.3.3-2] [MQTT-4.6.0-3] PUBRECs in order, a repeat is not delivered twice', async () => {
    const topic = fresh('rec');
    const each = await subscriber(topic, 0, { clean });
    const from = await connect(fresh(), { clean });
    for (const [id, flags] of [
      [7, 0],
      [3, 0],
      [7, 8],
    ] as const)
      from.send(encodePublish(topic, `m${id}`, 2, id, flags));
    await nth(from, 5, 3);
    expect(of(from, 5).map(({ id }) => id)).toEqual([7, 3, 7]);
    await calm();
    expect(of(each, 3).map(({ payload }) => payload)).toEqual(['m7', 'm3']);
  });

  it('[MQTT-4.6.0-4] PUBRELs in the order of their PUBRECs, [MQTT-4.6.0-5] [MQTT-4.6.0-6] messages in order', async () => {
    const topic = fresh('order');
    const each = await subscriber(topic, 2, { clean });
    const from = await connect();
    for (const payload of ['0', '1', '2', '3']) await say(from, topic, payload, 2);
    await nth(each, 3, 4);
    const got = of(each, 3);
    expect(got.map(({ payload }) => payload)).toEqual(['0', '1', '2', '3']);
    const order = [3, 0, 2, 1].map((at) => got[at]?.id ?? 0);
    for (const id of order) each.send(ack(0x50, id));
    await nth(each, 6, 4);
    expect(of(each, 6).map(({ id }) => id)).toEqual(order);
  });

  it('[MQTT-3.3.1-3] DUP is not passed on; [MQTT-3.8.4-6] [MQTT-3.3.5-1] at the lower of both, of overlapping filters the highest', async () => {
    const topic = fresh('qos');
    const each = await connect(fresh(), { clean });
    each.send(subscribe(1, [`${topic}/#`, 1], [`${topic}/+`, 2], [`${topic}/x`, 0]));
    await nth(each, 9);
    const from = await connect();
    from.send(encodePublish(`${topic}/x`, 'a', 2, 1, 8));
    from.send(encodePublish(`${topic}/x`, 'b', 1, 2, 8));
    from.send(encodePublish(`${topic}/x/y`, 'c', 2, 3));
    await nth(each, 3, 3);
    await calm();
    expect(of(each, 3).map(({ payload, flags }) => [payload, flags])).toEqual([
      ['a', 4],
      ['b', 2],
      ['c', 2],
    ]);
  });

  it('[MQTT-3.8.4-3] the same filter again replaces the QoS, and what is retained comes again', async () => {
    const topic = fresh('again');
    const from = await connect();
    await say(from, topic, 'kept', 1, 1);
    const each = await subscriber(topic, 0, { clean });
    expect(await nth(each, 3)).toMatchObject({ flags: 1, payload: 'kept' });
    each.send(subscribe(2, [topic, 1]));
    expect(await nth(each, 3, 2)).toMatchObject({ flags: 3, payload: 'kept' });
    await say(from, topic, 'new');
    expect(await nth(each, 3, 3)).toMatchObject({ flags: 2, payload: 'new' });
  });
});

describe('sessions', () => {
  it('[MQTT-3.3.1-1] [MQTT-4.1.0-2] [MQTT-3.1.2-4] what was not acknowledged comes again with DUP and its id', async () => {
    const topic = fresh('dup');
    const id = fresh('dup');
    const each = await subscriber(topic, 1, { clean: false }, id);
    await say(await connect(), topic, 'x');
    const first = await nth(each, 3);
    expect(first.flags).toBe(2);
    each.socket.destroy();
    await each.closed();
    const back = await connect(id, { clean: false });
    expect(await nth(back, 3)).toMatchObject({ flags: 10, id: first.id });
  });

  it('[MQTT-3.1.2-7] what is retained outlives the sessions of who said and who heard it', async () => {
    const topic = fresh('kept');
    const from = await connect();
    await say(from, topic, 'x', 1, 1);
    from.send([0xe0, 0]);
    await from.closed();
    const id = fresh();
    for (const clean of [false, true])
      expect(await nth(await subscriber(topic, 0, { clean }, id), 3)).toMatchObject({ flags: 1 });
  });

  it('[MQTT-3.1.4-3] a clean session has nothing of the one before', async () => {
    const topic = fresh('clean');
    const id = fresh();
    const each = await subscriber(topic, 1, { clean: false }, id);
    each.send([0xe0, 0]);
    await each.closed();
    const clean = await connect(id);
    await say(await connect(), topic, 'x');
    await calm();
    expect(packets(clean)).toEqual([]);
  });
});

describe('WebSocket', () => {
  const url = (): string => `ws://127.0.0.1:${running.ws}`;
  it('[MQTT-6.0.0-2] [MQTT-6.0.0-4] packets are not aligned to frames, and the subprotocol is mqtt', async () => {
    const socket = new WebSocket(url(), ['other', 'mqtt']);
    const heard: Buffer[] = [];
    socket.on('message', (data: Buffer) => heard.push(data));
    await new Promise((resolve) => socket.once('open', resolve));
    expect(socket.protocol).toBe('mqtt');
    const bytes = Buffer.concat([connectPacket({ id: 'web3' }), subscribePacket(1, 'web')]);
    for (const byte of bytes) socket.send(Buffer.from([byte]));
    await until('the answers', () => Buffer.concat(heard).length === 9 || undefined);
    expect(Buffer.concat(heard).toString('hex')).toBe('200200009003000101');
    socket.close();
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
