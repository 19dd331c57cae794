/** Wills, of both versions: a message like others, stored before it is published, if its client may still publish it. */
import type { Client } from 'aedes';
import { messageOf } from '../../shared/errors.ts';
import type { KvOp } from '../../shared/kv/kv.ts';
import { checkTopicName } from '../../shared/mqtt/packets.ts';
import type { MessageBuffer } from '../buffer/buffer.ts';
import type { Delivery } from '../mqtt5/broker.ts';
import type { Message } from '../mqtt5/message.ts';
import type { Guard } from './guard.ts';
import type { Ticket } from '../buffer/ticket.ts';
import type { LocalDelivery } from './local.ts';
import type { BufferSpace } from './space.ts';
import { principalOf, type Share } from '../../shared/access/shares.ts';

interface AedesWill {
  topic: string;
  payload: string | Buffer;
  qos?: number;
  retain?: boolean;
}

export class Wills {
  /** Of aedes's clients: their wills are published when the connection is gone. */
  readonly users = new WeakMap<Client, string>();
  private readonly guard: Guard;
  private readonly buffer: MessageBuffer<Ticket>;
  private readonly local: LocalDelivery;
  private readonly space: BufferSpace;
  private readonly waiting: Share;

  constructor(
    guard: Guard,
    buffer: MessageBuffer<Ticket>,
    local: LocalDelivery,
    space: BufferSpace,
    waiting: Share,
  ) {
    this.guard = guard;
    this.buffer = buffer;
    this.local = local;
    this.space = space;
    this.waiting = waiting;
  }

  /** aedes publishes it itself when `done` says that it is stored. `client` is null when aedes finds it later. */
  ofAedes(client: Client | null, packet: AedesWill, done: (error?: Error | null) => void): void {
    try {
      checkTopicName(packet.topic);
      if (client === null && this.guard.rules !== undefined)
        throw new Error('a will whose client is not known');
    } catch (error) {
      done(error instanceof Error ? error : new Error(messageOf(error)));
      return;
    }
    const will: Message = {
      topic: packet.topic,
      payload: Buffer.from(packet.payload),
      qos: packet.qos ?? 0,
      retain: packet.retain === true,
      publisher: client?.id ?? '',
      forwarded: undefined,
      expiresAtMs: undefined,
    };
    const user = client === null ? undefined : this.users.get(client);
    const isStored = this.store(will, user, undefined, (isRetained, copies) => {
      packet.retain = isRetained;
      done(null);
      this.local.dispatch(copies);
    });
    if (!isStored) done(new Error('a will on a topic that its client may not use'));
  }

  /** `recorded`: its properties as a frame keeps them. */
  of5(will: Message, user: string | undefined, recorded: Buffer | undefined): void {
    this.store(will, user, recorded, (isRetained, copies) =>
      this.local.deliverNow(will, isRetained, copies),
    );
  }

  /** Into the buffer; false: its client may not publish it. */
  private store(
    will: Message,
    user: string | undefined,
    recorded: Buffer | undefined,
    whenDurable: (isRetained: boolean, copies: Delivery | undefined) => void,
  ): boolean {
    const { rules, audit } = this.guard;
    const { topic, qos, payload, publisher: client } = will;
    const who = { user, client };
    // Asked now, not when it connected: a right that was revoked since is none.
    if (rules !== undefined && !rules.mayPublish(who, topic)) {
      audit.say({ event: 'will_denied', ...who, about: topic });
      return false;
    }
    const principal =
      user === undefined
        ? (this.guard.identities.principalOf(client) ?? '')
        : principalOf(user, '');
    const bytes = topic.length + payload.length;
    let isRetained = will.retain && rules?.mayRetain(who, topic) !== false;
    // Nothing of a client that is gone can be held back: what cannot wait here is not taken.
    if (!this.takes(principal, bytes)) {
      audit.say({ event: 'will_denied', ...who, about: topic });
      if (isRetained) this.local.unretain(will);
      return false;
    }
    const ops: KvOp[] = [];
    if (isRetained) {
      const retained = this.local.retain(will);
      ops.push(...retained.ops);
      isRetained = retained.kept;
    }
    const copies = this.local.prepare({ ...will, retain: isRetained });
    if (copies !== undefined) ops.push(...copies.ops);
    this.buffer.append(
      {
        client,
        topic,
        qos,
        retain: isRetained,
        dup: false,
        payload,
        ...(recorded === undefined ? {} : { properties: recorded }),
      },
      {
        durable: () => {
          this.waiting.give(principal, bytes);
          whenDurable(isRetained, copies);
        },
      },
      ops,
    );
    return true;
  }

  private takes(principal: string, bytes: number): boolean {
    if (!this.waiting.take(principal, bytes)) return false;
    if (!this.space.isScarce || this.space.takes(principal, bytes)) return true;
    this.waiting.give(principal, bytes);
    return false;
  }
}
