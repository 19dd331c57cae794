/**
 * One MQTT 5 connection: what comes is checked and answered with the reason code that fits, what goes keeps to what the
 * client said it takes. PUBLISH goes the way of every message (`Ingress.publish`): PUBACK and PUBREC leave after the fsync
 * of their group, in order (law 1). Where a client breaks the protocol it is told by a DISCONNECT [MQTT-4.13.1-1].
 */
import { isUtf8 } from 'node:buffer';
import type { MqttConnection } from '../../shared/mqtt/connection.ts';
import type { Protocol5 } from '../../shared/mqtt/protocol.ts';
import {
  AUTH,
  DISCONNECT,
  PINGREQ,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
  SUBSCRIBE,
  UNSUBSCRIBE,
  notTaken,
} from '../../shared/mqtt/packets.ts';
import type { RawPacket } from '../../shared/mqtt/scanner.ts';
import { ALIASES_MAX, TopicAliases } from './aliases.ts';
import { Outbox } from './outbox.ts';
import {
  ack,
  connack,
  disconnect,
  readAck,
  readDisconnect,
  readPublish,
  readSubscribe,
  readUnsubscribe,
  subscriptionAck,
  topicNames,
  type Connect,
  type Filter,
  type Publish,
} from './packets.ts';
import { NO_PROPERTIES, property } from './properties.ts';
import {
  CONNACK_REASONS,
  REASON,
  Refusal,
  malformed,
  protocolError,
  type Reason,
} from './reasons.ts';
import type { Session } from './session.ts';

/** As long as an id that the server gives. */
const ASSIGNED_ID = 'auto-'.padEnd(25, '0');
/** A client that does not read what it is told as it is disconnected. */
const GOODBYE_MS = 1000;

export interface LinkLimits {
  packetBytesMax: number;
  clientIdBytesMax: number;
  filtersMax: number;
  /** QoS 1 and 2 messages that a client may have unacknowledged. */
  receiveMaximum: number;
  /** A session stays no longer, seconds. */
  sessionExpirySecondsMax: number;
  /** Longest keep alive, seconds; 0: what the client says. */
  keepAliveSecondsMax: number;
}

/** What the client has to keep to: its own, or the server's where that is shorter [MQTT-3.2.2-21]. */
export const keepAliveOf = (asked: number, max: number): number =>
  max > 0 && (asked === 0 || asked > max) ? max : asked;

/** A connection that has a session, or is to have one. */
export interface Holder {
  readonly connection: MqttConnection;
  readonly version: Session['version'];
  readonly outbox: Outbox;
  session: Session | undefined;
  /** Of the CONNECT; at most what the server allows. */
  readonly expirySeconds: number;
  /** Ends the connection, with a reason where its version has one. Idempotent. */
  goodbye(reason: number, text: string): void;
}

export interface Admitted {
  session: Session;
  sessionPresent: boolean;
  clientId: string;
}

/** What stands behind a link: the ingress with its guard, and the sessions. */
export interface LinkHost {
  readonly limits: LinkLimits;
  /** Asks the guard, ends what this id had before, and takes up or makes the session. Rejects with a Refusal. */
  admit(link: Holder, connect: Connect): Promise<Admitted>;
  /** The topic is a name. Answered after the fsync, in order. */
  publish(link: Link, packet: Publish): void;
  /** An acknowledgement in order with those of messages before it. */
  answerInOrder(link: Link, bytes: Buffer): void;
  /** PUBREL; false: no such message waits for it. */
  release(link: Link, packetId: number): boolean;
  /** A reason for each filter; resolves after they are kept. */
  subscribe(link: Holder, filters: Filter[], id: number | undefined): Promise<SubscribeResult>;
  unsubscribe(link: Holder, filters: string[]): Promise<number[]>;
  /** The connection has ended; `sendsWill`: not by the client's own word. */
  closed(link: Holder, sendsWill: boolean): void;
  /** Something failed that no client is to blame for. */
  trouble(error: unknown): void;
  nowMs(): number;
  /** For how long: no clock that is set changes it. */
  monotonicMs(): number;
}

