/**
 * MQTT for devices. Every PUBLISH goes into the buffer first; its PUBACK, PUBREC or PUBCOMP leaves after the fsync of
 * its group (law 1), in the order in which the packets came [MQTT-4.6.0-2]. Local subscribers get it after that.
 *
 * aedes keeps clean sessions of 3.1.1 with their subscriptions and wills. A will passes `authorizePublish`, which waits for
 * the buffer as well: the PUBLISH packets themselves never reach aedes's handler, since it would acknowledge before storing (F5).
 * Clients of MQTT 5, and those of 3.1.1 whose sessions outlive their connection, have sessions of ours beside it
 * (`front5.ts`); a message goes to the subscribers of both.
 */
import type { Duplex } from 'node:stream';
import type { EventEmitter } from 'node:events';
import { Aedes, type AuthenticateError, type Client } from 'aedes';
import { writeToStream } from 'mqtt-packet';
import type { Env } from '../../shared/env/env.ts';
import { messageOf } from '../../shared/errors.ts';
import type { FrameMessage } from '../../shared/frame/builder.ts';
import type { KvOp } from '../../shared/kv/kv.ts';
import type { MqttConnection, MqttHandler } from '../../shared/mqtt/connection.ts';
import type {
  IncomingPublish,
  MqttLimits,
  Protocol311,
  Protocol5,
} from '../../shared/mqtt/protocol.ts';
import { PUBACK, PUBCOMP, PUBREC, type ConnectPacket } from '../../shared/mqtt/packets.ts';
import { TOO_LARGE } from '../../shared/mqtt/scanner.ts';
import { HeldBack } from '../../shared/mqtt/held-back.ts';
import { MqttServer, type ServerLimits } from '../../shared/mqtt/server.ts';
import { CounterBy } from '../../shared/telemetry/metrics.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { Seldom } from '../../shared/telemetry/seldom.ts';
import type { MessageBuffer } from '../buffer/buffer.ts';
import type { Ticket } from '../buffer/ticket.ts';
import { Ack } from './ack.ts';
import type { Delivery } from '../mqtt5/broker.ts';
import type { Message } from '../mqtt5/message.ts';
import { REASON } from '../mqtt5/reasons.ts';
import { SESSION_PREFIX } from '../mqtt5/session-disk.ts';
import { Front5, type Front5Context } from './front5.ts';
import { Granted } from './granted.ts';
import { LocalDelivery } from './local.ts';
import { Standings } from './standing.ts';
import { Wills } from './wills.ts';
import type { Guard } from './guard.ts';
import { QOS2_PREFIX, Qos2Sessions } from './qos2.ts';
import { RETAINED_PREFIX, Retained } from './retained.ts';
import { RetainedView } from './retained-view.ts';
import { IngressShares, type SharesMax } from './shares.ts';
import { Subscriptions } from './subscriptions.ts';

// A Buffer for each of 65,536 numbers would take 7 MB; acknowledgements, the many small packets, are not written by it.
writeToStream.cacheNumbers = false;

export interface IngressOptions {
  mqtt: MqttLimits;
  server: ServerLimits;
  /** Of all together, each with a share of every principal. */
  shares: SharesMax;
  /** QoS 2 messages of one session that may wait for their PUBREL. */
  qos2InFlightMax: number;
  /** Bytes a subscriber may leave unread before it is cut, by time: milliseconds. */
  subscriberStallMs: number;
  /** Of MQTT 5 clients; 0: what they say. */
  keepAliveMaxSeconds: number;
  /** QoS 1 and 2 messages queued for one persistent session. */
  offlineMessagesMax: number;
  /** A persistent session that is away for longer ends. */
  sessionExpiryMs: number;
  /** Of one connection; 0 is no limit. */
  messagesPerSecond: number;
  /** Topic filters of one client. */
  subscriptionsPerClientMax: number;
}

const EXPIRY_LOOK_MS = 60_000;

export class Ingress implements MqttHandler {
  readonly limits: MqttLimits;
  readonly server: MqttServer;
  readonly closedBy = new CounterBy('reason');
  receivedMessages = 0;
  receivedBytes = 0;
  readonly endedSessions = new CounterBy('reason');
  deniedPublishes = 0;
  deniedSubscriptions = 0;

