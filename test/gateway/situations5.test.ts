/** What a hostile or unlucky stranger would try of MQTT 5: wills at take-over, life times through a restart, retained messages and shares, sizes, aliases. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { temporaryFolder } from '../support/process.ts';
import { rawClient } from '../support/raw-mqtt.ts';
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
} from '../support/raw-mqtt5.ts';

const data = temporaryFolder();
let running: RunningGateway;
const start = async (): Promise<void> => {
  running = await runGateway(data);
};
/** As a kill leaves it: nothing more is written, what is on disk is all there is. */
const kill = async (): Promise<void> => await running.gateway.close();
beforeAll(start);
afterAll(kill);

let count = 0;
const fresh = (name: string): string => `${name}-${++count}`;
const port = (): number => running.port;
const client = (name = fresh('c'), options: Connect5 = {}): ReturnType<typeof connected5> =>
  connected5(port(), name, options);
/** Published at QoS 1 and acknowledged. */
async function published(
  topic: string,
  payloads: string[],
  options: Parameters<typeof publish5>[2] = {},
): Promise<void> {
  const from = await client();
  for (const [at, payload] of payloads.entries()) {
    from.send(publish5(topic, payload, { qos: 1, ...options, id: at + 1 }));
    expect(await from.next(4)).toMatchObject({ id: at + 1, reason: 0 });
  }
  await gone(from);
}
const hex = (...properties: number[][]): string => Buffer.from(properties.flat()).toString('hex');
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe('wills', () => {
  const listen = async (): Promise<{ topic: string; listener: Client5 }> => {
    const topic = fresh('w');
    const listener = await client();
    await subscribed(listener, [[topic, 1]]);
    return { topic, listener };
  };
  const withWill = (topic: string, delay: number, expiry: number): Connect5 => ({
    clean: false,
    properties: [P.sessionExpiry(expiry)],
    will: { topic, payload: 'gone', qos: 1, properties: [P.willDelay(delay)] },
  });

  it.each<[string, number, number, boolean, boolean]>([
    ['a session that goes on calls off a delayed one', 60, 600, false, false],
    ['clean start ends the session: a delayed one is sent', 60, 600, true, true],
    ['one without delay is sent though the session goes on', 0, 600, false, true],
    ['a session without expiry ends with its connection, whatever the delay', 60, 0, false, true],
  ])('at a take-over: %s', async (_name, delay, expiry, clean, isSent) => {
    const { topic, listener } = await listen();
    const id = fresh('will');
    await client(id, withWill(topic, delay, expiry));
    await client(id, { clean, properties: [P.sessionExpiry(expiry)] });
    if (isSent) expect(await listener.next(3)).toMatchObject({ payload: 'gone' });
    else await listener.silent(400);
  });

  it('a delay longer than the session: sent when the session ends; a DISCONNECT that ends the session sends it at once', async () => {
    const { topic, listener } = await listen();
    await gone(await client(fresh('will'), withWill(topic, 60, 1)));
    await listener.silent(300);
    expect(await listener.next(3)).toMatchObject({ payload: 'gone' });
    const other = await client(fresh('will'), withWill(topic, 60, 600));
    other.send(disconnect5(4, [P.sessionExpiry(0)]));
    expect(await listener.next(3)).toMatchObject({ payload: 'gone' });
  });

  it('a will with a property that may not stand there, or stands there twice, is refused', async () => {
    for (const [properties, reason] of [
      [[P.topicAlias(1)], 0x81],
      [[P.messageExpiry(1), P.messageExpiry(1)], 0x82],
    ] as const) {
      const each = reader5(await rawClient(port()));
      const will = { topic: 'w', payload: 'x', properties: properties.map((list) => [...list]) };
      each.send(connect5(fresh('bad'), { will }));
      const connack = await each.next(2);
      expect(connack.reason).toBe(reason);
      await gone(each);
    }
  });
});

