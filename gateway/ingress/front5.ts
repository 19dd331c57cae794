/**
 * Sessions of ours in front of the buffer: CONNECT, SUBSCRIBE and wills of MQTT 5 clients, and of those of 3.1.1 that ask for
 * a session which outlives its connection, with the same guard, limits and way of a message as aedes's clients. A client
 * id has one session, whatever version its client speaks.
 */
import { principalOf } from '../../shared/access/shares.ts';
import type { Env } from '../../shared/env/env.ts';
import type { KvOp } from '../../shared/kv/kv.ts';
import type { MqttConnection } from '../../shared/mqtt/connection.ts';
import type { IncomingPublish, Protocol311, Protocol5 } from '../../shared/mqtt/protocol.ts';
import { checkTopicFilter, type ConnectPacket } from '../../shared/mqtt/packets.ts';
import { Broker5, type BrokerHost, type BrokerOptions, type Delivery } from '../mqtt5/broker.ts';
import {
  Link,
  keepAliveOf,
  type Admitted,
  type Holder,
  type LinkHost,
  type LinkLimits,
  type SubscribeResult,
} from '../mqtt5/link.ts';
import { Link311 } from '../mqtt5/link311.ts';
import type { Message } from '../mqtt5/message.ts';
import { giveOwed, owe, type RetainedSource } from '../mqtt5/owed-retained.ts';
import { readConnect5, type Connect, type Filter, type Publish } from '../mqtt5/packets.ts';
import { REASON, Refusal, type Reason } from '../mqtt5/reasons.ts';
import type { Session } from '../mqtt5/session.ts';
import { NO_PROPERTIES } from '../mqtt5/properties.ts';
import type { PendingWill } from '../mqtt5/session-disk.ts';
import type { SteadyClock } from '../mqtt5/steady-clock.ts';
import { sharedFilter } from '../mqtt5/topics.ts';
import type { Guard } from './guard.ts';
import { recordProperties, refusalOf, willOf } from './terms5.ts';

/** What the front needs of the ingress, which both versions share. */
export interface Front5Context extends RetainedSource {
  env: Env;
  /** Of everything that has its time. */
  clock: SteadyClock;
  guard: Guard;
  /** Resolves when what was given to it is on stable storage, in order with messages. */
  durable(ops: KvOp[]): Promise<void>;
  write(ops: KvOp[], durable?: () => void): void;
  /** Into the buffer and to local subscribers; answered in order. */
  publish(connection: MqttConnection, packet: IncomingPublish): void;
  /** Whether the session has got this QoS 2 id, and has not released it. */
  hasReceived(clientId: string, packetId: number): boolean;
  /** QoS 2 messages of the session that it has not released. */
  receivedCount(clientId: string): number;
  release(connection: MqttConnection, packetId: number): void;
  answerInOrder(connection: MqttConnection, bytes: Buffer): void;
  /** `recorded`: its properties as a frame keeps them. */
  publishWill(will: Message, user: string | undefined, recorded: Buffer | undefined): void;
  /** One more connection of this user; false: it has its share. */
  admitUser(connection: MqttConnection, user: string | undefined): boolean;
  /** Asks the rules and the limits, and counts it; says why not. */
  maySubscribe(
    clientId: string,
    filter: string,
    isThere?: boolean,
  ): 'yes' | 'not granted' | 'too many';
  forgetFilter(clientId: string, filter: string): void;
  /** Everything that is kept under the id beside the session itself. */
  forgetClient(clientId: string): void;
  /** More is queued for it than is allowed: the session is to end, and that is told. */
  overflow(clientId: string): void;
  trouble(error: unknown): void;
  /** What was kept of its session is damaged. */
  sessionLost(clientId: string): void;
  /** A client of aedes's with this id ends. */
  evictAedes(clientId: string): void;
}

