/**
 * A reading: what one message, or one line or element of it, says of one measurement at one time.
 * Its identity is (gateway, epoch, sequence, index) and comes from the frame.
 */
export type FieldValue = number | string | boolean;

export interface Reading {
  measurement: string;
  tags: Record<string, string>;
  /**
   * A value's type decides its field, never the order of arrival: numbers keep the name, texts go to `<name>_text`,
   * booleans to `<name>_bool`; so 732, 732.5 and "n/a" all stay, and a rebuild gives the same.
   */
  fields: Record<string, FieldValue>;
  sequence: number;
  /** Of several readings in one message. */
  index: number;
  /** Epoch milliseconds: the device's when it gives a plausible one, else the gateway's. */
  timeMs: number;
  /** Nanoseconds below the millisecond, 0 to 999,999: the device's own, or digits of the identity. */
  ns: number;
  /** It reached the collector much later than the gateway. */
  late?: boolean;
  /** Where it was written before its time was put right: that point has to go. */
  was?: { timeMs: number; ns: number };
}

/** Readings of one frame or a part of it. */
export interface ReadingBatch {
  gateway: string;
  epoch: string;
  /** When the frame reached the collector, epoch milliseconds. */
  arrivedMs: number;
  readings: Reading[];
  /** Points that these messages had under another mapping and have no more: they go before the readings are written. */
  removed?: Reading[];
  /** Of results: the highest of an identity counts. */
  revision?: number;
}

export interface Quarantined {
  gateway: string;
  epoch: string;
  sequence: number;
  index: number;
  client: string;
  topic: string;
  reason: string;
  receivedMs: number;
  payload: Buffer;
}

/**
 * Digits below the device's resolution as a pure function of the identity, so that two readings in the same
 * millisecond stay two, and a resend, a rebuild or another collector writes the same point. Neighbouring sequences
 * give different digits; epochs and gateways start at different offsets.
 */
export function identityDigits(
  seed: number,
  sequence: number,
  index: number,
  modulus: number,
): number {
  return (seed + sequence + index * 499_979) % modulus;
}

/** Offset of an epoch's digits: FNV-1a over both names. */
export function identitySeed(gateway: string, epoch: string): number {
  let hash = 0x811c9dc5;
  const text = `${gateway}/${epoch}`;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % 1_000_000;
}
