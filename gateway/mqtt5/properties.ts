/**
 * Properties of MQTT 5 packets (OASIS MQTT 5.0, 2.2.2), read and written here and not by mqtt-packet, which loses the
 * order and doubling of user properties and takes a property twice. What a publisher says is kept as the bytes that it
 * sent, in their order [MQTT-3.3.2-18]: the frame, the mapping and every subscriber get the same.
 */
import { readBinary, readString } from '../../shared/mqtt/packets.ts';
import { REASON, Refusal, malformed, protocolError } from './reasons.ts';

type Form = 'byte' | 'u16' | 'u32' | 'varint' | 'text' | 'binary' | 'pair';

/** Packets and the will, as bits. */
export const IN = {
  connect: 1,
  connack: 2,
  publish: 4,
  will: 8,
  ack: 16,
  subscribe: 32,
  suback: 64,
  unsubscribe: 128,
  disconnect: 256,
  auth: 512,
} as const;

interface Spec {
  id: number;
  form: Form;
  /** Where it may stand: table 2-4. */
  where: number;
  /** 0 or 1 are its only values. */
  isFlag?: true;
  /** 0 is a protocol error. */
  notZero?: true;
}

const PROPERTIES = {
  payloadFormat: { id: 0x01, form: 'byte', where: IN.publish | IN.will, isFlag: true },
  messageExpiry: { id: 0x02, form: 'u32', where: IN.publish | IN.will },
  contentType: { id: 0x03, form: 'text', where: IN.publish | IN.will },
  responseTopic: { id: 0x08, form: 'text', where: IN.publish | IN.will },
  correlationData: { id: 0x09, form: 'binary', where: IN.publish | IN.will },
  subscriptionId: { id: 0x0b, form: 'varint', where: IN.publish | IN.subscribe, notZero: true },
  sessionExpiry: { id: 0x11, form: 'u32', where: IN.connect | IN.connack | IN.disconnect },
  assignedClientId: { id: 0x12, form: 'text', where: IN.connack },
  serverKeepAlive: { id: 0x13, form: 'u16', where: IN.connack },
  authenticationMethod: { id: 0x15, form: 'text', where: IN.connect | IN.connack | IN.auth },
  authenticationData: { id: 0x16, form: 'binary', where: IN.connect | IN.connack | IN.auth },
  requestProblemInformation: { id: 0x17, form: 'byte', where: IN.connect, isFlag: true },
  willDelay: { id: 0x18, form: 'u32', where: IN.will },
  requestResponseInformation: { id: 0x19, form: 'byte', where: IN.connect, isFlag: true },
  serverReference: { id: 0x1c, form: 'text', where: IN.connack | IN.disconnect },
  reasonString: {
    id: 0x1f,
    form: 'text',
    where: IN.connack | IN.ack | IN.suback | IN.disconnect | IN.auth,
  },
  receiveMaximum: { id: 0x21, form: 'u16', where: IN.connect | IN.connack, notZero: true },
  topicAliasMaximum: { id: 0x22, form: 'u16', where: IN.connect | IN.connack },
  topicAlias: { id: 0x23, form: 'u16', where: IN.publish },
  userProperty: { id: 0x26, form: 'pair', where: 0x3ff },
  maximumPacketSize: { id: 0x27, form: 'u32', where: IN.connect | IN.connack, notZero: true },
  wildcardAvailable: { id: 0x28, form: 'byte', where: IN.connack, isFlag: true },
  subscriptionIdAvailable: { id: 0x29, form: 'byte', where: IN.connack, isFlag: true },
  sharedAvailable: { id: 0x2a, form: 'byte', where: IN.connack, isFlag: true },
} as const satisfies Record<string, Spec>;

export type PropertyName = keyof typeof PROPERTIES;

const BY_ID = new Map<number, [PropertyName, Spec]>(
  Object.entries(PROPERTIES).map(([name, spec]) => [spec.id, [name as PropertyName, spec]]),
);

/** Properties that a server passes on as they came [MQTT-3.3.2-4, -15 to -18]. */
const FORWARDED = new Set<PropertyName>([
  'payloadFormat',
  'contentType',
  'responseTopic',
  'correlationData',
  'userProperty',
]);

export interface Properties {
  numbers: Partial<Record<PropertyName, number>>;
  texts: Partial<Record<PropertyName, string>>;
  /** What is passed on, as bytes, in order; without the message's expiry, which counts down. Undefined: nothing. */
  forwarded: Buffer | undefined;
  hasAuthenticationData?: true;
}

