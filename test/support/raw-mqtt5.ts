/** A raw MQTT 5 client: sends packets as they are given, and reads what comes back packet by packet, properties as bytes. */
import { rawClient, type RawClient } from './raw-mqtt.ts';
import { until } from './process.ts';

const run = (text: string | Buffer): Buffer => {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
};
const varint = (value: number): number[] => {
  const bytes: number[] = [];
  let rest = value;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    bytes.push(rest > 0 ? low | 128 : low);
  } while (rest > 0);
  return bytes;
};
const u32 = (value: number): number[] => [
  (value >>> 24) & 255,
  (value >>> 16) & 255,
  (value >>> 8) & 255,
  value & 255,
];

/** Properties as bytes, by their names in the specification. */
export const P = {
  payloadFormat: (value: number): number[] => [0x01, value],
  messageExpiry: (seconds: number): number[] => [0x02, ...u32(seconds)],
  contentType: (text: string): number[] => [0x03, ...run(text)],
  responseTopic: (text: string): number[] => [0x08, ...run(text)],
  correlationData: (text: string): number[] => [0x09, ...run(text)],
  subscriptionId: (id: number): number[] => [0x0b, ...varint(id)],
  sessionExpiry: (seconds: number): number[] => [0x11, ...u32(seconds)],
  authenticationMethod: (text: string): number[] => [0x15, ...run(text)],
  requestProblemInformation: (value: number): number[] => [0x17, value],
  willDelay: (seconds: number): number[] => [0x18, ...u32(seconds)],
  receiveMaximum: (count: number): number[] => [0x21, count >> 8, count & 255],
  topicAliasMaximum: (count: number): number[] => [0x22, count >> 8, count & 255],
  topicAlias: (alias: number): number[] => [0x23, alias >> 8, alias & 255],
  user: (name: string, value: string): number[] => [0x26, ...run(name), ...run(value)],
  maximumPacketSize: (bytes: number): number[] => [0x27, ...u32(bytes)],
};

export const block = (properties: number[][]): number[] => {
  const bytes = properties.flat();
  return [...varint(bytes.length), ...bytes];
};
export const packet5 = (first: number, ...parts: (number[] | Buffer)[]): Buffer => {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
  return Buffer.concat([Buffer.from([first, ...varint(body.length)]), body]);
};

export interface Connect5 {
  clean?: boolean;
  keepAlive?: number;
  properties?: number[][];
  will?: {
    topic: string;
    payload: string;
    qos?: number;
    retain?: boolean;
    properties?: number[][];
  };
  username?: string;
  password?: string;
}

export function connect5(clientId: string, options: Connect5 = {}): Buffer {
  const { clean = true, keepAlive = 0, properties = [], will, username, password } = options;
  const flags =
    (clean ? 2 : 0) |
    (will === undefined ? 0 : 4 | ((will.qos ?? 0) << 3) | (will.retain === true ? 32 : 0)) |
    (username === undefined ? 0 : 128) |
    (password === undefined ? 0 : 64);
  return packet5(
    0x10,
    run('MQTT'),
    [5, flags, keepAlive >> 8, keepAlive & 255],
    block(properties),
    run(clientId),
    ...(will === undefined
      ? []
      : [block(will.properties ?? []), run(will.topic), run(will.payload)]),
    ...(username === undefined ? [] : [run(username)]),
    ...(password === undefined ? [] : [run(password)]),
  );
}

export const publish5 = (
  topic: string,
  payload: string | Buffer,
  { qos = 0, id = 1, retain = false, dup = false, properties = [] as number[][] } = {},
): Buffer =>
  packet5(
    0x30 | (dup ? 8 : 0) | (qos << 1) | (retain ? 1 : 0),
    run(topic),
    qos > 0 ? [id >> 8, id & 255] : [],
    block(properties),
    Buffer.from(payload),
  );

/** Options: bits 0-1 QoS, 2 noLocal, 3 retain as published, 4-5 retain handling. */
export const subscribe5 = (
  id: number,
  filters: [filter: string, options: number][],
  properties: number[][] = [],
): Buffer =>
  packet5(
    0x82,
    [id >> 8, id & 255],
    block(properties),
    ...filters.flatMap(([filter, options]) => [run(filter), [options]]),
  );
export const unsubscribe5 = (id: number, filters: string[]): Buffer =>
  packet5(0xa2, [id >> 8, id & 255], [0], ...filters.map((filter) => run(filter)));
export const ack5 = (type: number, id: number, reason?: number): Buffer =>
  packet5((type << 4) | (type === 6 ? 2 : 0), [
    id >> 8,
    id & 255,
    ...(reason === undefined ? [] : [reason]),
  ]);
export const disconnect5 = (reason = 0, properties: number[][] = []): Buffer =>
  packet5(0xe0, [reason], block(properties));