  private readonly options: IngressOptions;
  private readonly buffer: MessageBuffer<Ticket>;
  private readonly notify: Notify;
  private readonly guard: Guard;
  private readonly env: Env;
  private readonly standings: Standings;
  private readonly local: LocalDelivery;
  private readonly wills: Wills;
  readonly shares: IngressShares;
  private readonly subscriptions: Subscriptions;
  private readonly sessions: Qos2Sessions;
  private readonly retained: Retained;
  private readonly bySide = new Map<Duplex, MqttConnection>();
  private readonly touched = new Set<MqttConnection>();
  private readonly heldBack = new HeldBack();
  private readonly view = new RetainedView();
  private readonly granted = new Granted();
  private lostWithSessions = 0;
  private readonly seldom: Seldom;
  private readonly byUser = new Set<MqttConnection>();
  private expiry: NodeJS.Timeout | undefined;
  readonly front5: Front5;
  private broker: Aedes | undefined;

  constructor(
    env: Env,
    options: IngressOptions,
    guard: Guard,
    buffer: MessageBuffer<Ticket>,
    notify: Notify,
  ) {
    this.env = env;
    this.guard = guard;
    this.options = options;
    this.limits = options.mqtt;
    this.buffer = buffer;
    this.notify = notify;
    this.seldom = new Seldom(() => env.clock.monotonicUs());
    const shares = new IngressShares(options.shares);
    this.shares = shares;
    this.subscriptions = new Subscriptions(shares.sessions, shares.subscriptionLevels);
    this.sessions = new Qos2Sessions(shares.qos2);
    this.retained = new Retained(shares.retainedMessages, shares.retainedBytes);
    this.standings = new Standings(env, guard, options.messagesPerSecond);
    this.local = new LocalDelivery({
      env,
      buffer,
      notify,
      subscriptions: this.subscriptions,
      retained: this.retained,
      view: this.view,
      principalOf: (clientId) => guard.identities.principalOf(clientId) ?? '',
    });
    this.wills = new Wills(guard, buffer, this.local);
    this.front5 = new Front5(
      this.context5(),
      {
        packetBytesMax: options.mqtt.packetBytesMax,
        clientIdBytesMax: options.mqtt.clientIdBytesMax,
        filtersMax: options.mqtt.filtersMax,
        receiveMaximum: Math.min(options.qos2InFlightMax, 65_535),
        sessionExpirySecondsMax: options.sessionExpiryMs / 1000,
        keepAliveSecondsMax: options.keepAliveMaxSeconds,
      },
      {
        sessions: shares.sessions5,
        messagesMax: options.offlineMessagesMax,
        bytes: shares.offlineBytes,
      },
      options.subscriberStallMs,
    );
    this.server = new MqttServer(this, options.server, () => env.clock.monotonicUs());
  }

  /** Messages that a session lost: those that were one too many, and those that waited for a session that was ended. */
  get offlineDropped(): number {
    return this.lostWithSessions + this.front5.broker.refusedCopies;
  }

  get uncheckedLogins(): number {
    return this.guard.hashes.refused + this.guard.hashes.dropped;
  }

  get retainedCount(): number {
    return this.retained.count;
  }

