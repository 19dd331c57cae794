/**
 * MQTT 3.1.1 control packets as far as the front stage needs them: names, lengths, and the checks that the
 * specification asks of a server. Clauses are those of OASIS MQTT 3.1.1.
 */
import { isUtf8 } from 'node:buffer';
import { HeadwaterError } from '../errors.ts';
import { putVarint, varintBytes } from './varint.ts';

export const CONNECT = 1;
export const PUBLISH = 3;
export const PUBACK = 4;
export const PUBREC = 5;
export const PUBREL = 6;
export const PUBCOMP = 7;
export const SUBSCRIBE = 8;
export const UNSUBSCRIBE = 10;
export const PINGREQ = 12;
export const DISCONNECT = 14;
export const AUTH = 15;

/** aedes cannot match deeper topics; it clamps its own limit to this. */
export const TOPIC_LEVELS_MAX = 100;

export function refuse(why: string): never {
  throw new HeadwaterError('PACKET_INVALID', why);
}

/** A UTF-8 string with its two length bytes; `end` is the offset after it. [MQTT-1.5.3-1] [MQTT-1.5.3-2] */
export function readString(
  bytes: Buffer,
  offset: number,
  what: string,
): { text: string; end: number } {
  const run = readBinary(bytes, offset, what);
  if (!isUtf8(run.data)) refuse(`${what} is not valid UTF-8`);
  const text = run.data.toString('utf8');
  if (text.includes('\0')) refuse(`${what} holds a NUL character`);
  return { text, end: run.end };
}

export function readBinary(
  bytes: Buffer,
  offset: number,
  what: string,
): { data: Buffer; end: number } {
  if (offset + 2 > bytes.length) refuse(`packet ends within ${what}`);
  const end = offset + 2 + bytes.readUInt16BE(offset);
  if (end > bytes.length) refuse(`packet ends within ${what}`);
  return { data: bytes.subarray(offset + 2, end), end };
}

function levels(topic: string): number {
  let count = 1;
  for (let i = topic.indexOf('/'); i >= 0; i = topic.indexOf('/', i + 1)) count++;
  return count;
}

/** What is a topic name at all. [MQTT-3.3.2-2] [MQTT-4.7.3-1] */
export function checkTopicForm(topic: string): void {
  if (topic.length === 0) refuse('topic is empty');
  if (topic.includes('#') || topic.includes('+')) refuse('topic of a PUBLISH holds a wildcard');
}

/** Mosquitto's bridges say there, by will and by message, whether they are connected: data, and nothing that a broker says. */
const BRIDGE_STATE = /^\$SYS\/broker\/connection\/[^/]+\/state$/;

/** Why a topic name, which is one, is not taken here; undefined: it is. */
export function notTaken(topic: string): string | undefined {
  if (topic.length >= TOPIC_LEVELS_MAX && levels(topic) > TOPIC_LEVELS_MAX)
    return `topic has more than ${TOPIC_LEVELS_MAX} levels`;
  if (!topic.startsWith('$SYS/') || BRIDGE_STATE.test(topic)) return undefined;
  return "topics below $SYS/ are the broker's own";
}

/** A topic name that a client may publish to. */
export function checkTopicName(topic: string): void {
  checkTopicForm(topic);
  const why = notTaken(topic);
  if (why !== undefined) refuse(why);
}

/** A topic filter. [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-1] */
export function checkTopicFilter(filter: string): void {
  if (filter.length === 0) refuse('topic filter is empty');
  if (levels(filter) > TOPIC_LEVELS_MAX)
    refuse(`topic filter has more than ${TOPIC_LEVELS_MAX} levels`);
  if (!filter.includes('#') && !filter.includes('+')) return;
  const parts = filter.split('/');
  for (const [index, part] of parts.entries()) {
    if (part.includes('#') && (part !== '#' || index !== parts.length - 1))
      refuse('"#" must be the last level alone');
    if (part.includes('+') && part !== '+') refuse('"+" must be a level alone');
  }
}

/** Whether a checked filter matches a topic name. [MQTT-4.7.1] [MQTT-4.7.2-1] */
export function filterMatches(filter: string, topic: string): boolean {
  if (topic.startsWith('$') && !filter.startsWith('$')) return false;
  const filterLevels = filter.split('/');
  const topicLevels = topic.split('/');
  for (const [index, level] of filterLevels.entries()) {
    if (level === '#') return true;
    if (index >= topicLevels.length) return false;
    if (level !== '+' && level !== topicLevels[index]) return false;
  }
  return filterLevels.length === topicLevels.length;
}

export interface ConnectPacket {
  version: number;
  clientId: string;
  clean: boolean;
  keepAliveSeconds: number;
  /** Offset of the keep alive's two bytes in the packet's body. */
  keepAliveOffset: number;
  username: string | undefined;
  password: Buffer | undefined;
  will: WillPacket | undefined;
}

export interface WillPacket {
  topic: string;
  payload: Buffer;
  qos: number;
  retain: boolean;
}

