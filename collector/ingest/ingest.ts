/**
 * The collector's end of the uplink: an MQTT broker for gateways. An uplink message with anything wrong in it is
 * refused whole; what becomes of the others is the receiver's affair.
 */
import type { EventEmitter } from 'node:events';
import { hostname } from 'node:os';
import type { Duplex } from 'node:stream';
import { Aedes, type AuthenticateError, type Client } from 'aedes';
import type { Audit } from '../../shared/access/audit.ts';
import { Share, principalOf } from '../../shared/access/shares.ts';
import type { UplinkLimitName } from '../../shared/access/limits.ts';
import type { FailureLimiter } from '../../shared/access/failures.ts';
import { Refusals, distrustOf, mistakeOf } from '../../shared/access/refusals.ts';
import { sameSecret } from '../../shared/config/secrets.ts';
import type { Env } from '../../shared/env/env.ts';
import { messageOf } from '../../shared/errors.ts';
import type { MqttConnection, MqttHandler } from '../../shared/mqtt/connection.ts';
import { Begun } from '../../shared/mqtt/begun.ts';
import type { IncomingPublish, MqttLimits } from '../../shared/mqtt/protocol.ts';
import { PUBACK } from '../../shared/mqtt/packets.ts';
import { HeldBack } from '../../shared/mqtt/held-back.ts';
import { MqttServer, type ServerLimits } from '../../shared/mqtt/server.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { CounterBy } from '../../shared/telemetry/metrics.ts';
import { GATEWAY_ID, downTopic, encodeDown } from '../../shared/wire/wire.ts';
import type { ShownCertificate } from '../enroll/enrolment.ts';
import type { LedgerView } from '../ledger/view.ts';
import { Follower } from '../log/follow.ts';
import { TOPIC_COMMANDS, type Log } from '../log/log.ts';
import type { CollectorClock } from './clock.ts';
import { Links } from './links.ts';
import { Receiver, type Peer, type ReceiverOptions } from './receiver.ts';

/** Who looks at the certificates that the collector has given out. */
interface Enrolled {
  refusal(gateway: string, certificate: ShownCertificate): string | undefined;
  seen(gateway: string, certificate: ShownCertificate): Promise<void>;
}

export interface IngestOptions extends ReceiverOptions {
  mqtt: MqttLimits;
  server: ServerLimits;
  /** Of messages that are not whole yet. */
  begunBytesMax: number;
  /** Asked of every gateway without a certificate when set. */
  secret: string | undefined;
  /** On TLS a certificate is the only way in. */
  needsCertificate: boolean;
  /** A name that no gateway may have. */
  reserved: string;
  /** Of gateways that were enrolled here. */
  enrolled: Enrolled | undefined;
  failures: FailureLimiter;
  audit: Audit | undefined;
  clock: CollectorClock;
}

/** Links of gateways are slow. */
const BEGUN_MS = 60_000;

const NO_GATEWAY =
  "that is no gateway: this is the collector's uplink; devices connect to a gateway, by default port 1883";
const SPOKEN = "3 and 4 (MQTT 3.1 and 3.1.1), by gateways; devices connect to a gateway's port";

export class Ingest implements MqttHandler {
  readonly limits: MqttLimits;
  readonly server: MqttServer;
  readonly refusedBy = new CounterBy('reason');
  readonly receiver: Receiver;
  /** What is there for all gateways, by its name in `UPLINK_LIMITS`. */
  readonly shares: Record<UplinkLimitName, Share>;
  private readonly links: Links;

  private readonly options: IngestOptions;
  private readonly notify: Notify;
  private readonly refusals: Refusals;
  private readonly log: Log;
  private readonly group: string;
  private commands: Follower | undefined;
  private readonly bySide = new Map<Duplex, MqttConnection>();
  private readonly sessions = new Map<MqttConnection, Peer>();
  private readonly heldBack = new HeldBack();
  private readonly unfinished: Begun;
  private broker: Aedes | undefined;

  constructor(
    env: Env,
    options: IngestOptions,
    log: Log,
    ledger: LedgerView | undefined,
    notify: Notify,
  ) {
    this.options = options;
    this.limits = options.mqtt;
    this.notify = notify;
    this.refusals = new Refusals(() => env.clock.monotonicUs(), notify, 'uplink_refused');
    this.log = log;
    this.group = `headwater-commands-${env.random.bytes(6).toString('hex')}`;
    const links = new Links(log, env.timers, notify, () => options.clock.nowMs());
    const spoke: ReceiverOptions['spoke'] = (gateway, epoch, address) =>
      links.spoke(gateway, epoch, `${address} at collector ${hostname()}`);
    const given = { ...options, spoke };
    this.receiver = new Receiver(env, given, log, ledger, notify, options.clock, () =>
      this.heldBack.releaseAll(({ user, peer }) =>
        this.receiver.isRelieved(principalOf(user, peer.address)),
      ),
    );
    this.links = links;
    this.server = new MqttServer(this, options.server, () => env.clock.monotonicUs());
    const begun = new Share('begun_packets', options.begunBytesMax);
    this.unfinished = new Begun(begun, () => env.clock.monotonicUs(), BEGUN_MS);
    const { share: connections } = this.server;
    this.shares = { connections, begun_packets: begun, pending: this.receiver.pending };
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
          session !== undefined && subscription.topic === downTopic(session.gateway)
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
    this.followCommands();
    await this.links.start();
  }

