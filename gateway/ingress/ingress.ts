/**
 * MQTT for devices. Every PUBLISH goes into the buffer first; its PUBACK, PUBREC or PUBCOMP leaves after the fsync of
 * its group (law 1), in the order in which the packets came [MQTT-4.6.0-2]. Local subscribers get it after that.
 *
 * aedes keeps sessions, subscriptions and wills. A will passes `authorizePublish`, which waits for the buffer as well:
 * the PUBLISH packets themselves never reach aedes's handler, since it would acknowledge before storing (F5).
 */
import type { Duplex } from 'node:stream';
import type { EventEmitter } from 'node:events';
import { Aedes, type AuthenticateError, type Client } from 'aedes';
import type { Env } from '../../shared/env/env.ts';
import { messageOf } from '../../shared/errors.ts';
import type { FrameMessage } from '../../shared/frame/builder.ts';
import type { KvOp } from '../../shared/kv/kv.ts';
import type {
  IncomingPublish,
  MqttConnection,
  MqttHandler,
  MqttLimits,
} from '../../shared/mqtt/connection.ts';
import { PUBACK, PUBCOMP, PUBREC, checkTopicName } from '../../shared/mqtt/packets.ts';
import { HeldBack } from '../../shared/mqtt/held-back.ts';
import { MqttServer, type ServerLimits } from '../../shared/mqtt/server.ts';
import { CounterBy } from '../../shared/telemetry/metrics.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { MessageBuffer } from '../buffer/buffer.ts';
import { boundedPersistence, type BoundedPersistence } from './offline-queue.ts';
import { QOS2_PREFIX, Qos2Sessions } from './qos2.ts';
import { RETAINED_PREFIX, Retained, type RetainedLimits } from './retained.ts';
import { Subscriptions } from './subscriptions.ts';

/** Released when its group is durable. */
export interface Ticket {
  durable(): void;
}

export type Verify = (
  username: string | undefined,
  password: Buffer | undefined,
) => Promise<boolean>;

export interface IngressOptions {
  mqtt: MqttLimits;
  server: ServerLimits;
  retained: RetainedLimits;
  /** QoS 2 messages of one session that may wait for their PUBREL. */
  qos2InFlightMax: number;
  /** Bytes a subscriber may leave unread before it is cut, by time: milliseconds. */
  subscriberStallMs: number;
  /** QoS 1 and 2 messages queued for one persistent session. */
  offlineMessagesMax: number;
  /** Undefined: everybody may connect (loopback only, which the configuration ensures). */
  verify: Verify | undefined;
}

/** One acknowledgement. A class, not a closure: there is one for each message. */
class Ack implements Ticket {
  readonly connection: MqttConnection;
  readonly type: typeof PUBACK | typeof PUBREC | typeof PUBCOMP;
  readonly packetId: number;
  readonly touched: Set<MqttConnection>;

  constructor(
    connection: MqttConnection,
    type: typeof PUBACK | typeof PUBREC | typeof PUBCOMP,
    packetId: number,
    touched: Set<MqttConnection>,
  ) {
    this.connection = connection;
    this.type = type;
    this.packetId = packetId;
    this.touched = touched;
  }

  durable(): void {
    this.connection.acknowledge(this.type, this.packetId);
    this.touched.add(this.connection);
  }
}

export class Ingress implements MqttHandler {
  readonly limits: MqttLimits;
  readonly server: MqttServer;
  readonly closedBy = new CounterBy('reason');
  receivedMessages = 0;
  receivedBytes = 0;
  retainedRefused = 0;

  private readonly options: IngressOptions;
  private readonly buffer: MessageBuffer<Ticket>;
  private readonly notify: Notify;
  private readonly subscriptions = new Subscriptions();
  private readonly sessions = new Qos2Sessions();
  private readonly retained: Retained;
  private readonly bySide = new Map<Duplex, MqttConnection>();
  private readonly touched = new Set<MqttConnection>();
  private readonly heldBack = new HeldBack();
  private readonly offline: BoundedPersistence;
  private broker: Aedes | undefined;