export interface SubscribeResult {
  reasons: number[];
  /** Sends what is retained for the new subscriptions: after the SUBACK. */
  retained: () => void;
}

export class Link implements Protocol5, Holder {
  readonly version = 5;
  readonly connection: MqttConnection;
  readonly outbox: Outbox;
  session: Session | undefined;
  /** Of the CONNECT; at most what the server allows. */
  expirySeconds = 0;
  private readonly host: LinkHost;
  private readonly connect: Connect;
  private readonly names = topicNames();
  private readonly aliases = new TopicAliases();
  /** What SUBSCRIBE and UNSUBSCRIBE do is done in their order. */
  private order: Promise<void> = Promise.resolve();
  private sendsWill = true;
  private isOver = false;

  constructor(connection: MqttConnection, host: LinkHost, connect: Connect) {
    this.connection = connection;
    this.host = host;
    this.connect = connect;
    this.outbox = new Outbox(connection, connect.properties, host);
  }

  /** Answers the CONNECT. Never rejects. */
  async open(): Promise<void> {
    try {
      const { numbers, texts } = this.connect.properties;
      if (texts.authenticationMethod !== undefined)
        throw new Refusal(
          REASON.badAuthenticationMethod,
          `authentication method '${texts.authenticationMethod.slice(0, 64)}' is not known here`,
        ); // [MQTT-4.12.0-1]
      this.expirySeconds = this.allowedExpiry(numbers.sessionExpiry ?? 0);
      if (this.welcome(false, ASSIGNED_ID).length > this.takesBytes)
        throw new Refusal(REASON.packetTooLarge, 'the client takes no CONNACK'); // [MQTT-3.1.2-24]
      const { session, sessionPresent, clientId } = await this.host.admit(this, this.connect);
      this.session = session;
      if (this.isOver) {
        // It has gone while it was asked for.
        this.host.closed(this, true);
        return;
      }
      this.connection.out.write(this.welcome(sessionPresent, clientId));
      this.connection.opened(clientId);
      session.resume(this.outbox);
    } catch (error) {
      const refusal =
        error instanceof Refusal
          ? error
          : new Refusal(REASON.serverUnavailable, 'the gateway cannot take anybody now');
      this.answerRefused(refusal);
      if (!(error instanceof Refusal)) this.host.trouble(error);
    }
  }

  private allowedExpiry(asked: number): number {
    const { sessionExpirySecondsMax } = this.host.limits;
    // 0xFFFFFFFF: never [3.1.2.11.2].
    return Math.min(
      asked === 0xffff_ffff ? Number.POSITIVE_INFINITY : asked,
      sessionExpirySecondsMax,
    );
  }

  private welcome(sessionPresent: boolean, clientId: string): Buffer {
    const { limits } = this.host;
    const asked = this.connect.properties.numbers.sessionExpiry ?? 0;
    const given = this.expirySeconds;
    const { keepAliveSeconds } = this.connect;
    const keepAlive = keepAliveOf(keepAliveSeconds, limits.keepAliveSecondsMax);
    return connack(sessionPresent, REASON.success, [
      ...(given === asked || !Number.isFinite(given) ? [] : property('sessionExpiry', given)),
      ...property('receiveMaximum', limits.receiveMaximum),
      ...property('maximumPacketSize', limits.packetBytesMax),
      ...property('topicAliasMaximum', ALIASES_MAX),
      ...(keepAlive === keepAliveSeconds ? [] : property('serverKeepAlive', keepAlive)),
      ...(this.connect.clientId === '' ? property('assignedClientId', clientId) : []), // [MQTT-3.2.2-16]
    ]);
  }

