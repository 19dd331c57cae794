/**
 * Retained messages, durable and bounded. aedes keeps them in memory for its subscribers; here they are written in
 * the batch of their own message, so that a restart still has them, as devices and discovery expect.
 */
import type { KvOp } from '../../shared/kv/kv.ts';
import { seal, unseal } from '../../shared/kv/sealed.ts';

export const RETAINED_PREFIX = Buffer.from('r');

export interface RetainedMessage {
  topic: string;
  qos: number;
  payload: Buffer;
}

export interface RetainedLimits {
  messagesMax: number;
  bytesMax: number;
}

export class Retained {
  private readonly sizes = new Map<string, number>();
  private readonly limits: RetainedLimits;
  private bytes = 0;

  constructor(limits: RetainedLimits) {
    this.limits = limits;
  }

  get count(): number {
    return this.sizes.size;
  }

  load(entries: [Buffer, Buffer][]): RetainedMessage[] {
    return entries.flatMap(([key, sealed]) => {
      const value = unseal(sealed);
      // A damaged one is not given to subscribers as if it were what a device said.
      if (value === undefined) return [];
      const topic = key.toString('utf8', 1);
      this.note(topic, value.length);
      return [{ topic, qos: value[0] ?? 0, payload: Buffer.from(value.subarray(1)) }];
    });
  }

  private note(topic: string, size: number): void {
    this.bytes += size - (this.sizes.get(topic) ?? 0);
    this.sizes.set(topic, size);
  }

  /**
   * Operations that keep or, for an empty payload, remove the retained message [MQTT-3.3.1-10];
   * undefined when a limit is reached: the message is stored as data but not retained.
   */
  set(topic: string, qos: number, payload: Buffer): KvOp[] | undefined {
    const key = Buffer.concat([RETAINED_PREFIX, Buffer.from(topic, 'utf8')]);
    const before = this.sizes.get(topic);
    if (payload.length === 0) {
      if (before === undefined) return [];
      this.bytes -= before;
      this.sizes.delete(topic);
      return [{ type: 'del', key }];
    }
    const isNew = before === undefined;
    const grown = this.bytes + payload.length + 1 - (before ?? 0);
    if ((isNew && this.sizes.size >= this.limits.messagesMax) || grown > this.limits.bytesMax)
      return undefined;
    this.note(topic, payload.length + 1);
    return [{ type: 'put', key, value: seal(Buffer.concat([Buffer.from([qos]), payload])) }];
  }
}
