/** A message on its way to local subscribers, and one subscriber's copy of it, in memory and on disk. */
import { seal, unseal } from '../../shared/kv/sealed.ts';

export interface Message {
  topic: string;
  payload: Buffer;
  qos: number;
  /** As the publisher set it. */
  retain: boolean;
  /** Client id of who published it: noLocal asks. */
  publisher: string;
  /** MQTT 5 properties that are passed on, as bytes. */
  forwarded: Buffer | undefined;
  /** Epoch milliseconds of its expiry by the gateway's clock [MQTT-3.3.2-5]; undefined: never. */
  expiresAtMs: number | undefined;
  /** The packet of its copies that are the same for every client of version 5, made for the first of them. */
  plain?: Buffer;
}

/** One copy. A message that matches several identified subscriptions is one for each [MQTT-3.3.4-4]. */
export interface Outgoing {
  message: Message;
  qos: number;
  retain: boolean;
  subscriptionId: number | undefined;
  /** Name of the shared subscription that it was picked for, and its filter. */
  shared: string | undefined;
  /** Of its entry on disk, when the session outlives its connection; 0: none. */
  sequence: number;
}

interface Head {
  topic: string;
  qos: number;
  retain: boolean;
  publisher: string;
  published: [qos: number, retain: boolean];
  expiresAtMs?: number;
  subscriptionId?: number;
  shared?: string;
}

/** What a queued message takes in memory beside its topic and payload, about, bytes. */
const OVERHEAD = 512;

export const sizeOf = ({ message }: Outgoing): number =>
  OVERHEAD + message.topic.length + message.payload.length + (message.forwarded?.length ?? 0);

/** Layout: CRC-32C, length of the head (u32), head (JSON), length of the properties (u32), properties, payload. */
export function encodeOutgoing(out: Outgoing): Buffer {
  const { message } = out;
  const head: Head = {
    topic: message.topic,
    qos: out.qos,
    retain: out.retain,
    publisher: message.publisher,
    published: [message.qos, message.retain],
    ...(message.expiresAtMs === undefined ? {} : { expiresAtMs: message.expiresAtMs }),
    ...(out.subscriptionId === undefined ? {} : { subscriptionId: out.subscriptionId }),
    ...(out.shared === undefined ? {} : { shared: out.shared }),
  };
  const text = Buffer.from(JSON.stringify(head));
  const sizes = [text.length, message.forwarded?.length ?? 0].map((size) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(size);
    return bytes;
  });
  return seal(
    Buffer.concat([
      sizes[0] as Buffer, // Two were made.
      text,
      sizes[1] as Buffer,
      message.forwarded ?? Buffer.alloc(0),
      message.payload,
    ]),
  );
}

/** Undefined for what is damaged: it is not delivered as if it were what somebody said. */
export function decodeOutgoing(sealed: Buffer, sequence: number): Outgoing | undefined {
  const bytes = unseal(sealed);
  if (bytes === undefined) return undefined;
  const headEnd = 4 + bytes.readUInt32BE(0);
  const head = JSON.parse(bytes.toString('utf8', 4, headEnd)) as Head;
  const forwardedEnd = headEnd + 4 + bytes.readUInt32BE(headEnd);
  return {
    message: {
      topic: head.topic,
      payload: Buffer.from(bytes.subarray(forwardedEnd)),
      qos: head.published[0],
      retain: head.published[1],
      publisher: head.publisher,
      forwarded:
        forwardedEnd === headEnd + 4
          ? undefined
          : Buffer.from(bytes.subarray(headEnd + 4, forwardedEnd)),
      expiresAtMs: head.expiresAtMs,
    },
    qos: head.qos,
    retain: head.retain,
    subscriptionId: head.subscriptionId,
    shared: head.shared,
    sequence,
  };
}
