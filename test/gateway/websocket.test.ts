/** MQTT over WebSocket: frames however they come, what is none, and floods of what costs the sender little. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect, type Socket } from 'node:net';
import { randomBytes } from 'node:crypto';
import { FrameReader } from '../../gateway/ingress/websocket-frames.ts';
import { PacketScanner } from '../../shared/mqtt/scanner.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { encodeConnect, encodePublish } from '../support/load.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { connected } from '../support/raw-mqtt.ts';

const BAD = '127.0.0.2';
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

/** A frame as a client makes it. */
function frame(payload: Buffer | string, opcode = 2, isFinal = true, declared?: number): Buffer {
  const body = Buffer.from(payload);
  const mask = randomBytes(4);
  const length = declared ?? body.length;
  const head =
    length < 126
      ? [length | 0x80]
      : length < 65_536
        ? [126 | 0x80, length >> 8, length & 255]
        : [127 | 0x80, 0, 0, 0, 0, ...Buffer.from(length.toString(16).padStart(8, '0'), 'hex')];
  const masked = body.map((byte, at) => byte ^ (mask[at & 3] ?? 0));
  return Buffer.concat([Buffer.from([(isFinal ? 0x80 : 0) | opcode, ...head]), mask, masked]);
}

const FRAGMENT = 0;
const TEXT = 1;
const CLOSE = 8;
const PING = 9;

describe('frames', () => {
  const read = (bytes: Buffer, step: number): { data: string; said: string[] } => {
    const said: string[] = [];
    const reader = new FrameReader({
      ping: (payload) => void said.push(`ping ${payload.toString()}`),
      close: () => void said.push('close'),
    });
    const parts: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += step)
      parts.push(Buffer.from(reader.push(Buffer.from(bytes.subarray(at, at + step)))));
    return { data: Buffer.concat(parts).toString('latin1'), said };
  };

  it('however they are cut, what they carry comes out, with pings between the fragments', () => {
    const long = randomBytes(70_000);
    const bytes = Buffer.concat([
      frame('a'),
      frame('', 2, false),
      frame('bc', FRAGMENT, false),
      frame('x'.repeat(125), PING),
      frame('', PING),
      frame('d', FRAGMENT),
      frame('e'.repeat(126)),
      frame(long),
      frame('\u0003\u00e8', CLOSE),
    ]);
    for (const step of [1, 2, 3, 7, 1000, bytes.length]) {
      const { data, said } = read(bytes, step);
      expect(data).toBe(`abcd${'e'.repeat(126)}${long.toString('latin1')}`);
      expect(said).toEqual([`ping ${'x'.repeat(125)}`, 'ping ', 'close']);
    }
  });
});

it('a packet that comes byte by byte takes no more than its length', () => {
  const scanner = new PacketScanner(1024 * 1024);
  const packet = encodePublish('t', randomBytes(500_000), 1, 1);
  const after = encodePublish('t', 'after', 1, 2);
  global.gc?.();
  const before = process.memoryUsage();
  for (const byte of packet.subarray(0, -1)) {
    scanner.push(Buffer.from([byte]));
    scanner.next();
  }
  const now = process.memoryUsage();
  expect(now.arrayBuffers + now.heapUsed - before.arrayBuffers - before.heapUsed).toBeLessThan(
    40 * 1024 * 1024,
  );
  expect(scanner.begunBytes).toBe(packet.length);
  // What comes with its end is not lost, however it was cut.
  scanner.push(Buffer.concat([packet.subarray(-1), after, after.subarray(0, 1)]));
  scanner.push(after.subarray(1));
  expect(scanner.next()?.bytes.equals(packet)).toBe(true);
  expect(scanner.next()?.bytes.equals(after)).toBe(true);
  expect(scanner.next()?.bytes.equals(after)).toBe(true);
  expect(scanner.next()).toBeUndefined();
  expect(scanner.begunBytes).toBe(0);
});

let running: RunningGateway;
const sockets: Socket[] = [];
beforeEach(async () => {
  running = await runGateway(temporaryFolder(), { 'ws.listen': '127.0.0.1:0' });
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await running.gateway.close();
});

interface Raw {
  socket: Socket;
  received(): Buffer;
  isClosed(): boolean;
}

