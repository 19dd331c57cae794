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
import { writeToStream } from 'mqtt-packet';
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
import { Seldom } from '../../shared/telemetry/seldom.ts';
import type { MessageBuffer } from '../buffer/buffer.ts';
import type { Ticket } from '../buffer/ticket.ts';
import { Ack } from './ack.ts';
import type { Guard } from './guard.ts';
import { OfflineQueues } from './offline-queue.ts';
import { QOS2_PREFIX, Qos2Sessions } from './qos2.ts';
import { RETAINED_PREFIX, Retained } from './retained.ts';
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
  /** QoS 1 and 2 messages queued for one persistent session. */
  offlineMessagesMax: number;
  /** A persistent session that is away for longer ends. */
  sessionExpiryMs: number;
  /** Of one connection; 0 is no limit. */
  messagesPerSecond: number;
  /** Topic filters of one client. */
  subscriptionsPerClientMax: number;
}

/** What a connection may publish, as it has turned out, and how much of its rate is left. */
interface Standing {
  /** Topic → whether it may, and may have it retained. */
  topics: Map<string, { publish: boolean; retain: boolean }>;
  tokens: number;
  filledUs: number;
}

/** Topics remembered for a connection. */
const STANDING_TOPICS_MAX = 512;

const EXPIRY_LOOK_MS = 60_000;

const ALL_RIGHTS = { publish: true, retain: true } as const;

export class Ingress implements MqttHandler {
  readonly limits: MqttLimits;
  readonly server: MqttServer;
  readonly closedBy = new CounterBy('reason');
  receivedMessages = 0;
  receivedBytes = 0;
  readonly endedSessions = new CounterBy('reason');
  private retainedRefused = 0;
  deniedPublishes = 0;
  deniedSubscriptions = 0;

