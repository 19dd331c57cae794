/**
 * aedes's memory for sessions, with a bound. Left alone it queues every QoS 1 and 2 message for every persistent
 * session that is away, without a limit (aedes#1087). A session whose queue has reached `messagesMax`, or its principal's
 * share of the memory of all, ends: it would come back to old messages as if nothing had followed. So it hears "session
 * present 0" instead, subscribes again and gets the retained states; the messages themselves are in the buffer all the same.
 */
import memory from 'aedes-persistence';
import type { Share } from '../../shared/access/shares.ts';
import { filterMatches } from '../../shared/mqtt/packets.ts';

interface Subscriber {
  clientId: string;
}

interface Queued {
  topic: string;
  payload: Buffer | string;
}

/** What is used of aedes-persistence 11; its types are of an older form. */
interface Persistence {
  outgoingEnqueue(subscriber: Subscriber, packet: Queued): Promise<void>;
  outgoingEnqueueCombi(subscribers: Subscriber[], packet: Queued): Promise<void>;
  outgoingClearMessageId(client: { id: string }, packet: unknown): Promise<unknown>;
  outgoingStream(client: { id: string }): AsyncIterable<unknown>;
  cleanSubscriptions(client: { id: string }): Promise<unknown>;
  storeRetained(packet: Queued): Promise<unknown>;
  createRetainedStreamCombi(filters: string[]): AsyncIterable<RetainedPacket>;
}

interface RetainedPacket extends Queued {
  qos: number;
}

/** What a queued message takes beside its topic and payload, about, bytes. */
const OVERHEAD = 1024;

const sizeOf = ({ topic, payload }: Queued): number => OVERHEAD + topic.length + payload.length;

interface Queue {
  principal: string;
  count: number;
  bytes: number;
}

export class OfflineQueues {
  /** For aedes. */
  readonly persistence: Persistence;
  /** Messages that a session lost, because it ended for them or had. */
  dropped = 0;
  private readonly queues = new Map<string, Queue>();
  private readonly messagesMax: number;
  private readonly share: Share;
  private readonly principalOf: (clientId: string) => string | undefined;
  private readonly onOverflow: (clientId: string) => void;

  /** `principalOf` is undefined for a session that has ended. `onOverflow` ends one, by `end` at last. */
  constructor(
    messagesMax: number,
    share: Share,
    principalOf: (clientId: string) => string | undefined,
    onOverflow: (clientId: string) => void,
  ) {
    this.messagesMax = messagesMax;
    this.share = share;
    this.principalOf = principalOf;
    this.onOverflow = onOverflow;
    const persistence = (memory as unknown as () => Persistence)();
    this.persistence = persistence;
    const one = persistence.outgoingEnqueue.bind(persistence);
    const many = persistence.outgoingEnqueueCombi.bind(persistence);
    const clear = persistence.outgoingClearMessageId.bind(persistence);
    persistence.outgoingEnqueue = async (subscriber, packet) => {
      if (this.hasRoom(subscriber, sizeOf(packet))) await one(subscriber, packet);
    };
    persistence.outgoingEnqueueCombi = async (subscribers, packet) => {
      const bytes = sizeOf(packet);
      await many(
        subscribers.filter((subscriber) => this.hasRoom(subscriber, bytes)),
        packet,
      );
    };
    persistence.outgoingClearMessageId = async (client, packet) => {
      const cleared = await clear(client, packet);
      if (cleared !== undefined) this.taken(client.id);
      return cleared;
    };
  }

  private hasRoom({ clientId }: Subscriber, bytes: number): boolean {
    let queue = this.queues.get(clientId);
    const owner = this.principalOf(clientId);
    if (owner === undefined) {
      // Its session has ended while this message was on its way; what was queued for it is just being forgotten.
      this.dropped++;
      return false;
    }
    const principal = queue?.principal ?? owner;
    if ((queue?.count ?? 0) >= this.messagesMax || !this.share.take(principal, bytes)) {
      this.dropped++;
      this.onOverflow(clientId);
      return false;
    }
    if (queue === undefined) this.queues.set(clientId, (queue = { principal, count: 0, bytes: 0 }));
    queue.count++;
    queue.bytes += bytes;
    return true;
  }

  private taken(clientId: string): void {
    const queue = this.queues.get(clientId);
    if (queue === undefined) return;
    // The mean: of a QoS 2 message the queue has its PUBREL by now, without the payload that was counted.
    const bytes = queue.count === 1 ? queue.bytes : Math.floor(queue.bytes / queue.count);
    this.share.give(queue.principal, bytes);
    queue.bytes -= bytes;
    if (--queue.count === 0) this.queues.delete(clientId);
  }

  /** A session that is away is forgotten, with all that waits for it. */
  async end(clientId: string): Promise<void> {
    const client = { id: clientId };
    await this.persistence.cleanSubscriptions(client);
    this.dropped += this.queues.get(clientId)?.count ?? 0;
    for await (const packet of this.persistence.outgoingStream(client))
      await this.persistence.outgoingClearMessageId(client, packet);
  }

  /** Subscribers to come are not given the topic's retained message any more. */
  async unretain(topic: string): Promise<void> {
    await this.persistence.storeRetained({ topic, payload: '' });
  }

  /** What is retained on topics that a filter matches. */
  async *retained(filter: string): AsyncIterable<RetainedPacket> {
    for await (const packet of this.persistence.createRetainedStreamCombi([filter]))
      if (filterMatches(filter, packet.topic)) yield packet;
  }
}
