/** MQTT 5 where two things meet: take-over and resumption, much that is retained, bursts, life times and full queues, names that are not taken. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { connectPacket, subscribePacket } from '../support/hostile.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { connected, rawClient } from '../support/raw-mqtt.ts';
import {
  P,
  ack5,
  connect5,
  connected5,
  disconnect5,
  gone,
  lasting,
  publish5,
  reader5,
  subscribed,
  unsubscribe5,
  type Client5,
  type Connect5,
  type Received5,
} from '../support/raw-mqtt5.ts';

const data = temporaryFolder();
const QUEUE = 20;
let running: RunningGateway;
const start = async (): Promise<void> => {
  running = await runGateway(data, {
    'limits.offlineMessagesMax': String(QUEUE),
    'limits.connectsPerMinute': '30',
  });
};
beforeAll(start);
afterAll(async () => await running.gateway.close());

let count = 0;
const fresh = (name: string): string => `${name}-${++count}`;
const client = (name = fresh('c'), options: Connect5 = {}): ReturnType<typeof connected5> =>
  connected5(running.port, name, options);
/** Published at once, and acknowledged. */
async function published(packets: Buffer[]): Promise<void> {
  const from = await client();
  const before = from.received().length;
  from.send(Buffer.concat(packets));
  await from.bytes(before + 4 * packets.length);
  await gone(from);
}
const publishes = (each: Client5): Received5[] => each.packets().filter(({ type }) => type === 3);
const hex = (...properties: number[][]): string => Buffer.from(properties.flat()).toString('hex');

describe('take-over', () => {
  it('of a session that is being resumed: one goes on and has what waited, the other is told nothing that CONNACK has no word for', async () => {
    const [id, topic] = [fresh('id'), fresh('t')];
    const first = await client(id, lasting());
    await subscribed(first, [[topic, 1]]);
    await gone(first);
    await published([publish5(topic, 'waits', { qos: 1, id: 1 })]);
    const all = await Promise.all(
      [0, 1, 2].map(async () => reader5(await rawClient(running.port))),
    );
    for (const each of all) each.send(connect5(id, lasting()));
    const last = await until('the one that goes on', () => {
      const [only, more] = all.filter((each) => !each.isClosed());
      return more === undefined && only !== undefined && publishes(only)[0] ? only : undefined;
    });
    for (const each of all)
      for (const { type, reason } of each.packets())
        if (type === 2) expect(reason).toBe(0);
        else if (type === 14) expect(reason).toBe(0x8e);
    expect(publishes(last)[0]).toMatchObject({ payload: 'waits' });
  });

  it('DISCONNECT 0x00 counts at once, also of a client that reads nothing any more: no will is sent when it comes back', async () => {
    const [id, topic] = [fresh('id'), fresh('t')];
    const listener = await client();
    await subscribed(listener, [[`${topic}/will`, 1]]);
    const will = { topic: `${topic}/will`, payload: 'gone', qos: 1 };
    const first = await client(id, { ...lasting(), will });
    await subscribed(first, [[`${topic}/much`, 0]]);
    first.socket.pause();
    const much = Buffer.alloc(200_000, 'x');
    await published(
      Array.from({ length: 30 }, (_, i) => publish5(`${topic}/much`, much, { qos: 1, id: i + 1 })),
    );
    first.send(disconnect5());
    await new Promise((resolve) => setTimeout(resolve, 50));
    await client(id, { clean: true });
    await listener.silent(300);
    first.socket.destroy();
  });

  it('a client that changes its version keeps its session, both ways: what waited comes, nothing is lost without a word', async () => {
    const [id, topic] = [fresh('id'), fresh('t')];
    const five = await client(id, lasting());
    await subscribed(five, [[topic, 1 | 8]], [P.subscriptionId(7)]);
    await gone(five);
    await published([publish5(topic, 'one', { qos: 1, id: 1, properties: [P.user('a', 'b')] })]);
    const three = await connected(running.port, id, connectPacket({ id, clean: false }));
    expect(three.received()[2]).toBe(1);
    // No properties in 3.1.1.
    await until('what waited', () => three.received().includes(topic) || undefined);
    const at = three.received().indexOf(topic) + topic.length;
    expect(three.received().toString('utf8', at + 2)).toBe('one');
    three.send(Buffer.concat([Buffer.from([0x40, 2]), three.received().subarray(at, at + 2)]));
    three.send(subscribePacket(1, `${topic}/three`));
    await until('SUBACK', () => three.received().includes(Buffer.from([0x90, 3])) || undefined);
    three.socket.destroy();
    await three.closed();
    await published([publish5(`${topic}/three`, 'two', { qos: 1, id: 1 })]);
    const back = await client(id, lasting());
    expect(back.connack.body[0]).toBe(1);
    expect(await back.next(3)).toMatchObject({ payload: 'two' });
    await back.silent();
  });
});

