/**
 * aedes's memory for sessions, with a bound. Left alone it queues every QoS 1 and 2 message for every persistent
 * session that is away, without a limit (aedes#1087). Beyond `messagesMax` a session, and beyond `totalMax` all of them
 * together, get no more until they have taken some; the message itself is in the buffer all the same, only this local subscriber does not see it.
 */
import memory from 'aedes-persistence';

interface Subscriber {
  clientId: string;
}

/** What is used of aedes-persistence 11; its types are of an older form. */
interface Persistence {
  outgoingEnqueue(subscriber: Subscriber, packet: unknown): Promise<void>;
  outgoingEnqueueCombi(subscribers: Subscriber[], packet: unknown): Promise<void>;
  outgoingClearMessageId(client: { id: string }, packet: unknown): Promise<unknown>;
}

export interface BoundedPersistence {
  persistence: unknown;
  /** Messages not queued for a session because it had reached its limit. */
  dropped(): number;
}

export function boundedPersistence(messagesMax: number, totalMax: number): BoundedPersistence {
  const persistence = (memory as unknown as () => Persistence)();
  const queued = new Map<string, number>();
  let dropped = 0;
  let total = 0;
  const room = ({ clientId }: Subscriber): boolean => {
    const count = queued.get(clientId) ?? 0;
    if (count >= messagesMax || total >= totalMax) {
      dropped++;
      return false;
    }
    queued.set(clientId, count + 1);
    total++;
    return true;
  };
  const one = persistence.outgoingEnqueue.bind(persistence);
  const many = persistence.outgoingEnqueueCombi.bind(persistence);
  const clear = persistence.outgoingClearMessageId.bind(persistence);
  persistence.outgoingEnqueue = async (subscriber, packet) => {
    if (room(subscriber)) await one(subscriber, packet);
  };
  persistence.outgoingEnqueueCombi = async (subscribers, packet) =>
    await many(subscribers.filter(room), packet);
  persistence.outgoingClearMessageId = async (client, packet) => {
    const cleared = await clear(client, packet);
    if (cleared !== undefined) {
      total--;
      const left = (queued.get(client.id) ?? 1) - 1;
      if (left > 0) queued.set(client.id, left);
      else queued.delete(client.id);
    }
    return cleared;
  };
  return { persistence, dropped: () => dropped };
}
