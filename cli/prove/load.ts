/**
 * Messages with numbers, and which of them have been acknowledged: written down here, outside the gateway, when the PUBACK has
 * arrived. `CHUNK` numbers share a topic, so that one query of the gateway's history brings them.
 */
import { createHash } from 'node:crypto';
import type { MqttClient } from 'mqtt';
import { connectTo } from '../client.ts';
import type { TriedGateway } from './child.ts';

/** Half of what a query gives: a message that is there twice has to show. */
export const CHUNK = 5000;
const WINDOW = 100;

export const topicOf = (n: number): string => `prove/${Math.floor(n / CHUNK)}`;

/** Of the seed: the same run again. Numbers from 0 (inclusive) to 1. */
export function chance(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Text that no compression makes small, the same for the same number. */
function padding(n: number, bytes: number): string {
  const parts: string[] = [];
  for (let i = 0; i * 43 < bytes; i++)
    parts.push(createHash('sha256').update(`${n}.${i}`).digest('base64url'));
  return parts.join('').slice(0, bytes);
}

export interface LoadSpec {
  /** Of each message, beside its number. */
  padBytes: number;
  /** Between two messages; 0: as fast as acknowledgements come. */
  everyMs: number;
  /** At most so many; infinite when left out. */
  count?: number;
}

export class Load {
  /** Numbers whose PUBACK has arrived. */
  readonly acknowledged = new Set<number>();
  /** Handed to the socket. */
  sent = 0;
  payloadBytes = 0;
  private next = 0;

  /** Publishes until `until` resolves, the count is reached, or the gateway is gone. */
  async run(
    gateway: TriedGateway,
    spec: LoadSpec,
    until: Promise<unknown>,
    onAck: () => void = () => undefined,
  ): Promise<void> {
    const client = await connectTo(gateway.mqtt, 'prove');
    let isOver = false;
    const end = (): void => {
      isOver = true;
    };
    void until.then(end, end);
    client.on('close', end);
    const waiting = new Set<Promise<void>>();
    const last = this.next + (spec.count ?? Number.POSITIVE_INFINITY);
    const { signal, over } = ended(client, until);
    while (!isOver && this.next < last) {
      const one = this.publish(client, this.next++, spec.padBytes, onAck);
      waiting.add(one);
      void one.then(() => waiting.delete(one));
      if (spec.everyMs > 0) await Promise.race([over, pause(spec.everyMs)]);
      else if (waiting.size >= WINDOW) await Promise.race([over, ...waiting]);
    }
    await Promise.race([over, Promise.all(waiting)]);
    signal();
    client.end(true);
  }

  private async publish(
    client: MqttClient,
    n: number,
    padBytes: number,
    onAck: () => void,
  ): Promise<void> {
    const pad = padBytes === 0 ? '' : `,"pad":"${padding(n, padBytes)}"`;
    const payload = `{"n":${n}${pad}}`;
    this.sent++;
    this.payloadBytes += payload.length;
    await new Promise<void>((resolve) => {
      client.publish(topicOf(n), payload, { qos: 1 }, (error) => {
        if (!error) {
          this.acknowledged.add(n);
          onAck();
        }
        resolve();
      });
    });
  }
}

export const pause = (ms: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, ms));

/** Resolves when the connection is gone or the load is to end. */
function ended(client: MqttClient, until: Promise<unknown>) {
  let signal = (): void => undefined;
  const over = new Promise<void>((resolve) => {
    signal = resolve;
    client.on('close', () => resolve());
    void until.then(
      () => resolve(),
      () => resolve(),
    );
  });
  return { signal, over };
}