describe('a restart', () => {
  it('life times, identifiers and options come back; clean start leaves nothing of a queue on disk', async () => {
    const topic = fresh('k');
    const short = await client('short', lasting(1));
    await subscribed(short, [[topic, 1]]);
    const long = await client('long', lasting());
    await subscribed(long, [[topic, 1 | 8]], [P.subscriptionId(268_435_455)]);
    const wiped = await client('wiped', lasting());
    await subscribed(wiped, [[topic, 1]]);
    for (const each of [short, long, wiped]) await gone(each);
    await published(topic, ['expires'], { properties: [P.messageExpiry(1)] });
    await published(topic, ['stays'], { properties: [P.messageExpiry(600)], retain: true });
    await published(`${topic}/r`, ['brief'], { properties: [P.messageExpiry(1)], retain: true });
    const clean = await client('wiped', { clean: true, properties: [P.sessionExpiry(3600)] });
    await gone(clean);
    await kill();
    await sleep(1100);
    await start();
    expect((await client('short', lasting())).connack.body[0]).toBe(0);
    const back = await client('wiped', lasting());
    expect(back.connack.body[0]).toBe(1);
    await back.silent();
    const again = await client('long', lasting());
    expect(again.connack.body[0]).toBe(1);
    const got = await again.next(3);
    expect(got).toMatchObject({ payload: 'stays', retain: true });
    expect(got.properties).toMatch(/0bffffff7f/);
    const left = Number.parseInt(/02(.{8})/.exec(got.properties)?.[1] ?? '', 16);
    expect(left).toBeGreaterThan(500);
    expect(left).toBeLessThan(600);
    await again.silent();
    const reader = await client();
    await subscribed(reader, [[`${topic}/#`, 0]]);
    expect(await reader.next(3)).toMatchObject({ payload: 'stays' });
    await reader.silent();
  });

  it('QoS 2 inwards, interrupted at each step: once', async () => {
    const topic = fresh('q2in');
    const listener = await client('listener', lasting());
    await subscribed(listener, [[topic, 2]]);
    await gone(listener);
    const message = (dup: boolean): Buffer => publish5(topic, 'x', { qos: 2, id: 7, dup });
    let from = await client('from', lasting());
    from.send(message(false));
    await from.next(5);
    await kill();
    await start();
    from = await client('from', lasting());
    expect(from.connack.body[0]).toBe(1);
    from.send(message(true)); // PUBREC did not reach it.
    expect(await from.next(5)).toMatchObject({ id: 7, reason: 0 });
    await kill();
    await start();
    from = await client('from', lasting());
    from.send(ack5(6, 7));
    expect(await from.next(7)).toMatchObject({ id: 7, reason: 0 });
    await kill();
    await start();
    from = await client('from', lasting());
    from.send(ack5(6, 7)); // PUBCOMP did not reach it: either reason ends it [MQTT-4.3.3-11].
    expect((await from.next(7)).id).toBe(7);
    const back = await client('listener', lasting());
    expect(await back.next(3)).toMatchObject({ payload: 'x', qos: 2 });
    await back.silent();
  });

  it('QoS 2 outwards, interrupted at each step: the same id, then its PUBREL, then nothing', async () => {
    const topic = fresh('q2out');
    let each = await client('out', lasting());
    await subscribed(each, [[topic, 2]]);
    await published(topic, ['one']);
    const from = await client();
    from.send(publish5(topic, 'two', { qos: 2, id: 1 }));
    await from.next(5);
    from.send(ack5(6, 1));
    await from.next(7);
    const one = await each.next(3);
    const two = await each.next(3);
    expect(two).toMatchObject({ payload: 'two', qos: 2 });
    await kill();
    await start();
    each = await client('out', lasting());
    // In the order in which they went, whatever their QoS [MQTT-4.6.0-1].
    expect(await each.next(3)).toMatchObject({ payload: 'one', id: one.id, dup: true });
    expect(await each.next(3)).toMatchObject({ payload: 'two', id: two.id, dup: true });
    each.send(ack5(5, two.id));
    expect(await each.next(6)).toMatchObject({ id: two.id });
    await kill();
    await start();
    each = await client('out', lasting());
    expect(await each.next(6)).toMatchObject({ id: two.id });
    expect(await each.next(3)).toMatchObject({ payload: 'one', id: one.id, dup: true });
    each.send(Buffer.concat([ack5(4, one.id), ack5(7, two.id)]));
    await each.silent();
  });
});