/** Thrown for a protocol version that is answered, not just closed. */
export class UnsupportedVersion extends Error {
  readonly version: number;
  constructor(version: number) {
    super(`protocol version ${version} is not spoken here`);
    this.version = version;
  }
}

/** Body of a CONNECT, checked. Throws PACKET_INVALID or UnsupportedVersion. */
export function readConnect(body: Buffer): ConnectPacket {
  const protocol = readString(body, 0, 'protocol name');
  const version = body[protocol.end];
  const flags = body[protocol.end + 1];
  if (version === undefined || flags === undefined) refuse('CONNECT ends within its header');
  const level = version & 0x7f;
  if (protocol.text !== 'MQTT' && protocol.text !== 'MQIsdp') refuse('protocol name is not MQTT'); // [MQTT-3.1.2-1]
  if (level !== 3 && level !== 4) throw new UnsupportedVersion(level); // [MQTT-3.1.2-2]
  if ((level === 3) !== (protocol.text === 'MQIsdp'))
    refuse('protocol name and level do not belong together');
  if (flags & 1) refuse('reserved flag of CONNECT is set'); // [MQTT-3.1.2-3]
  const will = (flags & 4) !== 0;
  const willQos = (flags >> 3) & 3;
  if (willQos === 3 || (!will && (willQos !== 0 || flags & 32)))
    refuse('will flags of CONNECT are not valid'); // [MQTT-3.1.2-11..15]
  if (flags & 64 && !(flags & 128)) refuse('password without user name'); // [MQTT-3.1.2-22]
  const keepAliveOffset = protocol.end + 2;
  if (keepAliveOffset + 2 > body.length) refuse('CONNECT ends within its header');
  const clientId = readString(body, keepAliveOffset + 2, 'client id');
  let end = clientId.end;
  let said: WillPacket | undefined;
  if (will) {
    const topic = readString(body, end, 'will topic');
    checkTopicName(topic.text);
    const message = readBinary(body, topic.end, 'will message');
    end = message.end;
    const payload = Buffer.from(message.data);
    said = { topic: topic.text, payload, qos: willQos, retain: (flags & 32) !== 0 };
  }
  let username: string | undefined;
  let password: Buffer | undefined;
  if (flags & 128) ({ text: username, end } = readString(body, end, 'user name'));
  if (flags & 64) ({ data: password, end } = readBinary(body, end, 'password'));
  if (end !== body.length) refuse('CONNECT has bytes after its payload');
  return {
    version: level,
    clientId: clientId.text,
    clean: (flags & 2) !== 0,
    keepAliveSeconds: body.readUInt16BE(keepAliveOffset),
    keepAliveOffset,
    username,
    password,
    will: said,
  };
}

export interface SubscriptionPacket {
  packetId: number;
  /** QoS is 0 in an UNSUBSCRIBE. */
  filters: { filter: string; qos: number }[];
}

/** A SUBSCRIBE or UNSUBSCRIBE body, checked. [MQTT-3.8.3-3] [MQTT-3.10.3-2] [MQTT-2.3.1-1] */
export function readSubscription(
  body: Buffer,
  withQos: boolean,
  filtersMax: number,
): SubscriptionPacket {
  if (body.length < 2 || body.readUInt16BE(0) === 0) refuse('packet id is 0');
  const filters: SubscriptionPacket['filters'] = [];
  for (let offset = 2; offset < body.length; ) {
    const { text, end } = readString(body, offset, 'topic filter');
    checkTopicFilter(text);
    offset = end;
    const qos = withQos ? body[offset++] : 0;
    if (qos === undefined || qos > 2) refuse('requested QoS is not valid'); // [MQTT-3.8.3-4]
    filters.push({ filter: text, qos });
  }
  if (filters.length === 0) refuse('no topic filter');
  if (filters.length > filtersMax)
    refuse(`${filters.length} topic filters in one packet, ${filtersMax} allowed`);
  return { packetId: body.readUInt16BE(0), filters };
}

/** A PUBLISH to a client. */
export function writePublish(
  { topic, payload, qos, retain }: WillPacket,
  packetId: number,
  dup: boolean,
): Buffer {
  const topicBytes = Buffer.byteLength(topic);
  const length = 2 + topicBytes + (qos > 0 ? 2 : 0) + payload.length;
  const bytes = Buffer.allocUnsafe(1 + varintBytes(length) + length);
  bytes[0] = 0x30 | (dup ? 8 : 0) | (qos << 1) | (retain ? 1 : 0);
  let at = bytes.writeUInt16BE(topicBytes, putVarint(bytes, length, 1));
  at += bytes.write(topic, at);
  if (qos > 0) at = bytes.writeUInt16BE(packetId, at);
  payload.copy(bytes, at);
  return bytes;
}

/** Packet id of the four-byte acknowledgements. [MQTT-3.6.1-1] */
export function readPacketId(flags: number, expectedFlags: number, body: Buffer): number {
  if (flags !== expectedFlags) refuse('reserved flags are not as specified');
  if (body.length !== 2) refuse('acknowledgement is not two bytes long');
  const id = body.readUInt16BE(0);
  if (id === 0) refuse('packet id is 0');
  return id;
}