describe('much that is retained', () => {
  const TOPICS = 2500;
  const root = 'much';
  beforeAll(async () => {
    const payload = 'x'.repeat(1000);
    await published(
      Array.from({ length: TOPICS }, (_, i) =>
        publish5(`${root}/${i}`, payload, { qos: 1, id: i + 1, retain: true }),
      ),
    );
  });

  it.each([
    0, 1, 2,
  ])('all of it comes to a new subscription at QoS %i, as fast as the client takes it', async (qos) => {
    const each = await client(fresh('much'), { properties: [P.receiveMaximum(50)] });
    await subscribed(each, [[`${root}/#`, qos]], [P.subscriptionId(3)]);
    const topics = new Set<string>();
    let at = 0;
    // Bytes by hand: to read all packets again for each is slow.
    await until('all', () => {
      const bytes = each.received();
      const acks: Buffer[] = [];
      for (;;) {
        if (at + 4 > bytes.length) break;
        const short = (bytes[at + 1] ?? 0) < 128;
        const size = short
          ? (bytes[at + 1] ?? 0)
          : ((bytes[at + 1] ?? 0) & 127) + (bytes[at + 2] ?? 0) * 128;
        const body = at + (short ? 2 : 3);
        if (body + size > bytes.length) break;
        if ((bytes[at] ?? 0) >> 4 === 3) {
          expect((bytes[at] ?? 0) & 1).toBe(1);
          const end = body + 2 + bytes.readUInt16BE(body);
          topics.add(bytes.toString('utf8', body + 2, end));
          if (qos > 0) acks.push(ack5(4, bytes.readUInt16BE(end)));
        }
        at = body + size;
      }
      if (acks.length > 0) each.send(Buffer.concat(acks));
      return topics.size === TOPICS || undefined;
    });
    expect(each.isClosed()).toBe(false);
    await gone(each);
  });

  it('unsubscribing ends it, and other packets are answered meanwhile', async () => {
    const each = await client(fresh('much'), { properties: [P.receiveMaximum(5)] });
    await subscribed(each, [[`${root}/#`, 1]]);
    for (let i = 0; i < 5; i++) await each.next(3);
    expect(await subscribed(each, [['other', 1]])).toBe('01');
    each.send(unsubscribe5(2, [`${root}/#`]));
    expect(await each.next(11)).toMatchObject({ payload: '00' });
    for (const { id } of publishes(each)) each.send(ack5(4, id));
    await each.silent();
    await gone(each);
  });

  it('a connection that is lost in the middle gets the rest when it is back', async () => {
    const id = fresh('much');
    const each = await client(id, lasting(3600, [P.receiveMaximum(5)]));
    await subscribed(each, [[`${root}/+`, 1]]);
    await until('the first', () => publishes(each).length === 5 || undefined);
    await gone(each);
    const back = await client(id, lasting());
    await until('more', () => publishes(back).length >= 150 || undefined);
    back.send(disconnect5(0, [P.sessionExpiry(0)]));
    await back.closed();
  });
});