/** The bytes of a handshake, and what comes back. */
async function knock(
  more: Record<string, string> = {},
  first: Buffer = Buffer.alloc(0),
): Promise<Raw> {
  const port = running.ws;
  const socket = connect({ host: '127.0.0.1', port, localAddress: BAD, noDelay: true });
  sockets.push(socket);
  let received: Buffer = Buffer.alloc(0);
  let isClosed = false;
  socket.on('data', (part: Buffer) => (received = Buffer.concat([received, part])));
  socket.on('error', () => undefined);
  socket.on('close', () => (isClosed = true));
  await new Promise((resolve) => socket.once('connect', resolve));
  const headers = {
    host: `127.0.0.1:${port}`,
    upgrade: 'websocket',
    connection: 'Upgrade',
    'sec-websocket-version': '13',
    'sec-websocket-key': KEY,
    'sec-websocket-protocol': 'mqtt',
    ...more,
  };
  const lines = Object.entries(headers).filter(([, value]) => value !== '');
  const text = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  socket.write(Buffer.concat([Buffer.from(`GET / HTTP/1.1\r\n${text}\r\n`), first]));
  return { socket, received: () => received, isClosed: () => isClosed };
}

/** Let in as a device of 3.1.1. */
async function device(id: string): Promise<Raw> {
  const raw = await knock({}, frame(encodeConnect(id)));
  await until(
    'a CONNACK',
    () => raw.received().includes(Buffer.from([0x82, 4, 0x20])) || undefined,
  );
  return raw;
}

/** What `raw` is told from now on, and that it is closed then. */
async function goodbye(raw: Raw, bytes: Buffer): Promise<Buffer> {
  const from = raw.received().length;
  raw.socket.write(bytes);
  await until('an end', () => raw.isClosed() || undefined, 10_000);
  return raw.received().subarray(from);
}

async function serves(id: string): Promise<void> {
  const good = await connected(running.port, id, undefined, '127.0.0.3');
  const from = good.received().length;
  good.send(encodePublish('alive', '1', 1, 9));
  expect((await good.bytes(from + 4)).subarray(from).toString('hex')).toBe('40020009');
  good.socket.destroy();
}

it('a handshake that is none is told so, and nothing is opened', async () => {
  for (const [headers, status] of [
    [
      { 'sec-websocket-version': '8' },
      'HTTP/1.1 426 Upgrade Required\r\nsec-websocket-version: 13',
    ],
    [{ 'sec-websocket-version': '' }, 'HTTP/1.1 400'],
    [{ 'sec-websocket-key': '' }, 'HTTP/1.1 400'],
    [{ 'sec-websocket-key': 'short' }, 'HTTP/1.1 400'],
    [{ 'sec-websocket-protocol': 'mqttx' }, 'HTTP/1.1 400'],
    [{ upgrade: 'h2c' }, 'HTTP/1.1 400'],
    [{ origin: 'https://evil.example' }, 'HTTP/1.1 403'],
    [{ host: '127.0.0.1.evil.example' }, 'HTTP/1.1 403'],
  ] as const) {
    const raw = await knock(headers);
    await until('an answer', () => raw.received().length > 0 || undefined);
    expect(raw.received().toString('latin1')).toContain(status);
  }
  const { received } = await knock({ 'sec-websocket-protocol': 'chat, mqtt' });
  // The answer to this key is in RFC 6455, 1.3.
  await until('an answer', () =>
    received().includes('sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=') ? true : undefined,
  );
});

