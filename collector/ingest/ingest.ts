/**
 * The collector's end of the uplink: an MQTT broker for gateways. A frame is acknowledged when the log has it on stable
 * storage, never before (law 2); an uplink message with anything wrong in it is refused whole.
 *
 * Bounded: what has been received and is not yet in the log never exceeds `pendingBytesMax`; beyond it reading stops.
 */
import type { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import { Aedes, type AuthenticateError, type Client } from 'aedes';
import { sameSecret } from '../../shared/config/secrets.ts';
import type { Env } from '../../shared/env/env.ts';
import { messageOf } from '../../shared/errors.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import type {
  IncomingPublish,
  MqttConnection,
  MqttHandler,
  MqttLimits,
} from '../../shared/mqtt/connection.ts';
import { PUBACK } from '../../shared/mqtt/packets.ts';
import { HeldBack } from '../../shared/mqtt/held-back.ts';
import { MqttServer, type ServerLimits } from '../../shared/mqtt/server.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { CounterBy } from '../../shared/telemetry/metrics.ts';
import {
  GATEWAY_ID,
  UP_PREFIX,
  decodeUp,
  downTopic,
  encodeDown,
  encodeDownError,
  type EpochAck,
} from '../../shared/wire/wire.ts';
import { TOPIC_RAW, type Log, type LogRecord } from '../log/log.ts';

export interface IngestOptions {
  mqtt: MqttLimits;
  server: ServerLimits;
  pendingBytesMax: number;
  /** Asked of every gateway when set. */
  secret: string | undefined;
  /** Undefined, or why nothing may be taken now (a nearly full disk). */
  refuse: () => string | undefined;
}

interface GatewaySession {
  id: string;
  /** Epoch → what is committed, over this connection's life. */
  committed: Map<string, RangeSet>;
}

export interface GatewaySeen {
  gateway: string;
  connected: boolean;
  lastSeenMs: number;
  frames: number;
  messages: number;
}

const RETRY_MS = 250;

export class Ingest implements MqttHandler {
  readonly limits: MqttLimits;
  readonly server: MqttServer;
  readonly refusedBy = new CounterBy('reason');
  receivedFrames = 0;
  receivedMessages = 0;
  receivedBytes = 0;
  acknowledgedMessages = 0;

  private readonly env: Env;
  private readonly options: IngestOptions;
  private readonly log: Log;
  private readonly notify: Notify;
  private readonly bySide = new Map<Duplex, MqttConnection>();
  private readonly sessions = new Map<MqttConnection, GatewaySession>();
  private readonly seen = new Map<string, GatewaySeen>();
  private readonly heldBack = new HeldBack();
  private pendingBytes = 0;
  private broker: Aedes | undefined;
  private stopped = false;

  constructor(env: Env, options: IngestOptions, log: Log, notify: Notify) {
    this.env = env;
    this.options = options;
    this.limits = options.mqtt;
    this.log = log;
    this.notify = notify;
    this.server = new MqttServer(this, options.server, () => env.clock.monotonicUs());
  }

  gateways(): GatewaySeen[] {
    return [...this.seen.values()];
  }

  async start(): Promise<void> {
    const broker = await Aedes.createBroker({
      connectTimeout: this.options.server.connectTimeoutMs,
      drainTimeout: 20_000,
      authenticate: (client, username, password, done) =>
        this.authenticate(client, username, password, done),
      authorizePublish: (_client, _packet, done) => done(new Error('gateways have no will here')),
      authorizeSubscribe: (client, subscription, done) => {
        const session = this.sessionOf(client.conn);
        // A gateway hears what is said to it, and nothing else.
        done(
          null,
          session !== undefined && subscription.topic === downTopic(session.id)
            ? subscription
            : null,
        );
      },
    });
    this.broker = broker;
    broker.on('clientReady', (client) => this.bySide.get(client.conn)?.opened(client.id));
    (broker as EventEmitter).on('error', (error: unknown) =>
      this.notify({ level: 'error', event: 'broker', text: messageOf(error) }),
    );
  }

  private sessionOf(side: Duplex): GatewaySession | undefined {
    const connection = this.bySide.get(side);
    return connection === undefined ? undefined : this.sessions.get(connection);
  }

  private authenticate(
    client: Client,
    username: Readonly<string | undefined>,
    password: Readonly<Buffer | undefined>,
    done: (error: AuthenticateError | null, success: boolean | null) => void,
  ): void {
    const connection = this.bySide.get(client.conn);
    const id = /^gateway-(.+)$/.exec(client.id)?.[1] ?? '';
    const { secret } = this.options;
    const known =
      secret === undefined || (username === id && sameSecret(String(password ?? ''), secret));
    if (connection === undefined || !GATEWAY_ID.test(id) || !known) {
      this.refusedBy.add('credentials');
      this.notify({
        level: 'warn',
        event: 'uplink_refused',
        text: `a gateway calling itself '${client.id}' was refused: ${known ? 'not a gateway id' : 'wrong uplink secret'}`,
      });
      done(null, false);
      return;
    }
    this.sessions.set(connection, { id, committed: new Map() });
    done(null, true);
  }

  attach(connection: MqttConnection, side: Duplex): void {
    this.bySide.set(side, connection);
    side.once('close', () => this.bySide.delete(side));
    this.broker?.handle(side);
  }