  /** Commands that are read while their gateway is connected here are said to it. */
  private followCommands(): void {
    this.commands = new Follower({
      log: this.log,
      notify: this.notify,
      event: 'commands',
      topic: TOPIC_COMMANDS,
      from: 'end',
      group: this.group,
      onRecords: (records) => {
        for (const { key, value, headers } of records) {
          const topic = headers['topic'];
          const isHere = [...this.sessions.values()].some(({ gateway }) => gateway === key);
          if (topic !== undefined && isHere)
            this.say(key, encodeDown({ publish: [{ topic, payload: value.toString('base64') }] }));
        }
      },
    });
  }

  private sessionOf(side: Duplex): Peer | undefined {
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
    const why =
      connection === undefined ? 'gone' : this.refusal(connection, id, username, password);
    if (connection === undefined || why !== undefined) {
      this.refusedBy.add('credentials');
      this.options.audit?.say({
        event: 'refused',
        client: client.id,
        address: connection?.peer.address,
        reason: why,
      });
      const { address = 'an address that is gone' } = connection?.peer ?? {};
      this.refusals.say(
        address,
        why ?? '',
        `a gateway calling itself '${client.id}' at ${address} was refused: ${why}`,
      );
      // [MQTT-3.2.2-6]: whoever is no gateway is told by the client id, which no password mends.
      const returnCode = why === NO_GATEWAY ? 2 : 5;
      done(Object.assign(new Error(why), { returnCode }), false);
      return;
    }
    // Where nobody is asked for credentials a name is only said: there an address is who it is.
    if (connection.peer.certificateName !== undefined || this.options.secret !== undefined)
      connection.user = id;
    this.sessions.set(connection, this.peerOf(connection, id));
    this.links.say(id, true);
    this.noteCertificate(id, connection);
    done(null, true);
  }

  private noteCertificate(id: string, { peer: { certificate } }: MqttConnection): void {
    if (certificate === undefined) return;
    this.options.enrolled?.seen(id, certificate).catch((error: unknown) =>
      this.notify({
        level: 'warn',
        event: 'enroll',
        text: `that gateway ${id} uses its certificate could not be noted: ${messageOf(error)}`,
      }),
    );
  }

  /** Why a gateway is not taken for who it says it is, or undefined. */
  private refusal(
    { peer }: MqttConnection,
    id: string,
    username: string | undefined,
    password: Readonly<Buffer | undefined>,
  ): string | undefined {
    const { secret, failures, needsCertificate, reserved } = this.options;
    if (!GATEWAY_ID.test(id)) return NO_GATEWAY;
    if (id === reserved) return "that name is the collector's own";
    if (peer.certificateName !== undefined) {
      // Who shows a certificate is that gateway and no other, whatever secret it knows.
      if (peer.certificateName === id)
        return peer.certificate && this.options.enrolled?.refusal(id, peer.certificate);
      return `its certificate is of '${peer.certificateName}'`;
    }
    if (needsCertificate && peer.transport === 'tls') return 'no certificate';
    if (secret === undefined) return undefined;
    // The secret is long and compared at once: the right one is not refused for wrong ones from the same address.
    if (username === id && sameSecret(String(password ?? ''), secret)) return undefined;
    const isBlocked = failures.isBlocked(peer.address);
    failures.fail(peer.address);
    return isBlocked ? 'too many wrong credentials from this address' : 'wrong uplink secret';
  }

  attach(connection: MqttConnection, side: Duplex): void {
    this.bySide.set(side, connection);
    side.once('close', () => this.bySide.delete(side));
    this.broker?.handle(side);
  }

  publish(connection: MqttConnection, packet: IncomingPublish): void {
    const peer = this.sessions.get(connection);
    if (peer === undefined) return connection.close('not a gateway');
    try {
      this.receiver.receive(peer, packet.topic, packet.payload);
    } catch (error) {
      this.refusedBy.add('invalid');
      this.receiver.refused(peer, error);
      setTimeout(() => connection.close('invalid uplink message'), 100).unref();
      return;
    }
    if (packet.qos === 1) connection.acknowledge(PUBACK, packet.packetId);
    connection.flush();
  }

  private peerOf(connection: MqttConnection, gateway: string): Peer {
    return {
      gateway,
      address: connection.peer.address,
      principal: principalOf(connection.user, connection.peer.address),
      get isOpen() {
        return connection.isOpen;
      },
      say: (payload) => this.say(gateway, payload),
      hold: () => this.heldBack.hold(connection),
    };
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

  begun(connection: MqttConnection, bytes: number): void {
    this.unfinished.look(connection, bytes);
  }

  pubrel(connection: MqttConnection): void {
    connection.close('the uplink does not use QoS 2');
  }

  closed(connection: MqttConnection, reason: string): void {
    const { address } = connection.peer;
    const mistake = connection.clientId === '' ? mistakeOf(reason, SPOKEN) : undefined;
    if (mistake !== undefined)
      this.refusals.say(address, reason, `a connection of ${address} was refused: ${mistake}`);
    const session = this.sessions.get(connection);
    this.sessions.delete(connection);
    this.heldBack.forget(connection);
    this.unfinished.leave(connection);
    if (session === undefined) return;
    const { gateway } = session;
    const isStillThere = [...this.sessions.values()].some((other) => other.gateway === gateway);
    this.receiver.left(gateway, isStillThere);
    if (!isStillThere) this.links.say(gateway, false);
  }

  distrusted(address: string, code: string): void {
    this.refusedBy.add('credentials');
    const why = distrustOf(code);
    this.options.audit?.say({ event: 'refused', address, reason: why });
    this.refusals.say(address, code, `a gateway at ${address} was refused: ${why}`);
  }

  async close(): Promise<void> {
    this.receiver.stop();
    this.unfinished.close();
    await this.commands?.close();
    await this.server.close();
    await this.links.close();
    const { broker } = this;
    if (broker !== undefined) await new Promise<void>((resolve) => broker.close(() => resolve()));
  }
}
