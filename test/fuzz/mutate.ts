/** What a fuzzed connection sends: packets as a client would, then damage. All of it follows from the seed. */
import { connectPacket, packet, publishRaw, subscribePacket } from '../support/hostile.ts';
import { encodePublish } from '../support/load.ts';
import {
  P,
  ack5,
  block,
  connect5,
  disconnect5,
  packet5,
  publish5,
  subscribe5,
  unsubscribe5,
} from '../support/raw-mqtt5.ts';

export type Random = () => number;

const pick = <T>(next: Random, list: readonly T[]): T =>
  list[Math.floor(next() * list.length)] as T;
const whole = (next: Random, below: number): number => Math.floor(next() * below);

/** aedes#612. */
const KNOWN = ['101000044d5154540502003c0321001400006202d301e0020020'];

const TOPICS = [
  'a/b',
  'fuzz/x',
  '',
  '#',
  '+',
  '$SYS/x',
  '/',
  'a//b',
  '__proto__',
  'a/'.repeat(60),
  'ü/€',
  '\u0000',
  'homie/5/d/$state',
];

function text(next: Random): Buffer {
  return next() < 0.8
    ? Buffer.from(pick(next, TOPICS))
    : Buffer.from(Array.from({ length: whole(next, 40) }, () => whole(next, 256)));
}

function one(next: Random, token: string): Buffer {
  const id = whole(next, 5) === 0 ? whole(next, 65_536) : 1 + whole(next, 50);
  switch (whole(next, 30)) {
    case 0:
      return subscribePacket(id, text(next), text(next));
    case 1:
      return packet(
        0xa2,
        Buffer.concat([Buffer.from([id >> 8, id & 255, 0, 1]), Buffer.from('a')]),
      );
    case 2:
      return Buffer.from('c000', 'hex');
    case 3:
      return packet(pick(next, [0x40, 0x50, 0x62, 0x70]), Buffer.from([id >> 8, id & 255]));
    case 4:
      return Buffer.from('e000', 'hex');
    case 5:
      return publishRaw(text(next), token, whole(next, 3), id);
    case 6:
      return connectPacket({ id: text(next) });
    case 7:
      return packet(
        whole(next, 256),
        Buffer.from(Array.from({ length: whole(next, 30) }, () => whole(next, 256))),
      );
    default:
      return encodePublish(
        pick(next, ['fuzz/a', 'fuzz/b/c', 'x']),
        token,
        pick(next, [0, 1, 1, 1, 2]),
        Math.max(1, id),
        pick(next, [0, 0, 0, 1, 8]),
      );
  }
}

function damage(next: Random, bytes: Buffer): Buffer {
  if (bytes.length === 0) return bytes;
  const at = whole(next, bytes.length);
  const copy = Buffer.from(bytes);
  switch (whole(next, 8)) {
    case 0:
      copy[at] = (copy[at] as number) ^ (1 << whole(next, 8));
      return copy;
    case 1:
      copy[at] = whole(next, 256);
      return copy;
    case 2:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(at + 1 + whole(next, 4))]);
    case 3:
      return Buffer.concat([
        copy.subarray(0, at),
        Buffer.from(Array.from({ length: 1 + whole(next, 8) }, () => whole(next, 256))),
        copy.subarray(at),
      ]);
    case 4:
      return copy.subarray(0, at);
    case 5:
      copy[at] = pick(next, [0, 1, 0x7f, 0x80, 0xff]);
      return copy;
    case 6:
      return Buffer.concat([copy, copy.subarray(at)]);
    default:
      // A length field: that of the packet or of a string.
      if (copy.length > 3) copy.writeUInt16BE(whole(next, 65_536), Math.min(at, copy.length - 2));
      return copy;
  }
}

/** Properties of every kind, right or wrong for where they stand, once, twice or by the hundred. */
function properties(next: Random): number[][] {
  const some = (): number[] =>
    pick(next, [
      () => P.user(text(next).toString(), 'x'),
      () => P.contentType('text/plain'),
      () => P.messageExpiry(whole(next, 100)),
      () => P.topicAlias(whole(next, 20)),
      () => P.payloadFormat(whole(next, 3)),
      () => P.responseTopic('a/b'),
      () => P.correlationData('c'),
      () => P.subscriptionId(whole(next, 3)),
      () => P.sessionExpiry(whole(next, 5)),
      () => P.receiveMaximum(whole(next, 3)),
      () => P.maximumPacketSize(whole(next, 300)),
      () => P.topicAliasMaximum(whole(next, 5)),
      () => P.willDelay(whole(next, 3)),
      () => P.requestProblemInformation(whole(next, 3)),
      () => P.authenticationMethod('x'),
      // Those that only servers say, and any other: with a value of some length.
      () => [
        pick(next, [0x12, 0x13, 0x16, 0x19, 0x1a, 0x1c, 0x1f, 0x24, 0x25, 0x28, 0x29, 0x2a]),
        ...pick(next, [[0], [1], [2], [0, 0], [0, 1, 97], [0, 9, 97], [0xff, 0xff]]),
      ],
      () => [
        0x0b,
        ...pick(next, [[0], [0x80, 0], [0xff, 0xff, 0xff, 0x7f], [0xff, 0xff, 0xff, 0xff, 1]]),
      ],
      () => [whole(next, 256), whole(next, 256), whole(next, 256)],
    ])();
  const count = next() < 0.7 ? 0 : next() < 0.97 ? 1 + whole(next, 3) : 300;
  const all = Array.from({ length: count }, some);
  // One of them twice.
  return next() < 0.2 ? [...all, ...all.slice(0, 1)] : all;
}

