/**
 * Builds frames. One builder is filled while the group before it is being written; `finish()` hands out the bytes.
 *
 * Cost matters here: every message passes through `add` once. Nothing is allocated for a message but dictionary
 * entries that are new in this frame.
 */
import { deflateRawSync } from 'node:zlib';
import { assert } from '../errors.ts';
import {
  COMPRESSION_DEFLATE,
  COMPRESSION_NONE,
  FRAME_MAGIC,
  FRAME_VERSION,
  HEADER_BYTES,
  KIND_RECORDS,
  RECORD_THINNED,
  frameCrc,
} from './frame.ts';

export interface FrameIdentity {
  gateway: string;
  /** 8 bytes. */
  epoch: Buffer;
  /** 8 bytes. */
  bootId: Buffer;
}

export interface FrameMessage {
  client: string;
  topic: string;
  qos: number;
  retain: boolean;
  dup: boolean;
  payload: Uint8Array;
  properties?: Uint8Array;
}

/** A body below this many bytes is not worth compressing: deflate's gain is less than a disk sector. */
const COMPRESS_FROM_BYTES = 256;
/** Of a body that is longer than so, a piece in its middle says whether it is worth it: noise costs deflate the most. */
const SAMPLED_FROM_BYTES = 128 * 1024;
const SAMPLE_BYTES = 8 * 1024;
// Level 1 and a small window: on a gateway the time counts, and one frame repeats itself closely.
const DEFLATE = { level: 1, memLevel: 9 };

function isNoise(body: Buffer): boolean {
  if (body.length < SAMPLED_FROM_BYTES) return false;
  const from = (body.length - SAMPLE_BYTES) >> 1;
  const sample = body.subarray(from, from + SAMPLE_BYTES);
  return deflateRawSync(sample, DEFLATE).length >= SAMPLE_BYTES;
}

export class FrameBuilder {
  private body: Buffer;
  private used = 0;
  private records = 0;
  private readonly clients = new Map<string, number>();
  private readonly sources = new Map<string, Map<string, number>>();
  private sourceCount = 0;
  private wallUs = 0;
  private lastUs = 0;
  private monotonicUs = 0;

  constructor(initialBytes = 64 * 1024) {
    this.body = Buffer.allocUnsafeSlow(initialBytes);
  }

  get count(): number {
    return this.records;
  }

  /** Body bytes so far, before compression. */
  get bytes(): number {
    return this.used;
  }

  /** Adds one message received at these clock readings (microseconds). */
  add(message: FrameMessage, wallUs: number, monotonicUs: number): void {
    const { client, topic, payload, properties } = message;
    this.reserve(
      64 + (client.length + topic.length) * 3 + payload.length + (properties?.length ?? 0),
    );
    if (this.records === 0) {
      this.wallUs = wallUs;
      this.lastUs = wallUs;
      this.monotonicUs = monotonicUs;
    }
    this.body[this.used++] =
      message.qos | (message.retain ? 4 : 0) | (message.dup ? 8 : 0) | (properties ? 16 : 0);
    this.source(client, topic);
    // The wall clock may step back within a group; time within a frame only moves forward.
    const delta = Math.max(0, wallUs - this.lastUs);
    this.lastUs += delta;
    this.integer(delta);
    if (properties) this.run(properties);
    this.run(payload);
    this.records++;
  }

  /** Takes a sequence without content: its message was thinned away. */
  skip(wallUs: number, monotonicUs: number): void {
    this.reserve(1);
    if (this.records === 0) {
      this.wallUs = wallUs;
      this.lastUs = wallUs;
      this.monotonicUs = monotonicUs;
    }
    this.body[this.used++] = RECORD_THINNED;
    this.records++;
  }

  private source(client: string, topic: string): void {
    let topics = this.sources.get(client);
    if (topics === undefined) this.sources.set(client, (topics = new Map()));
    const known = topics.get(topic);
    if (known !== undefined) return this.integer(known);
    topics.set(topic, ++this.sourceCount);
    this.integer(0);
    const clientNumber = this.clients.get(client);
    if (clientNumber === undefined) {
      this.clients.set(client, this.clients.size + 1);
      this.integer(0);
      this.text(client);
    } else {
      this.integer(clientNumber);
    }
    return this.text(topic);
  }

  private reserve(more: number): void {
    if (this.used + more <= this.body.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.body.length * 2, this.used + more));
    this.body.copy(larger, 0, 0, this.used);
    this.body = larger;
  }

  private integer(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.body[this.used++] = (rest % 128) | 0x80;
      rest = Math.floor(rest / 128);
    }
    this.body[this.used++] = rest;
  }

  private text(value: string): void {
    this.integer(Buffer.byteLength(value));
    this.used += this.body.write(value, this.used);
  }

  private run(bytes: Uint8Array): void {
    this.integer(bytes.length);
    this.body.set(bytes, this.used);
    this.used += bytes.length;
  }

  /** The finished frame; the builder is empty afterwards and can be filled again. */
  finish(
    identity: FrameIdentity,
    firstSequence: number,
    clockQuality: number,
    compress: boolean,
  ): Buffer {
    assert(this.records > 0, 'an empty group has no frame');
    const frame = sealFrame(
      {
        kind: KIND_RECORDS,
        clockQuality,
        identity,
        firstSequence,
        count: this.records,
        wallUs: this.wallUs,
        monotonicUs: this.monotonicUs,
      },
      this.body.subarray(0, this.used),
      compress,
    );
    this.used = 0;
    this.records = 0;
    this.sourceCount = 0;
    this.clients.clear();
    this.sources.clear();
    return frame;
  }
}

export interface SealFields {
  kind: number;
  clockQuality: number;
  identity: FrameIdentity;
  firstSequence: number;
  count: number;
  wallUs: number;
  monotonicUs: number;
}

/** A frame around a body. */
export function sealFrame(fields: SealFields, plain: Buffer, compress: boolean): Buffer {
  const { identity } = fields;
  const idBytes = Buffer.byteLength(identity.gateway);
  assert(idBytes >= 1 && idBytes <= 64, 'a gateway id has 1 to 64 bytes');
  let body = plain;
  let compression = COMPRESSION_NONE;
  if (compress && plain.length >= COMPRESS_FROM_BYTES && !isNoise(plain)) {
    const packed = deflateRawSync(plain, DEFLATE);
    if (packed.length < plain.length) {
      body = packed;
      compression = COMPRESSION_DEFLATE;
    }
  }
  const frame = Buffer.allocUnsafeSlow(HEADER_BYTES + idBytes + body.length);
  frame.writeUInt32LE(FRAME_MAGIC, 0);
  frame[4] = FRAME_VERSION;
  frame[5] = fields.kind;
  frame[6] = compression;
  frame[7] = fields.clockQuality;
  frame.writeUInt32LE(frame.length, 12);
  identity.epoch.copy(frame, 16, 0, 8);
  identity.bootId.copy(frame, 24, 0, 8);
  frame.writeBigUInt64LE(BigInt(fields.firstSequence), 32);
  frame.writeUInt32LE(fields.count, 40);
  frame.writeUInt32LE(plain.length, 44);
  frame.writeBigInt64LE(BigInt(fields.wallUs), 48);
  frame.writeUInt32LE(fields.monotonicUs % 2 ** 32, 56);
  frame.writeUIntLE(Math.floor(fields.monotonicUs / 2 ** 32), 60, 3);
  frame[63] = idBytes;
  frame.write(identity.gateway, HEADER_BYTES);
  body.copy(frame, HEADER_BYTES + idBytes);
  frame.writeUInt32LE(frameCrc(frame), 8);
  return frame;
}
