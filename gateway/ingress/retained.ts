/**
 * Retained messages, durable and bounded. aedes keeps them in memory for its subscribers; here they are written in
 * the batch of their own message, so that a restart still has them, as devices and discovery expect.
 *
 * A new state that cannot be kept takes the old one with it: no subscriber is told what is no longer so. What is kept is
 * counted for the principal who said it, also after a restart.
 *
 * Value, sealed: QoS (1 byte, with 0x80 where the principal follows), length (1) and principal, payload.
 */
import type { Share } from '../../shared/access/shares.ts';
import type { KvOp } from '../../shared/kv/kv.ts';
import { seal, unseal } from '../../shared/kv/sealed.ts';

export const RETAINED_PREFIX = Buffer.from('r');

export interface RetainedMessage {
  topic: string;
  qos: number;
  payload: Buffer;
}

const HAS_PRINCIPAL = 0x80;

interface Kept {
  principal: string;
  bytes: number;
}

const encode = (principal: string, qos: number, payload: Buffer): Buffer => {
  const name = Buffer.from(principal, 'utf8').subarray(0, 255);
  return Buffer.concat([Buffer.from([qos | HAS_PRINCIPAL, name.length]), name, payload]);
};

function decode(value: Buffer): { principal: string; qos: number; payload: Buffer } {
  const first = value[0] ?? 0;
  // Written before 0.9: nobody's.
  if (first < HAS_PRINCIPAL)
    return { principal: '', qos: first, payload: Buffer.from(value.subarray(1)) };
  const end = 2 + (value[1] ?? 0);
  return {
    principal: value.toString('utf8', 2, end),
    qos: first & 3,
    payload: Buffer.from(value.subarray(end)),
  };
}

export class Retained {
  private readonly kept = new Map<string, Kept>();
  private readonly messages: Share;
  private readonly bytes: Share;

  constructor(messages: Share, bytes: Share) {
    this.messages = messages;
    this.bytes = bytes;
  }

  get count(): number {
    return this.kept.size;
  }

  load(entries: [Buffer, Buffer][]): RetainedMessage[] {
    return entries.flatMap(([key, sealed]) => {
      const value = unseal(sealed);
      // A damaged one is not given to subscribers as if it were what a device said.
      if (value === undefined) return [];
      const topic = key.toString('utf8', 1);
      const { principal, qos, payload } = decode(value);
      this.keep(topic, principal, payload.length);
      return [{ topic, qos, payload }];
    });
  }

  private keep(topic: string, principal: string, payloadBytes: number): void {
    const bytes = topic.length + payloadBytes;
    this.kept.set(topic, { principal, bytes });
    this.messages.add(principal, 1);
    this.bytes.add(principal, bytes);
  }

  private forget(topic: string): boolean {
    const before = this.kept.get(topic);
    if (before === undefined) return false;
    this.kept.delete(topic);
    this.messages.give(before.principal);
    this.bytes.give(before.principal, before.bytes);
    return true;
  }

  /**
   * Operations that keep the retained message, or remove the topic's: for an empty payload [MQTT-3.3.1-10], and when the
   * principal's share is reached. `kept` says whether subscribers to come will see it.
   */
  set(
    topic: string,
    principal: string,
    qos: number,
    payload: Buffer,
  ): { ops: KvOp[]; kept: boolean } {
    const key = Buffer.concat([RETAINED_PREFIX, Buffer.from(topic, 'utf8')]);
    const had = this.forget(topic);
    const removal: KvOp[] = had ? [{ type: 'del', key }] : [];
    if (payload.length === 0) return { ops: removal, kept: true };
    const isOneTooMany = this.messages.room(principal) < 1;
    const isTooLarge = this.bytes.room(principal) < topic.length + payload.length;
    if (isOneTooMany) this.messages.refused++;
    if (isTooLarge) this.bytes.refused++;
    if (isOneTooMany || isTooLarge) return { ops: removal, kept: false };
    this.keep(topic, principal, payload.length);
    return {
      ops: [{ type: 'put', key, value: seal(encode(principal, qos, payload)) }],
      kept: true,
    };
  }
}