  private readonly options: IngressOptions;
  private readonly buffer: MessageBuffer<Ticket>;
  private readonly notify: Notify;
  private readonly guard: Guard;
  private readonly env: Env;
  private readonly standings = new WeakMap<MqttConnection, Standing>();
  /** Of aedes's clients, for their wills: those are published when the connection is gone. */
  private readonly users = new WeakMap<Client, string>();
  readonly shares: IngressShares;
  private readonly subscriptions: Subscriptions;
  private readonly sessions: Qos2Sessions;
  private readonly retained: Retained;
  private readonly bySide = new Map<Duplex, MqttConnection>();
  private readonly touched = new Set<MqttConnection>();
  private readonly heldBack = new HeldBack();
  private readonly offline: OfflineQueues;
  private readonly seldom: Seldom;
  private readonly byUser = new Set<MqttConnection>();
  private expiry: NodeJS.Timeout | undefined;
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
    this.offline = new OfflineQueues(
      options.offlineMessagesMax,
      shares.offlineBytes,
      (clientId) => guard.identities.principalOf(clientId),
      (clientId) => this.endSession(clientId, 'more is queued for it than is allowed'),
    );
    this.server = new MqttServer(this, options.server, () => env.clock.monotonicUs());
  }

  get offlineDropped(): number {
    return this.offline.dropped;
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
      persistence: this.offline.persistence,
      connectTimeout: options.server.connectTimeoutMs,
      drainTimeout: options.subscriberStallMs,
      maxClientsIdLength: options.mqtt.clientIdBytesMax,
      authenticate: (client, username, password, done) =>
        void this.authenticate(client, username, password, done),
      authorizePublish: (client, packet, done) => this.storeWill(client, packet, done),
      authorizeSubscribe: (client, subscription, done) =>
        done(null, this.maySubscribe(client, subscription.topic) ? subscription : null),
    });
    this.broker = broker;
    if (this.guard.tls !== undefined)
      this.guard.tls.onRevocation = () => this.server.closeCertified();
    this.guard.watch(
      (users) => this.revoke(users),
      () => this.rightsChanged(),
    );
    broker.on('clientReady', (client) => this.bySide.get(client.conn)?.opened(client.id));
    broker.on('unsubscribe', (filters, client) => {
      // aedes also unsubscribes whoever disconnects; a persistent session keeps its subscriptions.
      if (client.clean || client.connected) this.subscriptions.remove(client.id, filters);
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
    const rights = this.rightsOf(connection, topic);
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
      connection.close('publish to a topic that it may not use');
      return;
    }
    if (this.options.messagesPerSecond > 0) this.pace(connection);
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
      const principal = this.guard.identities.principalOf(client) ?? '';
      const isDurable = connection.connect?.clean === false;
      ops = this.sessions.store(client, principal, packetId, isDurable);
      if (ops === undefined) {
        connection.close('more QoS 2 messages without PUBREL than are left for all');
        return;
      }
    }
    let retain = packet.retain && rights.retain;
    if (retain) {
      const kept = this.retain(client, topic, qos, payload);
      retain = kept.retain;
      ops = ops === undefined ? kept.ops : [...ops, ...kept.ops];
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

  /** The topic's retained message, or none any more when this one cannot be kept: never an older one. */
  private retain(
    clientId: string,
    topic: string,
    qos: number,
    payload: Buffer,
  ): { ops: KvOp[]; retain: boolean } {
    const principal = this.guard.identities.principalOf(clientId) ?? '';
    const { ops, kept } = this.retained.set(topic, principal, qos, payload);
    if (kept) return { ops, retain: true };
    // Subscribers to come are told after the fsync, like those who are here.
    if (ops.length > 0)
      this.buffer.barrier({
        durable: () => void this.offline.unretain(topic),
      });
    if (this.retainedRefused++ === 0)
      this.notify({
        level: 'warn',
        event: 'retained_full',
        text: `retained messages have reached their limit or the share of ${principal}; '${topic}' and others are stored as data but not retained, and what was retained on them before is gone (limits.retainedMessagesMax, limits.retainedBytesMax)`,
      });
    return { ops, retain: false };
  }

  private standingOf(connection: MqttConnection): Standing {
    let standing = this.standings.get(connection);
    if (standing === undefined) {
      const filledUs = this.env.clock.monotonicUs();
      standing = { topics: new Map(), tokens: this.options.messagesPerSecond, filledUs };
      this.standings.set(connection, standing);
    }
    return standing;
  }

  private rightsOf(
    connection: MqttConnection,
    topic: string,
  ): { publish: boolean; retain: boolean } {
    const { rules } = this.guard;
    if (rules === undefined) return ALL_RIGHTS;
    const { topics } = this.standingOf(connection);
    const known = topics.get(topic);
    if (known !== undefined) return known;
    const who = { user: connection.user, client: connection.clientId };
    const publish = rules.mayPublish(who, topic);
    const rights = { publish, retain: publish && rules.mayRetain(who, topic) };
    if (topics.size >= STANDING_TOPICS_MAX) topics.clear();
    topics.set(topic, rights);
    return rights;
  }

  /** A token bucket of one second: who is ahead of it is not read from until it has filled again. */
  private pace(connection: MqttConnection): void {
    const { messagesPerSecond } = this.options;
    const standing = this.standingOf(connection);
    const nowUs = this.env.clock.monotonicUs();
    const filled = ((nowUs - standing.filledUs) / 1e6) * messagesPerSecond;
    standing.tokens = Math.min(messagesPerSecond, standing.tokens + filled) - 1;
    standing.filledUs = nowUs;
    if (standing.tokens >= 0 || connection.isHeld) return;
    connection.hold();
    const waitMs = Math.ceil((1 - standing.tokens) * (1000 / messagesPerSecond));
    setTimeout(() => connection.release(), waitMs).unref();
  }

  private maySubscribe(client: Client | null, filter: string): boolean {
    // The broker's own topics name every client: they are nobody's to read. Shared subscriptions are not kept.
    if (client === null || filter.startsWith('$SYS') || filter.startsWith('$share/')) return false;
    const { subscriptions, guard, options } = this;
    const own = subscriptions.of(client.id);
    const user = guard.identities.ownerOf(client.id);
    const principal = guard.identities.principalOf(client.id) ?? '';
    const isGranted = guard.rules?.maySubscribe({ user, client: client.id }, filter) ?? true;
    // Counted now: many more may be asked for before the broker says that this one is there.
    if (
      isGranted &&
      (own.has(filter) || own.size < options.subscriptionsPerClientMax) &&
      subscriptions.add(client.id, principal, filter)
    )
      return true;
    this.deniedSubscriptions++;
    const reason = isGranted ? 'too many subscriptions' : 'not granted';
    guard.audit.say({ event: 'subscribe_denied', user, client: client.id, about: filter, reason });
    return false;
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
      connection.close('its credentials were revoked');
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
    for (const connection of this.server.all()) this.standings.delete(connection);
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
  private endSession(clientId: string, reason: string): void {
    const client = (this.broker as unknown as { clients?: Record<string, Client> } | undefined)
      ?.clients?.[clientId];
    if (client !== undefined) client.clean = true;
    this.endedSessions.add(reason);
    const unsaid = this.seldom.may(reason);
    if (unsaid !== undefined)
      this.notify({
        level: 'warn',
        event: 'session_ended',
        text: `the session of '${clientId}' has ended: ${reason}${unsaid === 0 ? '' : ` (and ${unsaid} more since this was said last)`}`,
      });
    this.subscriptions.removeClient(clientId);
    const ops = this.sessions.clear(clientId);
    if (ops.length > 0) this.buffer.barrier({ durable: () => undefined }, ops);
    this.guard.identities.release(clientId);
    void this.offline.end(clientId);
    for (const connection of [...this.server.all()])
      if (connection.clientId === clientId) connection.close(reason);
  }

  /** A message that did not come by MQTT, to those who listen here. */
  announce(topic: string, payload: Buffer): void {
    if (this.subscriptions.wanted(topic)) this.deliver(topic, 1, false, payload);
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
    const { connect, clientId, user } = connection;
    if (this.byUser.delete(connection) && user !== undefined) this.shares.connections.give(user);
    if (clientId === '') return;
    // A takeover may have given the id to a newer connection, which has state of its own.
    for (const other of this.server.all())
      if (other !== connection && other.clientId === clientId) return;
    const keepsSession =
      connect?.clean === false &&
      (this.subscriptions.has(clientId) || this.sessions.inFlight(clientId) > 0);
    if (keepsSession) {
      this.guard.identities.left(clientId);
      return;
    }
    this.sessions.clear(clientId);
    this.subscriptions.removeClient(clientId);
    this.guard.identities.release(clientId);
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
      connection.clientId = client.id;
      connection.user = user;
      this.guard.claim(connection);
      if (user !== undefined) {
        this.byUser.add(connection);
        this.users.set(client, user);
      }
      if (client.clean) {
        // [MQTT-3.1.2-6]: what the session before left behind is gone before this one begins.
        const ops = this.sessions.clear(client.id);
        this.subscriptions.removeClient(client.id);
        if (ops.length > 0)
          await new Promise<void>((resolve) => this.buffer.barrier({ durable: resolve }, ops));
      }
      done(null, true);
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
    const { rules, audit } = this.guard;
    const id = client?.id ?? '';
    const who = { user: client === null ? undefined : this.users.get(client), client: id };
    // Asked now, not when it connected: a right that was revoked since is none.
    if (rules !== undefined && (client === null || !rules.mayPublish(who, packet.topic))) {
      audit.say({ event: 'will_denied', ...who, about: packet.topic });
      done(new Error('a will on a topic that its client may not use'));
      return;
    }
    if (packet.retain === true && rules?.mayRetain(who, packet.topic) === false)
      packet.retain = false;
    const payload = Buffer.from(packet.payload);
    const qos = packet.qos ?? 0;
    let ops: KvOp[] | undefined;
    if (packet.retain === true) {
      const kept = this.retain(id, packet.topic, qos, payload);
      ops = kept.ops;
      packet.retain = kept.retain;
    }
    const message: FrameMessage = {
      client: id,
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
    clearInterval(this.expiry);
    await this.server.close();
    const { broker } = this;
    if (broker !== undefined) await new Promise<void>((resolve) => broker.close(() => resolve()));
  }
}
