/**
 * Every property of MQTT 5 in every packet that a client sends: right, twice, cut short, of a wrong value. What is not allowed
 * gets one reason code, and a client beside it goes on. The table is the specification's (2-4), written down once more here.
 */
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { temporaryFolder } from '../support/process.ts';
import type { RawClient } from '../support/raw-mqtt.ts';
import {
  P,
  block,
  connect5,
  connected5,
  packet5,
  publish5,
  reader5,
  type Received5,
} from '../support/raw-mqtt5.ts';

let running: RunningGateway;
beforeAll(async () => {
  running = await runGateway(temporaryFolder());
});
afterAll(async () => await running.gateway.close());

const PINGRESP = 13;
let count = 0;

/** What comes back for bytes that follow one another, until the connection is closed or the ping at their end is answered. */
function answers(bytes: Buffer[]): Promise<Received5[]> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port: running.port, noDelay: true });
    let all = Buffer.alloc(0);
    const packets = (): Received5[] =>
      reader5({ received: () => all } as unknown as RawClient).packets();
    const done = (): void => {
      socket.destroy();
      resolve(packets());
    };
    socket.on('data', (chunk: Buffer) => {
      all = Buffer.concat([all, chunk]);
      if (packets().some(({ type }) => type === PINGRESP)) done();
    });
    socket.on('error', done);
    socket.on('close', done);
    socket.write(Buffer.concat([...bytes, Buffer.from([0xc0, 0])]));
  });
}

type Place =
  | 'CONNECT'
  | 'will'
  | 'PUBLISH'
  | 'PUBACK'
  | 'PUBREC'
  | 'PUBREL'
  | 'PUBCOMP'
  | 'SUBSCRIBE'
  | 'UNSUBSCRIBE'
  | 'DISCONNECT';
const ACKS: Place[] = ['PUBACK', 'PUBREC', 'PUBREL', 'PUBCOMP'];

/** A conversation in which a packet has these properties. */
function within(place: Place, properties: number[][]): Buffer[] {
  const id = `p${++count}`;
  if (place === 'CONNECT') return [connect5(id, { properties })];
  if (place === 'will') return [connect5(id, { will: { topic: 'w', payload: 'w', properties } })];
  const packets: Record<Exclude<Place, 'CONNECT' | 'will'>, () => Buffer> = {
    PUBLISH: () => publish5('props', 'x', { qos: 1, id: 1, properties }),
    PUBACK: () => packet5(0x40, [0, 9, 0], block(properties)),
    PUBREC: () => packet5(0x50, [0, 9, 0], block(properties)),
    PUBREL: () => packet5(0x62, [0, 9, 0], block(properties)),
    PUBCOMP: () => packet5(0x70, [0, 9, 0], block(properties)),
    SUBSCRIBE: () => packet5(0x82, [0, 1], block(properties), [0, 1, 97, 0]),
    UNSUBSCRIBE: () => packet5(0xa2, [0, 1], block(properties), [0, 1, 97]),
    DISCONNECT: () => packet5(0xe0, [0], block(properties)),
  };
  return [connect5(id), packets[place]()];
}

/** The reason for which a packet ended the connection; 0: it did not, or was a DISCONNECT. */
function reasonOf(place: Place, got: Received5[]): number {
  const refused = place === 'CONNECT' || place === 'will' ? 2 : 14;
  const found = got.filter(({ type, reason }) => type === refused && (type === 14 || reason > 0));
  if (found.length > 1) throw new Error('more than one reason');
  if (found[0] !== undefined) return found[0].reason;
  if (place !== 'DISCONNECT' && got.at(-1)?.type !== PINGRESP)
    throw new Error('closed without a word');
  return 0;
}