/** A block whose length is that of its properties, or another. */
function sized(next: Random): number[] {
  const bytes = block(properties(next));
  if (next() < 0.1) bytes[0] = whole(next, 256);
  return bytes;
}

function one5(next: Random, token: string): Buffer {
  const id = whole(next, 5) === 0 ? whole(next, 65_536) : 1 + whole(next, 50);
  switch (whole(next, 30)) {
    case 0:
      return subscribe5(id, [[text(next).toString(), whole(next, 64)]], properties(next));
    case 1:
      return subscribe5(id, [[`$share/g/${text(next).toString()}`, whole(next, 3)]]);
    case 2:
      return unsubscribe5(id, [text(next).toString()]);
    case 3:
      return ack5(pick(next, [4, 5, 6, 7]), id, pick(next, [0, 0x10, 0x80, 0x92]));
    case 4:
      return disconnect5(pick(next, [0, 4, 0x80]), properties(next));
    case 5:
      return packet5(pick(next, [0xf0, 0xc0, 0x20, 0xd0]), [0x18], sized(next));
    case 6:
      // An acknowledgement, or an UNSUBSCRIBE, with properties.
      return next() < 0.8
        ? packet5(
            pick(next, [0x40, 0x50, 0x62, 0x70]),
            [id >> 8, id & 255, pick(next, [0, 0x10, 0x55, 0x92])],
            sized(next),
          )
        : packet5(0xa2, [id >> 8, id & 255], sized(next), [0, 1, 97]);
    case 7:
      return connect5('again', { properties: properties(next) });
    default:
      return publish5(pick(next, ['fuzz/a', 'fuzz/b/c', 'x']), token, {
        qos: pick(next, [0, 1, 1, 1, 2]),
        id: Math.max(1, id),
        retain: next() < 0.05,
        properties: properties(next),
      });
  }
}

function whole5(next: Random, token: string): Buffer[] {
  const options = {
    clean: next() < 0.8,
    properties: next() < 0.9 ? [] : properties(next),
    ...(next() < 0.1 ? { username: 'u', password: 'p' } : {}),
    ...(next() < 0.1
      ? { will: { topic: 'fuzz/will', payload: token, properties: properties(next) } }
      : {}),
  };
  const parts = [connect5(next() < 0.9 ? `fuzz-${token}` : text(next).toString(), options)];
  const count = 1 + whole(next, 6);
  for (let index = 0; index < count; index++) parts.push(one5(next, `${token}.${index}`));
  return parts;
}

function whole311(next: Random, token: string): Buffer[] {
  const parts = [
    connectPacket({
      id: next() < 0.9 ? `fuzz-${token}` : text(next),
      clean: next() < 0.9,
      ...(next() < 0.1 ? { user: 'u', password: 'p' } : {}),
      ...(next() < 0.1 ? { will: { topic: 'fuzz/will', payload: token } } : {}),
    }),
  ];
  const count = 1 + whole(next, 6);
  for (let index = 0; index < count; index++) parts.push(one(next, `${token}.${index}`));
  return parts;
}

/** The parts of a connection, each sent in a write of its own. `token` makes its payloads its own. */
export function conversation(next: Random, token: string, version: 4 | 5): Buffer[] {
  if (next() < 0.01) return [Buffer.from(pick(next, KNOWN), 'hex')];
  const parts = version === 5 ? whole5(next, token) : whole311(next, token);
  // A quarter is left as it is: what is right must go on being right among what is not.
  const rounds = next() < 0.25 ? 0 : 1 + whole(next, 3);
  for (let round = 0; round < rounds; round++) {
    const at = next() < 0.15 ? 0 : whole(next, parts.length);
    parts[at] = damage(next, parts[at] as Buffer);
  }
  if (next() < 0.3) {
    // Cut elsewhere than packets end.
    const all = Buffer.concat(parts);
    const cut = whole(next, all.length + 1);
    return [all.subarray(0, cut), all.subarray(cut)];
  }
  return parts;
}
