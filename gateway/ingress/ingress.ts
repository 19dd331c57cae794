/**
 * MQTT for devices, put together. Every PUBLISH goes into the buffer first; its PUBACK, PUBREC or PUBCOMP leaves after the
 * fsync of its group (law 1): `publishing.ts`.
 *
 * aedes keeps clean sessions of 3.1.1 (`clean-sessions.ts`). Clients of MQTT 5, and those of 3.1.1 whose sessions outlive
 * their connection, have sessions of ours beside it (`front5.ts`); a message goes to the subscribers of both. A will, of
 * either, waits for the buffer as well (`wills.ts`).
 */
import type { Duplex } from 'node:stream';
import type { Env } from '../../shared/env/env.ts';
import { messageOf } from '../../shared/errors.ts';
import type { MqttConnection, MqttHandler } from '../../shared/mqtt/connection.ts';
import type {
  IncomingPublish,
  MqttLimits,
  Protocol311,
  Protocol5,
} from '../../shared/mqtt/protocol.ts';
import type { ConnectPacket } from '../../shared/mqtt/packets.ts';
import { Begun } from '../../shared/mqtt/begun.ts';
import { TOO_LARGE } from '../../shared/mqtt/scanner.ts';
import { MqttServer, type ServerLimits } from '../../shared/mqtt/server.ts';
import { CounterBy } from '../../shared/telemetry/metrics.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { Seldom } from '../../shared/access/seldom.ts';
import { addressGroup } from '../../shared/access/shares.ts';
import type { MessageBuffer } from '../buffer/buffer.ts';
import type { Ticket } from '../buffer/ticket.ts';
import { REASON } from '../mqtt5/reasons.ts';
import { SESSION_PREFIX } from '../mqtt5/session-disk.ts';
import { SteadyClock } from '../mqtt5/steady-clock.ts';
import { CleanSessions } from './clean-sessions.ts';
import { Endings } from './endings.ts';
import { Front5, type Front5Context } from './front5.ts';
import { Grants } from './grants.ts';
import { LocalDelivery } from './local.ts';
import { Publishing } from './publishing.ts';
import { Standings } from './standing.ts';
import { Wills } from './wills.ts';
import type { Guard } from './guard.ts';
import { QOS2_PREFIX, Qos2Sessions } from './qos2.ts';
import { RETAINED_PREFIX, Retained } from './retained.ts';
import { RetainedView } from './retained-view.ts';
import { IngressShares, type SharesMax } from './shares.ts';
import { BufferSpace } from './space.ts';
import { Subscriptions } from './subscriptions.ts';

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

export class Ingress implements MqttHandler {
  readonly limits: MqttLimits;
  readonly server: MqttServer;
  readonly shares: IngressShares;
  readonly space: BufferSpace;
  private readonly unfinished: Begun;
  readonly publishing: Publishing;
  readonly grants: Grants;
  readonly endings: Endings;
  readonly front5: Front5;
  readonly closedBy = new CounterBy('reason');

  private readonly buffer: MessageBuffer<Ticket>;
  private readonly notify: Notify;
  private readonly guard: Guard;
  private readonly local: LocalDelivery;
  private readonly subscriptions: Subscriptions;
  private readonly sessions: Qos2Sessions;
  private readonly retained: Retained;
  private readonly clean: CleanSessions;
  private readonly seldom: Seldom;
  private readonly clock: SteadyClock;