/** Table 2-4: value, and where it may stand. */
const TABLE: Record<string, [value: number[], places: Place[], kind: string]> = {
  payloadFormat: [[0x01, 1], ['PUBLISH', 'will'], 'flag'],
  messageExpiry: [[0x02, 0, 0, 0, 9], ['PUBLISH', 'will'], 'u32'],
  contentType: [[0x03, 0, 1, 97], ['PUBLISH', 'will'], 'text'],
  responseTopic: [[0x08, 0, 1, 97], ['PUBLISH', 'will'], 'text'],
  correlationData: [[0x09, 0, 1, 0xff], ['PUBLISH', 'will'], 'binary'],
  subscriptionId: [[0x0b, 1], ['SUBSCRIBE'], 'varint'],
  sessionExpiry: [[0x11, 0, 0, 0, 0], ['CONNECT', 'DISCONNECT'], 'u32'],
  assignedClientId: [[0x12, 0, 1, 97], [], 'text'],
  serverKeepAlive: [[0x13, 0, 9], [], 'u16'],
  authenticationMethod: [[0x15, 0, 1, 97], [], 'text'],
  authenticationData: [[0x16, 0, 1, 97], [], 'binary'],
  requestProblemInformation: [[0x17, 1], ['CONNECT'], 'flag'],
  willDelay: [[0x18, 0, 0, 0, 0], ['will'], 'u32'],
  requestResponseInformation: [[0x19, 0], ['CONNECT'], 'flag'],
  responseInformation: [[0x1a, 0, 1, 97], [], 'text'],
  serverReference: [[0x1c, 0, 1, 97], ['DISCONNECT'], 'text'],
  reasonString: [[0x1f, 0, 1, 97], [...ACKS, 'DISCONNECT'], 'text'],
  receiveMaximum: [[0x21, 0, 9], ['CONNECT'], 'u16'],
  topicAliasMaximum: [[0x22, 0, 9], ['CONNECT'], 'u16'],
  topicAlias: [[0x23, 0, 9], ['PUBLISH'], 'u16'],
  maximumQos: [[0x24, 1], [], 'flag'],
  retainAvailable: [[0x25, 1], [], 'flag'],
  userProperty: [
    [0x26, 0, 1, 97, 0, 1, 98],
    ['CONNECT', 'will', 'PUBLISH', ...ACKS, 'SUBSCRIBE', 'UNSUBSCRIBE', 'DISCONNECT'],
    'pair',
  ],
  maximumPacketSize: [[0x27, 0, 1, 0, 0], ['CONNECT'], 'u32'],
  wildcardAvailable: [[0x28, 1], [], 'flag'],
  subscriptionIdAvailable: [[0x29, 1], [], 'flag'],
  sharedAvailable: [[0x2a, 1], [], 'flag'],
  none: [[0x00, 0], [], 'none'],
  unknown: [[0x7f, 0], [], 'none'],
};
/** They may stand there, and what they say is refused: by the client's own part, or since nobody authenticates like that here. */
const SAID: Record<string, number> = {
  'PUBLISH subscriptionId': 0x82,
  'CONNECT authenticationMethod': 0x8c,
  'CONNECT authenticationData': 0x82,
};
const PLACES: Place[] = [
  'CONNECT',
  'will',
  'PUBLISH',
  ...ACKS,
  'SUBSCRIBE',
  'UNSUBSCRIBE',
  'DISCONNECT',
];

