/** What goes to one client, within what it said that it takes: size of packets, unacknowledged messages, topic aliases. */
import type { MqttConnection } from '../../shared/mqtt/connection.ts';
import type { Message, Outgoing } from './message.ts';
import { PUBREL, writePublish } from '../../shared/mqtt/packets.ts';
import { ack, publish } from './packets.ts';
import { NO_PROPERTIES, type Properties } from './properties.ts';
import { REASON, type Reason } from './reasons.ts';
import type { SessionLink } from './session.ts';
import type { SteadyClock } from './steady-clock.ts';

/** Bytes that may wait to be read by the client: more stays in its queue, and QoS 0 is dropped. */
const UNREAD_BYTES_MAX = 1024 * 1024;
/** Topics that get an alias of ours, if the client takes as many. */
const ALIASES_MAX = 64;
/** A longer one gets none: each connection remembers its own. */
const ALIASED_CHARS_MAX = 256;

type Clock = Pick<SteadyClock, 'nowMs' | 'monotonicMs'>;

/** A copy that is the same for every client. */
const plainPacket = ({ topic, payload, forwarded }: Message): Buffer =>
  publish({
    topic,
    payload,
    qos: 0,
    retain: false,
    dup: false,
    packetId: 0,
    forwarded,
    messageExpiry: undefined,
    subscriptionId: undefined,
    topicAlias: undefined,
  });

export class Outbox implements SessionLink {
  readonly receiveMaximum: number;
  /** Sends what has waited; set by who has the queue. */
  onDrain: (() => void) | undefined;
  private readonly connection: MqttConnection;
  private readonly packetBytesMax: number;
  private readonly aliasesMax: number;
  private readonly aliases = new Map<string, number>();
  private readonly clock: Clock;
  private waits = false;
  /** Since when the client has not read, monotonic milliseconds; undefined: it reads. */
  stalledSinceMs: number | undefined;

  constructor(connection: MqttConnection, { numbers }: Properties, clock: Clock) {
    this.connection = connection;
    this.clock = clock;
    this.receiveMaximum = numbers.receiveMaximum ?? 65_535;
    this.packetBytesMax = numbers.maximumPacketSize ?? Number.POSITIVE_INFINITY;
    this.aliasesMax = Math.min(numbers.topicAliasMaximum ?? 0, ALIASES_MAX);
  }

  get isFull(): boolean {
    return this.waits;
  }

  write(bytes: Buffer): void {
    const { socket, out } = this.connection;
    if (socket.destroyed || socket.writableEnded) return;
    out.write(bytes);
    if (this.waits || out.unread <= UNREAD_BYTES_MAX) return;
    this.waits = true;
    this.stalledSinceMs = this.clock.monotonicMs();
    socket.once('drain', () => {
      this.waits = false;
      this.stalledSinceMs = undefined;
      this.onDrain?.();
    });
  }

  deliver(out: Outgoing, packetId: number, dup: boolean): boolean {
    const { message, qos, retain, subscriptionId } = out;
    const isPlain =
      qos === 0 &&
      !retain &&
      subscriptionId === undefined &&
      message.expiresAtMs === undefined &&
      this.aliasesMax === 0;
    if (!isPlain) return this.deliverOwn(out, packetId, dup);
    const bytes = (message.plain ??= plainPacket(message));
    if (bytes.length > this.packetBytesMax) return false;
    this.write(bytes);
    return true;
  }

  /** A packet that is for this client alone. */
  private deliverOwn(
    { message, qos, retain, subscriptionId }: Outgoing,
    packetId: number,
    dup: boolean,
  ): boolean {
    const { topic, payload, forwarded, expiresAtMs } = message;
    const known = this.aliases.get(topic);
    const isNew =
      known === undefined &&
      this.aliases.size < this.aliasesMax &&
      topic.length <= ALIASED_CHARS_MAX;
    const topicAlias = known ?? (isNew ? this.aliases.size + 1 : undefined);
    const bytes = publish({
      topic: known === undefined ? topic : '',
      payload,
      qos,
      retain,
      dup,
      packetId,
      forwarded,
      messageExpiry:
        expiresAtMs === undefined
          ? undefined
          : Math.max(1, Math.ceil((expiresAtMs - this.clock.nowMs()) / 1000)),
      subscriptionId,
      topicAlias,
    });
    if (bytes.length > this.packetBytesMax) return false;
    // Only what is sent makes an alias known to the client.
    if (isNew && topicAlias !== undefined) this.aliases.set(topic, topicAlias);
    this.write(bytes);
    return true;
  }

  release(packetId: number, reason: Reason): void {
    this.write(ack(PUBREL, packetId, reason));
  }

  close(): void {
    this.onDrain = undefined;
  }
}

/** To a client of 3.1.1, which has said nothing of what it takes, and knows neither properties nor reasons. */
export class Outbox311 extends Outbox {
  constructor(connection: MqttConnection, clock: Clock) {
    super(connection, NO_PROPERTIES, clock);
  }

  override deliver({ message, qos, retain }: Outgoing, packetId: number, dup: boolean): boolean {
    const { topic, payload } = message;
    this.write(writePublish({ topic, payload, qos, retain }, packetId, dup));
    return true;
  }

  override release(packetId: number): void {
    super.release(packetId, REASON.success);
  }
}
