/**
 * How aedes's clients get a message.
 *
 * The QoS is the message's own, at most the highest that was granted to any of the client's filters that match
 * [MQTT-3.3.5-1] [MQTT-3.8.4-6]: aedes 1.2 takes the first filter's of several, and passes over what was granted to a
 * filter with wildcards.
 *
 * At QoS 0 a message is the same bytes for every client: it is encoded once, and goes past aedes, whose way takes four
 * times as long. To who reads too slowly it goes by aedes, which waits, and ends the connection in the end.
 */
import type { AedesPublishPacket, Client } from 'aedes';
import { AedesSide } from '../../shared/mqtt/aedes-side.ts';
import type { Gather } from '../../shared/mqtt/gather.ts';
import { writePublish } from '../../shared/mqtt/packets.ts';
import type { Message } from '../mqtt5/message.ts';
import { Topics, type Subscription } from '../mqtt5/topics.ts';

type Deliver = (packet: AedesPublishPacket, done: () => void) => void;

/** What is used of a client of aedes 1.2 beyond its types. */
interface Inner {
  deliver0: Deliver;
  deliverQoS: Deliver;
  subscriptions: Record<string, { qos: number } | undefined>;
  /** Broker → the newest of its messages that was delivered: one that several filters match goes out once. */
  duplicates: Record<string, number | undefined>;
  broker: { authorizeForward(client: Client, packet: AedesPublishPacket): unknown };
}

/** Topics whose subscribers are remembered. */
const TOPICS_KNOWN_MAX = 1000;
/** The same of one client: what matches among its own. */
const OWN_TOPICS_KNOWN_MAX = 32;
/** Bytes that a client may leave unread. */
const UNREAD_BYTES_MAX = 1024 * 1024;

export class Granted {
  private readonly byClient = new WeakMap<Client, Topics<Client>>();
  private readonly all = new Topics<Client>(TOPICS_KNOWN_MAX);
  /** The message that was encoded last, at QoS 0. */
  private last: { payload: unknown; topic: string; retain: boolean; bytes: Buffer } | undefined;

  /** Before the client subscribes to anything: aedes takes hold of these functions then. */
  watch(client: Client): void {
    const inner = client as unknown as Inner;
    const granted = new Topics<Client>(OWN_TOPICS_KNOWN_MAX);
    this.byClient.set(client, granted);
    const { deliver0, deliverQoS } = inner;
    const deliver: Deliver = (packet, done) => {
      const qos = packet.qos === 0 ? 0 : Math.min(packet.qos, highest(granted, packet.topic));
      if (qos === 0) {
        if (!this.direct(client, inner, packet)) return deliver0(packet, done);
        setImmediate(done);
        return;
      }
      packet.qos = qos as 1 | 2; // Each subscriber has a packet of its own.
      deliverQoS(packet, done);
    };
    inner.deliver0 = deliver;
    inner.deliverQoS = deliver;
  }

  /** Whether it needs nothing more of aedes. */
  private direct(client: Client, inner: Inner, packet: AedesPublishPacket): boolean {
    const out = flowing(client);
    if (out === undefined) return false;
    const { brokerId, brokerCounter } = packet;
    if (brokerId !== undefined) {
      if ((inner.duplicates[brokerId] ?? 0) >= brokerCounter) return true;
      inner.duplicates[brokerId] = brokerCounter;
    }
    if (!inner.broker.authorizeForward(client, packet)) return true;
    out.write(this.encoded(packet));
    return true;
  }

  private encoded({
    payload,
    topic,
    retain,
  }: Pick<AedesPublishPacket, 'payload' | 'topic' | 'retain'>): Buffer {
    const { last } = this;
    // The payload is one object for all of a message's copies.
    if (last?.payload === payload && last.topic === topic && last.retain === retain)
      return last.bytes;
    const body = typeof payload === 'string' ? Buffer.from(payload) : payload;
    const bytes = writePublish({ topic, payload: body, qos: 0, retain }, 0, false);
    this.last = { payload, topic, retain, bytes };
    return bytes;
  }

  /** To whoever of aedes's clients listens; false, and nothing was done, when one is to get it at QoS 1 or 2. */
  deliver({ topic, qos, payload }: Message): boolean {
    const { plain } = this.all.match(topic);
    if (qos > 0 && plain.some((each) => each.qos > 0)) return false;
    const clients =
      plain.length < 2 ? plain : new Map(plain.map((each) => [each.session, each])).values();
    const packet = { cmd: 'publish', topic, qos: 0, payload, retain: false, dup: false } as const;
    for (const { session: client } of clients) {
      const out = flowing(client);
      if (out === undefined) client.publish(packet, () => undefined);
      else out.write(this.encoded(packet));
    }
    return true;
  }

  subscribed(client: Client, subscriptions: { topic: string; qos: number }[]): void {
    if (client.closed) return; // Its filters were let go of already.
    const granted = this.byClient.get(client);
    const own = (client as unknown as Inner).subscriptions;
    for (const { topic, qos } of subscriptions) {
      const entry = own[topic];
      if (entry === undefined || qos > 2) continue;
      const grant = grantOf(client, topic, qos);
      granted?.add(grant);
      this.all.add(grant);
      // aedes lowers to this one, though another filter of the client may have been granted more.
      entry.qos = 2;
    }
  }

  unsubscribed(client: Client, filters: string[]): void {
    const granted = this.byClient.get(client);
    for (const filter of filters) {
      const grant = grantOf(client, filter, 0);
      granted?.remove(grant);
      this.all.remove(grant);
    }
  }
}

/** What goes to the client; undefined when it does not read as fast as it is written to. */
function flowing({ conn }: Client): Gather | undefined {
  if (!(conn instanceof AedesSide) || conn.destroyed) return undefined;
  return conn.out.unread > UNREAD_BYTES_MAX ? undefined : conn.out;
}

const grantOf = (session: Client, filter: string, qos: number): Subscription<Client> => ({
  session,
  filter,
  qos,
  noLocal: false,
  retainAsPublished: false,
  id: undefined,
});

/** In steps of the topic's levels, however many filters the client has. */
const highest = (granted: Topics<Client>, topic: string): number =>
  granted.match(topic).plain.reduce((most, { qos }) => Math.max(most, qos), 0);
