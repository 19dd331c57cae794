/**
 * Messages to those who listen on this gateway, aedes's clients and those with sessions of ours, and what is retained for
 * both. Nobody sees what could still be lost: copies for sessions that outlive their connection are
 * written with the message, and everything is sent after the fsync.
 */
import { messageOf } from '../../shared/errors.ts';
import type { KvOp } from '../../shared/kv/kv.ts';
import type { PublishProperties } from '../../shared/mqtt/protocol.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { MessageBuffer } from '../buffer/buffer.ts';
import type { Delivery } from '../mqtt5/broker.ts';
import type { Message } from '../mqtt5/message.ts';
import type { Place } from '../mqtt5/offers.ts';
import type { SteadyClock } from '../mqtt5/steady-clock.ts';
import type { Ticket } from '../buffer/ticket.ts';
import type { Retained, RetainedExtras } from './retained.ts';
import type { RetainedView } from './retained-view.ts';
import type { Subscriptions } from './subscriptions.ts';

/** aedes's clients. */
interface Clean {
  deliver(message: Message, isRetained: boolean, done: (error?: Error) => void): void;
}

/** What sessions of ours do with a message. */
interface Copies {
  prepare(message: Message): Delivery | undefined;
  dispatch(delivery: Delivery): void;
}

export interface LocalParts {
  clock: SteadyClock;
  buffer: MessageBuffer<Ticket>;
  notify: Notify;
  subscriptions: Subscriptions;
  retained: Retained;
  view: RetainedView;
  principalOf: (clientId: string) => string;
}

const EXPIRY_LOOK_MS = 1000;
const RETAINED_AT_ONCE = 500;

export class LocalDelivery {
  retainedRefused = 0;
  private readonly parts: LocalParts;
  private clean: Clean | undefined;
  private five: Copies | undefined;
  private expiry: NodeJS.Timeout | undefined;

  constructor(parts: LocalParts) {
    this.parts = parts;
    parts.clock.onJump((jumpMs) => this.shiftRetained(jumpMs));
  }

  /** Takes up what is retained from an earlier run, before anybody is connected. */
  start(clean: Clean, five: Copies, entries: [Buffer, Buffer][]): void {
    this.clean = clean;
    this.five = five;
    for (const { topic, qos, payload, extras } of this.parts.retained.load(entries))
      this.parts.view.put({ ...plain(topic, qos, payload), ...extras });
    this.expiry = setInterval(() => this.expireRetained(), EXPIRY_LOOK_MS);
    this.expiry.unref();
  }

  close(): void {
    clearInterval(this.expiry);
  }

  write(ops: KvOp[], durable?: () => void): void {
    if (ops.length > 0) this.parts.buffer.barrier({ durable: durable ?? (() => undefined) }, ops);
    else durable?.();
  }

  /** What a publisher of MQTT 5 said beside its payload, with its expiry as a time. */
  extrasOf(properties: PublishProperties | undefined): RetainedExtras {
    const { forwarded, messageExpiry } = properties ?? {};
    if (messageExpiry === undefined) return { forwarded, expiresAtMs: undefined };
    return { forwarded, expiresAtMs: this.nowMs() + messageExpiry * 1000 };
  }

  private nowMs(): number {
    return this.parts.clock.nowMs();
  }

  /** A message that is not even stored was to be retained: the topic has none any more, not an older one. */
  unretain({ topic, publisher }: Message): void {
    const { retained, view, principalOf } = this.parts;
    const nothing = { forwarded: undefined, expiresAtMs: undefined };
    const { ops } = retained.set(topic, principalOf(publisher), 0, Buffer.alloc(0), nothing);
    if (ops.length > 0) this.write(ops, () => view.unretain(topic));
  }

