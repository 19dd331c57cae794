/**
 * What strangers try of MQTT 5, as conversations that any broker can be asked for: `npm run mqtt:beside` holds them against
 * Mosquitto and this gateway, and names what differs. Each gives what it saw, line by line, without what is a broker's own
 * choice (packet ids, properties of CONNACK).
 */
import { crowding } from '../support/process.ts';
import { rawClient } from '../support/raw-mqtt.ts';
import {
  P,
  ack5,
  connect5,
  disconnect5,
  packet5,
  publish5,
  reader5,
  subscribe5,
  unsubscribe5,
  type Client5,
  type Connect5,
  type Received5,
} from '../support/raw-mqtt5.ts';

/** A broker that can be started again over what it kept. */
export interface Asked {
  port(): number;
  restart(): Promise<void>;
}

const TYPES =
  'x CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP x SUBACK x UNSUBACK x PINGRESP DISCONNECT AUTH'.split(
    ' ',
  );
const hex = (value: number): string => `0x${value.toString(16).padStart(2, '0')}`;
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
/** After the last byte that came. */
const QUIET_MS = 300;
/** For a first one, where an answer is due. */
const DUE_MS = 3000;

const TEXTS = new Set([0x03, 0x08, 0x09, 0x1f, 0x26]);

/** Properties of a PUBLISH in the order of their ids, each by itself, without the seconds that are left. */
function said(properties: string): string {
  const bytes = Buffer.from(properties, 'hex');
  const found: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const from = at;
    const id = bytes[at++] ?? 0;
    const run = (): void => void (at += 2 + bytes.readUInt16BE(at));
    if (TEXTS.has(id)) run();
    if (id === 0x26) run();
    if (id === 0x01) at += 1;
    if (id === 0x02) at += 4;
    if (id === 0x23) at += 2;
    if (id === 0x0b) while ((bytes[at++] ?? 0) > 127);
    found.push(id === 0x02 ? '02~' : bytes.toString('hex', from, at));
  }
  const sorted = found.toSorted((one, other) => (one.slice(0, 2) < other.slice(0, 2) ? -1 : 1));
  return sorted.length === 0 ? '' : ` {${sorted.join(' ')}}`;
}

function line(packet: Received5): string {
  const { type, topic, payload, qos, retain, dup, reason, properties } = packet;
  const name = TYPES[type] ?? '?';
  if (type === 3)
    return `${name} ${topic} '${payload.slice(0, 20)}' q${qos}${retain ? ' retain' : ''}${dup ? ' dup' : ''}${said(properties)}`;
  if (type === 9 || type === 11) return `${name} ${payload}`;
  if (type === 2) return `${name} ${hex(reason)}${packet.body[0] === 1 ? ' present' : ''}`;
  return type === 13 ? name : `${name} ${hex(reason)}`;
}

/** One client, which notes what it gets. */
export class Talker {
  readonly client: Client5;
  private at = 0;
  constructor(client: Client5) {
    this.client = client;
  }
  send(...bytes: Buffer[]): void {
    this.client.send(Buffer.concat(bytes));
  }
  /** What has come since, once nothing more comes; `due`: something has to. */
  async heard(due = false): Promise<string[]> {
    const { client } = this;
    const deadline = performance.now() + DUE_MS;
    const isNew = (): boolean => client.packets().length > this.at || client.isClosed();
    while (due && !isNew() && performance.now() < deadline) await sleep(20);
    for (let before = -1; before !== client.received().length; ) {
      before = client.received().length;
      await sleep(QUIET_MS * crowding());
    }
    const lines = client.packets().slice(this.at).map(line);
    this.at += lines.length;
    if (client.isClosed()) lines.push('closed');
    return lines;
  }
  packets(): Received5[] {
    return this.client.packets();
  }
  ids(): number[] {
    return this.packets().flatMap(({ type, id }) => (type === 3 && id > 0 ? [id] : []));
  }
  async cut(): Promise<void> {
    this.client.socket.destroy();
    await this.client.closed();
    await sleep(30);
  }
}

