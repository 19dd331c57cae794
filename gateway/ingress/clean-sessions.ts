/**
 * Clean sessions of MQTT 3.1.1, which aedes keeps with their subscriptions and wills: they end with their connection. Their
 * PUBLISH packets never reach aedes's handler, since it would acknowledge before storing (F5).
 */
import type { Duplex } from 'node:stream';
import type { EventEmitter } from 'node:events';
import { Aedes, type AuthenticateError, type Client } from 'aedes';
import { writeToStream } from 'mqtt-packet';
import { messageOf } from '../../shared/errors.ts';
import type { MqttConnection } from '../../shared/mqtt/connection.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { MessageBuffer } from '../buffer/buffer.ts';
import type { Ticket } from '../buffer/ticket.ts';
import type { Message } from '../mqtt5/message.ts';
import { REASON } from '../mqtt5/reasons.ts';
import type { Front5 } from './front5.ts';
import type { Grants } from './grants.ts';
import { Granted } from './granted.ts';
import type { Guard } from './guard.ts';
import type { LocalDelivery } from './local.ts';
import type { Qos2Sessions } from './qos2.ts';
import type { RetainedView } from './retained-view.ts';
import type { IngressShares } from './shares.ts';
import type { Subscriptions } from './subscriptions.ts';
import type { Wills } from './wills.ts';

// A Buffer for each of 65,536 numbers would take 7 MB; acknowledgements, the many small packets, are not written by it.
writeToStream.cacheNumbers = false;

export interface CleanSessionsParts {
  guard: Guard;
  grants: Grants;
  shares: IngressShares;
  buffer: MessageBuffer<Ticket>;
  notify: Notify;
  local: LocalDelivery;
  view: RetainedView;
  wills: Wills;
  sessions: Qos2Sessions;
  subscriptions: Subscriptions;
  front5: Front5;
  /** Those that are here now. */
  connections: () => Iterable<MqttConnection>;
}

export interface CleanSessionsLimits {
  connectTimeoutMs: number;
  subscriberStallMs: number;
  clientIdBytesMax: number;
}

export class CleanSessions {
  private readonly parts: CleanSessionsParts;
  private readonly limits: CleanSessionsLimits;
  private readonly bySide = new Map<Duplex, MqttConnection>();
  private readonly granted = new Granted();
  private broker: Aedes | undefined;

  constructor(parts: CleanSessionsParts, limits: CleanSessionsLimits) {
    this.parts = parts;
    this.limits = limits;
  }

  /** Starts the broker. */
  async start(): Promise<void> {
    const { view, wills, grants, notify, subscriptions, front5 } = this.parts;
    const { connectTimeoutMs, subscriberStallMs, clientIdBytesMax } = this.limits;
    const broker = await Aedes.createBroker({
      persistence: view.persistence,
      // Its queue of what waits for others is an array that is shifted: a burst of 100,000 took a minute.
      concurrency: 0,
      connectTimeout: connectTimeoutMs,
      drainTimeout: subscriberStallMs,
      maxClientsIdLength: clientIdBytesMax,
      authenticate: (client, username, password, done) =>
        void this.authenticate(client, username, password, done),
      authorizePublish: (client, packet, done) => wills.ofAedes(client, packet, done),
      authorizeSubscribe: (client, subscription, done) =>
        done(null, grants.maySubscribe311(client, subscription.topic) ? subscription : null),
    });
    broker.on('clientReady', (client) => this.bySide.get(client.conn)?.opened(client.id));
    broker.on('client', (client) => this.granted.watch(client));
    broker.on('subscribe', (filters, client) => this.granted.subscribed(client, filters));
    broker.on('unsubscribe', (filters, client) => {
      this.granted.unsubscribed(client, filters);
      // aedes also unsubscribes whoever disconnects; the id may have a session of ours by then.
      if (!front5.has(client.id)) subscriptions.remove(client.id, filters);
    });
    (broker as EventEmitter).on('error', (error: unknown) =>
      notify({ level: 'error', event: 'broker', text: messageOf(error) }),
    );
    this.broker = broker;
  }

  /** A message, after its fsync; a retained one is aedes's to remember for who subscribes later. */
  deliver(message: Message, isRetained: boolean, done: (error?: Error) => void): void {
    if (!isRetained && this.granted.deliver(message)) return;
    const { topic, qos, payload } = message;
    this.broker?.publish(
      { cmd: 'publish', topic, qos: qos as 0 | 1 | 2, payload, retain: isRetained, dup: false },
      done,
    );
  }

  attach(connection: MqttConnection, side: Duplex): void {
    this.bySide.set(side, connection);
    side.once('close', () => this.bySide.delete(side));
    this.broker?.handle(side);
  }

  private async authenticate(
    client: Client,
    username: Readonly<string | undefined>,
    password: Readonly<Buffer | undefined>,
    done: (error: AuthenticateError | null, success: boolean | null) => void,
  ): Promise<void> {
    const { guard, shares, front5, wills, sessions, subscriptions, buffer } = this.parts;
    try {
      const connection = this.bySide.get(client.conn);
      if (connection === undefined) throw new Error('the connection is gone');
      const admission = await guard.admit(
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
      if (!shares.admit(connection, user)) {
        connection.refusedFor('too many connections of this user');
        done(Object.assign(new Error('too many connections'), { returnCode: 3 }), false);
        return;
      }
      // [MQTT-3.1.2-6]: what the session before left behind is gone before this one begins.
      const hadSession = front5.has(client.id);
      front5.end(client.id, REASON.sessionTakenOver, 'another client has its id now');
      connection.clientId = client.id;
      connection.user = user;
      guard.claim(connection);
      if (user !== undefined) wills.users.set(client, user);
      const ops = sessions.clear(client.id);
      subscriptions.removeClient(client.id);
      if (hadSession || ops.length > 0)
        await new Promise<void>((resolve) => buffer.barrier({ durable: resolve }, ops));
      done(null, true);
    } catch (error) {
      done(Object.assign(new Error(messageOf(error)), { returnCode: 3 }), false);
    }
  }

  /** Its connection is gone, and the session with it. */
  closed(connection: MqttConnection): void {
    const { clientId } = connection;
    if (clientId === '' || !isClean(connection)) return;
    const { connections, sessions, subscriptions, guard } = this.parts;
    // A takeover may have given the id to a newer connection, which has state of its own.
    for (const other of connections())
      if (other !== connection && other.clientId === clientId) return;
    sessions.clear(clientId);
    subscriptions.removeClient(clientId);
    guard.identities.release(clientId);
  }

  /** An id has one session: a clean one of 3.1.1 ends when a client comes whose session is ours. */
  evict(clientId: string): void {
    const { connections, subscriptions, local, sessions } = this.parts;
    let wasHere = false;
    for (const connection of [...connections()]) {
      if (connection.clientId !== clientId || !isClean(connection)) continue;
      wasHere = true;
      connection.close('another client has its id now');
    }
    if (!wasHere) return;
    subscriptions.removeClient(clientId);
    local.write(sessions.clear(clientId));
  }

  async close(): Promise<void> {
    const { broker } = this;
    if (broker !== undefined) await new Promise<void>((resolve) => broker.close(() => resolve()));
  }
}

/** Its session ends with the connection. */
const isClean = ({ five, lasting }: MqttConnection): boolean =>
  five === undefined && lasting === undefined;