  private answerRefused({ reason, message, server }: Refusal): void {
    this.isOver = true;
    // A client that is told a reason does not come again (MQTT.js, Home Assistant): what will pass is said by closing.
    const reference = server === undefined ? [] : property('serverReference', server);
    const isPassing =
      reason === REASON.serverBusy ||
      reason === REASON.serverUnavailable ||
      !CONNACK_REASONS.has(reason);
    this.connection.farewell(
      isPassing
        ? undefined
        : this.explained(message, (why) => connack(false, reason, [...reference, ...why])),
      message,
      GOODBYE_MS,
    );
  }

  /** [MQTT-3.1.2-29] is about other packets than CONNACK and DISCONNECT; a client that asks for none gets none there either. */
  private get mayExplain(): boolean {
    return this.connect.properties.numbers.requestProblemInformation !== 0;
  }

  /** Bytes of the largest packet that the client takes. */
  private get takesBytes(): number {
    return this.connect.properties.numbers.maximumPacketSize ?? Number.POSITIVE_INFINITY;
  }

  /** With its reason in words, without them, or not at all: as the client has room [MQTT-3.2.2-19] [MQTT-3.14.2-3]. */
  private explained(text: string, packetWith: (why: number[]) => Buffer): Buffer | undefined {
    const why = this.mayExplain ? property('reasonString', text.slice(0, 200)) : [];
    return [why, []].map(packetWith).find(({ length }) => length <= this.takesBytes);
  }

  /** Ends the connection with a DISCONNECT. Idempotent. */
  goodbye(reason: number, text: string): void {
    if (this.isOver) return;
    this.isOver = true;
    const isConnecting = this.session === undefined;
    // What CONNACK has no code for is said by closing: 0x8E and 0x8B are a DISCONNECT's alone (3.2.2.2).
    const bytes =
      isConnecting && !CONNACK_REASONS.has(reason)
        ? undefined
        : this.explained(text, (why) =>
            isConnecting ? connack(false, reason, why) : disconnect(reason, why),
          );
    this.connection.farewell(bytes, text, GOODBYE_MS);
  }

  /** What a packet broke. */
  fail(error: unknown): void {
    if (error instanceof Refusal) this.goodbye(error.reason, error.message);
    else if (error instanceof Error && /^packet of \d+ bytes/.test(error.message))
      this.goodbye(REASON.packetTooLarge, error.message); // [MQTT-3.1.2-24]
    else if (error instanceof Error) this.goodbye(REASON.malformedPacket, error.message);
  }

  ended(): void {
    this.isOver = true;
    this.outbox.close();
    this.names.forget();
    if (this.session !== undefined) this.host.closed(this, this.sendsWill);
  }

  take(packet: RawPacket): void {
    const { type, flags } = packet;
    if (packet.isPadded) malformed('the packet says its length in more bytes than it needs'); // [MQTT-1.5.5-1]
    if (type === PUBLISH) return this.takePublish(packet);
    const { body } = packet;
    switch (type) {
      case PUBACK:
        return this.session?.acknowledged(readAck(type, flags, body).packetId);
      case PUBREC: {
        const { packetId, reason } = readAck(type, flags, body);
        return this.session?.received(packetId, reason);
      }
      case PUBCOMP:
        return this.session?.completed(readAck(type, flags, body).packetId);
      case PUBREL:
        return this.takePubrel(readAck(type, flags, body).packetId);
      case SUBSCRIBE:
        return this.takeSubscribe(flags, body);
      case UNSUBSCRIBE: {
        const { packetId, filters } = readUnsubscribe(flags, body);
        return this.inOrder(async () => {
          this.answerFits(filters.length);
          const reasons = await this.host.unsubscribe(this, filters);
          this.outbox.write(subscriptionAck(11, packetId, reasons));
        });
      }
      case PINGREQ:
        if (flags !== 0 || body.length > 0) protocolError('a PINGREQ has nothing in it');
        return this.outbox.write(Buffer.from([0xd0, 0]));
      case DISCONNECT:
        return this.takeDisconnect(flags, body);
      case AUTH:
        if (flags !== 0) malformed('reserved flags are not as specified'); // [MQTT-3.15.1-1]
        return protocolError('no authentication was begun'); // [MQTT-4.12.0-7]
      default:
        return protocolError(`a packet of type ${type} is not for a client to send here`); // [MQTT-3.1.0-2] too
    }
  }