export class Front5 implements LinkHost, BrokerHost {
  readonly limits: LinkLimits;
  readonly broker: Broker5;
  private readonly context: Front5Context;
  private readonly stallMs: number;
  /** The newest connection of each id. */
  private readonly owners = new Map<string, Holder>();
  private sweeper: NodeJS.Timeout | undefined;

  /** Restored, and with rights that were cut meanwhile. */
  private readonly notGranted = new Set<string>();

  constructor(context: Front5Context, limits: LinkLimits, options: BrokerOptions, stallMs: number) {
    this.context = context;
    this.limits = limits;
    this.stallMs = stallMs;
    this.broker = new Broker5(context.clock, options, this);
  }

  nowMs(): number {
    return this.context.clock.nowMs();
  }

  monotonicMs(): number {
    return this.context.clock.monotonicMs();
  }

  /** Gives the clients that may no longer subscribe to what their sessions of an earlier run have subscribed to. */
  start(entries: [Buffer, Buffer][]): Iterable<string> {
    for (const clientId of this.broker.start(entries)) this.context.sessionLost(clientId);
    this.sweeper = setInterval(() => this.cutStalled(), 1000);
    this.sweeper.unref();
    return this.notGranted;
  }

  /** A subscriber that does not read is let go, so that nothing piles up for it in memory. */
  private cutStalled(): void {
    const since = this.monotonicMs() - this.stallMs;
    for (const link of this.owners.values())
      if ((link.outbox.stalledSinceMs ?? Number.POSITIVE_INFINITY) < since)
        link.connection.close('does not read what it subscribed to');
  }

  /** A CONNECT of version 5. Throws Refusal for one that is malformed. */
  attach(connection: MqttConnection, body: Buffer): Protocol5 {
    const connect = readConnect5(body);
    if (Buffer.byteLength(connect.clientId) > this.limits.clientIdBytesMax)
      throw new Refusal(REASON.clientIdNotValid, 'client id is too long');
    const link = new Link(connection, this, connect);
    connection.connect = {
      version: 5,
      clientId: connect.clientId,
      clean: (connect.properties.numbers.sessionExpiry ?? 0) === 0,
      keepAliveSeconds: keepAliveOf(connect.keepAliveSeconds, this.limits.keepAliveSecondsMax),
      keepAliveOffset: 0,
      username: connect.username,
      password: connect.password,
      will: undefined,
    };
    void link.open();
    return link;
  }

  /** A CONNECT of 3.1.1 without a clean session. */
  attach311(connection: MqttConnection, connect: ConnectPacket): Protocol311 {
    const link = new Link311(connection, this, connect);
    void link.open();
    return link;
  }

  // ---- LinkHost ----

  async admit(link: Holder, connect: Connect): Promise<Admitted> {
    const { guard, env } = this.context;
    const { connection } = link;
    const clientId =
      connect.clientId === '' ? `auto-${env.random.bytes(10).toString('hex')}` : connect.clientId;
    const admission = await guard.admit(connection, clientId, connect.username, connect.password);
    if ('refused' in admission) throw refusalOf(admission);
    const { user } = admission;
    this.context.evictAedes(clientId);
    if (connection.isClosed) throw new Refusal(REASON.serverUnavailable, 'the connection is gone');
    if (!this.context.admitUser(connection, user))
      throw new Refusal(REASON.quotaExceeded, 'too many connections of this user');
    connection.clientId = clientId;
    connection.user = user;
    // From here to the write everything is done at once: the newest connection of an id has its session.
    const before = this.owners.get(clientId);
    this.owners.set(clientId, link);
    before?.goodbye(REASON.sessionTakenOver, 'another connection took its session over'); // [MQTT-3.1.4-3]
    const principal = principalOf(user, connection.peer.address);
    const { session, sessionPresent } = this.sessionFor(
      clientId,
      principal,
      connect,
      before !== undefined,
    );
    // After the session before, whose end lets go of the id.
    guard.claim(connection);
    session.user = user;
    session.passwordMark = guard.markOf(connection);
    session.version = link.version;
    this.broker.countFor(session, principal);
    session.expirySeconds = link.expirySeconds;
    session.awaySinceMs = undefined;
    this.broker.setWill(clientId, willOf(connect));
    if (sessionPresent) this.recheck(session);
    // After a restart: a session that only lost its connection has them still.
    if (!session.isOffered) giveOwed(session, [...session.owedRetained], this.context, this.broker);
    this.broker.keep(session);
    await this.context.durable([]);
    if (this.owners.get(clientId) !== link)
      throw new Refusal(REASON.sessionTakenOver, 'another connection took its session over');
    link.outbox.onDrain = () => session.pump();
    return { session, sessionPresent, clientId };
  }