const LASTS: Connect5 = { clean: false, properties: [P.sessionExpiry(600)] };

/** One situation's own topics and ids on a broker. */
export class Scene {
  readonly broker: Asked;
  readonly t: string;
  readonly saw: string[] = [];
  private count = 0;
  constructor(broker: Asked, name: string) {
    this.broker = broker;
    this.t = name;
  }
  /** Sends a CONNECT, and notes the answer where `note` says so. */
  async open(id: string, options: Connect5 = {}, note = false): Promise<Talker> {
    const talker = new Talker(reader5(await rawClient(this.broker.port())));
    talker.send(connect5(`${this.t}-${id}`, options));
    const answer = await talker.heard(true);
    if (note) this.saw.push(`${id}: ${answer.join(', ')}`);
    return talker;
  }
  lasting(id: string, note = false, more: number[][] = []): Promise<Talker> {
    return this.open(id, { clean: false, properties: [P.sessionExpiry(600), ...more] }, note);
  }
  async subscribed(
    id: string,
    filters: [string, number][],
    options: Connect5 = {},
    ids: number[][] = [],
  ): Promise<Talker> {
    const talker = await this.open(id, options);
    talker.send(subscribe5(1, filters, ids));
    await talker.heard(true);
    return talker;
  }
  async note(who: string, talker: Talker): Promise<void> {
    this.saw.push(`${who}: ${(await talker.heard(true)).join(', ')}`);
  }
  /** By somebody who comes for it and goes. */
  async publish(
    topic: string,
    payload: string,
    options: Parameters<typeof publish5>[2] = {},
  ): Promise<void> {
    const from = await this.open(`from${this.count++}`);
    from.send(publish5(topic, payload, { qos: 1, id: 1, ...options }));
    await from.heard(true);
    if (options.qos === 2) {
      from.send(ack5(6, 1));
      await from.heard(true);
    }
    from.send(disconnect5());
    await from.heard();
  }
}

type Play = (s: Scene) => Promise<void>;

