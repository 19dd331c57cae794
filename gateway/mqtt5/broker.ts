/**
 * Sessions of MQTT 5 clients, and of those of 3.1.1 that ask for one which outlives its connection, and what is delivered
 * to them. aedes keeps clean sessions of 3.1.1; a message goes to both.
 *
 * - `prepare` is asked before a message is committed, so that its copies for sessions that outlive their connection are
 *   written in the message's own batch: what was acknowledged to the publisher is queued on disk for them (law 2).
 *   `dispatch` sends the copies after that fsync: nobody sees what could still be lost.
 * - A session is on disk as long as it may outlive its connection; what is damaged there is left out and counted.
 * - Every queue has a limit in messages, all of them together one in bytes, of which each principal has a share. A session
 *   that reaches it ends: it would come back to old messages as if nothing had followed.
 * - Deadlines (session expiry, will delay, message expiry) are times of the wall clock, kept on disk, and looked at each second.
 */
import type { KvOp } from '../../shared/kv/kv.ts';
import type { Share } from '../../shared/access/shares.ts';
import { CounterBy } from '../../shared/telemetry/metrics.ts';
import { encodeOutgoing, sizeOf, type Message, type Outgoing } from './message.ts';
import { Room, type RoomOptions } from './room.ts';
import { Session, type SessionStore } from './session.ts';
import {
  inFlightOp,
  loadSessions,
  messageKey,
  recordOps,
  removalOps,
  type PendingWill,
} from './session-disk.ts';
import type { SteadyClock } from './steady-clock.ts';
import { Topics, type Group, type Subscription } from './topics.ts';

export interface BrokerOptions extends RoomOptions {
  /** Sessions, with or without a connection, shared by principals. */
  sessions: Share;
}

/** What the sessions stand on and report to. */
export interface BrokerHost {
  /** Written with the next group, in order; `durable` is called after its fsync. */
  write(ops: KvOp[], durable?: () => void): void;
  /** A will whose time has come. */
  publishWill(clientId: string, user: string | undefined, will: PendingWill): void;
  /** A session is gone: its rights, its ids and its filters are nobody's. */
  sessionEnded(clientId: string): void;
  /** More would be queued than may be: the session and its connection are to end. */
  overflow(session: Session): void;
  /** A session is taken up again at the start. */
  sessionRestored(session: Session): void;
}

export interface Delivery {
  copies: { session: Session; out: Outgoing }[];
  /** To be written with the message. */
  ops: KvOp[];
}

/** Whose turn it is: the next that can take it at once, else the next with a connection, else any. */
function nextMember(group: Group<Session>): Subscription<Session> | undefined {
  const members = [...group.members.values()];
  const from = group.turn++ % Math.max(1, members.length);
  const turn = [...members.slice(from), ...members.slice(0, from)];
  return (
    turn.find(({ session }) => session.isReady) ??
    turn.find(({ session }) => session.isConnected) ??
    turn[0]
  );
}

const storedCopy = (clientId: string, out: Outgoing): KvOp => ({
  type: 'put',
  key: messageKey(clientId, out.sequence),
  value: encodeOutgoing(out),
});

const SWEEP_MS = 1000;
/** Topics whose subscribers are remembered. */
const TOPICS_KNOWN_MAX = 1000;

export class Broker5 implements SessionStore {
  readonly droppedBy = new CounterBy('reason');
  /** Copies that were one too many for their session. */
  refusedCopies = 0;
  private readonly topics = new Topics<Session>(TOPICS_KNOWN_MAX);
  private readonly sessions = new Map<string, Session>();
  private readonly wills = new Map<string, PendingWill>();
  private readonly options: BrokerOptions;
  private readonly host: BrokerHost;
  private readonly clock: SteadyClock;
  private readonly room: Room;
  private sequence = 0;
  private sweeper: NodeJS.Timeout | undefined;