  /** The topic's retained message, or none any more when this one cannot be kept: never an older one. */
  retain(message: Message): { ops: KvOp[]; kept: boolean } {
    const { retained, buffer, view, notify, principalOf } = this.parts;
    const { topic, qos, payload, publisher } = message;
    const principal = principalOf(publisher);
    const result = retained.set(topic, principal, qos, payload, message);
    if (result.kept) return result;
    // Subscribers to come are told after the fsync, like those who are here.
    if (result.ops.length > 0) buffer.barrier({ durable: () => view.unretain(topic) });
    if (this.retainedRefused++ === 0)
      notify({
        level: 'warn',
        event: 'retained_full',
        text: `retained messages have reached their limit or the share of ${principal}; '${topic}' and others are stored as data but not retained, and what was retained on them before is gone (limits.retainedMessagesMax, limits.retainedBytesMax)`,
      });
    return result;
  }

  /** Copies for sessions of ours; their `ops` are to be written with the message. */
  prepare(message: Message): Delivery | undefined {
    return this.five?.prepare(message);
  }

  /** After the fsync of everything that was appended so far. */
  deliver(message: Message, isRetained: boolean, copies: Delivery | undefined): void {
    this.parts.buffer.barrier({ durable: () => this.deliverNow(message, isRetained, copies) });
  }

  deliverNow(message: Message, isRetained: boolean, copies: Delivery | undefined): void {
    if (isRetained) this.parts.view.put(message);
    this.clean?.deliver(message, isRetained, this.told);
    this.dispatch(copies);
  }

  private readonly told = (error?: Error): void => {
    if (error)
      this.parts.notify({ level: 'warn', event: 'local_delivery', text: messageOf(error) });
  };

  dispatch(copies: Delivery | undefined): void {
    if (copies !== undefined) this.five?.dispatch(copies);
  }

  /** A message that did not come by MQTT, to those who listen here. */
  announce(topic: string, payload: Buffer): void {
    if (!this.parts.subscriptions.wanted(topic)) return;
    const message = plain(topic, 1, payload);
    const copies = this.prepare(message);
    if (copies !== undefined) this.write(copies.ops);
    this.deliver(message, false, copies);
  }

  /**
   * From the collector to devices, who may be asked to say again what they are (Sparkplug 3.0, 6.4.22), and nothing
   * else: whoever holds the collector does not hold the actuators. Not a reading: it is not stored.
   */
  command(topic: string, payload: Buffer): void {
    if (!/^spBv1\.0\/[^/+#]+\/NCMD\/[^/+#]+$/.test(topic)) {
      this.parts.notify({
        level: 'warn',
        event: 'command_refused',
        text: `the collector wanted to publish to '${topic}', which only devices' owners may`,
      });
      return;
    }
    const message = plain(topic, 0, payload);
    this.deliverNow(message, false, this.prepare(message));
  }

  /** The next few of the topics that a filter matches and that have a retained message now. */
  retainedTopics(filter: string): (after: number) => Place[] {
    const { view } = this.parts;
    const upTo = view.last;
    return (after) => view.topicsOf(filter, after, upTo, RETAINED_AT_ONCE);
  }

  /** What is retained on a topic, for a new subscription. */
  retainedOn(topic: string): Message | undefined {
    const message = this.parts.view.get(topic);
    if (message === undefined) return undefined;
    const isExpired = (message.expiresAtMs ?? Number.POSITIVE_INFINITY) <= this.nowMs();
    return isExpired ? undefined : { ...message, retain: true };
  }

  private expireRetained(): void {
    const { retained, view, clock } = this.parts;
    clock.look();
    const { topics, ops } = retained.expired(this.nowMs());
    this.write(ops);
    for (const topic of topics) view.unretain(topic);
  }

  private shiftRetained(jumpMs: number): void {
    const { retained, view } = this.parts;
    this.write(retained.shift(this.nowMs(), jumpMs, (topic) => view.get(topic)));
  }
}

const plain = (topic: string, qos: number, payload: Buffer): Message => ({
  topic,
  qos,
  payload,
  retain: false,
  publisher: '',
  forwarded: undefined,
  expiresAtMs: undefined,
});