/** Those that need nobody's restart. */
export const SITUATIONS: Record<string, Play> = {
  'a session taken over while it is resumed': async (s) => {
    const first = await s.subscribed('a', [[s.t, 1]], LASTS);
    await first.cut();
    await s.publish(s.t, 'one');
    const raws = await Promise.all([0, 1].map(() => rawClient(s.broker.port())));
    const both = raws.map((raw) => new Talker(reader5(raw)));
    for (const each of both) each.send(connect5(`${s.t}-a`, LASTS));
    await sleep(300);
    const heard = await Promise.all(both.map((each) => each.heard()));
    s.saw.push(...heard.map((lines) => lines.join(', ')).sort());
  },
  'session expiry raised by DISCONNECT from 0': async (s) => {
    const each = await s.open('a');
    each.send(disconnect5(0, [P.sessionExpiry(60)]));
    await s.note('a', each);
  },
  'session expiry lowered by DISCONNECT to 0': async (s) => {
    const each = await s.lasting('a');
    each.send(disconnect5(0, [P.sessionExpiry(0)]));
    await each.heard();
    await s.lasting('a', true);
  },
  'a will called off by a return within its delay': async (s) => {
    const listener = await s.subscribed('l', [[s.t, 1]]);
    const will = { topic: s.t, payload: 'gone', qos: 1, properties: [P.willDelay(2)] };
    const each = await s.open('a', { ...LASTS, will });
    await each.cut();
    await s.open('a', LASTS, true);
    await sleep(2500);
    await s.note('l', listener);
  },
  'a will with a delay and a clean start': async (s) => {
    const listener = await s.subscribed('l', [[s.t, 1]]);
    const will = { topic: s.t, payload: 'gone', qos: 1, properties: [P.willDelay(60)] };
    await (await s.open('a', { ...LASTS, will })).cut();
    await s.open('a', { clean: true }, true);
    await s.note('l', listener);
  },
  'a will whose session ends before its delay': async (s) => {
    const listener = await s.subscribed('l', [[s.t, 1]]);
    const will = { topic: s.t, payload: 'gone', qos: 1, properties: [P.willDelay(60)] };
    await (await s.open('a', { clean: false, properties: [P.sessionExpiry(1)], will })).cut();
    await sleep(2500);
    await s.note('l', listener);
  },
  'a will of a session without expiry, with a delay': async (s) => {
    const listener = await s.subscribed('l', [[s.t, 1]]);
    const will = { topic: s.t, payload: 'gone', qos: 1, properties: [P.willDelay(60)] };
    await (await s.open('a', { will })).cut();
    await s.note('l', listener);
  },
  'DISCONNECT 0x04 sends the will, 0x00 does not': async (s) => {
    const listener = await s.subscribed('l', [[s.t, 1]]);
    for (const reason of [0x04, 0x00]) {
      const each = await s.open('a', { will: { topic: s.t, payload: hex(reason), qos: 1 } });
      each.send(disconnect5(reason));
      await each.heard();
    }
    await s.note('l', listener);
  },
  'a take-over sends a will without delay': async (s) => {
    const listener = await s.subscribed('l', [[s.t, 1]]);
    const first = await s.open('a', { ...LASTS, will: { topic: s.t, payload: 'gone', qos: 1 } });
    await s.open('a', LASTS, true);
    await s.note('first', first);
    await s.note('l', listener);
  },
  'a protocol error sends the will': async (s) => {
    const listener = await s.subscribed('l', [[s.t, 1]]);
    const each = await s.open('a', { will: { topic: s.t, payload: 'gone', qos: 1 } });
    each.send(connect5('again'));
    await s.note('a', each);
    await s.note('l', listener);
  },
  'a message whose publisher is gone is shared among those who are there': async (s) => {
    const away = await s.subscribed('away', [[`$share/g/${s.t}`, 1]], LASTS);
    await away.cut();
    const here = await s.subscribed('here', [[`$share/g/${s.t}`, 1]]);
    for (const payload of ['1', '2', '3']) await s.publish(s.t, payload);
    await s.note('here', here);
  },
  'noLocal on a shared subscription': async (s) => {
    const each = await s.open('a');
    each.send(subscribe5(1, [[`$share/g/${s.t}`, 4]]));
    await s.note('a', each);
  },
  'QoS 2 through a share': async (s) => {
    const each = await s.subscribed('a', [[`$share/g/${s.t}`, 2]]);
    await s.publish(s.t, 'x', { qos: 2 });
    await s.note('a', each);
    each.send(ack5(5, each.ids()[0] ?? 0));
    await s.note('a', each);
    each.send(ack5(7, each.ids()[0] ?? 0));
    await s.note('a', each);
  },
  'unsubscribing from a share of which messages are in flight': async (s) => {
    const first = await s.subscribed('a', [[`$share/g/${s.t}`, 1]]);
    await s.publish(s.t, 'one');
    await s.note('a', first);
    const second = await s.subscribed('b', [[`$share/g/${s.t}`, 1]]);
    first.send(unsubscribe5(2, [`$share/g/${s.t}`]));
    await s.note('a', first);
    await s.publish(s.t, 'two');
    await s.note('a', first);
    await s.note('b', second);
  },
  'a member that is lost with what it had: the other gets it': async (s) => {
    const first = await s.subscribed('a', [[`$share/g/${s.t}`, 1]]);
    await s.publish(s.t, 'one');
    await first.heard();
    const second = await s.subscribed('b', [[`$share/g/${s.t}`, 1]]);
    await first.cut();
    await s.note('b', second);
  },
  'a retained message and a share': async (s) => {
    await s.publish(s.t, 'kept', { retain: true });
    const each = await s.open('a');
    each.send(subscribe5(1, [[`$share/g/${s.t}`, 1]]));
    await s.note('a', each);
  },
  'a subscription identifier is replaced by a new subscription': async (s) => {
    const each = await s.subscribed('a', [[s.t, 1]], {}, [P.subscriptionId(1)]);
    each.send(subscribe5(2, [[s.t, 1]], [P.subscriptionId(2)]));
    await each.heard();
    await s.publish(s.t, 'x');
    await s.note('a', each);
    each.send(subscribe5(3, [[s.t, 1]]));
    await each.heard();
    await s.publish(s.t, 'y');
    await s.note('a', each);
  },
  'two subscriptions that overlap, with identifiers': async (s) => {
    const each = await s.subscribed('a', [[`${s.t}/#`, 1]], {}, [P.subscriptionId(1)]);
    each.send(subscribe5(2, [[`${s.t}/+`, 2]], [P.subscriptionId(2)]));
    await each.heard();
    await s.publish(`${s.t}/x`, 'x', { qos: 2 });
    await s.note('a', each);
  },
  'two subscriptions that overlap, without identifiers': async (s) => {
    const each = await s.subscribed('a', [
      [`${s.t}/#`, 0],
      [`${s.t}/+`, 1],
    ]);
    await s.publish(`${s.t}/x`, 'x');
    await s.note('a', each);
  },
  'an alias of an earlier connection': async (s) => {
    const each = await s.lasting('a');
    each.send(publish5(s.t, '1', { qos: 1, id: 1, properties: [P.topicAlias(1)] }));
    await each.heard();
    await each.cut();
    const again = await s.lasting('a');
    again.send(publish5('', '2', { qos: 1, id: 2, properties: [P.topicAlias(1)] }));
    await s.note('a', again);
  },
  'an alias of 0': async (s) => {
    const each = await s.open('a');
    each.send(publish5('', 'x', { qos: 1, properties: [P.topicAlias(0)] }));
    await s.note('a', each);
  },
  'an alias that is above the largest': async (s) => {
    const each = await s.open('a');
    each.send(publish5(s.t, 'x', { qos: 1, properties: [P.topicAlias(65_535)] }));
    await s.note('a', each);
  },
  'neither topic nor alias': async (s) => {
    const each = await s.open('a');
    each.send(publish5('', 'x', { qos: 1 }));
    await s.note('a', each);
  },
  'a receive maximum of 1, and a PUBREC that refuses': async (s) => {
    const each = await s.subscribed('a', [[s.t, 2]], { properties: [P.receiveMaximum(1)] });
    await s.publish(s.t, '1', { qos: 2 });
    await s.publish(s.t, '2', { qos: 2 });
    await s.note('a', each);
    each.send(ack5(5, each.ids()[0] ?? 0, 0x97));
    await s.note('a', each);
  },
  'a receive maximum of 0': async (s) => {
    await s.open('a', { properties: [P.receiveMaximum(0)] }, true);
  },
  'a queued message that is larger than the client takes': async (s) => {
    const each = await s.subscribed('a', [[s.t, 1]], LASTS);
    await each.cut();
    await s.publish(s.t, 'x'.repeat(200));
    await s.publish(s.t, 'small');
    const back = await s.lasting('a', true, [P.maximumPacketSize(100)]);
    await s.note('a', back);
  },
  'a queued message that has expired': async (s) => {
    const each = await s.subscribed('a', [[s.t, 1]], LASTS);
    await each.cut();
    await s.publish(s.t, 'brief', { properties: [P.messageExpiry(1)] });
    await s.publish(s.t, 'long', { properties: [P.messageExpiry(200)] });
    await sleep(2200);
    await s.lasting('a', true);
  },
  'request and response': async (s) => {
    const server = await s.subscribed('server', [[`${s.t}/ask`, 1]]);
    const properties = [
      P.responseTopic(`${s.t}/answer`),
      P.correlationData('1'),
      P.user('a', 'b'),
      P.user('a', 'c'),
    ];
    await s.publish(`${s.t}/ask`, 'q', { properties });
    s.saw.push(
      (await server.heard()).join().replaceAll(/[0-9a-f]{20,}/g, (bytes) => `${bytes.length}`),
    );
  },
  'retain handling 0, 1 and 2 on a subscription that is new, and again': async (s) => {
    await s.publish(s.t, 'kept', { retain: true });
    for (const handling of [0, 1, 2]) {
      const each = await s.open(`${handling}`);
      for (const id of [1, 2]) {
        each.send(subscribe5(id, [[s.t, 1 | (handling << 4)]]));
        await s.note(`${handling}`, each);
      }
    }
  },
  'retain as published': async (s) => {
    const as = await s.subscribed('as', [[s.t, 1 | 8]]);
    const plain = await s.subscribed('plain', [[s.t, 1]]);
    await s.publish(s.t, 'x', { retain: true });
    await s.note('as', as);
    await s.note('plain', plain);
  },
  'noLocal, live and retained': async (s) => {
    const each = await s.subscribed('a', [[s.t, 1 | 4]]);
    each.send(publish5(s.t, 'own', { qos: 1, id: 9, retain: true }));
    await s.note('a', each);
    each.send(subscribe5(2, [[s.t, 1 | 4]]));
    await s.note('a', each);
  },
  'UNSUBSCRIBE has a reason for each': async (s) => {
    const each = await s.subscribed('a', [[s.t, 1]]);
    each.send(unsubscribe5(2, [s.t, s.t, 'never']));
    await s.note('a', each);
  },
  'an empty client id without clean start': async (s) => {
    const talker = new Talker(reader5(await rawClient(s.broker.port())));
    talker.send(connect5('', { clean: false, properties: [P.sessionExpiry(60)] }));
    await s.note('a', talker);
  },
  '3.1.1 takes the session of version 5 over, and back': async (s) => {
    const five = await s.subscribed('a', [[s.t, 1]], LASTS);
    await five.cut();
    await s.publish(s.t, 'waits');
    const id = Buffer.from(`${s.t}-a`);
    const three = new Talker(reader5(await rawClient(s.broker.port())));
    three.client.send(packet5(0x10, [0, 4, ...Buffer.from('MQTT'), 4, 0, 0, 0, 0, id.length], id));
    await sleep(300);
    s.saw.push(
      `3.1.1: ${three.client.received().toString('latin1').includes('waits') ? 'has what waited' : 'has nothing'}, session present ${three.client.received()[2]}`,
    );
    await s.lasting('a', true);
  },
  'filters that are odd': async (s) => {
    const each = await s.open('a');
    const odd = [
      '$share/g',
      '$share//a',
      '$share/g/',
      '$share/g+/a',
      '$share/g/#',
      '$SYS/#',
      'a#',
      'a/+b',
      '#/a',
      '/',
      '$share',
      '+/+/#',
    ];
    for (const [at, filter] of odd.entries()) {
      const one = at === 0 ? each : await s.open(`a${at}`);
      one.send(subscribe5(1, [[filter, 0]]));
      const [first] = await one.heard(true);
      s.saw.push(`${filter}: ${first}`);
      await one.cut();
    }
  },
  'topics that are odd': async (s) => {
    for (const [at, topic] of ['$SYS/x', 'a/#', '+', '/', '$share/g/a', 'a//b', ' '].entries()) {
      const one = await s.open(`a${at}`);
      one.send(publish5(topic, 'x', { qos: 1, id: 1 }));
      s.saw.push(`${topic}: ${(await one.heard(true)).join(', ')}`);
    }
  },
  'text that is no UTF-8': async (s) => {
    for (const bytes of ['ff', 'eda080', 'c0af', '00', 'efbbbf', 'efbfbf']) {
      const one = await s.open(`a${bytes}`);
      one.send(
        packet5(
          0x32,
          [0, bytes.length / 2],
          Buffer.from(bytes, 'hex'),
          [0, 1, 0],
          Buffer.from('x'),
        ),
      );
      s.saw.push(`${bytes}: ${(await one.heard(true)).join(', ')}`);
    }
  },
  'PUBREL, PUBREC, PUBACK and PUBCOMP of an id that nobody has': async (s) => {
    for (const type of [6, 5, 4, 7]) {
      const one = await s.open(`a${type}`);
      one.send(ack5(type, 77), Buffer.from([0xc0, 0]));
      s.saw.push(`${TYPES[type]}: ${(await one.heard(true)).join(', ')}`);
    }
  },
  'what was not acknowledged comes again with DUP and its id': async (s) => {
    const each = await s.subscribed('a', [[s.t, 2]], LASTS);
    await s.publish(s.t, '1');
    await s.publish(s.t, '2', { qos: 2 });
    await each.heard();
    const ids = each.ids();
    each.send(ack5(5, ids[1] ?? 0));
    await each.heard();
    await each.cut();
    const back = await s.lasting('a', true);
    s.saw.push(`same ids: ${back.ids().every((id) => ids.includes(id))}`);
  },
  'QoS 2 that comes again is one message': async (s) => {
    const listener = await s.subscribed('l', [[s.t, 1]]);
    const each = await s.open('a');
    for (const dup of [false, true, true]) each.send(publish5(s.t, 'x', { qos: 2, id: 5, dup }));
    await s.note('a', each);
    each.send(ack5(6, 5), ack5(6, 5));
    await s.note('a', each);
    await s.note('l', listener);
  },
  'a second CONNECT, AUTH, and packets of servers': async (s) => {
    const bad: [string, Buffer][] = [
      ['CONNECT', connect5('again')],
      ['AUTH', packet5(0xf0, [0x18, 0])],
      ['CONNACK', packet5(0x20, [0, 0, 0])],
      ['SUBACK', packet5(0x90, [0, 1, 0, 0])],
      ['PINGRESP', packet5(0xd0)],
    ];
    for (const [name, bytes] of bad) {
      const one = await s.open(`${s.saw.length}`);
      one.send(bytes);
      s.saw.push(`${name}: ${(await one.heard(true)).join(', ')}`);
    }
  },
  'an authentication method, and data without one': async (s) => {
    await s.open('a', { properties: [P.authenticationMethod('x')] }, true);
    await s.open('b', { properties: [[0x16, 0, 1, 1]] }, true);
  },
  'a property twice, of another packet, and one that does not exist': async (s) => {
    for (const [name, properties] of [
      ['twice', [P.contentType('a'), P.contentType('b')]],
      ['other', [P.willDelay(1)]],
      ['none', [[0x7f, 0]]],
      ['format 2', [P.payloadFormat(2)]],
      ['response topic #', [P.responseTopic('#')]],
    ] as [string, number[][]][]) {
      const one = await s.open(`${s.saw.length}`);
      one.send(publish5(s.t, 'x', { qos: 1, properties }));
      s.saw.push(`${name}: ${(await one.heard(true)).join(', ')}`);
    }
  },
  'packet id 0, QoS 3, and no filter': async (s) => {
    for (const [name, bytes] of [
      ['id 0', publish5(s.t, 'x', { qos: 1, id: 0 })],
      ['QoS 3', packet5(0x36, [0, 1, 97, 0, 1, 0])],
      ['no filter', packet5(0x82, [0, 1, 0])],
      ['no filter to let go', packet5(0xa2, [0, 1, 0])],
      ['identifier 0', subscribe5(1, [['a', 0]], [P.subscriptionId(0)])],
      ['retain handling 3', subscribe5(1, [['a', 0x30]])],
      ['reserved bits', subscribe5(1, [['a', 0x40]])],
    ] as [string, Buffer][]) {
      const one = await s.open(`${s.saw.length}`);
      one.send(bytes);
      s.saw.push(`${name}: ${(await one.heard(true)).join(', ')}`);
    }
  },
  'a retained message that is removed': async (s) => {
    await s.publish(s.t, 'kept', { retain: true });
    const here = await s.subscribed('here', [[s.t, 1]]);
    await s.publish(s.t, '', { retain: true });
    await s.note('here', here);
    const late = await s.open('late');
    late.send(subscribe5(1, [[s.t, 1]]));
    await s.note('late', late);
  },
  'order: QoS 1 to a session that was away': async (s) => {
    const each = await s.subscribed('a', [[s.t, 1]], LASTS);
    await each.cut();
    for (let i = 0; i < 5; i++) await s.publish(s.t, `m${i}`);
    await s.lasting('a', true);
  },
  'a subscription to what is not there yet is kept with its options': async (s) => {
    const each = await s.subscribed('a', [[s.t, 1 | 8]], LASTS, [P.subscriptionId(9)]);
    await each.cut();
    await s.publish(s.t, 'x', { retain: true });
    await s.lasting('a', true);
  },
  'a message that expires in 0 seconds': async (s) => {
    const each = await s.subscribed('a', [[s.t, 1]]);
    await s.publish(s.t, 'x', { retain: true, properties: [P.messageExpiry(0)] });
    await s.note('a', each);
    const late = await s.open('late');
    late.send(subscribe5(1, [[s.t, 1]]));
    await s.note('late', late);
  },
  'one filter twice in a SUBSCRIBE': async (s) => {
    const each = await s.open('a');
    each.send(
      subscribe5(1, [
        [s.t, 0],
        [s.t, 2],
      ]),
    );
    await s.note('a', each);
    await s.publish(s.t, 'x', { qos: 2 });
    await s.note('a', each);
  },
  'reasons that are none, in acknowledgements and DISCONNECT': async (s) => {
    for (const [name, bytes] of [
      ['PUBACK', ack5(4, 9, 0x55)],
      ['PUBREL', ack5(6, 9, 0x55)],
      ['PUBREC', ack5(5, 9, 0x01)],
      ['DISCONNECT', disconnect5(0x55)],
      ['DISCONNECT of servers', disconnect5(0x8e)],
    ] as [string, Buffer][]) {
      const listener = await s.subscribed(`l${s.saw.length}`, [[`${s.t}/${s.saw.length}`, 0]]);
      const will = { topic: `${s.t}/${s.saw.length}`, payload: 'gone' };
      const one = await s.open(`${s.saw.length}`, { will });
      one.send(bytes, Buffer.from([0xc0, 0]));
      const heard = (await one.heard(true)).join(', ');
      s.saw.push(`${name}: ${heard}; will ${(await listener.heard()).length}`);
    }
  },
  'a client of 3.1.1 with a clean session, taken over by one of 5': async (s) => {
    const listener = await s.subscribed('l', [[`${s.t}/will`, 1]]);
    const three = await rawClient(s.broker.port());
    const run = (text: string): number[] => [0, text.length, ...Buffer.from(text)];
    three.send(
      packet5(
        0x10,
        run('MQTT'),
        [4, 2 | 4 | 8, 0, 0],
        run(`${s.t}-a`),
        run(`${s.t}/will`),
        run('gone'),
      ),
    );
    await three.bytes(4);
    await s.open('a', LASTS, true);
    s.saw.push(`3.1.1 closed: ${three.isClosed()}`);
    await s.note('l', listener);
  },
  'a will that is retained and expires': async (s) => {
    const properties = [P.messageExpiry(5), P.user('k', 'v')];
    const will = { topic: s.t, payload: 'gone', qos: 1, retain: true, properties };
    await (await s.open('a', { will })).cut();
    const soon = await s.open('soon');
    soon.send(subscribe5(1, [[s.t, 1]]));
    s.saw.push(`soon: ${(await soon.heard(true)).join(', ')}`);
    await sleep(5500);
    const late = await s.open('late');
    late.send(subscribe5(1, [[s.t, 1]]));
    await s.note('late', late);
  },
  'a payload that says it is UTF-8 and is not': async (s) => {
    const each = await s.open('a');
    each.send(publish5(s.t, Buffer.from([0xff]), { qos: 1, properties: [P.payloadFormat(1)] }));
    await s.note('a', each);
  },
  'a message of QoS 2 that is retained, to a subscription of QoS 1': async (s) => {
    await s.publish(s.t, 'x', { qos: 2, retain: true });
    const each = await s.open('a');
    each.send(subscribe5(1, [[s.t, 1 | 8]], [P.subscriptionId(4)]));
    await s.note('a', each);
  },
  'unsubscribing while QoS 2 is in flight': async (s) => {
    const each = await s.subscribed('a', [[s.t, 2]]);
    await s.publish(s.t, 'x', { qos: 2 });
    await s.note('a', each);
    each.send(unsubscribe5(2, [s.t]), ack5(5, each.ids()[0] ?? 0));
    s.saw.push((await each.heard(true)).sort().join(', '));
    each.send(ack5(7, each.ids()[0] ?? 0), Buffer.from([0xc0, 0]));
    await s.note('a', each);
  },
  'a response topic and correlation data through a share': async (s) => {
    const each = await s.subscribed('a', [[`$share/g/${s.t}`, 1]], {}, [P.subscriptionId(3)]);
    await s.publish(s.t, 'x', { properties: [P.responseTopic('r'), P.correlationData('c')] });
    await s.note('a', each);
  },
  'keep alive': async (s) => {
    const each = await s.open('a', { keepAlive: 1 });
    await sleep(2600);
    await s.note('a', each);
  },
};