  constructor(clock: SteadyClock, options: BrokerOptions, host: BrokerHost) {
    this.clock = clock;
    clock.onJump((jumpMs) => this.shift(jumpMs));
    this.options = options;
    this.host = host;
    this.room = new Room(options, this.sessions, (session) => host.overflow(session));
  }

  get sessionCount(): number {
    return this.sessions.size;
  }

  nowMs(): number {
    return this.clock.nowMs();
  }

  /** Takes up the sessions of an earlier run, before anybody connects; gives the clients whose session is damaged. */
  start(entries: [Buffer, Buffer][]): readonly string[] {
    const { sessions, wills, sequence, damaged, lost, orphans } = loadSessions(entries, this);
    if (orphans.length > 0) this.host.write(orphans);
    if (damaged > 0) this.droppedBy.add('damaged', damaged);
    this.sequence = sequence;
    const now = this.nowMs();
    const wereHere = sessions.filter(({ awaySinceMs }) => awaySinceMs === undefined);
    for (const session of sessions) {
      // Whoever was connected when this process ended is away since now, and nobody since later, by a clock that is behind.
      session.awaySinceMs = Math.min(session.awaySinceMs ?? now, now);
      this.sessions.set(session.clientId, session);
      this.options.sessions.add(session.principal, 1);
      this.options.bytes.add(session.principal, session.queuedBytes);
      for (const subscription of session.subscriptions.values()) this.topics.add(subscription);
      this.host.sessionRestored(session);
    }
    for (const [clientId, will] of wills) {
      // The connection ended with the process, not by the client's word.
      will.dueMs = Math.min(will.dueMs ?? Number.POSITIVE_INFINITY, now + will.delaySeconds * 1000);
      this.wills.set(clientId, will);
    }
    // The next start is not to take them for here again: nobody would ever be away for long enough.
    for (const session of wereHere) this.keep(session);
    this.sweeper = setInterval(() => this.sweep(), SWEEP_MS);
    this.sweeper.unref();
    return lost;
  }

  /** One whose time is over is none, also before it has been looked at. */
  find(clientId: string): Session | undefined {
    const session = this.sessions.get(clientId);
    if (session?.isOver(this.nowMs()) === true) this.end(session);
    return this.sessions.get(clientId);
  }

  /** A session for a client that has none. Undefined when its principal has its share. */
  create(clientId: string, principal: string): Session | undefined {
    if (!this.options.sessions.take(principal)) return undefined;
    const session = new Session(clientId, this);
    session.principal = principal;
    this.sessions.set(clientId, session);
    return session;
  }

  /** What waits for it is its principal's, who may have come from another address. */
  countFor(session: Session, principal: string): void {
    const { sessions, bytes } = this.options;
    sessions.give(session.principal);
    bytes.give(session.principal, session.queuedBytes);
    session.principal = principal;
    sessions.add(principal, 1);
    bytes.add(principal, session.queuedBytes);
  }

  /** Writes what a session is now; with a ticket's group, like everything else. */
  keep(session: Session): void {
    const will = this.wills.get(session.clientId);
    if (session.expirySeconds > 0) this.host.write(recordOps(session, will));
    else this.host.write(removalOps(session, []));
  }

  /** The will of a connection; undefined: it has none (any more). */
  setWill(clientId: string, will: PendingWill | undefined): void {
    if (will === undefined) this.wills.delete(clientId);
    else this.wills.set(clientId, will);
  }

  subscribe(subscription: Subscription<Session>): void {
    const { session, filter } = subscription;
    session.subscriptions.set(filter, subscription);
    this.topics.add(subscription);
  }

  /** Whether there was such a subscription. */
  unsubscribe(session: Session, filter: string): boolean {
    const subscription = session.subscriptions.get(filter);
    if (subscription === undefined) return false;
    session.subscriptions.delete(filter);
    this.topics.remove(subscription);
    return true;
  }