  /** Starts the broker and takes up what an earlier run stored. Listening is a step of its own. */
  async start(): Promise<void> {
    const { options } = this;
    const broker = await Aedes.createBroker({
      persistence: this.view.persistence,
      connectTimeout: options.server.connectTimeoutMs,
      drainTimeout: options.subscriberStallMs,
      maxClientsIdLength: options.mqtt.clientIdBytesMax,
      authenticate: (client, username, password, done) =>
        void this.authenticate(client, username, password, done),
      authorizePublish: (client, packet, done) => this.wills.ofAedes(client, packet, done),
      authorizeSubscribe: (client, subscription, done) =>
        done(null, this.maySubscribe311(client, subscription.topic) ? subscription : null),
    });
    this.broker = broker;
    if (this.guard.tls !== undefined)
      this.guard.tls.onRevocation = () => this.server.closeCertified();
    this.guard.watch(
      (users) => this.revoke(users),
      () => this.rightsChanged(),
    );
    broker.on('clientReady', (client) => this.bySide.get(client.conn)?.opened(client.id));
    broker.on('client', (client) => this.granted.watch(client));
    broker.on('subscribe', (subscriptions, client) =>
      this.granted.subscribed(client, subscriptions),
    );
    broker.on('unsubscribe', (filters, client) => {
      this.granted.unsubscribed(client, filters);
      // aedes also unsubscribes whoever disconnects; the id may have a session of ours by then.
      if (!this.front5.has(client.id)) this.subscriptions.remove(client.id, filters);
    });
    (broker as EventEmitter).on('error', (error: unknown) =>
      this.notify({ level: 'error', event: 'broker', text: messageOf(error) }),
    );
    this.sessions.load(await this.buffer.entries(QOS2_PREFIX));
    for (const clientId of this.sessions.clients()) this.guard.identities.left(clientId);
    this.expiry = setInterval(
      () => this.expireSessions(),
      Math.min(EXPIRY_LOOK_MS, Math.max(50, options.sessionExpiryMs / 4)),
    );
    this.expiry.unref();
    this.front5.start(await this.buffer.entries(SESSION_PREFIX));
    await this.local.start(broker, this.front5, await this.buffer.entries(RETAINED_PREFIX));
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
    const rights = this.standings.rightsOf(connection, topic);
    if (!rights.publish) {
      // MQTT 3.1.1 has no way to refuse a message but to close [MQTT-3.3.5-2].
      this.deniedPublishes++;
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
    this.standings.pace(connection);
    this.receivedMessages++;
    this.receivedBytes += payload.length;
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
    if (this.buffer.congested) this.heldBack.hold(connection);
  }

  /** Keeps a QoS 2 id until its PUBREL; undefined: there is nothing to store, and the client was answered. */
  private remember(connection: MqttConnection, packetId: number): KvOp[] | undefined {
    const { clientId } = connection;
    if (this.sessions.has(clientId, packetId)) {
      // A repeat of what is stored or about to be: PUBREC once more, nothing stored [MQTT-4.3.3-2].
      this.buffer.barrier(new Ack(connection, PUBREC, packetId, this.touched));
      return undefined;
    }
    if (this.sessions.inFlight(clientId) >= this.options.qos2InFlightMax) {
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

  /** Shared subscriptions are those of MQTT 5 [MQTT-4.8.2-1]: 3.1.1 does not know them, and a filter of that name would hear nothing. */
  private maySubscribe311(client: Client | null, filter: string): boolean {
    return (
      client !== null &&
      !filter.startsWith('$share/') &&
      this.maySubscribe(client.id, filter) === 'yes'
    );
  }

  private maySubscribe(clientId: string, filter: string): 'yes' | 'not granted' | 'too many' {
    const { subscriptions, guard, options } = this;
    const own = subscriptions.of(clientId);
    const user = guard.identities.ownerOf(clientId);
    const principal = guard.identities.principalOf(clientId) ?? '';
    // The broker's own topics name every client: they are nobody's to read.
    const isGranted =
      !filter.startsWith('$SYS') &&
      (guard.rules?.maySubscribe({ user, client: clientId }, filter) ?? true);
    // Counted now: many more may be asked for before the broker says that this one is there.
    if (
      isGranted &&
      (own.has(filter) || own.size < options.subscriptionsPerClientMax) &&
      subscriptions.add(clientId, principal, filter)
    )
      return 'yes';
    this.deniedSubscriptions++;
    const reason = isGranted ? 'too many subscriptions' : 'not granted';
    guard.audit.say({ event: 'subscribe_denied', user, client: clientId, about: filter, reason });
    return isGranted ? 'too many' : 'not granted';
  }

  /** Credentials that no longer count: their sessions end, here or away, and nothing that waits for them is delivered. */
  private revoke(users: ReadonlySet<string>): void {
    const { audit, identities } = this.guard;
    for (const connection of [...this.server.all()]) {
      const { user, clientId, peer } = connection;
      // A certificate is not of the password file.
      if (user === undefined || !users.has(user) || peer.certificateName !== undefined) continue;
      audit.say({ event: 'revoked', user, client: clientId, address: peer.address });
      this.endSession(clientId, 'its credentials were revoked');
      connection.close('its credentials were revoked', REASON.notAuthorized);
    }
    for (const [clientId, { user, isCertified }] of [...identities.away()]) {
      if (user === undefined || !users.has(user) || isCertified) continue;
      audit.say({ event: 'revoked', user, client: clientId });
      this.endSession(clientId, 'its credentials were revoked');
    }
  }

  /** Rights have changed: what was remembered of them is forgotten, and who listens to what it may not is let go. */
  private rightsChanged(): void {
    const { rules, identities, audit } = this.guard;
    for (const connection of this.server.all()) this.standings.forget(connection);
    for (const client of this.subscriptions.clients()) {
      const user = identities.ownerOf(client);
      const lost = [...this.subscriptions.of(client)].find(
        (filter) => rules?.maySubscribe({ user, client }, filter) === false,
      );
      if (lost === undefined) continue;
      audit.say({ event: 'revoked', user, client, about: lost });
      this.endSession(client, 'it may no longer subscribe to what it has subscribed to');
    }
  }

  private expireSessions(): void {
    const beforeUs = this.env.clock.monotonicUs() - this.options.sessionExpiryMs * 1000;
    for (const [clientId, { awaySinceUs }] of [...this.guard.identities.away()])
      if (awaySinceUs < beforeUs) this.endSession(clientId, 'it was away for too long');
  }

  /** The session ends, with its connection if there is one, and all that was kept for it is forgotten. */
  private endSession(clientId: string, reason: string, code: number = REASON.notAuthorized): void {
    this.endedSessions.add(reason);
    const unsaid = this.seldom.may(reason);
    if (unsaid !== undefined)
      this.notify({
        level: 'warn',
        event: 'session_ended',
        text: `the session of '${clientId}' has ended: ${reason}${unsaid === 0 ? '' : ` (and ${unsaid} more since this was said last)`}`,
      });
    this.lostWithSessions += this.front5.queued(clientId);
    this.subscriptions.removeClient(clientId);
    this.local.write(this.sessions.clear(clientId));
    this.guard.identities.release(clientId);
    this.front5.end(clientId, code, reason);
    for (const connection of [...this.server.all()])
      if (connection.clientId === clientId) connection.close(reason, code);
  }

  /** A message that did not come by MQTT, to those who listen here. */
  announce(topic: string, payload: Buffer): void {
    this.local.announce(topic, payload);
  }

  /** From the collector to devices: see `LocalDelivery.command`. */
  command(topic: string, payload: Buffer): void {
    this.local.command(topic, payload);
  }

  pubrel(connection: MqttConnection, packetId: number): void {
    const ops = this.sessions.release(connection.clientId, packetId);
    this.buffer.barrier(new Ack(connection, PUBCOMP, packetId, this.touched), ops);
  }

  closed(connection: MqttConnection, reason: string): void {
    this.heldBack.forget(connection);
    this.closedBy.add(reason.replaceAll(/\d+/g, 'N'));
    const { clientId, user } = connection;
    if (reason.startsWith(TOO_LARGE)) this.sayTooLarge(connection, reason);
    if (this.byUser.delete(connection) && user !== undefined) this.shares.connections.give(user);
    if (clientId === '' || !isAedes(connection)) return;
    // A takeover may have given the id to a newer connection, which has state of its own.
    for (const other of this.server.all())
      if (other !== connection && other.clientId === clientId) return;
    this.sessions.clear(clientId);
    this.subscriptions.removeClient(clientId);
    this.guard.identities.release(clientId);
  }

  /** Once a minute for each client: it comes again and again. */
  private sayTooLarge({ clientId, connect, user, peer }: MqttConnection, reason: string): void {
    const id = clientId === '' ? (connect?.clientId ?? '') : clientId;
    if (this.seldom.may(`too large ${id} ${peer.address}`) === undefined) return;
    const who = `client '${id}'${user === undefined ? '' : ` of user '${user}'`} at ${peer.address}`;
    const [what, setting] =
      clientId === ''
        ? ['CONNECT', 'limits.connectBytesMax']
        : ['message', 'limits.packetBytesMax'];
    this.notify({
      level: 'warn',
      event: 'packet_too_large',
      text: `${who} was disconnected: its ${what} is larger than allowed (${reason}); raise ${setting} if it is meant to be`,
    });
  }

  // ---- aedes's hooks ----

  private async authenticate(
    client: Client,
    username: Readonly<string | undefined>,
    password: Readonly<Buffer | undefined>,
    done: (error: AuthenticateError | null, success: boolean | null) => void,
  ): Promise<void> {
    try {
      const connection = this.bySide.get(client.conn);
      if (connection === undefined) throw new Error('the connection is gone');
      const admission = await this.guard.admit(
        connection,
        client.id,
        username,
        password === undefined ? undefined : Buffer.from(password),
      );
      if ('refused' in admission) {
        connection.refusedFor(admission.refused);
        done(
          Object.assign(new Error(admission.refused), { returnCode: admission.returnCode }),
          false,
        );
        return;
      }
      if (connection.isClosed) throw new Error('the connection is gone');
      const { user } = admission;
      if (user !== undefined && !this.shares.connections.take(user)) {
        connection.refusedFor('too many connections of this user');
        done(Object.assign(new Error('too many connections'), { returnCode: 3 }), false);
        return;
      }
      // [MQTT-3.1.2-6]: what the session before left behind is gone before this one begins.
      const hadSession = this.front5.has(client.id);
      this.front5.end(client.id, REASON.sessionTakenOver, 'another client has its id now');
      connection.clientId = client.id;
      connection.user = user;
      this.guard.claim(connection);
      if (user !== undefined) {
        this.byUser.add(connection);
        this.wills.users.set(client, user);
      }
      const ops = this.sessions.clear(client.id);
      this.subscriptions.removeClient(client.id);
      if (hadSession || ops.length > 0)
        await new Promise<void>((resolve) => this.buffer.barrier({ durable: resolve }, ops));
      done(null, true);
    } catch (error) {
      done(Object.assign(new Error(messageOf(error)), { returnCode: 3 }), false);
    }
  }

  // ---- sessions of ours ----

  attach311(connection: MqttConnection, connect: ConnectPacket): Protocol311 {
    return this.front5.attach311(connection, connect);
  }

  attach5(connection: MqttConnection, body: Buffer): Protocol5 {
    return this.front5.attach(connection, body);
  }

  private context5(): Front5Context {
    const { env, guard } = this;
    return {
      env,
      guard,
      durable: (ops) => new Promise((resolve) => this.buffer.barrier({ durable: resolve }, ops)),
      write: (ops, durable) => this.local.write(ops, durable),
      publish: (connection, packet) => this.publish(connection, packet),
      hasReceived: (clientId, packetId) => this.sessions.has(clientId, packetId),
      receivedCount: (clientId) => this.sessions.inFlight(clientId),
      release: (connection, packetId) => this.pubrel(connection, packetId),
      answerInOrder: (connection, bytes) =>
        this.buffer.barrier({
          durable: () => {
            connection.acknowledgeBytes(bytes);
            this.touched.add(connection);
          },
        }),
      publishWill: (will, user, recorded) => this.wills.of5(will, user, recorded),
      admitUser: (connection, user) => {
        if (user === undefined) return true;
        if (!this.shares.connections.take(user)) return false;
        this.byUser.add(connection);
        return true;
      },
      maySubscribe: (clientId, filter) => this.maySubscribe(clientId, filter),
      forgetFilter: (clientId, filter) => this.subscriptions.remove(clientId, [filter]),
      forgetClient: (clientId) => {
        this.local.write(this.sessions.clear(clientId));
        this.subscriptions.removeClient(clientId);
        this.guard.identities.release(clientId);
      },
      overflow: (clientId) =>
        this.endSession(clientId, 'more is queued for it than is allowed', REASON.quotaExceeded),
      trouble: (error) => this.notify({ level: 'error', event: 'broker', text: messageOf(error) }),
      evictAedes: (clientId) => this.evictAedes(clientId),
      retained: (filter) => this.local.retainedFor(filter),
    };
  }

  /** An id has one session: a clean one of 3.1.1 ends when a client comes whose session is ours. */
  private evictAedes(clientId: string): void {
    let wasHere = false;
    for (const connection of [...this.server.all()]) {
      if (connection.clientId !== clientId || !isAedes(connection)) continue;
      wasHere = true;
      connection.close('another client has its id now');
    }
    if (!wasHere) return;
    this.subscriptions.removeClient(clientId);
    this.local.write(this.sessions.clear(clientId));
  }

  /** Lets devices go. The buffer is closed by its owner. */
  async close(): Promise<void> {
    clearInterval(this.expiry);
    await this.server.close();
    this.front5.close();
    this.local.close();
    const { broker } = this;
    if (broker !== undefined) await new Promise<void>((resolve) => broker.close(() => resolve()));
  }
}

/** Its session is aedes's, and ends with it. */
const isAedes = ({ five, lasting }: MqttConnection): boolean =>
  five === undefined && lasting === undefined;
