/**
 * Retained messages, durable and bounded. aedes keeps them in memory for its subscribers; here they are written in
 * the batch of their own message, so that a restart still has them, as devices and discovery expect.
 *
 * A new state that cannot be kept takes the old one with it: no subscriber is told what is no longer so. What is kept is
 * counted for the principal who said it, also after a restart.
 *
 * Value, sealed: QoS (1 byte, with 0x80 where the principal follows, 0x40 where extras do), length (1) and principal,
 * extras (length of the properties, u32; properties; expiry in epoch milliseconds, u64, 0: none), payload.
 */
import type { Share } from '../../shared/access/shares.ts';
import type { KvOp } from '../../shared/kv/kv.ts';
import { seal, unseal } from '../../shared/kv/sealed.ts';
import type { Message } from '../mqtt5/message.ts';
import { afterJump } from '../mqtt5/steady-clock.ts';

export const RETAINED_PREFIX = Buffer.from('r');

export interface RetainedMessage {
  topic: string;
  qos: number;
  payload: Buffer;
  extras: RetainedExtras;
}

/** What a publisher of MQTT 5 said beside the payload. */
export interface RetainedExtras {
  /** Properties that are passed on, as bytes. */
  forwarded: Buffer | undefined;
  /** Epoch milliseconds [MQTT-3.3.2-5]. */
  expiresAtMs: number | undefined;
}

const NO_EXTRAS: RetainedExtras = { forwarded: undefined, expiresAtMs: undefined };

const keyOf = (topic: string): Buffer =>
  Buffer.concat([RETAINED_PREFIX, Buffer.from(topic, 'utf8')]);

const HAS_PRINCIPAL = 0x80;
const HAS_EXTRAS = 0x40;

interface Kept {
  principal: string;
  bytes: number;
  extras: RetainedExtras;
}

function encode(principal: string, qos: number, payload: Buffer, extras: RetainedExtras): Buffer {
  const name = Buffer.from(principal, 'utf8').subarray(0, 255);
  const { forwarded, expiresAtMs } = extras;
  if (forwarded === undefined && expiresAtMs === undefined)
    return Buffer.concat([Buffer.from([qos | HAS_PRINCIPAL, name.length]), name, payload]);
  const head = Buffer.alloc(4);
  head.writeUInt32BE(forwarded?.length ?? 0);
  const expiry = Buffer.alloc(8);
  expiry.writeBigUInt64BE(BigInt(Math.round(expiresAtMs ?? 0)));
  return Buffer.concat([
    Buffer.from([qos | HAS_PRINCIPAL | HAS_EXTRAS, name.length]),
    name,
    head,
    forwarded ?? Buffer.alloc(0),
    expiry,
    payload,
  ]);
}

interface Decoded extends Omit<RetainedMessage, 'topic'> {
  principal: string;
}

function decode(value: Buffer): Decoded {
  const first = value[0] ?? 0;
  // Written before 0.9: nobody's.
  if (first < HAS_PRINCIPAL)
    return {
      principal: '',
      qos: first,
      payload: Buffer.from(value.subarray(1)),
      extras: NO_EXTRAS,
    };
  const end = 2 + (value[1] ?? 0);
  const principal = value.toString('utf8', 2, end);
  const qos = first & 3;
  if ((first & HAS_EXTRAS) === 0)
    return { principal, qos, payload: Buffer.from(value.subarray(end)), extras: NO_EXTRAS };
  const at = end + 4 + value.readUInt32BE(end);
  const expiresAtMs = Number(value.readBigUInt64BE(at));
  return {
    principal,
    qos,
    payload: Buffer.from(value.subarray(at + 8)),
    extras: {
      forwarded: at === end + 4 ? undefined : Buffer.from(value.subarray(end + 4, at)),
      expiresAtMs: expiresAtMs === 0 ? undefined : expiresAtMs,
    },
  };
}

export class Retained {
  private readonly kept = new Map<string, Kept>();
  /** Topics whose message expires. */
  private readonly mortal = new Set<string>();
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
      const { principal, ...message } = decode(value);
      this.keep(topic, principal, message.payload.length, message.extras);
      return [{ topic, ...message }];
    });
  }

  private keep(
    topic: string,
    principal: string,
    payloadBytes: number,
    extras: RetainedExtras,
  ): void {
    const bytes = topic.length + payloadBytes + (extras.forwarded?.length ?? 0);
    this.kept.set(topic, { principal, bytes, extras });
    if (extras.expiresAtMs !== undefined) this.mortal.add(topic);
    this.messages.add(principal, 1);
    this.bytes.add(principal, bytes);
  }

  private forget(topic: string): boolean {
    const before = this.kept.get(topic);
    if (before === undefined) return false;
    this.kept.delete(topic);
    this.mortal.delete(topic);
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
    { forwarded, expiresAtMs }: RetainedExtras = NO_EXTRAS,
  ): { ops: KvOp[]; kept: boolean } {
    const key = keyOf(topic);
    const extras = { forwarded, expiresAtMs };
    const had = this.forget(topic);
    const removal: KvOp[] = had ? [{ type: 'del', key }] : [];
    if (payload.length === 0) return { ops: removal, kept: true };
    const isOneTooMany = this.messages.room(principal) < 1;
    const bytes = topic.length + payload.length + (extras.forwarded?.length ?? 0);
    const isTooLarge = this.bytes.room(principal) < bytes;
    if (isOneTooMany) this.messages.refused++;
    if (isTooLarge) this.bytes.refused++;
    if (isOneTooMany || isTooLarge) return { ops: removal, kept: false };
    this.keep(topic, principal, payload.length, extras);
    return {
      ops: [{ type: 'put', key, value: seal(encode(principal, qos, payload, extras)) }],
      kept: true,
    };
  }

  /** Topics whose message has expired by now: they are no more, and `ops` takes them from the disk. */
  expired(nowMs: number): { topics: string[]; ops: KvOp[] } {
    const topics = [...this.mortal].filter(
      (topic) => (this.kept.get(topic)?.extras.expiresAtMs ?? Number.POSITIVE_INFINITY) <= nowMs,
    );
    const ops = topics.map((topic): KvOp => {
      this.forget(topic);
      return { type: 'del', key: keyOf(topic) };
    });
    return { topics, ops };
  }

  /** The clock was set: what expires does so by the new one. `messageOf`: what subscribers get, which follows. */
  shift(nowMs: number, jumpMs: number, messageOf: (topic: string) => Message | undefined): KvOp[] {
    return [...this.mortal].flatMap((topic): KvOp[] => {
      const kept = this.kept.get(topic);
      const beforeMs = kept?.extras.expiresAtMs;
      if (kept === undefined || beforeMs === undefined) return [];
      const expiresAtMs = afterJump(beforeMs, nowMs, jumpMs);
      kept.extras = { ...kept.extras, expiresAtMs };
      const message = messageOf(topic);
      // Another is the one before, while the newer is on its way to the disk.
      if (message?.expiresAtMs !== beforeMs) return [];
      message.expiresAtMs = expiresAtMs;
      const value = seal(encode(kept.principal, message.qos, message.payload, kept.extras));
      return [{ type: 'put', key: keyOf(topic), value }];
    });
  }
}
