/**
 * The way of a device's message: into the buffer, and after the fsync of its group its PUBACK, PUBREC or PUBCOMP, in the
 * order in which the packets came [MQTT-4.6.0-2]; local subscribers get it after that.
 */
import type { FrameMessage } from '../../shared/frame/builder.ts';
import type { KvOp } from '../../shared/kv/kv.ts';
import type { MqttConnection } from '../../shared/mqtt/connection.ts';
import { HeldBack } from '../../shared/mqtt/held-back.ts';
import { PUBACK, PUBCOMP, PUBREC } from '../../shared/mqtt/packets.ts';
import type { IncomingPublish } from '../../shared/mqtt/protocol.ts';
import type { MessageBuffer } from '../buffer/buffer.ts';
import type { Ticket } from '../buffer/ticket.ts';
import type { Delivery } from '../mqtt5/broker.ts';
import type { Message } from '../mqtt5/message.ts';
import { REASON } from '../mqtt5/reasons.ts';
import { Ack } from './ack.ts';
import type { Guard } from './guard.ts';
import type { LocalDelivery } from './local.ts';
import type { Qos2Sessions } from './qos2.ts';
import type { BufferSpace } from './space.ts';
import type { Standings } from './standing.ts';
import type { Subscriptions } from './subscriptions.ts';

export interface PublishingParts {
  guard: Guard;
  buffer: MessageBuffer<Ticket>;
  standings: Standings;
  subscriptions: Subscriptions;
  sessions: Qos2Sessions;
  local: LocalDelivery;
  space: BufferSpace;
  /** QoS 2 messages of one session that may wait for their PUBREL. */
  qos2InFlightMax: number;
}

export class Publishing {
  /** Received; bytes are those of payloads. */
  messages = 0;
  bytes = 0;
  denied = 0;
  private readonly guard: Guard;
  private readonly buffer: MessageBuffer<Ticket>;
  private readonly standings: Standings;
  private readonly subscriptions: Subscriptions;
  private readonly sessions: Qos2Sessions;
  private readonly local: LocalDelivery;
  private readonly space: BufferSpace;
  private readonly qos2InFlightMax: number;
  /** Have something to be sent since the last group. */
  private readonly touched = new Set<MqttConnection>();
  private readonly heldBack = new HeldBack();

  constructor(parts: PublishingParts) {
    this.guard = parts.guard;
    this.buffer = parts.buffer;
    this.standings = parts.standings;
    this.subscriptions = parts.subscriptions;
    this.sessions = parts.sessions;
    this.local = parts.local;
    this.space = parts.space;
    this.qos2InFlightMax = parts.qos2InFlightMax;
  }

  /** The buffer's tickets of one group: acknowledged in their order, one write a connection. */
  release(tickets: Ticket[]): void {
    for (const ticket of tickets) ticket.durable();
    for (const connection of this.touched) connection.flush();
    this.touched.clear();
  }

  /** The buffer takes messages again. */
  relieve(): void {
    this.heldBack.releaseAll();
  }

  /** Its connection is gone. */
  forget(connection: MqttConnection): void {
    this.heldBack.forget(connection);
    this.standings.forget(connection);
    this.space.forget(connection);
  }