export interface Received5 {
  type: number;
  flags: number;
  body: Buffer;
  /** Of CONNACK, the acknowledgements and DISCONNECT. */
  reason: number;
  /** Packet id, where it has one. */
  id: number;
  /** Of a PUBLISH. */
  topic: string;
  payload: string;
  qos: number;
  retain: boolean;
  dup: boolean;
  /** As bytes in hex, without their length. */
  properties: string;
}

function readVarint(bytes: Buffer, offset: number): [value: number, end: number] | undefined {
  let value = 0;
  let at = offset;
  for (let scale = 1; ; scale *= 128) {
    const byte = bytes[at++];
    if (byte === undefined) return undefined;
    value += (byte & 127) * scale;
    if (byte < 128) return [value, at];
  }
}

function received(first: number, body: Buffer): Received5 {
  const type = first >> 4;
  const flags = first & 15;
  const base = {
    type,
    flags,
    body,
    reason: 0,
    id: 0,
    topic: '',
    payload: '',
    qos: 0,
    retain: false,
    dup: false,
    properties: '',
  };
  const propertiesAt = (offset: number): [text: string, end: number] => {
    const [size, end] = readVarint(body, offset) ?? [0, offset];
    return [body.toString('hex', end, end + size), end + size];
  };
  if (type === 2) return { ...base, reason: body[1] ?? 0, properties: propertiesAt(2)[0] };
  if (type === 14) return { ...base, reason: body[0] ?? 0, properties: propertiesAt(1)[0] };
  if (type === 9 || type === 11) {
    const [properties, end] = propertiesAt(2);
    return { ...base, id: body.readUInt16BE(0), properties, payload: body.toString('hex', end) };
  }
  if (type >= 4 && type <= 7)
    return {
      ...base,
      id: body.readUInt16BE(0),
      reason: body[2] ?? 0,
      properties: body.length > 3 ? propertiesAt(3)[0] : '',
    };
  if (type !== 3) return base;
  const qos = (flags >> 1) & 3;
  const topicEnd = 2 + body.readUInt16BE(0);
  const at = topicEnd + (qos > 0 ? 2 : 0);
  const [properties, end] = propertiesAt(at);
  return {
    ...base,
    topic: body.toString('utf8', 2, topicEnd),
    id: qos > 0 ? body.readUInt16BE(topicEnd) : 0,
    qos,
    retain: (flags & 1) !== 0,
    dup: (flags & 8) !== 0,
    properties,
    payload: body.toString('utf8', end),
  };
}

export interface Client5 extends RawClient {
  packets(): Received5[];
  /** The next packet that nobody has taken yet, of a type if one is given: others before it are passed over. */
  next(type?: number): Promise<Received5>;
  /** Nothing has come that is not taken, `ms` later. */
  silent(ms?: number): Promise<void>;
}

export function reader5(raw: RawClient): Client5 {
  let taken = 0;
  const packets = (): Received5[] => {
    const bytes = raw.received();
    const list: Received5[] = [];
    for (let at = 0; at < bytes.length; ) {
      const size = readVarint(bytes, at + 1);
      if (size === undefined || size[1] + size[0] > bytes.length) break;
      list.push(received(bytes[at] ?? 0, bytes.subarray(size[1], size[1] + size[0])));
      at = size[1] + size[0];
    }
    return list;
  };
  return {
    ...raw,
    packets,
    next: async (type) =>
      await until(
        `a packet${type === undefined ? '' : ` of type ${type}`}`,
        () => {
          const list = packets();
          while (taken < list.length) {
            const packet = list[taken++];
            if (packet !== undefined && (type === undefined || packet.type === type)) return packet;
          }
          return undefined;
        },
        10_000,
      ),
    silent: async (ms = 150) => {
      await new Promise((resolve) => setTimeout(resolve, ms));
      const more = packets().slice(taken);
      if (more.length > 0) throw new Error(`unexpected: ${JSON.stringify(more)}`);
    },
  };
}

/** Connected; its CONNACK is taken. */
export async function connected5(
  port: number,
  clientId: string,
  options: Connect5 = {},
): Promise<Client5 & { connack: Received5 }> {
  const client = reader5(await rawClient(port));
  client.send(connect5(clientId, options));
  const connack = await client.next(2);
  if (connack.reason !== 0) throw new Error(`CONNACK 0x${connack.reason.toString(16)}`);
  return { ...client, connack };
}

/** A session that outlives its connection. */
export const lasting = (seconds = 3600, more: number[][] = []): Connect5 => ({
  clean: false,
  properties: [P.sessionExpiry(seconds), ...more],
});

/** The reasons of its SUBACK. */
export async function subscribed(
  each: Client5,
  filters: [string, number][],
  properties: number[][] = [],
): Promise<string> {
  each.send(subscribe5(1, filters, properties));
  return (await each.next(9)).payload;
}

/** Without a DISCONNECT. */
export async function gone(each: Client5): Promise<void> {
  each.socket.destroy();
  await each.closed();
}
