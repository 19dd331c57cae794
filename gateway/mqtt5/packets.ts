/** Packets of MQTT 5, read from a client and written to it. Clauses are those of OASIS MQTT 5.0. */
import { isUtf8 } from 'node:buffer';
import { messageOf } from '../../shared/errors.ts';
import {
  PUBCOMP,
  PUBREL,
  checkTopicForm,
  checkTopicName,
  readBinary,
  readString,
} from '../../shared/mqtt/packets.ts';
import type { IncomingPublish } from '../../shared/mqtt/protocol.ts';
import type { RawPacket } from '../../shared/mqtt/scanner.ts';
import { TopicNames } from '../../shared/mqtt/topic-names.ts';
import { putVarint, varintBytes } from '../../shared/mqtt/varint.ts';
import {
  IN,
  NO_PROPERTIES,
  property,
  readProperties,
  writeVarint,
  type Properties,
} from './properties.ts';
import {
  ACK_REASONS,
  DISCONNECT_REASONS,
  REASON,
  RELEASE_REASONS,
  Refusal,
  malformed,
  protocolError,
} from './reasons.ts';

export interface Will {
  topic: string;
  payload: Buffer;
  qos: number;
  retain: boolean;
  properties: Properties;
}

export interface Connect {
  clientId: string;
  cleanStart: boolean;
  keepAliveSeconds: number;
  username: string | undefined;
  password: Buffer | undefined;
  properties: Properties;
  will: Will | undefined;
}

/** What is wrong with a topic name gets the reason that is for names. */
function checkName(check: (topic: string) => void, topic: string): void {
  try {
    check(topic);
  } catch (error) {
    throw new Refusal(REASON.topicNameInvalid, messageOf(error));
  }
}

/** Body of a CONNECT. Throws Refusal, PACKET_INVALID for bytes that are none. [MQTT-3.1.2-3, -9, -11, -16 to -19] */
export function readConnect5(body: Buffer): Connect {
  const name = readString(body, 0, 'protocol name');
  const flags = body[name.end + 1];
  if (name.text !== 'MQTT' || flags === undefined || name.end + 4 > body.length)
    return malformed('CONNECT ends within its header');
  if (flags & 1) malformed('reserved flag of CONNECT is set'); // [MQTT-3.1.2-3]
  const hasWill = (flags & 4) !== 0;
  const willQos = (flags >> 3) & 3;
  if (willQos === 3 || (!hasWill && (willQos !== 0 || flags & 32)))
    malformed('will flags of CONNECT are not valid'); // [MQTT-3.1.2-11, -12, -13]
  const keepAliveSeconds = body.readUInt16BE(name.end + 2);
  const connect = readProperties(body, name.end + 4, IN.connect);
  const { texts, hasAuthenticationData } = connect.properties;
  if (hasAuthenticationData === true && texts.authenticationMethod === undefined)
    protocolError('authentication data without a method'); // 3.1.2.11.10
  const id = readString(body, connect.end, 'client id');
  let at = id.end;
  let will: Will | undefined;
  if (hasWill) {
    const properties = readProperties(body, at, IN.will);
    const topic = readString(body, properties.end, 'will topic');
    checkName(checkTopicName, topic.text);
    const payload = readBinary(body, topic.end, 'will message');
    // Said now: at its time nobody is there to be told.
    if (properties.properties.numbers.payloadFormat === 1 && !isUtf8(payload.data))
      throw new Refusal(REASON.payloadFormatInvalid, 'the will message is not UTF-8');
    at = payload.end;
    will = {
      topic: topic.text,
      payload: Buffer.from(payload.data),
      qos: willQos,
      retain: (flags & 32) !== 0,
      properties: properties.properties,
    };
  }
  let username: string | undefined;
  let password: Buffer | undefined;
  if (flags & 128) ({ text: username, end: at } = readString(body, at, 'user name'));
  if (flags & 64) ({ data: password, end: at } = readBinary(body, at, 'password'));
  if (at !== body.length) malformed('CONNECT has bytes after its payload');
  return {
    clientId: id.text,
    cleanStart: (flags & 2) !== 0,
    keepAliveSeconds,
    username,
    password: password === undefined ? undefined : Buffer.from(password),
    properties: connect.properties,
    will,
  };
}

/** As it came; `properties` is for who passes it on. */
export interface Publish extends IncomingPublish {
  said: Properties;
}

/** The topic names of a connection; what is wrong with one has its reason. */
export const topicNames = (): TopicNames =>
  new TopicNames((bytes, offset) => {
    const { text } = readString(bytes, offset, 'topic');
    checkName(checkTopicForm, text);
    return text;
  });

