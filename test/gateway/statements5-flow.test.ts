/** MQTT 5, statement by statement (docs/conformance.md): deliveries that are acknowledged, refused, broken off and shared. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { temporaryFolder } from '../support/process.ts';
import {
  P,
  ack5,
  connected5,
  disconnect5,
  publish5,
  subscribe5,
  type Client5,
  type Received5,
} from '../support/raw-mqtt5.ts';

let running: RunningGateway;
const folder = temporaryFolder();
beforeAll(async () => {
  running = await runGateway(folder);
});
afterAll(async () => await running.gateway.close());

let count = 0;
const fresh = (name: string): string => `${name}-${++count}`;
const LASTS = { clean: false, properties: [P.sessionExpiry(600)] };
const connect = (id: string, options = {}): ReturnType<typeof connected5> =>
  connected5(running.port, id, options);
async function subscribed(id: string, filter: string, qos: number, options = {}): Promise<Client5> {
  const each = await connect(id, options);
  each.send(subscribe5(1, [[filter, qos]]));
  await each.next(9);
  return each;
}
async function cut(each: Client5): Promise<void> {
  each.socket.destroy();
  await each.closed();
}
async function say(from: Client5, topic: string, ...payloads: string[]): Promise<void> {
  for (const payload of payloads) {
    from.send(publish5(topic, payload, { qos: 2, id: 1 }));
    await from.next(5);
    from.send(ack5(6, 1));
    await from.next(7);
  }
}
const one = async (from: Client5, topic: string, payload: string, more = {}): Promise<void> => {
  from.send(publish5(topic, payload, { qos: 1, id: 1, ...more }));
  await from.next(4);
};

describe('as a receiver', () => {
  it('[MQTT-3.3.1-3] [MQTT-4.3.2-5] after its PUBACK an id is another message, whatever its DUP, and DUP is not passed on', async () => {
    const topic = fresh('f/dup');
    const each = await subscribed(fresh('sub'), topic, 0);
    const from = await connect(fresh('from'));
    for (const dup of [false, true, true]) await one(from, topic, 'x', { dup });
    for (let i = 0; i < 3; i++) expect(await each.next(3)).toMatchObject({ dup: false });
    await each.silent();
  });

  it('[MQTT-4.3.3-9] after a PUBREC that refused, the id is a new message', async () => {
    const topic = fresh('f/refused');
    const each = await subscribed(fresh('sub'), topic, 2);
    const from = await connect(fresh('from'));
    const bad = { qos: 2, id: 7, properties: [P.payloadFormat(1)] };
    from.send(publish5(topic, Buffer.from([0xff]), bad));
    expect(await from.next(5)).toMatchObject({ id: 7, reason: 0x99 });
    from.send(publish5(topic, 'good', { qos: 2, id: 7 }));
    expect(await from.next(5)).toMatchObject({ id: 7, reason: 0 });
    expect(await each.next(3)).toMatchObject({ payload: 'good' });
  });

  it('[MQTT-4.3.3-13] QoS 2 is acknowledged to its end also when the message has expired meanwhile', async () => {
    const topic = fresh('f/expired');
    const from = await connect(fresh('from'));
    from.send(publish5(topic, 'x', { qos: 2, id: 3, properties: [P.messageExpiry(1)] }));
    await from.next(5);
    await new Promise((resolve) => setTimeout(resolve, 1100));
    from.send(publish5(topic, 'x', { qos: 2, id: 3, dup: true, properties: [P.messageExpiry(1)] }));
    expect(await from.next(5)).toMatchObject({ id: 3, reason: 0 });
    from.send(ack5(6, 3));
    expect(await from.next(7)).toMatchObject({ id: 3, reason: 0 });
  });

  it('[MQTT-3.3.4-7] more QoS 2 messages than the server takes at a time end the connection: 0x93', async () => {
    const from = await connect(fresh('from'));
    const { properties } = from.connack;
    const maximum = Number.parseInt(properties.slice(2, 6), 16);
    expect(properties.slice(0, 2)).toBe('21');
    const all = Array.from({ length: maximum + 1 }, (_, i) =>
      publish5('f/many', 'x', { qos: 2, id: i + 1 }),
    );
    from.send(Buffer.concat(all));
    expect(await from.next(14)).toMatchObject({ reason: 0x93 });
  });
});

describe('as a sender', () => {
  it('[MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-4.6.0-4] [MQTT-3.6.2-1] ids are in use once, first sent without DUP, and PUBRELs come in the order of their PUBRECs', async () => {
    const topic = fresh('f/ids');
    const each = await subscribed(fresh('sub'), topic, 2);
    const from = await connect(fresh('from'));
    await say(from, topic, 'a', 'b', 'c');
    await one(from, topic, 'd');
    const got: Received5[] = [];
    for (let i = 0; i < 4; i++) got.push(await each.next(3));
    expect(new Set(got.map(({ id }) => id)).size).toBe(4);
    expect(got.every(({ id, dup }) => id > 0 && !dup)).toBe(true);
    const order = [2, 0, 1].map((at) => got[at]?.id ?? 0);
    for (const id of order) each.send(ack5(5, id));
    for (const id of order) expect(await each.next(6)).toMatchObject({ id, reason: 0 });
    // Nobody has that one.
    each.send(ack5(5, 999));
    expect(await each.next(6)).toMatchObject({ id: 999, reason: 0x92 });
  });

  it('[MQTT-3.3.4-10] [MQTT-4.9.0-3] a client at its receive maximum still gets everything else', async () => {
    const topic = fresh('f/full');
    const each = await subscribed(fresh('sub'), topic, 1, { properties: [P.receiveMaximum(1)] });
    const from = await connect(fresh('from'));
    await one(from, topic, '1');
    await one(from, topic, '2');
    await each.next(3);
    each.send(Buffer.concat([Buffer.from([0xc0, 0]), subscribe5(2, [['f/other', 0]])]));
    each.send(publish5('f/mine', 'x', { qos: 1, id: 5 }));
    expect(await each.next()).toMatchObject({ type: 13 });
    const answers = [await each.next(), await each.next()].map(({ type }) => type);
    expect(answers.sort()).toEqual([4, 9]);
  });

  it('[MQTT-4.4.0-2] [MQTT-4.4.0-1] [MQTT-4.3.3-3] what was refused does not come again; what was not acknowledged does, with its id, and only then', async () => {
    const topic = fresh('f/again');
    const id = fresh('again');
    const each = await subscribed(id, topic, 2, LASTS);
    const from = await connect(fresh('from'));
    await one(from, topic, 'refused1');
    await say(from, topic, 'refused2', 'released', 'kept');
    const [a, b, c, d] = [
      await each.next(3),
      await each.next(3),
      await each.next(3),
      await each.next(3),
    ];
    each.send(ack5(4, a.id, 0x80));
    each.send(ack5(5, b.id, 0x97));
    each.send(ack5(5, c.id));
    await each.next(6);
    await each.silent(500);
    await cut(each);
    const back = await connect(id, LASTS);
    expect(await back.next()).toMatchObject({ type: 6, id: c.id });
    expect(await back.next()).toMatchObject({ type: 3, id: d.id, payload: 'kept', dup: true });
    await back.silent();
  });

  it('[MQTT-4.3.3-7] QoS 2 that was sent does not expire', async () => {
    const topic = fresh('f/sent');
    const id = fresh('sent');
    const each = await subscribed(id, topic, 2, LASTS);
    const from = await connect(fresh('from'));
    from.send(publish5(topic, 'x', { qos: 2, id: 1, properties: [P.messageExpiry(1)] }));
    const first = await each.next(3);
    await cut(each);
    await new Promise((resolve) => setTimeout(resolve, 1100));
    const back = await connect(id, LASTS);
    expect(await back.next(3)).toMatchObject({ id: first.id, payload: 'x' });
  });
});

describe('shared subscriptions', () => {
  it('[MQTT-4.8.2-3] [MQTT-4.8.2-4] [MQTT-4.8.2-5] at its granted QoS; QoS 2 that was begun waits for its member, and ends with it; what was not begun goes to another', async () => {
    const topic = fresh('f/shared');
    const [first, second] = [fresh('first'), fresh('second')];
    const filter = `$share/g/${topic}`;
    const options = { clean: false, properties: [P.sessionExpiry(600), P.receiveMaximum(1)] };
    const each = await subscribed(first, filter, 2, options);
    const from = await connect(fresh('from'));
    await say(from, topic, 'begun', 'waits');
    const begun = await each.next(3);
    expect(begun).toMatchObject({ payload: 'begun', qos: 2 });
    await cut(each);
    const other = await subscribed(second, filter, 1);
    await other.silent();
    const back = await connect(first, options);
    expect(await back.next(3)).toMatchObject({ payload: 'begun', id: begun.id, dup: true });
    // Its session ends.
    back.send(disconnect5(0, [P.sessionExpiry(0)]));
    await back.closed();
    expect(await other.next(3)).toMatchObject({ payload: 'waits', qos: 1 });
    await other.silent();
  });

  it('[MQTT-4.8.2-6] what a member refused goes to nobody else', async () => {
    const topic = fresh('f/no');
    const members = await Promise.all(
      [1, 2].map((qos) => subscribed(fresh('member'), `$share/g/${topic}`, qos)),
    );
    const from = await connect(fresh('from'));
    await say(from, topic, 'a', 'b');
    for (const [i, each] of members.entries()) {
      const got = await each.next(3);
      each.send(ack5(got.qos === 1 ? 4 : 5, got.id, 0x83));
      expect(got.qos).toBe(i + 1);
    }
    for (const each of members) await each.silent();
    for (const each of members) await cut(each);
  });
});

describe('after a restart', () => {
  it('[MQTT-3.3.1-1] what may be with the client has DUP, what never went to it has not', async () => {
    const topic = fresh('f/restart');
    const [away, here] = [fresh('away'), fresh('here')];
    const first = await subscribed(away, topic, 1, LASTS);
    const from = await connect(fresh('from'));
    await one(from, topic, 'sent');
    const sent = await first.next(3);
    first.send(disconnect5());
    await first.closed();
    const second = await subscribed(here, topic, 1, LASTS);
    await one(from, topic, 'later');
    expect(await second.next(3)).toMatchObject({ payload: 'later', dup: false });
    await running.gateway.close();
    running = await runGateway(folder);
    const back = await connect(away, LASTS);
    expect(await back.next(3)).toMatchObject({ payload: 'sent', dup: true, id: sent.id });
    expect(await back.next(3)).toMatchObject({ payload: 'later', dup: false });
    const again = await connect(here, LASTS);
    expect(await again.next(3)).toMatchObject({ payload: 'later', dup: true });
  });
});