it('what breaks the protocol of frames is told its code and closed', async () => {
  const flipped = (at: number, bits: number, bytes = frame('x')): Buffer => {
    bytes[at] = (bytes[at] ?? 0) ^ bits;
    return bytes;
  };
  const cases: [string, Buffer, number][] = [
    ['compressed, which nobody agreed to', flipped(0, 0x40), 1002],
    ['reserved bits', flipped(0, 0x20), 1002],
    ['not masked', flipped(1, 0x80), 1002],
    ['text', frame('x', TEXT), 1003],
    ['a kind that is none', frame('x', 3), 1002],
    ['a control frame that is none', frame('x', 11), 1002],
    ['a ping in fragments', frame('x', PING, false), 1002],
    ['a ping of 126 bytes', frame('x'.repeat(126), PING), 1002],
    ['a fragment of nothing', frame('x', FRAGMENT), 1002],
    ['a message within a message', Buffer.concat([frame('', 2, false), frame('x')]), 1002],
    ['2^63 bytes', Buffer.from([0x82, 0xff, 0x80, ...Array(11).fill(0)]), 1002],
    ['goodbye', frame('\u0003\u00e8', CLOSE), 1000],
  ];
  for (const [what, bytes, code] of cases) {
    const told = await goodbye(await device('bad'), bytes);
    expect([what, told.toString('hex')]).toEqual([
      what,
      `8802${code.toString(16).padStart(4, '0')}`,
    ]);
  }
  await serves('good');
});

it('what came before a goodbye, in the same piece, is taken', async () => {
  const raw = await device('last-words');
  const words = [encodePublish('last', 'words', 0, 0), Buffer.from([0xe0, 0])];
  await goodbye(raw, Buffer.concat([...words.map((each) => frame(each)), frame('', CLOSE)]));
  await until('what was said', async () =>
    (await running.metric('headwater_ingress_messages_total')) === 1 ? true : undefined,
  );
});

it('pings whose answers nobody reads are not read either', async () => {
  const raw = await device('pings');
  raw.socket.pause();
  const flood = Buffer.concat(Array.from({ length: 500 }, () => frame('x'.repeat(125), PING)));
  let written = 0;
  // Both kernels' buffers fill, then nothing is taken: far below what the sender would send.
  await until('it not to be read from', async () => {
    while (raw.socket.writableLength < 4_000_000) {
      raw.socket.write(flood);
      written += flood.length;
    }
    const held = raw.socket.writableLength;
    await serves('good');
    return raw.socket.writableLength === held || undefined;
  });
  raw.socket.resume();
  await until('all to be answered', () =>
    raw.received().length > (written * 127) / 131 ? true : undefined,
  );
});

it('empty fragments and bytes one by one take neither memory nor turns of others', async () => {
  const raw = await device('fragments');
  const before = process.memoryUsage();
  raw.socket.write(frame('', 2, false));
  const empty = Buffer.concat(Array.from({ length: 5000 }, () => frame('', FRAGMENT, false)));
  for (let at = 0; at < 10; at++) raw.socket.write(empty);
  const packet = encodePublish('slow', randomBytes(100_000), 1, 5);
  const from = raw.received().length;
  const single = (part: Buffer): Buffer =>
    Buffer.concat([...part].map((byte) => frame(Buffer.from([byte]), FRAGMENT, false)));
  for (let at = 0; at < packet.length; at += 5000)
    raw.socket.write(single(packet.subarray(at, at + 5000)));
  await serves('good');
  await until('its acknowledgement', () => (raw.received().length >= from + 6 ? true : undefined));
  expect(raw.received().subarray(from).toString('hex')).toBe('820440020005');
  expect(process.memoryUsage().rss - before.rss).toBeLessThan(150 * 1024 * 1024);
});

it('of packets that begin and never end, in fragments of a WebSocket too, each principal has its share', async () => {
  const packet = encodePublish('large', randomBytes(1024 * 1024 - 100), 1, 1);
  const used = 'headwater_limit_used{limit="begun_packets"}';
  const begun = await Promise.all(
    Array.from({ length: 40 }, async (_, at) => {
      const raw = await device(`bad-${at}`);
      raw.socket.write(frame(packet.subarray(0, 300_000), 2, false));
      raw.socket.write(frame(packet.subarray(300_000, -1), FRAGMENT, false));
      return raw;
    }),
  );
  await until('its share to be begun', async () =>
    (await running.metric(used)) > 15 * packet.length ? true : undefined,
  );
  expect(await running.metric(used)).toBeLessThan(17 * packet.length);
  await serves('good');
  for (const { socket } of begun) socket.write(frame(packet.subarray(-1), FRAGMENT));
  await until(
    'all to be acknowledged',
    () =>
      begun.every(({ received }) => received().includes(Buffer.from([0x40, 2, 0, 1]))) || undefined,
  );
  expect(await running.metric(used)).toBe(0);
});
