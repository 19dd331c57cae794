/**
 * One connection of MQTT 3.1 or 3.1.1 whose session outlives it: the same sessions as those of version 5, on disk, without
 * what 3.1.1 has no words for. Its packets are checked by the front stage, which also answers PUBLISH and PUBREL.
 */
import { messageOf } from '../../shared/errors.ts';
import type { MqttConnection } from '../../shared/mqtt/connection.ts';
import type { Protocol311 } from '../../shared/mqtt/protocol.ts';
import {
  DISCONNECT,
  PINGREQ,
  PUBACK,
  PUBCOMP,
  PUBREC,
  SUBSCRIBE,
  UNSUBSCRIBE,
  readSubscription,
  type ConnectPacket,
} from '../../shared/mqtt/packets.ts';
import type { Holder, LinkHost } from './link.ts';
import { Outbox311 } from './outbox.ts';
import type { Connect } from './packets.ts';
import { NO_PROPERTIES } from './properties.ts';
import { REASON, Refusal } from './reasons.ts';
import type { Session } from './session.ts';

/** A client that does not read what it is told as it is refused. */
const GOODBYE_MS = 1000;
/** Return codes of CONNACK (3.2.2.3): identifier rejected, server unavailable, not authorized. */
const RETURN_CODES = new Map<number, number>([
  [REASON.clientIdNotValid, 2],
  [REASON.notAuthorized, 5],
]);
const UNAVAILABLE = 3;
/** Of a filter that is refused [MQTT-3.9.3-2]. */
const FAILURE = 0x80;

/** The CONNECT in the words of version 5: a session that goes on, and a will without properties. */
function asConnect({
  clientId,
  keepAliveSeconds,
  username,
  password,
  will,
}: ConnectPacket): Connect {
  return {
    clientId,
    cleanStart: false,
    keepAliveSeconds,
    username,
    password: password === undefined ? undefined : Buffer.from(password),
    properties: NO_PROPERTIES,
    will: will === undefined ? undefined : { ...will, properties: NO_PROPERTIES },
  };
}

export class Link311 implements Protocol311, Holder {
  readonly version = 4;
  readonly connection: MqttConnection;
  readonly outbox: Outbox311;
  readonly expirySeconds: number;
  session: Session | undefined;
  private readonly host: LinkHost;
  private readonly connect: ConnectPacket;
  /** What SUBSCRIBE and UNSUBSCRIBE do is done in their order. */
  private order: Promise<void> = Promise.resolve();
  private sendsWill = true;
  private isOver = false;

  constructor(connection: MqttConnection, host: LinkHost, connect: ConnectPacket) {
    this.connection = connection;
    this.host = host;
    this.connect = connect;
    this.outbox = new Outbox311(connection, host);
    // 3.1.1 has no expiry of its own: the server's [3.1.2.4].
    this.expirySeconds = host.limits.sessionExpirySecondsMax;
  }

  /** Answers the CONNECT. Never rejects. */
  async open(): Promise<void> {
    try {
      const admitted = await this.host.admit(this, asConnect(this.connect));
      const { session, sessionPresent, clientId } = admitted;
      this.session = session;
      if (this.isOver) {
        // It has gone while it was asked for.
        this.host.closed(this, true);
        return;
      }
      // [MQTT-3.2.2-2] [MQTT-3.2.2-3]; 3.1 has no such flag.
      const present = sessionPresent && this.connect.version === 4 ? 1 : 0;
      this.connection.out.write(Buffer.from([0x20, 2, present, 0]));
      this.connection.opened(clientId);
      session.resume(this.outbox);
    } catch (error) {
      this.isOver = true;
      const code =
        error instanceof Refusal ? (RETURN_CODES.get(error.reason) ?? UNAVAILABLE) : UNAVAILABLE;
      this.connection.farewell(Buffer.from([0x20, 2, 0, code]), messageOf(error), GOODBYE_MS);
      if (!(error instanceof Refusal)) this.host.trouble(error);
    }
  }

  goodbye(_reason: number, text: string): void {
    this.connection.close(text);
  }

  ended(): void {
    this.isOver = true;
    this.outbox.close();
    if (this.session !== undefined) this.host.closed(this, this.sendsWill);
  }

  take(type: number, body: Buffer): void {
    switch (type) {
      case PUBACK:
        return this.session?.acknowledged(body.readUInt16BE(0));
      case PUBREC:
        return this.session?.received(body.readUInt16BE(0), REASON.success);
      case PUBCOMP:
        return this.session?.completed(body.readUInt16BE(0));
      case SUBSCRIBE:
        return this.inOrder(() => this.subscribe(body));
      case UNSUBSCRIBE:
        return this.inOrder(() => this.unsubscribe(body));
      case PINGREQ:
        return this.outbox.write(Buffer.from([0xd0, 0]));
      case DISCONNECT:
        this.sendsWill = false; // [MQTT-3.14.4-3]
        this.isOver = true;
        if (this.session !== undefined) this.host.closed(this, false);
        return this.connection.farewell(undefined, 'closed by the client', GOODBYE_MS);
    }
  }

  private inOrder(work: () => Promise<void>): void {
    this.order = this.order.then(work).catch((error: unknown) => {
      this.host.trouble(error);
      this.connection.close(messageOf(error));
    });
  }

  /** A return code for each filter, in their order [MQTT-3.8.4-5]. */
  private async subscribe(body: Buffer): Promise<void> {
    const { packetId, filters } = readSubscription(body, true, this.host.limits.filtersMax);
    // Shared subscriptions are those of version 5: a filter of that name would hear nothing here.
    const isShared = filters.map(({ filter }) => filter.startsWith('$share/'));
    const asked = filters
      .filter((_each, at) => isShared[at] === false)
      .map((each) => ({ ...each, noLocal: false, retainAsPublished: false, retainHandling: 0 }));
    const { reasons, retained } = await this.host.subscribe(this, asked, undefined);
    const codes = isShared.map((shared) => (shared ? FAILURE : (reasons.shift() ?? FAILURE)));
    this.answer(
      0x90,
      packetId,
      codes.map((code) => (code > 2 ? FAILURE : code)),
    );
    retained();
  }

  private async unsubscribe(body: Buffer): Promise<void> {
    const { packetId, filters } = readSubscription(body, false, this.host.limits.filtersMax);
    await this.host.unsubscribe(
      this,
      filters.map(({ filter }) => filter),
    );
    this.answer(0xb0, packetId, []);
  }

  private answer(first: number, packetId: number, codes: number[]): void {
    const length = 2 + codes.length;
    const size = length < 128 ? [length] : [(length & 127) | 128, length >> 7];
    this.outbox.write(Buffer.from([first, ...size, packetId >> 8, packetId & 255, ...codes]));
  }
}