  /** [MQTT-4.3.3-11]; one that nobody waits for gets its reason, also after a PUBREC that refused. */
  private takePubrel(packetId: number): void {
    if (!this.host.release(this, packetId))
      this.host.answerInOrder(this, ack(PUBCOMP, packetId, REASON.packetIdNotFound));
  }

  /** What could not be answered is not done [MQTT-3.1.2-24]. */
  private answerFits(filters: number): void {
    const { length } = subscriptionAck(9, 0, new Array<number>(filters).fill(0));
    if (length > this.takesBytes)
      throw new Refusal(
        REASON.packetTooLarge,
        `an answer of ${length} bytes is too large for the client`,
      );
  }

  private inOrder(work: () => Promise<void>): void {
    this.order = this.order.then(work).catch((error: unknown) => this.fail(error));
  }

  private takePublish(raw: RawPacket): void {
    const packet = readPublish(raw, this.names);
    const { said } = packet;
    if (packet.topic === '' || said !== NO_PROPERTIES) packet.topic = this.aliases.topicOf(packet);
    const why = notTaken(packet.topic);
    if (why !== undefined) {
      // At QoS 0 it is said by a DISCONNECT; who sends it again until it is answered would be back with it for ever.
      if (packet.qos === 0) throw new Refusal(REASON.topicNameInvalid, why);
      this.refusePublish(packet, REASON.topicNameInvalid, why);
      return;
    }
    if (said.numbers.payloadFormat === 1 && packet.qos > 0 && !isUtf8(packet.payload)) {
      this.refusePublish(packet, REASON.payloadFormatInvalid, 'the payload is not UTF-8');
      return;
    }
    this.host.publish(this, packet);
  }

  /** Not taken: QoS 1 and 2 are answered in order, QoS 0 is passed over. */
  refusePublish(
    { qos, packetId }: { qos: number; packetId: number },
    reason: Reason,
    text: string,
  ): void {
    if (qos === 0) return;
    const type = qos === 1 ? PUBACK : PUBREC;
    const bytes = ack(type, packetId, reason, this.mayExplain ? text : undefined);
    // [MQTT-3.4.2-2] [MQTT-3.5.2-2]
    const fits = bytes.length <= this.takesBytes;
    this.host.answerInOrder(this, fits ? bytes : ack(type, packetId, reason));
  }

  private takeSubscribe(flags: number, body: Buffer): void {
    const { packetId, subscriptionId, filters } = readSubscribe(
      flags,
      body,
      this.host.limits.filtersMax,
    );
    this.inOrder(async () => {
      this.answerFits(filters.length);
      const { reasons, retained } = await this.host.subscribe(this, filters, subscriptionId);
      this.outbox.write(subscriptionAck(9, packetId, reasons));
      retained();
    });
  }

  private takeDisconnect(flags: number, body: Buffer): void {
    const { reason, properties } = readDisconnect(flags, body);
    const expiry = properties.numbers.sessionExpiry;
    if (expiry !== undefined) {
      // [3.14.2.2.2]: what began without a session does not get one at its end.
      if (expiry > 0 && (this.connect.properties.numbers.sessionExpiry ?? 0) === 0)
        protocolError('a session expiry at the end of a connection that had none');
      this.expirySeconds = this.allowedExpiry(expiry);
      if (this.session !== undefined) this.session.expirySeconds = this.expirySeconds;
    }
    this.sendsWill = reason !== REASON.success; // [MQTT-3.14.4-3]
    this.isOver = true;
    // Now, and not when the socket has closed: who does not read may be back before that.
    if (this.session !== undefined) this.host.closed(this, this.sendsWill);
    this.connection.farewell(undefined, 'closed by the client', GOODBYE_MS);
  }
}