  private sessionFor(
    clientId: string,
    principal: string,
    { cleanStart }: Connect,
    isTakeover: boolean,
  ): { session: Session; sessionPresent: boolean } {
    const { broker } = this;
    const found = broker.find(clientId);
    if (found !== undefined) {
      // A connection that is taken over has ended without a DISCONNECT: its will is sent, but for one that waits
      // for a session that goes on [MQTT-3.1.3-9].
      const goesOn = !cleanStart && found.expirySeconds > 0;
      if (isTakeover) broker.endConnection(found, goesOn);
      else if (goesOn) broker.setWill(clientId, undefined);
      if (goesOn) return { session: found, sessionPresent: true };
      broker.end(found);
    }
    const session = broker.create(clientId, principal);
    if (session === undefined) {
      this.owners.delete(clientId);
      throw new Refusal(REASON.quotaExceeded, 'too many sessions of this user or address');
    }
    return { session, sessionPresent: false };
  }

  /** Rights may have changed while it was away: what it may no longer subscribe to is not delivered again. */
  private recheck(session: Session): void {
    const { rules } = this.context.guard;
    if (rules === undefined) return;
    for (const filter of [...session.subscriptions.keys()]) {
      const who = { user: session.user, client: session.clientId };
      if (rules.maySubscribe(who, filter)) continue;
      this.broker.unsubscribe(session, filter);
      this.context.forgetFilter(session.clientId, filter);
    }
  }

  publish(link: Link, packet: Publish): void {
    if (packet.said !== NO_PROPERTIES) {
      const { forwarded, numbers } = packet.said;
      const { messageExpiry } = numbers;
      const recorded = recordProperties(forwarded, messageExpiry);
      if (recorded !== undefined) packet.properties = { forwarded, messageExpiry, recorded };
    }
    this.context.publish(link.connection, packet);
  }

  answerInOrder(link: Link, bytes: Buffer): void {
    this.context.answerInOrder(link.connection, bytes);
  }

  release(link: Link, packetId: number): boolean {
    if (!this.context.hasReceived(link.connection.clientId, packetId)) return false;
    this.context.release(link.connection, packetId);
    return true;
  }

  async subscribe(
    link: Holder,
    filters: Filter[],
    id: number | undefined,
  ): Promise<SubscribeResult> {
    const { session } = link;
    if (session === undefined) return { reasons: [], retained: () => undefined };
    const fresh: string[] = [];
    const reasons = filters.map((each) => {
      const isNew = !session.subscriptions.has(each.filter);
      const reason = this.refusesFilter(session.clientId, each.filter);
      if (reason !== undefined) return reason;
      const { filter, qos, noLocal, retainAsPublished, retainHandling } = each;
      this.broker.subscribe({ session, filter, qos, noLocal, retainAsPublished, id });
      // [MQTT-3.3.1-9 to -11]; shared subscriptions get nothing retained (4.8.2).
      const isShared = filter.startsWith('$share/');
      if (!isShared && (retainHandling === 0 || (retainHandling === 1 && isNew)))
        fresh.push(filter);
      return qos;
    });
    owe(session, fresh, this.context);
    this.broker.keep(session);
    await this.context.durable([]);
    return {
      reasons,
      retained: () => giveOwed(session, fresh, this.context, this.broker),
    };
  }

