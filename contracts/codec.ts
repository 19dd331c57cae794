/**
 * The Codec contract: bytes of a device become a document, of which a mapping makes points, or points at once.
 *
 * - A pure function of its payload: it keeps nothing, and changes nothing of what it is given. The same bytes are decoded
 *   again after a resend, a rebuild or a new mapping, and must give the same.
 * - Devices send everything: what it cannot read it refuses with RECORD_REFUSED and a reason for a person, which goes to
 *   quarantine with the message. Nothing else is thrown, whatever the bytes.
 * - It returns soon: while it runs, no other message is decoded.
 */
export const CODEC_CONTRACT_VERSION = 1;

export interface CodecSupports {
  /** A document that a mapping's rules read, or points. */
  gives: 'document' | 'points';
}

/** Integers that a double does not hold are bigint, so that a mapping can keep them as text; `Date` for a marked time. */
export type CodecValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Date
  | CodecValue[]
  | { [key: string]: CodecValue };

export interface CodecPoint {
  /** Where the payload names it itself. */
  measurement?: string;
  tags?: Record<string, string>;
  fields: Record<string, number | string | boolean>;
  /** The device's, epoch milliseconds. */
  timeMs?: number;
}

export type CodecGives = { document: CodecValue } | { points: CodecPoint[] };

export interface CodecHints {
  /** The gateway's receipt, epoch milliseconds. */
  receivedMs: number;
}

export interface CodecExample {
  payload: Uint8Array;
  gives: CodecGives;
}

export interface Codec {
  /** Throws RECORD_REFUSED. */
  parse(payload: Uint8Array, hints: CodecHints): CodecGives;
  /** At least one: what a device really sends, and what becomes of it. The suite damages them in every place. */
  readonly examples: readonly CodecExample[];
}
