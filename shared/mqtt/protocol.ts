/** What the front stage and those behind it say to each other: limits, who is there, a PUBLISH, and a connection of MQTT 5. */
import type { RawPacket } from './scanner.ts';

export interface MqttLimits {
  /** Largest CONNECT, bytes. */
  connectBytesMax: number;
  /** Largest packet after CONNECT, bytes. */
  packetBytesMax: number;
  /** Longest client id, bytes. */
  clientIdBytesMax: number;
  /** Topic filters in one SUBSCRIBE. */
  filtersMax: number;
}

export interface IncomingPublish {
  topic: string;
  qos: number;
  retain: boolean;
  dup: boolean;
  /** 0 for QoS 0. */
  packetId: number;
  /** A view on the received bytes: copy what is kept. */
  payload: Buffer;
  /** What a client of MQTT 5 said beside it. */
  properties?: PublishProperties | undefined;
}

export interface PublishProperties {
  /** Those that are passed on, as bytes in their order; undefined: none. */
  forwarded: Buffer | undefined;
  /** Seconds [MQTT-3.3.2-5]. */
  messageExpiry: number | undefined;
  /** As a frame's record keeps them: both. */
  recorded: Buffer | undefined;
}

/** Who is at the other end, as far as the transport knows. */
export interface MqttPeer {
  address: string;
  transport: 'tcp' | 'tls' | 'ws' | 'wss';
  /** Common name of a client certificate that an accepted authority has signed. */
  certificateName: string | undefined;
  /** Of the same certificate; `raw` is DER. */
  certificate?: { serial: string; fromMs: number; raw: Buffer } | undefined;
}

/** Where nothing is known but that it is a stream (tests). */
export const LOCAL_PEER: MqttPeer = {
  address: '127.0.0.1',
  transport: 'tcp',
  certificateName: undefined,
};

/** A connection of MQTT 5, once its CONNECT is read: what comes is its to check and to answer. */
export interface Protocol5 {
  /** A whole packet; throws for one that is not allowed. */
  take(packet: RawPacket): void;
  /** Says goodbye for what `take` threw. */
  fail(error: unknown): void;
  /** Ends the connection with a DISCONNECT that carries a reason code (OASIS MQTT 5.0, 2.4). Idempotent. */
  goodbye(reason: number, text: string): void;
  /** A PUBLISH that is not taken: answered in order, with a reason code. */
  refusePublish(packet: { qos: number; packetId: number }, reason: number, text: string): void;
  ended(): void;
}

/** A connection of 3.1 or 3.1.1 whose session is not aedes's: PUBLISH and PUBREL go the way of all, the rest is its own. */
export interface Protocol311 {
  /** A whole packet, checked; `body` is what follows its header. */
  take(type: number, body: Buffer): void;
  ended(): void;
}

/** Reason codes of a DISCONNECT that the front stage itself says. */
export const KEEP_ALIVE_TIMEOUT = 0x8d;
export const SERVER_SHUTTING_DOWN = 0x8b;