  private refusesFilter(clientId: string, filter: string): Reason | undefined {
    const inner = filter.startsWith('$share/') ? sharedFilter(filter) : filter;
    if (inner === undefined) return REASON.topicFilterInvalid;
    try {
      checkTopicFilter(inner);
    } catch {
      return REASON.topicFilterInvalid; // What is wrong with it is the client's to find: MQTT has no place for it here.
    }
    const may = this.context.maySubscribe(clientId, filter);
    if (may === 'yes') return undefined;
    return may === 'too many' ? REASON.quotaExceeded : REASON.notAuthorized;
  }

  async unsubscribe(link: Holder, filters: string[]): Promise<number[]> {
    const { session } = link;
    if (session === undefined) return [];
    const reasons = filters.map((filter) => {
      if (!this.broker.unsubscribe(session, filter)) return REASON.noSubscriptionExisted;
      this.context.forgetFilter(session.clientId, filter);
      return REASON.success;
    });
    this.broker.keep(session);
    await this.context.durable([]);
    return reasons;
  }

  closed(link: Holder, sendsWill: boolean): void {
    const { session } = link;
    if (session === undefined || this.owners.get(session.clientId) !== link) return;
    this.owners.delete(session.clientId);
    this.broker.away(session, sendsWill);
    // Many that only publish ask 3.1.1 for a session, some under a new id each time: one with nothing in it is none.
    const { version, subscriptions, queuedCount, clientId } = session;
    const isEmpty = subscriptions.size + queuedCount + this.context.receivedCount(clientId) === 0;
    if (version === 4 && isEmpty) this.broker.end(session);
    if (this.has(session.clientId)) this.context.guard.identities.left(session.clientId);
  }

  // ---- for the ingress ----

  has(clientId: string): boolean {
    return this.broker.find(clientId) !== undefined;
  }

  /** Messages that wait for it. */
  queued(clientId: string): number {
    return this.broker.find(clientId)?.queuedCount ?? 0;
  }

  /** The session of an id ends, and its connection with it. */
  end(clientId: string, reason: number, text: string): void {
    const link = this.owners.get(clientId);
    this.owners.delete(clientId);
    link?.goodbye(reason, text);
    const session = this.broker.find(clientId);
    if (session !== undefined) this.broker.end(session);
  }

  /** Copies for whoever of version 5 listens; undefined: nobody. */
  prepare(message: Message): Delivery | undefined {
    return this.broker.prepare(message);
  }

  dispatch(delivery: Delivery): void {
    this.broker.dispatch(delivery);
  }

  close(): void {
    clearInterval(this.sweeper);
    this.broker.close();
  }

  // ---- BrokerHost ----

  write(ops: KvOp[], durable?: () => void): void {
    this.context.write(ops, durable);
  }

  publishWill(clientId: string, user: string | undefined, will: PendingWill): void {
    const { topic, payload, qos, retain, forwarded, messageExpiry } = will;
    const expiresAtMs =
      messageExpiry === undefined ? undefined : this.nowMs() + messageExpiry * 1000;
    this.context.publishWill(
      { topic, payload, qos, retain, publisher: clientId, forwarded, expiresAtMs },
      user,
      recordProperties(forwarded, messageExpiry),
    );
  }

  overflow({ clientId }: Session): void {
    this.context.overflow(clientId);
  }

  trouble(error: unknown): void {
    this.context.trouble(error);
  }

  sessionEnded(clientId: string): void {
    this.context.forgetClient(clientId);
  }

  sessionRestored(session: Session): void {
    const { clientId, user, principal, passwordMark } = session;
    this.context.guard.identities.restored(clientId, user, principal, passwordMark);
    for (const filter of session.subscriptions.keys())
      if (this.context.maySubscribe(clientId, filter, true) === 'not granted')
        this.notGranted.add(clientId);
  }
}