  /** Its connection has ended. */
  away(session: Session, sendsWill: boolean): void {
    session.link = undefined;
    session.awaySinceMs = this.nowMs();
    const will = this.wills.get(session.clientId);
    if (will !== undefined && !sendsWill) this.wills.delete(session.clientId);
    else if (will !== undefined) {
      will.dueMs = this.nowMs() + Math.min(will.delaySeconds, session.expirySeconds) * 1000;
      if (will.dueMs <= this.nowMs()) this.publishWill(session.clientId, session.user, will);
    }
    if (session.expirySeconds === 0) this.end(session);
    else this.keep(session);
  }

  /** A newer connection takes over: the one before has ended without a word. `waits`: a will with a delay is called off. */
  endConnection(session: Session, waits: boolean): void {
    session.link = undefined;
    const will = this.wills.get(session.clientId);
    if (will === undefined) return;
    if (waits && will.delaySeconds > 0) this.wills.delete(session.clientId);
    else this.publishWill(session.clientId, session.user, will);
  }

  /** The session ends: its will is sent [MQTT-3.1.2-8], what was shared goes to another member, the rest is forgotten. */
  end(session: Session): void {
    const { clientId } = session;
    if (this.sessions.get(clientId) !== session) return;
    this.sessions.delete(clientId);
    const will = this.wills.get(clientId);
    if (will !== undefined) this.publishWill(clientId, session.user, will);
    for (const subscription of session.subscriptions.values()) this.topics.remove(subscription);
    session.subscriptions.clear();
    const shared = session.untakenShared();
    this.options.sessions.give(session.principal);
    this.options.bytes.give(session.principal, session.queuedBytes);
    session.queuedBytes = 0;
    this.host.write(removalOps(session, session.kept()));
    this.host.sessionEnded(clientId);
    for (const out of shared) this.toAnother(out);
  }

  /** A message of a shared subscription whose member has gone. */
  private toAnother({ shared, message }: Outgoing): void {
    const group = this.topics.group(shared ?? '');
    if (group === undefined) return;
    const ops: KvOp[] = [];
    const copy = this.toMember(group, message, ops);
    this.host.write(ops);
    if (copy !== undefined) copy.session.send(copy.out);
  }

  private publishWill(clientId: string, user: string | undefined, will: PendingWill): void {
    this.wills.delete(clientId);
    this.host.publishWill(clientId, user, will);
  }

  /** A clock that is set makes nobody's absence longer, and neither a will nor a message wait for less. */
  private shift(jumpMs: number): void {
    for (const will of this.wills.values()) if (will.dueMs !== undefined) will.dueMs += jumpMs;
    const now = this.nowMs();
    const shifted = new Set<Message>();
    for (const session of this.sessions.values()) {
      const moved = session.shift(now, jumpMs, shifted).filter(({ sequence }) => sequence > 0);
      if (moved.length > 0) this.host.write(moved.map((out) => storedCopy(session.clientId, out)));
      if (session.awaySinceMs === undefined) continue;
      session.awaySinceMs += jumpMs;
      this.keep(session);
    }
  }

  private sweep(): void {
    this.clock.look();
    const now = this.nowMs();
    for (const [clientId, will] of [...this.wills]) {
      if (will.dueMs === undefined || will.dueMs > now) continue;
      const session = this.sessions.get(clientId);
      this.publishWill(clientId, session?.user, will);
      if (session !== undefined) this.keep(session);
    }
    for (const session of [...this.sessions.values()]) if (session.isOver(now)) this.end(session);
  }

