/**
 * aedes's memory for sessions, with a bound. Left alone it queues every QoS 1 and 2 message for every persistent
 * session that is away, without a limit (aedes#1087). Beyond `messagesMax` a session, and beyond `bytesMax` all of them
 * together, get no more until they have taken some; the message itself is in the buffer all the same, only this local subscriber does not see it.
 */
import memory from 'aedes-persistence';

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
}

export interface BoundedPersistence {
  persistence: unknown;
  /** Messages not queued for a session because it had reached its limit. */
  dropped(): number;
}

/** What a queued message takes beside its topic and payload, about, bytes. */
const OVERHEAD = 1024;

const sizeOf = ({ topic, payload }: Queued): number => OVERHEAD + topic.length + payload.length;

export function boundedPersistence(messagesMax: number, bytesMax: number): BoundedPersistence {
  const persistence = (memory as unknown as () => Persistence)();
  const queues = new Map<string, { count: number; bytes: number }>();
  let dropped = 0;
  let total = 0;
  const room = ({ clientId }: Subscriber, bytes: number): boolean => {
    const queue = queues.get(clientId) ?? { count: 0, bytes: 0 };
    if (queue.count >= messagesMax || total + bytes > bytesMax) {
      dropped++;
      return false;
    }
    queue.count++;
    queue.bytes += bytes;
    queues.set(clientId, queue);
    total += bytes;
    return true;
  };
  const one = persistence.outgoingEnqueue.bind(persistence);
  const many = persistence.outgoingEnqueueCombi.bind(persistence);
  const clear = persistence.outgoingClearMessageId.bind(persistence);
  persistence.outgoingEnqueue = async (subscriber, packet) => {
    if (room(subscriber, sizeOf(packet))) await one(subscriber, packet);
  };
  persistence.outgoingEnqueueCombi = async (subscribers, packet) => {
    const bytes = sizeOf(packet);
    await many(
      subscribers.filter((subscriber) => room(subscriber, bytes)),
      packet,
    );
  };
  persistence.outgoingClearMessageId = async (client, packet) => {
    const cleared = await clear(client, packet);
    const queue = queues.get(client.id);
    if (cleared !== undefined && queue !== undefined) {
      // The mean: of a QoS 2 message the queue has its PUBREL by now, without the payload that was counted.
      const bytes = queue.bytes / queue.count;
      total -= bytes;
      queue.bytes -= bytes;
      if (--queue.count === 0) queues.delete(client.id);
    }
    return cleared;
  };
  return { persistence, dropped: () => dropped };
}