  publish(connection: MqttConnection, packet: IncomingPublish): void {
    const session = this.sessions.get(connection);
    if (session === undefined) return connection.close('not a gateway');
    let records: LogRecord[];
    let acks: { epoch: string; from: number; to: number }[];
    try {
      if (packet.topic !== `${UP_PREFIX}${session.id}`)
        throw new Error(`topic '${packet.topic}' is not this gateway's`);
      const { lane, frames } = decodeUp(packet.payload);
      const arrived = String(Math.round(this.env.clock.wallUs() / 1000));
      const foreign = frames.find(({ header }) => header.gateway !== session.id);
      if (foreign !== undefined)
        throw new Error(`a frame speaks for gateway '${foreign.header.gateway}'`);
      // The payload is a view on the socket's buffer: what waits for the log is copied out of it.
      records = frames.map(({ frame }) => ({
        key: session.id,
        value: Buffer.from(frame),
        headers: { arrived, lane: String(lane) },
      }));
      acks = frames.map(({ header }) => ({
        epoch: header.epoch,
        from: header.firstSequence,
        to: header.firstSequence + header.count - 1,
      }));
    } catch (error) {
      this.refusedBy.add('invalid');
      this.notify({
        level: 'warn',
        event: 'uplink_invalid',
        text: `gateway ${session.id}: ${messageOf(error)}`,
      });
      this.say(session.id, encodeDownError(messageOf(error)));
      setTimeout(() => connection.close('invalid uplink message'), 100).unref();
      return;
    }
    if (packet.qos === 1) connection.acknowledge(PUBACK, packet.packetId);
    connection.flush();
    this.note(session.id, records.length, acks);
    this.receivedBytes += packet.payload.length;
    const bytes = packet.payload.length;
    this.pendingBytes += bytes;
    if (this.pendingBytes > this.options.pendingBytesMax) this.heldBack.hold(connection);
    void this.store(connection, session, records, acks, bytes);
  }

  private note(gateway: string, frames: number, acks: { from: number; to: number }[]): void {
    const messages = acks.reduce((sum, { from, to }) => sum + to - from + 1, 0);
    this.receivedFrames += frames;
    this.receivedMessages += messages;
    let seen = this.seen.get(gateway);
    if (seen === undefined)
      this.seen.set(
        gateway,
        (seen = { gateway, connected: true, lastSeenMs: 0, frames: 0, messages: 0 }),
      );
    seen.connected = true;
    seen.lastSeenMs = Math.round(this.env.clock.wallUs() / 1000);
    seen.frames += frames;
    seen.messages += messages;
  }

  private async store(
    connection: MqttConnection,
    session: GatewaySession,
    records: LogRecord[],
    acks: { epoch: string; from: number; to: number }[],
    bytes: number,
  ): Promise<void> {
    try {
      while (!this.stopped && connection.isOpen) {
        if (this.options.refuse() === undefined && (await this.append(records))) {
          this.acknowledge(session, acks);
          return;
        }
        // Not acknowledged: the gateway keeps it. Trying on spares the link a second transfer.
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    } finally {
      this.pendingBytes -= bytes;
      if (this.pendingBytes <= this.options.pendingBytesMax / 2) {
        this.heldBack.releaseAll();
      }
    }
  }

  private async append(records: LogRecord[]): Promise<boolean> {
    try {
      await this.log.append(TOPIC_RAW, records);
      return true;
    } catch {
      // The log reports its own trouble; here it only means: not yet.
      return false;
    }
  }

  private acknowledge(
    session: GatewaySession,
    acks: { epoch: string; from: number; to: number }[],
  ): void {
    const touched = new Map<string, EpochAck>();
    for (const { epoch, from, to } of acks) {
      let committed = session.committed.get(epoch);
      if (committed === undefined) session.committed.set(epoch, (committed = new RangeSet()));
      committed.add(from, to);
      this.acknowledgedMessages += to - from + 1;
      const merged = committed.around(from);
      if (merged === undefined) continue;
      const ack = touched.get(epoch) ?? { epoch, ranges: [] };
      if (!ack.ranges.some(([low, high]) => low === merged[0] && high === merged[1]))
        ack.ranges.push([...merged]);
      touched.set(epoch, ack);
    }
    this.say(session.id, encodeDown([...touched.values()]));
  }

  private say(gateway: string, payload: Buffer): void {
    this.broker?.publish(
      { cmd: 'publish', topic: downTopic(gateway), payload, qos: 0, retain: false, dup: false },
      (error) => {
        if (error)
          this.notify({ level: 'warn', event: 'uplink_down_message', text: messageOf(error) });
      },
    );
  }

  pubrel(connection: MqttConnection): void {
    connection.close('the uplink does not use QoS 2');
  }

  closed(connection: MqttConnection): void {
    const session = this.sessions.get(connection);
    this.sessions.delete(connection);
    this.heldBack.forget(connection);
    if (session === undefined) return;
    const stillThere = [...this.sessions.values()].some(({ id }) => id === session.id);
    const seen = this.seen.get(session.id);
    if (seen !== undefined) seen.connected = stillThere;
  }

  async close(): Promise<void> {
    this.stopped = true;
    await this.server.close();
    const { broker } = this;
    if (broker !== undefined) await new Promise<void>((resolve) => broker.close(() => resolve()));
  }
}