export const NO_PROPERTIES: Properties = { numbers: {}, texts: {}, forwarded: undefined };

/** A variable byte integer [MQTT-1.5.5-1]. */
export function readVarint(bytes: Buffer, offset: number): { value: number; end: number } {
  let value = 0;
  for (let scale = 1, at = offset; scale <= 2_097_152; scale *= 128) {
    const byte = bytes[at++];
    if (byte === undefined) malformed('packet ends within a variable byte integer');
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) {
      if (at - offset > 1 && byte === 0) malformed('a number has more bytes than it needs');
      return { value, end: at };
    }
  }
  return malformed('a variable byte integer has more than four bytes');
}

export function writeVarint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    bytes.push(rest > 0 ? low | 0x80 : low);
  } while (rest > 0);
  return bytes;
}

interface Value {
  number?: number;
  text?: string;
  end: number;
}

function fixed(bytes: Buffer, at: number, size: 1 | 2 | 4, name: string): Value {
  if (at + size > bytes.length) malformed(`packet ends within ${name}`);
  return { number: bytes.readUIntBE(at, size), end: at + size };
}

function readValue(bytes: Buffer, at: number, form: Form, name: string): Value {
  switch (form) {
    case 'byte':
      return fixed(bytes, at, 1, name);
    case 'u16':
      return fixed(bytes, at, 2, name);
    case 'u32':
      return fixed(bytes, at, 4, name);
    case 'varint': {
      const { value, end } = readVarint(bytes, at);
      return { number: value, end };
    }
    case 'text':
      return readString(bytes, at, name);
    case 'binary':
      return readBinary(bytes, at, name);
    default: // A pair of texts.
      return { end: readString(bytes, readString(bytes, at, name).end, name).end };
  }
}

/**
 * The properties at `offset`, their length in front. `where` is one of IN. Throws Refusal: malformed for bytes that are
 * none, protocol error for one that may not stand there, stands there twice or has no such value.
 */
export function readProperties(
  bytes: Buffer,
  offset: number,
  where: number,
): { properties: Properties; end: number } {
  const length = readVarint(bytes, offset);
  const end = length.end + length.value;
  if (end > bytes.length) malformed('packet ends within its properties');
  if (length.value === 0) return { properties: NO_PROPERTIES, end };
  const properties: Properties = { numbers: {}, texts: {}, forwarded: undefined };
  const seen = new Set<PropertyName>();
  const forwarded: Buffer[] = [];
  const block = bytes.subarray(0, end);
  for (let at = length.end; at < end; ) {
    const start = at;
    const [name, spec] = BY_ID.get(block[at] ?? 0) ?? [];
    if (name === undefined || spec === undefined)
      return malformed(`property ${block[at]} does not exist`);
    if ((spec.where & where) === 0) malformed(`${name} may not stand in this packet`);
    if (seen.has(name) && name !== 'userProperty') protocolError(`${name} stands there twice`);
    seen.add(name);
    const value = readValue(block, at + 1, spec.form, name);
    if (spec.isFlag === true && (value.number ?? 0) > 1)
      protocolError(`${name} is neither 0 nor 1`);
    if (spec.notZero === true && value.number === 0) protocolError(`${name} is 0`);
    if (value.number !== undefined) properties.numbers[name] = value.number;
    if (value.text !== undefined) properties.texts[name] = value.text;
    if (name === 'authenticationData') properties.hasAuthenticationData = true;
    at = value.end;
    if (FORWARDED.has(name)) forwarded.push(block.subarray(start, at));
  }
  // A copy: the bytes of a packet are a view on what the socket received.
  if (forwarded.length > 0) properties.forwarded = Buffer.concat(forwarded);
  if (properties.texts.responseTopic !== undefined && /[+#]/.test(properties.texts.responseTopic))
    throw new Refusal(REASON.protocolError, 'the response topic holds a wildcard'); // [MQTT-3.3.2-14]
  return { properties, end };
}

/** Bytes of one property with its id. */
export function property(name: PropertyName, value: number | string): number[] {
  const { id, form } = PROPERTIES[name];
  if (typeof value === 'string') {
    const bytes = Buffer.from(value);
    return [id, bytes.length >> 8, bytes.length & 255, ...bytes];
  }
  if (form === 'varint') return [id, ...writeVarint(value)];
  const size = form === 'byte' ? 1 : form === 'u16' ? 2 : 4;
  const bytes = Buffer.alloc(size);
  bytes.writeUIntBE(value, 0, size);
  return [id, ...bytes];
}