  /** Copies of a message for whoever is subscribed to its topic; undefined: nobody. */
  prepare(message: Message): Delivery | undefined {
    if (this.sessions.size === 0) return undefined;
    const { plain, groups } = this.topics.match(message.topic);
    if (plain.length + groups.length === 0) return undefined;
    const ops: KvOp[] = [];
    const copies: Delivery['copies'] = [];
    const merged = new Map<Session, { qos: number; retain: boolean }>();
    for (const { session, qos, noLocal, retainAsPublished, id } of plain) {
      if (noLocal && session.clientId === message.publisher) continue; // [MQTT-3.8.3-3]
      const retain = retainAsPublished && message.retain; // [MQTT-3.3.1-12, -13]
      if (id !== undefined) {
        const copy = this.copy(session, message, qos, retain, id, undefined, ops);
        if (copy !== undefined) copies.push(copy);
        continue;
      }
      // Overlapping subscriptions without identifiers: once, at the highest QoS [MQTT-3.3.4-2].
      const before = merged.get(session);
      merged.set(session, {
        qos: Math.max(qos, before?.qos ?? 0),
        retain: retain || (before?.retain ?? false),
      });
    }
    for (const [session, { qos, retain }] of merged) {
      const copy = this.copy(session, message, qos, retain, undefined, undefined, ops);
      if (copy !== undefined) copies.push(copy);
    }
    for (const group of groups) {
      const copy = this.toMember(group, message, ops);
      if (copy !== undefined) copies.push(copy);
    }
    return { copies, ops };
  }

  dispatch({ copies }: Delivery): void {
    for (const { session, out } of copies) {
      if (this.sessions.get(session.clientId) === session) {
        session.send(out);
        continue;
      }
      // It has ended meanwhile, before anything went to it: what was shared goes to another member.
      if (out.qos > 0) this.done(session, out);
      if (out.shared !== undefined) this.toAnother(out);
    }
  }

  private toMember(
    group: Group<Session>,
    message: Message,
    ops: KvOp[],
  ): Delivery['copies'][number] | undefined {
    const chosen = nextMember(group);
    if (chosen === undefined) return undefined;
    const { session, qos, retainAsPublished, id } = chosen;
    const retain = retainAsPublished && message.retain;
    return this.copy(session, message, qos, retain, id, group.name, ops);
  }

  private copy(
    session: Session,
    message: Message,
    qosMax: number,
    retain: boolean,
    subscriptionId: number | undefined,
    shared: string | undefined,
    ops: KvOp[],
  ): Delivery['copies'][number] | undefined {
    const qos = Math.min(message.qos, qosMax);
    const out: Outgoing = { message, qos, retain, subscriptionId, shared, sequence: 0 };
    if (qos === 0) return session.isConnected ? { session, out } : undefined;
    const size = sizeOf(out);
    if (this.sessions.get(session.clientId) !== session) return undefined;
    if (!this.room.take(session, size)) {
      this.droppedBy.add('queue full');
      this.refusedCopies++;
      this.host.overflow(session);
      return undefined;
    }
    if (session.expirySeconds > 0) {
      out.sequence = ++this.sequence;
      ops.push(storedCopy(session.clientId, out));
    }
    return { session, out };
  }

  /** A retained message for one new subscription. */
  offer(
    session: Session,
    message: Message,
    qosMax: number,
    subscriptionId: number | undefined,
  ): void {
    const ops: KvOp[] = [];
    const copy = this.copy(session, message, qosMax, true, subscriptionId, undefined, ops);
    if (ops.length > 0) this.host.write(ops);
    if (copy !== undefined) session.send(copy.out);
  }

  // ---- SessionStore ----

  done(session: Session, out: Outgoing): void {
    this.options.bytes.give(session.principal, sizeOf(out));
    if (out.sequence > 0)
      this.host.write([{ type: 'del', key: messageKey(session.clientId, out.sequence) }]);
  }

  inFlight(
    session: Session,
    packetId: number,
    out: Outgoing,
    state: 'sent' | 'released' | undefined,
    durable?: () => void,
  ): void {
    if (out.sequence === 0) {
      durable?.();
      return;
    }
    this.host.write([inFlightOp(session.clientId, packetId, out.sequence, state)], durable);
  }

  dropped(why: 'expired' | 'too large' | 'slow'): void {
    this.droppedBy.add(why);
  }

  close(): void {
    clearInterval(this.sweeper);
  }
}
