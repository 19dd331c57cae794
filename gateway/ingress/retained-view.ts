/**
 * What aedes holds of retained messages, for its new subscribers and for ours. Nothing else of its persistence is used:
 * sessions that outlive their connection are not aedes's (`gateway/mqtt5`).
 */
import memory from 'aedes-persistence';
import { filterMatches } from '../../shared/mqtt/packets.ts';

interface RetainedPacket {
  topic: string;
  payload: Buffer | string;
  qos: number;
}

/** What is used of aedes-persistence 11; its types are of an older form. */
interface Persistence {
  storeRetained(packet: { topic: string; payload: string }): Promise<unknown>;
  createRetainedStreamCombi(filters: string[]): AsyncIterable<RetainedPacket>;
  subscriptionsByTopic(topic: string): Promise<unknown[]>;
}

/** Clean sessions have nothing queued: who might have is looked for with each message of QoS 1 otherwise. */
function withoutQueues(): Persistence {
  const persistence = (memory as unknown as () => Persistence)();
  persistence.subscriptionsByTopic = () => Promise.resolve([]);
  return persistence;
}

export class RetainedView {
  /** For aedes. */
  readonly persistence = withoutQueues();

  /** Subscribers to come are not given the topic's retained message any more. */
  async unretain(topic: string): Promise<void> {
    await this.persistence.storeRetained({ topic, payload: '' });
  }

  /** What is retained on topics that a filter matches. */
  async *matching(filter: string): AsyncIterable<RetainedPacket> {
    for await (const packet of this.persistence.createRetainedStreamCombi([filter]))
      if (filterMatches(filter, packet.topic)) yield packet;
  }
}