  constructor(env: Env, options: IngressOptions, buffer: MessageBuffer<Ticket>, notify: Notify) {
    this.options = options;
    this.limits = options.mqtt;
    this.buffer = buffer;
    this.notify = notify;
    this.retained = new Retained(options.retained);
    this.offline = boundedPersistence(options.offlineMessagesMax);
    this.server = new MqttServer(this, options.server, () => env.clock.monotonicUs());
  }

  get offlineDropped(): number {
    return this.offline.dropped();
  }

  get retainedCount(): number {
    return this.retained.count;
  }

  /** Starts the broker and takes up what an earlier run stored. Listening is a step of its own. */
  async start(): Promise<void> {
    const { options } = this;
    const broker = await Aedes.createBroker({
      persistence: this.offline.persistence,
      connectTimeout: options.server.connectTimeoutMs,
      drainTimeout: options.subscriberStallMs,
      maxClientsIdLength: options.mqtt.clientIdBytesMax,
      authenticate: (client, username, password, done) =>
        void this.authenticate(client, username, password, done),
      authorizePublish: (client, packet, done) => this.storeWill(client, packet, done),
      authorizeSubscribe: (_client, subscription, done) => {
        // The broker's own topics name every client: they are nobody's to read.
        done(null, subscription.topic.startsWith('$SYS') ? null : subscription);
      },
    });
    this.broker = broker;
    broker.on('clientReady', (client) => this.bySide.get(client.conn)?.opened(client.id));
    broker.on('subscribe', (subscriptions, client) =>
      this.subscriptions.add(
        client.id,
        subscriptions.map(({ topic }) => topic),
      ),
    );
    broker.on('unsubscribe', (filters, client) => {
      // aedes also unsubscribes whoever disconnects; a persistent session keeps its subscriptions.
      if (client.clean || client.connected) this.subscriptions.remove(client.id, filters);
    });
    (broker as EventEmitter).on('error', (error: unknown) =>
      this.notify({ level: 'error', event: 'broker', text: messageOf(error) }),
    );
    this.sessions.load(await this.buffer.entries(QOS2_PREFIX));
    for (const { topic, qos, payload } of this.retained.load(
      await this.buffer.entries(RETAINED_PREFIX),
    )) {
      // Nobody is connected yet: publishing only puts it back among the retained.
      await new Promise<void>((resolve) => {
        broker.publish(
          { cmd: 'publish', topic, qos: qos as 0 | 1 | 2, payload, retain: true, dup: false },
          () => resolve(),
        );
      });
    }
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

  // ---- MqttHandler ----

  attach(connection: MqttConnection, side: Duplex): void {
    this.bySide.set(side, connection);
    side.once('close', () => this.bySide.delete(side));
    this.broker?.handle(side);
  }

  publish(connection: MqttConnection, packet: IncomingPublish): void {
    const { qos, packetId, topic, payload } = packet;
    const client = connection.clientId;
    this.receivedMessages++;
    this.receivedBytes += payload.length;
    if (qos === 2 && this.sessions.has(client, packetId)) {
      // A repeat of what is stored or about to be: PUBREC once more, nothing stored [MQTT-4.3.3-2].
      this.buffer.barrier(new Ack(connection, PUBREC, packetId, this.touched));
      return;
    }
    let ops: KvOp[] | undefined;
    if (qos === 2) {
      if (this.sessions.inFlight(client) >= this.options.qos2InFlightMax) {
        connection.close('more QoS 2 messages without PUBREL than allowed');
        return;
      }
      ops = this.sessions.store(client, packetId, connection.connect?.clean === false);
    }
    let retain = packet.retain;
    if (retain) {
      const retainOps = this.retained.set(topic, qos, payload);
      if (retainOps === undefined) {
        retain = false;
        if (this.retainedRefused++ === 0) {
          this.notify({
            level: 'warn',
            event: 'retained_full',
            text: `retained messages have reached their limit; '${topic}' and others are stored as data but not retained`,
          });
        }
      } else {
        ops = ops === undefined ? retainOps : [...ops, ...retainOps];
      }
    }
    const message: FrameMessage = {
      client,
      topic,
      qos,
      retain: packet.retain,
      dup: packet.dup,
      payload,
    };
    const ticket =
      qos === 0
        ? undefined
        : new Ack(connection, qos === 1 ? PUBACK : PUBREC, packetId, this.touched);
    this.buffer.append(message, ticket, ops);
    if (retain || this.subscriptions.wanted(topic))
      this.deliver(topic, qos, retain, Buffer.from(payload));
    if (this.buffer.congested) this.heldBack.hold(connection);
  }

  /** To local subscribers, after the fsync: nobody sees what could still be lost. */
  private deliver(topic: string, qos: number, retain: boolean, payload: Buffer): void {
    this.buffer.barrier({
      durable: () => {
        this.broker?.publish(
          { cmd: 'publish', topic, qos: qos as 0 | 1 | 2, payload, retain, dup: false },
          (error) => {
            if (error)
              this.notify({ level: 'warn', event: 'local_delivery', text: messageOf(error) });
          },
        );
      },
    });
  }

  /**
   * From the collector to devices, who may be asked to say again what they are (Sparkplug 3.0, 6.4.22), and nothing
   * else: whoever holds the collector does not hold the actuators. Not a reading: it is not stored.
   */
  command(topic: string, payload: Buffer): void {
    if (!/^spBv1\.0\/[^/+#]+\/NCMD\/[^/+#]+$/.test(topic)) {
      this.notify({
        level: 'warn',
        event: 'command_refused',
        text: `the collector wanted to publish to '${topic}', which only devices' owners may`,
      });
      return;
    }
    this.broker?.publish(
      { cmd: 'publish', topic, qos: 0, payload, retain: false, dup: false },
      () => undefined,
    );
  }

  pubrel(connection: MqttConnection, packetId: number): void {
    const ops = this.sessions.release(connection.clientId, packetId);
    this.buffer.barrier(new Ack(connection, PUBCOMP, packetId, this.touched), ops);
  }

  closed(connection: MqttConnection, reason: string): void {
    this.heldBack.forget(connection);
    this.closedBy.add(reason.replaceAll(/\d+/g, 'N'));
    const { connect, clientId } = connection;
    if (clientId === '' || connect?.clean !== true) return;
    // A takeover may have given the id to a newer connection, which has state of its own.
    for (const other of this.server.all())
      if (other !== connection && other.clientId === clientId) return;
    this.sessions.clear(clientId);
    this.subscriptions.removeClient(clientId);
  }

  // ---- aedes's hooks ----

  private async authenticate(
    client: Client,
    username: Readonly<string | undefined>,
    password: Readonly<Buffer | undefined>,
    done: (error: AuthenticateError | null, success: boolean | null) => void,
  ): Promise<void> {
    try {
      const { verify } = this.options;
      const allowed =
        verify === undefined ||
        (await verify(username, password === undefined ? undefined : Buffer.from(password)));
      if (allowed && client.clean) {
        // [MQTT-3.1.2-6]: what the session before left behind is gone before this one begins.
        const ops = this.sessions.clear(client.id);
        this.subscriptions.removeClient(client.id);
        if (ops.length > 0)
          await new Promise<void>((resolve) => this.buffer.barrier({ durable: resolve }, ops));
      }
      done(null, allowed);
    } catch (error) {
      done(Object.assign(new Error(messageOf(error)), { returnCode: 3 }), false);
    }
  }

  /** A will is a message like others: stored before it is published. `client` is null when aedes finds it later. */
  private storeWill(
    client: Client | null,
    packet: { topic: string; payload: string | Buffer; qos?: number; retain?: boolean },
    done: (error?: Error | null) => void,
  ): void {
    try {
      checkTopicName(packet.topic);
    } catch (error) {
      done(error instanceof Error ? error : new Error(messageOf(error)));
      return;
    }
    const payload = Buffer.from(packet.payload);
    const qos = packet.qos ?? 0;
    let ops: KvOp[] | undefined;
    if (packet.retain === true) {
      ops = this.retained.set(packet.topic, qos, payload);
      if (ops === undefined) packet.retain = false;
    }
    const message: FrameMessage = {
      client: client?.id ?? '',
      topic: packet.topic,
      qos,
      retain: packet.retain === true,
      dup: false,
      payload,
    };
    this.buffer.append(message, { durable: () => done(null) }, ops);
  }

  /** Lets devices go. The buffer is closed by its owner. */
  async close(): Promise<void> {
    await this.server.close();
    const { broker } = this;
    if (broker !== undefined) await new Promise<void>((resolve) => broker.close(() => resolve()));
  }
}