describe('what waits', () => {
  it('a burst ends no session of who is here and takes it slowly', async () => {
    const topic = fresh('burst');
    const each = await client(fresh('slow'), { properties: [P.receiveMaximum(10)] });
    await subscribed(each, [[topic, 1]]);
    await published(
      Array.from({ length: 10 * QUEUE }, (_, i) => publish5(topic, `m${i}`, { qos: 1, id: i + 1 })),
    );
    for (let i = 0; i < 10 * QUEUE; i++) {
      const { payload, id } = await each.next(3);
      expect(payload).toBe(`m${i}`);
      each.send(ack5(4, id));
    }
  });

  it('a message that expires in 0 seconds comes to who is here, and nothing is kept of it', async () => {
    const topic = fresh('t');
    const each = await client();
    await subscribed(each, [[topic, 1]]);
    const properties = [P.messageExpiry(0)];
    await published([publish5(topic, 'now', { qos: 1, id: 1, retain: true, properties })]);
    expect(await each.next(3)).toMatchObject({ payload: 'now' });
    const late = await client();
    await subscribed(late, [[topic, 1]]);
    await late.silent();
  });

  it('a queue that is full of what has expired takes what is new', async () => {
    const [id, topic] = [fresh('id'), fresh('t')];
    const each = await client(id, lasting());
    await subscribed(each, [[topic, 1]]);
    await gone(each);
    const brief = { qos: 1, properties: [P.messageExpiry(1)] };
    await published(
      Array.from({ length: QUEUE }, (_, i) => publish5(topic, 'brief', { ...brief, id: i + 1 })),
    );
    await new Promise((resolve) => setTimeout(resolve, 1100));
    await published([publish5(topic, 'new', { qos: 1, id: 1 })]);
    const back = await client(id, lasting());
    expect(back.connack.body[0]).toBe(1);
    expect(await back.next(3)).toMatchObject({ payload: 'new' });
    await back.silent();
  });

  it('what is retained comes with the identifier of its subscription, and again after a restart as its handling says', async () => {
    const [id, topic] = [fresh('id'), fresh('t')];
    await published([publish5(topic, 'kept', { qos: 1, id: 1, retain: true })]);
    const each = await client(id, lasting());
    await subscribed(each, [[topic, 1 | 0x10]], [P.subscriptionId(5)]);
    const got = await each.next(3);
    expect(got).toMatchObject({ retain: true, properties: hex(P.subscriptionId(5)) });
    each.send(ack5(4, got.id));
    await each.silent();
    await running.gateway.close();
    await start();
    const back = await client(id, lasting());
    await subscribed(back, [[topic, 1 | 0x10]], [P.subscriptionId(6)]);
    await back.silent();
    await subscribed(back, [[topic, 1]], [P.subscriptionId(6)]);
    expect(await back.next(3)).toMatchObject({
      retain: true,
      properties: hex(P.subscriptionId(6)),
    });
  });
});

describe('what is not taken', () => {
  it.each([
    ['of the broker', '$SYS/x'],
    ['that is too deep', '/'.repeat(100)],
  ])('a topic %s is refused alone where it is acknowledged, so that it is not sent for ever: 0x90', async (_what, topic) => {
    const each = await client();
    each.send(publish5(topic, 'x', { qos: 1, id: 1 }));
    expect(await each.next(4)).toMatchObject({ id: 1, reason: 0x90 });
    each.send(publish5(topic, 'x', { qos: 2, id: 2 }));
    expect(await each.next(5)).toMatchObject({ id: 2, reason: 0x90 });
    // A client that answers the refusal all the same.
    each.send(ack5(6, 2));
    expect(await each.next(7)).toMatchObject({ id: 2, reason: 0x92 });
    each.send(publish5('good', 'x', { qos: 1, id: 3 }));
    expect(await each.next(4)).toMatchObject({ id: 3, reason: 0 });
    each.send(publish5(topic, 'x'));
    expect(await each.next(14)).toMatchObject({ reason: 0x90 });
  });

  it('more QoS 1 messages at once than the receive maximum are taken: some clients do not keep to it', async () => {
    const each = await client();
    const maximum = Number.parseInt(each.connack.properties.slice(2, 6), 16);
    const packets = Array.from({ length: maximum + 50 }, (_, i) =>
      publish5('many', 'x', { qos: 1, id: i + 1 }),
    );
    const before = each.received().length;
    each.send(Buffer.concat(packets));
    await each.bytes(before + 4 * packets.length);
    expect(each.isClosed()).toBe(false);
  });

  it('who connects too often is closed without a CONNACK, since it may come again later', async () => {
    const id = fresh('often');
    for (let i = 0; i < 30; i++) await gone(await client(id));
    const each = await rawClient(running.port);
    each.send(connect5(id));
    await each.closed();
    expect(each.received().length).toBe(0);
  });

  it('a shared filter may hold any character that a filter may', async () => {
    const topic = `${fresh('line')}\nbreak\u2028`;
    const each = await client();
    expect(await subscribed(each, [[`$share/g/${topic}`, 1]])).toBe('01');
    await published([publish5(topic, 'x', { qos: 1, id: 1 })]);
    expect(await each.next(3)).toMatchObject({ topic, payload: 'x' });
  });
});