  publish(connection: MqttConnection, packet: IncomingPublish): void {
    const { qos, packetId, topic, payload } = packet;
    const client = connection.clientId;
    const rights = this.standings.rightsOf(connection, topic);
    if (!rights.publish) {
      // MQTT 3.1.1 has no way to refuse a message but to close [MQTT-3.3.5-2].
      this.denied++;
      this.guard.audit.say({
        event: 'publish_denied',
        user: connection.user,
        client,
        address: connection.peer.address,
        about: topic,
      });
      if (connection.five !== undefined)
        connection.five.refusePublish(packet, REASON.notAuthorized, 'not granted to this user');
      else connection.close('publish to a topic that it may not use');
      return;
    }
    if (this.space.isScarce && !this.hasSpace(connection, packet)) return;
    this.standings.pace(connection);
    this.messages++;
    this.bytes += payload.length;
    let ops: KvOp[] | undefined;
    if (qos === 2) {
      ops = this.remember(connection, packetId);
      if (ops === undefined) return;
    }
    const { properties } = packet;
    const retain = packet.retain && rights.retain;
    let local: Message | undefined;
    let isRetained = false;
    let copies: Delivery | undefined;
    if (retain || this.subscriptions.wanted(topic)) {
      const extras = this.local.extrasOf(properties);
      local = { topic, qos, retain, payload: Buffer.from(payload), publisher: client, ...extras };
      ops ??= [];
      if (retain) {
        const retained = this.local.retain(local);
        isRetained = retained.kept;
        ops.push(...retained.ops);
      }
      copies = this.local.prepare(local);
      if (copies !== undefined) ops.push(...copies.ops);
    }
    const message: FrameMessage = {
      client,
      topic,
      qos,
      retain: packet.retain,
      dup: packet.dup,
      payload,
    };
    // Not spread into it: there is one for each message, and most have none.
    if (properties?.recorded !== undefined) message.properties = properties.recorded;
    const ticket =
      qos === 0
        ? undefined
        : new Ack(connection, qos === 1 ? PUBACK : PUBREC, packetId, this.touched);
    this.buffer.append(message, ticket, ops);
    if (local !== undefined) this.local.deliver(local, isRetained, copies);
    this.pause(connection);
  }

  /** Whatever waits for the disk takes memory, an answer alone too: no more is read while the buffer wants nothing. */
  private pause(connection: MqttConnection): void {
    if (this.buffer.congested) this.heldBack.hold(connection);
  }

  /** False: its principal has its share of what is left of the buffer, and the packet waits with its connection. */
  private hasSpace(connection: MqttConnection, packet: IncomingPublish): boolean {
    const { topic, payload } = packet;
    const principal = this.guard.identities.principalOf(connection.clientId) ?? '';
    if (this.space.takes(principal, topic.length + payload.length)) return true;
    const kept = { ...packet, payload: Buffer.from(payload) };
    this.space.wait(connection, () => this.publish(connection, kept));
    return false;
  }

  /** Keeps a QoS 2 id until its PUBREL; undefined: there is nothing to store, and the client was answered. */
  private remember(connection: MqttConnection, packetId: number): KvOp[] | undefined {
    const { clientId } = connection;
    if (this.sessions.has(clientId, packetId)) {
      // A repeat of what is stored or about to be: PUBREC once more, nothing stored [MQTT-4.3.3-2].
      this.buffer.barrier(new Ack(connection, PUBREC, packetId, this.touched));
      this.pause(connection);
      return undefined;
    }
    if (this.sessions.inFlight(clientId) >= this.qos2InFlightMax) {
      connection.close(
        'more QoS 2 messages without PUBREL than allowed',
        REASON.receiveMaximumExceeded,
      );
      return undefined;
    }
    const principal = this.guard.identities.principalOf(clientId) ?? '';
    const isDurable = connection.connect?.clean === false;
    const ops = this.sessions.store(clientId, principal, packetId, isDurable);
    if (ops === undefined)
      connection.close(
        'more QoS 2 messages without PUBREL than are left for all',
        REASON.quotaExceeded,
      );
    return ops;
  }

  pubrel(connection: MqttConnection, packetId: number): void {
    const ops = this.sessions.release(connection.clientId, packetId);
    this.buffer.barrier(new Ack(connection, PUBCOMP, packetId, this.touched), ops);
    this.pause(connection);
  }

  /** Behind all acknowledgements of what came before. */
  answerInOrder(connection: MqttConnection, bytes: Buffer): void {
    this.buffer.barrier({
      durable: () => {
        connection.acknowledgeBytes(bytes);
        this.touched.add(connection);
      },
    });
    this.pause(connection);
  }
}