  constructor(
    env: Env,
    options: IngressOptions,
    guard: Guard,
    buffer: MessageBuffer<Ticket>,
    notify: Notify,
  ) {
    this.guard = guard;
    this.limits = options.mqtt;
    this.buffer = buffer;
    this.notify = notify;
    this.seldom = new Seldom(() => env.clock.monotonicUs());
    const shares = (this.shares = new IngressShares(options.shares));
    const space = (this.space = new BufferSpace(
      buffer,
      shares.bufferSpace,
      guard.identities,
      notify,
      this.seldom,
    ));
    this.unfinished = new Begun(shares.begunPackets, () => env.clock.monotonicUs());
    const subscriptions = new Subscriptions(shares);
    const sessions = (this.sessions = new Qos2Sessions(shares.qos2));
    const retained = new Retained(shares.retainedMessages, shares.retainedBytes);
    const view = new RetainedView();
    const clock = (this.clock = new SteadyClock(env.clock));
    const standings = new Standings(env, guard, options.messagesPerSecond);
    const principalOf = (clientId: string): string => guard.identities.principalOf(clientId) ?? '';
    this.subscriptions = subscriptions;
    this.retained = retained;
    const local = (this.local = new LocalDelivery({
      ...{ clock, buffer, notify, subscriptions, retained, view, principalOf },
    }));
    const wills = new Wills(guard, buffer, local, space, shares.waitingWills);
    const grants = (this.grants = new Grants(
      guard,
      subscriptions,
      options.subscriptionsPerClientMax,
    ));
    this.publishing = new Publishing({
      ...{ guard, buffer, standings, subscriptions, sessions, local, space },
      qos2InFlightMax: options.qos2InFlightMax,
    });
    const front5 = (this.front5 = this.front5Of(env, options, wills));
    const connections = (): Iterable<MqttConnection> => this.server.all();
    this.endings = new Endings(
      {
        ...{ env, guard, notify, standings, subscriptions, connections },
        queued: (clientId) => front5.queued(clientId),
        endOurs: (clientId, code, reason) => front5.end(clientId, code, reason),
        forget: (clientId) => this.forgetClient(clientId),
      },
      options.sessionExpiryMs,
    );
    this.clean = new CleanSessions(
      {
        ...{ guard, grants, shares, buffer, notify, local, view, wills, sessions, subscriptions },
        ...{ front5, connections },
      },
      {
        connectTimeoutMs: options.server.connectTimeoutMs,
        subscriberStallMs: options.subscriberStallMs,
        clientIdBytesMax: options.mqtt.clientIdBytesMax,
      },
    );
    this.server = new MqttServer(this, options.server, () => env.clock.monotonicUs());
  }

  private front5Of(env: Env, options: IngressOptions, wills: Wills): Front5 {
    return new Front5(
      this.context5(env, wills),
      {
        packetBytesMax: options.mqtt.packetBytesMax,
        clientIdBytesMax: options.mqtt.clientIdBytesMax,
        filtersMax: options.mqtt.filtersMax,
        receiveMaximum: Math.min(options.qos2InFlightMax, 65_535),
        sessionExpirySecondsMax: options.sessionExpiryMs / 1000,
        keepAliveSecondsMax: options.keepAliveMaxSeconds,
      },
      {
        sessions: this.shares.sessions5,
        messagesMax: options.offlineMessagesMax,
        bytes: this.shares.offlineBytes,
      },
      options.subscriberStallMs,
    );
  }

  private context5(env: Env, wills: Wills): Front5Context {
    const { guard, buffer, local, sessions, publishing, grants, clock } = this;
    return {
      env,
      clock,
      guard,
      durable: (ops) => new Promise((resolve) => buffer.barrier({ durable: resolve }, ops)),
      write: (ops, durable) => local.write(ops, durable),
      publish: (connection, packet) => publishing.publish(connection, packet),
      hasReceived: (clientId, packetId) => sessions.has(clientId, packetId),
      receivedCount: (clientId) => sessions.inFlight(clientId),
      release: (connection, packetId) => publishing.pubrel(connection, packetId),
      answerInOrder: (connection, bytes) => publishing.answerInOrder(connection, bytes),
      publishWill: (will, user, recorded) => wills.of5(will, user, recorded),
      admitUser: (connection, user) => this.shares.admit(connection, user),
      maySubscribe: (clientId, filter, isThere) => grants.maySubscribe(clientId, filter, isThere),
      forgetFilter: (clientId, filter) => this.subscriptions.remove(clientId, [filter]),
      forgetClient: (clientId) => this.forgetClient(clientId),
      overflow: (clientId) =>
        this.endings.end(clientId, 'more is queued for it than is allowed', REASON.quotaExceeded),
      trouble: (error) => this.notify({ level: 'error', event: 'broker', text: messageOf(error) }),
      sessionLost: (clientId) =>
        this.notify({
          level: 'warn',
          event: 'session_damaged',
          text: `what was kept of the session of client '${clientId}' is damaged: it begins a new one when it comes back, and what waited for it is not delivered (it is stored as data)`,
        }),
      evictAedes: (clientId) => this.clean.evict(clientId),
      retainedTopics: (filter) => local.retainedTopics(filter),
      retainedOn: (topic) => local.retainedOn(topic),
    };
  }