describe('subscriptions', () => {
  it('retained messages do not go to a shared subscription, whatever its retain handling', async () => {
    const topic = fresh('r');
    await published(topic, ['kept'], { retain: true });
    const each = await client();
    for (const handling of [0, 1, 2])
      expect(await subscribed(each, [[`$share/g${handling}/${topic}`, 1 | (handling << 4)]])).toBe(
        '01',
      );
    await each.silent();
    expect(await subscribed(each, [[topic, 1]])).toBe('01');
    expect(await each.next(3)).toMatchObject({ payload: 'kept', retain: true });
  });

  it('shares with wildcards, beside an ordinary subscription: each has its own copy; names that are none are refused', async () => {
    const topic = fresh('s');
    const first = await client();
    const members = [first, await client()];
    for (const each of members) await subscribed(each, [[`$share/g/${topic}/+/#`, 1]]);
    await subscribed(first, [[`${topic}/#`, 1]]);
    await published(`${topic}/a/b`, ['1', '2', '3', '4']);
    const got: string[] = [];
    for (let i = 0; i < 8; i++) {
      for (;;) {
        const each = members.find(
          (one) =>
            one.packets().filter(({ type }) => type === 3).length >
            got.filter((g) => g.startsWith(`${members.indexOf(one)}`)).length,
        );
        if (each === undefined) {
          await sleep(10);
          continue;
        }
        const packet = await each.next(3);
        each.send(ack5(4, packet.id));
        got.push(`${members.indexOf(each)}${packet.payload}`);
        break;
      }
    }
    for (const payload of ['1', '2', '3', '4'])
      expect(got.filter((each) => each.endsWith(payload))).toHaveLength(2);
    for (const bad of [
      '$share//a',
      '$share/g',
      '$share/g/',
      '$share/g+/a',
      '$share/g#/a',
      '$share/',
    ])
      expect(`${bad} ${await subscribed(first, [[bad, 1]])}`).toBe(`${bad} 8f`);
  });

  it('who comes back and takes fewer at a time gets no more than that of what it has not acknowledged', async () => {
    const topic = fresh('fewer');
    let each = await client('fewer', lasting());
    await subscribed(each, [[topic, 1]]);
    await published(topic, ['1', '2', '3', '4']);
    for (let i = 0; i < 3; i++) await each.next(3);
    await gone(each);
    each = await client('fewer', lasting(3600, [P.receiveMaximum(1)]));
    for (const payload of ['1', '2', '3', '4']) {
      const packet = await each.next(3);
      expect(packet).toMatchObject({ payload });
      await each.silent(40);
      each.send(ack5(4, packet.id));
    }
    await each.silent();
  });

  it('unsubscribing while a queue is read: what was queued may come, nothing new does, and the id is free again', async () => {
    const topic = fresh('u');
    let each = await client('drain', lasting());
    await subscribed(each, [[topic, 1]]);
    await gone(each);
    await published(
      topic,
      Array.from({ length: 15 }, (_, at) => `m${at}`),
    );
    each = await client('drain', lasting(3600, [P.receiveMaximum(3)]));
    const first = await each.next(3);
    each.send(unsubscribe5(9, [topic]));
    each.send(ack5(4, first.id));
    expect(await each.next(11)).toMatchObject({ id: 9, payload: '00' });
    await published(topic, ['new']);
    for (;;) {
      const before = each.packets().length;
      for (const { type, id } of each.packets()) if (type === 3) each.send(ack5(4, id));
      await sleep(60);
      if (each.packets().length === before) break;
    }
    const seen = each
      .packets()
      .filter(({ type }) => type === 3)
      .map(({ payload }) => payload);
    expect(seen).not.toContain('new');
    expect(await subscribed(each, [[topic, 1]])).toBe('01');
    await published(topic, ['after']);
    for (;;) if ((await each.next(3)).payload === 'after') break;
  });

  it('$SYS has its own filter, nothing of it comes to #', async () => {
    const each = await client();
    expect(
      await subscribed(each, [
        ['#', 1],
        ['+/x', 1],
      ]),
    ).toBe('0101');
    const topic = fresh('sys');
    await published(topic, ['x']);
    for (;;) {
      const packet = await each.next(3);
      expect(packet.topic).not.toMatch(/^\$/);
      if (packet.topic === topic) break;
    }
  });
});

