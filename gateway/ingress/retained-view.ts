/**
 * What is retained, after its fsync, for new subscribers: ours, and aedes's, whose persistence reads it here. Nothing else of
 * that persistence is used: sessions that outlive their connection are not aedes's (`gateway/mqtt5`).
 */
import { Readable } from 'node:stream';
import memory from 'aedes-persistence';
import { filterMatches } from '../../shared/mqtt/packets.ts';
import type { Message } from '../mqtt5/message.ts';
import type { Place } from '../mqtt5/offers.ts';

/** As aedes says it: of a will of one of its clients, and of what was put here before. */
interface RetainedPacket {
  topic: string;
  payload: Buffer | string;
  qos: number;
}

/** What is used of aedes-persistence 11; its types are of an older form. */
interface Persistence {
  storeRetained(packet: RetainedPacket): Promise<unknown>;
  createRetainedStreamCombi(filters: string[]): Readable;
  subscriptionsByTopic(topic: string): Promise<unknown[]>;
}

export class RetainedView {
  /** For aedes. */
  readonly persistence = (memory as unknown as () => Persistence)();
  /** In the order of `order`: a topic that has a message keeps its place. */
  private readonly kept = new Map<string, { order: number; message: Message }>();
  /** Given to the topic that came last. */
  last = 0;

  constructor() {
    const { persistence } = this;
    // Clean sessions have nothing queued: who might have is looked for with each message of QoS 1 otherwise.
    persistence.subscriptionsByTopic = () => Promise.resolve([]);
    persistence.storeRetained = (packet) => {
      this.store(packet);
      return Promise.resolve();
    };
    persistence.createRetainedStreamCombi = (filters) => Readable.from(this.matching(filters));
  }

  private store({ topic, payload, qos }: RetainedPacket): void {
    if (this.get(topic)?.payload === payload) return;
    const bytes = Buffer.from(payload);
    const nothing = { forwarded: undefined, expiresAtMs: undefined };
    this.put({ topic, payload: bytes, qos, retain: true, publisher: '', ...nothing });
  }

  /** The topic's message from here on; one without a payload: it has none. */
  put(message: Message): void {
    const { topic, payload } = message;
    if (payload.length === 0) {
      this.kept.delete(topic);
      return;
    }
    const order = this.kept.get(topic)?.order ?? ++this.last;
    // A copy: its deadline is moved apart from that of the copies of subscribers.
    this.kept.set(topic, { order, message: { ...message } });
  }

  /** Subscribers to come are not given the topic's retained message any more. */
  unretain(topic: string): void {
    this.kept.delete(topic);
  }

  get(topic: string): Message | undefined {
    return this.kept.get(topic)?.message;
  }

  /** Topics that a filter matches, at most `max`, whose order is after one and up to another. */
  topicsOf(filter: string, after: number, upTo: number, max: number): Place[] {
    const found: Place[] = [];
    for (const [topic, { order }] of this.kept) {
      if (order <= after) continue;
      if (order > upTo || found.length >= max) break;
      if (filterMatches(filter, topic)) found.push({ topic, order });
    }
    return found;
  }

  private *matching(filters: string[]): Iterable<RetainedPacket> {
    for (const filter of filters)
      for (const { topic } of this.topicsOf(filter, 0, this.last, Number.POSITIVE_INFINITY)) {
        const message = this.get(topic);
        if (message !== undefined) yield message;
      }
  }
}