  /** Everything that is kept under the id beside the session itself. */
  private forgetClient(clientId: string): void {
    this.local.write(this.sessions.clear(clientId));
    this.subscriptions.removeClient(clientId);
    this.guard.identities.release(clientId);
  }

  /** Messages that a session lost: those that were one too many, and those that waited for a session that was ended. */
  get offlineDropped(): number {
    return this.endings.lostMessages + this.front5.broker.refusedCopies;
  }

  get uncheckedLogins(): number {
    return this.guard.hashes.refused + this.guard.hashes.dropped;
  }

  get retainedCount(): number {
    return this.retained.count;
  }

  /** Starts the broker and takes up what an earlier run stored. Listening is a step of its own. */
  async start(): Promise<void> {
    const { guard, buffer } = this;
    await this.clean.start();
    await this.space.load();
    if (guard.tls !== undefined) guard.tls.onRevocation = () => this.server.closeCertified();
    guard.watch(
      (users) => this.endings.revoke(users),
      () => this.endings.rightsChanged(),
    );
    this.sessions.load(await buffer.entries(QOS2_PREFIX));
    for (const clientId of this.sessions.clients()) guard.identities.left(clientId);
    this.endings.start();
    const cut = this.front5.start(await buffer.entries(SESSION_PREFIX));
    this.local.start(this.clean, this.front5, await buffer.entries(RETAINED_PREFIX));
    this.endings.afterRestart(cut);
  }

  /** The buffer's tickets of one group. */
  release(tickets: Ticket[]): void {
    this.publishing.release(tickets);
  }

  /** The buffer takes messages again. */
  relieve(): void {
    this.publishing.relieve();
  }

  /** A message that did not come by MQTT, to those who listen here. */
  announce(topic: string, payload: Buffer): void {
    this.local.announce(topic, payload);
  }

  /** From the collector to devices: see `LocalDelivery.command`. */
  command(topic: string, payload: Buffer): void {
    this.local.command(topic, payload);
  }

  // ---- MqttHandler ----

  attach(connection: MqttConnection, side: Duplex): void {
    this.clean.attach(connection, side);
  }

  attach311(connection: MqttConnection, connect: ConnectPacket): Protocol311 {
    return this.front5.attach311(connection, connect);
  }

  attach5(connection: MqttConnection, body: Buffer): Protocol5 {
    return this.front5.attach(connection, body);
  }

  publish(connection: MqttConnection, packet: IncomingPublish): void {
    this.publishing.publish(connection, packet);
  }

  begun(connection: MqttConnection, bytes: number): void {
    this.unfinished.look(connection, bytes);
  }

  pubrel(connection: MqttConnection, packetId: number): void {
    this.publishing.pubrel(connection, packetId);
  }

  closed(connection: MqttConnection, reason: string): void {
    this.publishing.forget(connection);
    this.unfinished.leave(connection);
    this.closedBy.add(reason.replaceAll(/\d+/g, 'N'));
    if (reason.startsWith(TOO_LARGE)) this.sayTooLarge(connection, reason);
    this.guard.turnedAway(connection, reason);
    this.shares.left(connection);
    this.clean.closed(connection);
  }

  distrusted(address: string, code: string): void {
    this.guard.distrusted(address, code);
  }

  /** Once a minute for each client: it comes again and again. */
  private sayTooLarge({ clientId, connect, user, peer }: MqttConnection, reason: string): void {
    const id = clientId === '' ? (connect?.clientId ?? '') : clientId;
    if (
      this.seldom.may(`too large ${id} ${peer.address}`, addressGroup(peer.address)) === undefined
    )
      return;
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

  /** Lets devices go. The buffer is closed by its owner. */
  async close(): Promise<void> {
    this.endings.stop();
    this.unfinished.close();
    await this.server.close();
    this.space.close();
    this.front5.close();
    this.local.close();
    await this.clean.close();
  }
}
