/** What a codec may know of a message besides its payload, and where codecs of protocols with state keep it. */
import type { Decoded } from '../../../shared/codecs/codec.ts';

/** Values by key, of one gateway; JSON. What is set is committed together with the readings that came of it. */
export interface CodecState {
  get(key: string): unknown;
  set(key: string, value: unknown): void;
  /** Those that begin so, of keys that are not too long to be kept as they are. */
  keys(prefix: string): readonly string[];
}

/** To be published on a gateway's own broker, for a device. */
export interface Command {
  gateway: string;
  topic: string;
  payload: Buffer;
}

export interface MessageContext {
  gateway: string;
  epoch: string;
  sequence: number;
  topic: string;
  /** The gateway's receipt, put right; epoch milliseconds. */
  receivedMs: number;
  /** The later of receipt and arrival: what a plausible device time is measured against. */
  latestMs: number;
  state: CodecState;
  /** Whether every message of this gateway between two sequences of this epoch has been decoded: then a gap is the device's. */
  hasAll(from: number, to: number): boolean;
  ask(command: Command): void;
}

/** Makes readings of a payload; undefined: it is not of this protocol after all, and the next mapping is tried. */
export type ProtocolCodec = (payload: Buffer, context: MessageContext) => Decoded[] | undefined;