/** Those in which the broker is started again in the middle. */
export const RESTARTS: Record<string, [before: Play, after: Play]> = {
  'a session with its queue, identifier and options': [
    async (s) => {
      const each = await s.subscribed('a', [[s.t, 2 | 8]], LASTS, [P.subscriptionId(7)]);
      await each.cut();
      await s.publish(s.t, 'q1', { properties: [P.user('k', 'v')] });
      await s.publish(s.t, 'q2', { qos: 2, retain: true });
    },
    async (s) => void (await s.lasting('a', true)),
  ],
  'retained messages with and without expiry': [
    async (s) => {
      await s.publish(`${s.t}/long`, 'long', { retain: true, properties: [P.messageExpiry(200)] });
      await s.publish(`${s.t}/none`, 'none', { retain: true });
      await s.publish(`${s.t}/short`, 'short', { retain: true, properties: [P.messageExpiry(1)] });
    },
    async (s) => {
      const each = await s.open('r');
      each.send(subscribe5(1, [[`${s.t}/#`, 0]]));
      s.saw.push(...(await each.heard()).sort());
    },
  ],
  'retain handling 1 on a subscription of before': [
    async (s) => {
      await s.publish(s.t, 'kept', { retain: true });
      const each = await s.subscribed('a', [[s.t, 1 | 0x10]], LASTS);
      for (const id of each.ids()) each.send(ack5(4, id));
      await each.heard();
      await each.cut();
    },
    async (s) => {
      const each = await s.lasting('a', true);
      each.send(subscribe5(1, [[s.t, 1 | 0x10]]));
      await s.note('a', each);
    },
  ],
  'QoS 2 of a publisher, before its PUBREL': [
    async (s) => {
      const listener = await s.subscribed('l', [[s.t, 2]], LASTS);
      await listener.cut();
      const each = await s.lasting('a');
      each.send(publish5(s.t, 'x', { qos: 2, id: 5 }));
      await each.heard();
      await each.cut();
    },
    async (s) => {
      const each = await s.lasting('a');
      each.send(publish5(s.t, 'x', { qos: 2, id: 5, dup: true }));
      await s.note('a', each);
      each.send(ack5(6, 5));
      await s.note('a', each);
      await s.lasting('l', true);
    },
  ],
};