describe('sizes and aliases', () => {
  it('retained and queued messages that are larger than the client takes are passed over, the next come', async () => {
    const topic = fresh('big');
    let each = await client('small', lasting());
    await subscribed(each, [[`${topic}/#`, 1]]);
    await gone(each);
    await published(`${topic}/1`, ['x'.repeat(300), 'a'], { retain: true });
    await published(`${topic}/2`, ['y'.repeat(300)], { retain: true });
    await published(`${topic}/3`, ['b'], { retain: true });
    each = await client('small', lasting(3600, [P.maximumPacketSize(128)]));
    expect(each.connack.body[0]).toBe(1);
    for (const payload of ['a', 'b']) {
      const packet = await each.next(3);
      expect(packet).toMatchObject({ payload });
      each.send(ack5(4, packet.id));
    }
    await each.silent();
    const reader = await client(fresh('c'), { properties: [P.maximumPacketSize(128)] });
    await subscribed(reader, [[`${topic}/#`, 0]]);
    const got = [(await reader.next(3)).payload, (await reader.next(3)).payload];
    expect(got.toSorted((a, b) => (a < b ? -1 : 1))).toEqual(['a', 'b']);
    await reader.silent();
  });

  it('aliases end with their connection, both ways', async () => {
    const topic = fresh('alias');
    let each = await client('alias', lasting(3600, [P.topicAliasMaximum(5)]));
    await subscribed(each, [[topic, 0]]);
    each.send(publish5(topic, '1', { qos: 1, id: 1, properties: [P.topicAlias(1)] }));
    await each.next(4);
    await gone(each);
    each = await client('alias', lasting(3600, [P.topicAliasMaximum(5)]));
    await published(topic, ['2']);
    for (;;) {
      const packet = await each.next(3);
      expect(packet.topic).toBe(topic);
      if (packet.payload === '2') break;
    }
    each.send(publish5('', '3', { properties: [P.topicAlias(1)] }));
    expect(await each.next(14)).toMatchObject({ reason: 0x82 });
  });

  it('request and response: the topic and the data go there and the answer comes back; three subscriptions of one client, three identifiers', async () => {
    const [ask, reply] = [fresh('ask'), fresh('reply')];
    const server = await client();
    await subscribed(server, [[ask, 1]]);
    const asker = await client();
    for (const [at, filter] of [reply, `${reply}/#`, '+'].entries())
      await subscribed(asker, [[filter, 1]], [P.subscriptionId(at + 1)]);
    const from = await client();
    const properties = [P.responseTopic(reply), P.correlationData('\0\u0001')];
    from.send(publish5(ask, 'q', { qos: 1, id: 1, properties }));
    const question = await server.next(3);
    expect(question.properties).toBe(hex(...properties));
    server.send(
      publish5(reply, 'a', { qos: 1, id: 9, properties: [P.correlationData('\0\u0001')] }),
    );
    const ids: string[] = [];
    while (ids.length < 3) {
      const packet = await asker.next(3);
      if (packet.topic === reply) ids.push(/0b(0[123])/.exec(packet.properties)?.[1] ?? '');
      asker.send(ack5(4, packet.id));
    }
    expect(ids.toSorted((a, b) => (a < b ? -1 : 1))).toEqual(['01', '02', '03']);
  });

  it('a session expiry that is changed at the end counts: 0 ends the session at once', async () => {
    const id = fresh('ends');
    const each = await client(id, lasting());
    each.send(disconnect5(0, [P.sessionExpiry(0)]));
    await each.closed();
    expect((await client(id, lasting())).connack.body[0]).toBe(0);
  });
});