/** A PUBLISH; its topic may be '' where an alias stands for it. */
export function readPublish(
  { flags, source, bodyStart, end }: RawPacket,
  names: TopicNames,
): Publish {
  const qos = (flags >> 1) & 3;
  const dup = (flags & 8) !== 0;
  if (qos === 3) malformed('QoS 3 does not exist'); // [MQTT-3.3.1-4]
  if (dup && qos === 0) malformed('DUP is set on QoS 0'); // [MQTT-3.3.1-2]
  if (bodyStart + 2 > end) malformed('packet ends within topic');
  let at = bodyStart + 2 + source.readUInt16BE(bodyStart);
  if (at > end) malformed('packet ends within topic');
  const topic = at === bodyStart + 2 ? '' : names.at(source, bodyStart, at);
  let packetId = 0;
  if (qos > 0) {
    if (at + 2 > end) malformed('packet ends within packet id');
    packetId = source.readUInt16BE(at);
    if (packetId === 0) protocolError('packet id is 0'); // [MQTT-2.2.1-3]
    at += 2;
  }
  let said = NO_PROPERTIES;
  // Most have none.
  if (at < end && source[at] === 0) at++;
  else ({ properties: said, end: at } = readProperties(source.subarray(0, end), at, IN.publish));
  if (said.numbers.subscriptionId !== undefined)
    protocolError('a client says no subscription identifier'); // [MQTT-3.3.4-6]
  const retain = (flags & 1) !== 0;
  const payload = source.subarray(at, end);
  return { topic, qos, retain, dup, packetId, payload, properties: undefined, said };
}

/** PUBACK (4), PUBREC, PUBREL or PUBCOMP (7): a reason and properties may be left out. [MQTT-3.6.1-1] */
export function readAck(
  type: number,
  flags: number,
  body: Buffer,
): { packetId: number; reason: number } {
  const isRelease = type === PUBREL;
  if (flags !== (isRelease ? 2 : 0)) malformed('reserved flags are not as specified');
  if (body.length < 2) malformed('acknowledgement ends within packet id');
  const packetId = body.readUInt16BE(0);
  if (packetId === 0) protocolError('packet id is 0');
  if (body.length > 3 && readProperties(body, 3, IN.ack).end !== body.length)
    malformed('acknowledgement has bytes after its properties');
  const reason = body[2] ?? REASON.success;
  const known = isRelease || type === PUBCOMP ? RELEASE_REASONS : ACK_REASONS;
  if (!known.has(reason)) protocolError(`an acknowledgement has no reason ${reason}`); // [MQTT-3.4.2-1] and others
  return { packetId, reason };
}

export interface Filter {
  filter: string;
  qos: number;
  noLocal: boolean;
  retainAsPublished: boolean;
  retainHandling: number;
}

export interface Subscribe {
  packetId: number;
  subscriptionId: number | undefined;
  filters: Filter[];
}

/** [MQTT-3.8.1-1] [MQTT-3.8.3-2] [MQTT-3.8.3-5] */
export function readSubscribe(flags: number, body: Buffer, filtersMax: number): Subscribe {
  if (flags !== 2) malformed('reserved flags are not as specified');
  if (body.length < 2) malformed('packet ends within packet id');
  const packetId = body.readUInt16BE(0);
  if (packetId === 0) protocolError('packet id is 0');
  const { properties, end } = readProperties(body, 2, IN.subscribe);
  const filters: Filter[] = [];
  for (let at = end; at < body.length; ) {
    const { text, end: after } = readString(body, at, 'topic filter');
    const options = body[after];
    if (options === undefined) return malformed('packet ends within subscription options');
    const qos = options & 3;
    const retainHandling = (options >> 4) & 3;
    if (options & 0xc0 || qos === 3 || retainHandling === 3)
      malformed('subscription options are not valid');
    const noLocal = (options & 4) !== 0;
    if (noLocal && text.startsWith('$share/')) protocolError('noLocal on a shared subscription'); // [MQTT-3.8.3-4]
    filters.push({
      filter: text,
      qos,
      noLocal,
      retainAsPublished: (options & 8) !== 0,
      retainHandling,
    });
    at = after + 1;
  }
  if (filters.length === 0) protocolError('no topic filter');
  if (filters.length > filtersMax)
    throw new Refusal(
      REASON.quotaExceeded,
      `${filters.length} topic filters in one packet, ${filtersMax} allowed`,
    );
  return { packetId, subscriptionId: properties.numbers.subscriptionId, filters };
}

