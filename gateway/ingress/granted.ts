/**
 * The QoS at which aedes's clients get a message: the message's own, at most the highest that was granted to any of the
 * client's filters that match [MQTT-3.3.5-1] [MQTT-3.8.4-6]. aedes 1.2 takes the first filter's of several, and passes
 * over what was granted to a filter with wildcards.
 */
import type { AedesPublishPacket, Client } from 'aedes';
import { Topics, type Subscription } from '../mqtt5/topics.ts';

type Deliver = (packet: AedesPublishPacket, done: () => void) => void;

/** What is used of a client of aedes 1.2 beyond its types. */
interface Inner {
  deliver0: Deliver;
  deliverQoS: Deliver;
  subscriptions: Record<string, { qos: number } | undefined>;
}

export class Granted {
  private readonly byClient = new WeakMap<Client, Topics<Client>>();

  /** Before the client subscribes to anything: aedes takes hold of these functions then. */
  watch(client: Client): void {
    const inner = client as unknown as Inner;
    const granted = new Topics<Client>();
    this.byClient.set(client, granted);
    const { deliver0, deliverQoS } = inner;
    const deliver: Deliver = (packet, done) => {
      const qos = Math.min(packet.qos, highest(granted, packet.topic));
      if (qos === 0) return deliver0(packet, done);
      packet.qos = qos as 1 | 2; // Each subscriber has a packet of its own.
      deliverQoS(packet, done);
    };
    inner.deliver0 = deliver;
    inner.deliverQoS = deliver;
  }

  subscribed(client: Client, subscriptions: { topic: string; qos: number }[]): void {
    const granted = this.byClient.get(client);
    const own = (client as unknown as Inner).subscriptions;
    for (const { topic, qos } of subscriptions) {
      const entry = own[topic];
      if (entry === undefined || qos > 2) continue;
      granted?.add(grantOf(client, topic, qos));
      // aedes lowers to this one, though another filter of the client may have been granted more.
      entry.qos = 2;
    }
  }

  unsubscribed(client: Client, filters: string[]): void {
    const granted = this.byClient.get(client);
    for (const filter of filters) granted?.remove(grantOf(client, filter, 0));
  }
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