describe('properties', () => {
  it.each(PLACES)('of every kind in %s: right, twice, cut short', async (place) => {
    const good = await connected5(running.port, `good-${place}`);
    const cases: [name: string, properties: number[][], reason: number][] = [];
    for (const [name, [value, places, kind]] of Object.entries(TABLE)) {
      const said = SAID[`${place} ${name}`];
      const once = said ?? (places.includes(place) ? 0 : 0x81);
      cases.push([name, [value], once]);
      if (once === 0x81) continue;
      const twice = kind === 'pair' ? once : 0x82;
      cases.push([`${name} twice`, [value, value], twice]);
      cases.push([`${name} cut short`, [value.slice(0, -1)], 0x81]);
    }
    const got = await Promise.all(
      cases.map(async ([name, properties]) => {
        const packets = await answers(within(place, properties));
        return [name, reasonOf(place, packets)];
      }),
    );
    expect(got).toEqual(cases.map(([name, , reason]) => [name, reason]));
    good.send(publish5('alive', 'x', { qos: 1, id: 1 }));
    expect(await good.next(4)).toMatchObject({ id: 1, reason: 0 });
    good.socket.destroy();
  });

  it('of a wrong value: each has its one reason', async () => {
    const cases: [name: string, place: Place, properties: number[][], reason: number][] = [];
    for (const [name, [value, places, kind]] of Object.entries(TABLE)) {
      const [place] = places;
      if (place === undefined) continue;
      const id = value[0] ?? 0;
      if (kind === 'flag')
        for (const wrong of [2, 0x80, 0xff])
          cases.push([`${name} ${wrong}`, place, [[id, wrong]], 0x82]);
      if (kind === 'text' || kind === 'pair')
        // Not UTF-8, a surrogate, an overlong form, beyond the last character, U+0000.
        for (const wrong of ['ff', 'eda080', 'c0af', 'f4908080', '00']) {
          const bytes = [...Buffer.from(wrong, 'hex')];
          const text = [0, bytes.length, ...bytes];
          const pairs = [
            [id, ...text, 0, 0],
            [id, 0, 0, ...text],
          ];
          for (const each of kind === 'text' ? [[id, ...text]] : pairs)
            cases.push([`${name} ${wrong}`, place, [each], 0x81]);
        }
    }
    const connect = (name: string, properties: number[][], reason: number): void =>
      void cases.push([name, 'CONNECT', properties, reason]);
    connect('receive maximum 0', [P.receiveMaximum(0)], 0x82);
    connect('largest packet 0', [P.maximumPacketSize(0)], 0x82);
    connect('largest packet too small for a CONNACK', [P.maximumPacketSize(1)], -1);
    for (const alias of [0, 17, 65_535])
      cases.push([`alias ${alias}`, 'PUBLISH', [P.topicAlias(alias)], 0x94]);
    for (const topic of ['a/#', '+', '#'])
      cases.push([`response topic ${topic}`, 'PUBLISH', [P.responseTopic(topic)], 0x82]);
    cases.push(['subscription identifier 0', 'SUBSCRIBE', [P.subscriptionId(0)], 0x82]);
    cases.push(['one of five bytes', 'SUBSCRIBE', [[0x0b, 0x80, 0x80, 0x80, 0x80, 1]], 0x81]);
    cases.push(['one of more bytes than it needs', 'SUBSCRIBE', [[0x0b, 0x81, 0x00]], 0x81]);
    cases.push(['the largest', 'SUBSCRIBE', [P.subscriptionId(268_435_455)], 0]);
    const got = await Promise.all(
      cases.map(async ([name, place, properties]) => {
        const packets = await answers(within(place, properties));
        return [name, packets.length === 0 ? -1 : reasonOf(place, packets)];
      }),
    );
    expect(got).toEqual(cases.map(([name, , , reason]) => [name, reason]));
  });

  it('lengths that are not what they say', async () => {
    const topic = [0, 1, 97];
    const cases: [name: string, bytes: Buffer, reason: number][] = [
      ['properties beyond the packet', packet5(0x30, topic, [5, 0x01, 1]), 0x81],
      ['properties that end within one', packet5(0x30, topic, [1, 0x01, 1]), 0x81],
      ['a length of five bytes', packet5(0x30, topic, [0x80, 0x80, 0x80, 0x80, 1]), 0x81],
      ['a length with a byte too many', packet5(0x30, topic, [0x82, 0x00, 0x01, 1]), 0x81],
      ['a text beyond the properties', packet5(0x30, topic, [4, 0x03, 0, 9, 97]), 0x81],
      ['bytes after an acknowledgement', packet5(0x40, [0, 1, 0, 0, 1]), 0x81],
      ['bytes after a DISCONNECT', packet5(0xe0, [0, 0, 1]), 0x81],
      ['a packet length with a byte too many', Buffer.from([0xc0, 0x80, 0x00]), 0x81],
      ['a packet length of five bytes', Buffer.from([0xc0, 0x80, 0x80, 0x80, 0x80, 1]), 0x81],
      ['a PINGREQ with something in it', Buffer.from([0xc0, 1, 0]), 0x82],
      ['a PUBACK with a reason that is none', packet5(0x40, [0, 1, 0x55]), 0x82],
      ['a PUBREC with a reason of PUBCOMP', packet5(0x50, [0, 1, 0x92]), 0x82],
      ['a PUBREL with a reason of PUBREC', packet5(0x62, [0, 1, 0x10]), 0x82],
      ['a PUBCOMP with a reason that is none', packet5(0x70, [0, 1, 0x01]), 0x82],
      ['a DISCONNECT with a reason that is none', packet5(0xe0, [0x55]), 0x82],
      ['AUTH with a reason that is none', packet5(0xf0, [0x55, 0]), 0x82],
      ['AUTH without anything', packet5(0xf0), 0x82],
      ['type 0', packet5(0x00), 0x82],
    ];
    const got = await Promise.all(
      cases.map(async ([name, bytes]) => {
        const packets = await answers([connect5(`l${++count}`), bytes]);
        return [name, packets.find(({ type }) => type === 14)?.reason];
      }),
    );
    expect(got).toEqual(cases.map(([name, , reason]) => [name, reason]));
  });

  it('a flood of user properties is passed on as it came, each in its place', async () => {
    const reader = await connected5(running.port, 'flood-reader');
    reader.send(packet5(0x82, [0, 1, 0, 0, 5], Buffer.from('flood'), [1]));
    await reader.next(9);
    const from = await connected5(running.port, 'flood-from');
    const properties = Array.from({ length: 3000 }, (_, i) => P.user(`k${i % 7}`, `${i}`));
    from.send(publish5('flood', 'x', { qos: 1, id: 1, properties }));
    expect(await from.next(4)).toMatchObject({ id: 1, reason: 0 });
    const got = await reader.next(3);
    expect(got.properties === Buffer.from(properties.flat()).toString('hex')).toBe(true);
  });
});