/** [MQTT-3.10.1-1] [MQTT-3.10.3-2] */
export function readUnsubscribe(
  flags: number,
  body: Buffer,
): { packetId: number; filters: string[] } {
  if (flags !== 2) malformed('reserved flags are not as specified');
  if (body.length < 2) malformed('packet ends within packet id');
  const packetId = body.readUInt16BE(0);
  if (packetId === 0) protocolError('packet id is 0');
  const filters: string[] = [];
  for (let at = readProperties(body, 2, IN.unsubscribe).end; at < body.length; ) {
    const { text, end } = readString(body, at, 'topic filter');
    filters.push(text);
    at = end;
  }
  if (filters.length === 0) protocolError('no topic filter');
  return { packetId, filters };
}

/** [MQTT-3.14.1-1] */
export function readDisconnect(
  flags: number,
  body: Buffer,
): { reason: number; properties: Properties } {
  if (flags !== 0) malformed('reserved flags are not as specified');
  const reason = body[0] ?? REASON.success;
  if (!DISCONNECT_REASONS.has(reason)) protocolError(`a DISCONNECT has no reason ${reason}`); // [MQTT-3.14.2-1]
  if (body.length < 2) return { reason, properties: NO_PROPERTIES };
  const { properties, end } = readProperties(body, 1, IN.disconnect);
  if (end !== body.length) malformed('DISCONNECT has bytes after its properties');
  return { reason, properties };
}

/** A packet of header byte, variable header and properties. */
function packet(first: number, head: readonly number[], properties: readonly number[]): Buffer {
  const tail = [...writeVarint(properties.length), ...properties];
  return Buffer.from([first, ...writeVarint(head.length + tail.length), ...head, ...tail]);
}

export const connack = (sessionPresent: boolean, reason: number, properties: number[]): Buffer =>
  packet(0x20, [sessionPresent ? 1 : 0, reason], properties);

export const disconnect = (reason: number, properties: number[]): Buffer =>
  packet(0xe0, [reason], properties);

/** PUBACK (4), PUBREC (5), PUBREL (6) or PUBCOMP (7); without a reason in its short form. */
export function ack(type: number, packetId: number, reason: number, text?: string): Buffer {
  const first = (type << 4) | (type === 6 ? 2 : 0);
  const id = [packetId >> 8, packetId & 255];
  if (reason === REASON.success) return Buffer.from([first, 2, ...id]);
  return packet(first, [...id, reason], text === undefined ? [] : property('reasonString', text));
}

/** SUBACK (9) or UNSUBACK (11): a reason for each filter, in their order [MQTT-3.8.4-6]. */
export function subscriptionAck(type: 9 | 11, packetId: number, reasons: number[]): Buffer {
  const head = [packetId >> 8, packetId & 255, 0, ...reasons];
  return Buffer.from([type << 4, ...writeVarint(head.length), ...head]);
}

export interface OutgoingPublish {
  topic: string;
  payload: Buffer;
  qos: number;
  retain: boolean;
  dup: boolean;
  packetId: number;
  /** As the publisher sent them; undefined: none. */
  forwarded: Buffer | undefined;
  /** Seconds left [MQTT-3.3.2-6]. */
  messageExpiry: number | undefined;
  subscriptionId: number | undefined;
  /** With a topic: from here on it stands for it; with '' it does already. */
  topicAlias: number | undefined;
}

/** The properties of ours; an array that is spread costs as much as the rest of the packet. */
function ownProperties(out: OutgoingPublish): number[] {
  const { messageExpiry, topicAlias, subscriptionId } = out;
  if (messageExpiry === undefined && topicAlias === undefined && subscriptionId === undefined)
    return NONE;
  return [
    ...(messageExpiry === undefined ? [] : property('messageExpiry', messageExpiry)),
    ...(topicAlias === undefined ? [] : property('topicAlias', topicAlias)),
    ...(subscriptionId === undefined ? [] : property('subscriptionId', subscriptionId)),
  ];
}

const NONE: number[] = [];

export function publish(out: OutgoingPublish): Buffer {
  const { topic, payload, forwarded, qos } = out;
  const topicBytes = Buffer.byteLength(topic);
  const own = ownProperties(out);
  const propertyBytes = own.length + (forwarded?.length ?? 0);
  const length =
    2 +
    topicBytes +
    (qos > 0 ? 2 : 0) +
    varintBytes(propertyBytes) +
    propertyBytes +
    payload.length;
  const bytes = Buffer.allocUnsafe(1 + varintBytes(length) + length);
  bytes[0] = 0x30 | (out.dup ? 8 : 0) | (qos << 1) | (out.retain ? 1 : 0);
  let at = putVarint(bytes, length, 1);
  at = bytes.writeUInt16BE(topicBytes, at);
  at += bytes.write(topic, at);
  if (qos > 0) at = bytes.writeUInt16BE(out.packetId, at);
  at = putVarint(bytes, propertyBytes, at);
  for (const byte of own) bytes[at++] = byte;
  if (forwarded !== undefined) at += forwarded.copy(bytes, at);
  payload.copy(bytes, at);
  return bytes;
}
