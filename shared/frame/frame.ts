/**
 * The frame: one group commit, encoded once, checked everywhere, decoded late (law 10).
 *
 * Promise: the bytes that were fsynced on the gateway are the bytes on the uplink, in the raw log and in the lake; but where
 * the log's topic takes too little of a record, messages are put into smaller frames (docs/decisions/0037).
 * A record's identity is (gateway, epoch, first sequence + index).
 *
 * Layout, little endian. Header, 64 bytes and the gateway id:
 *   0  4  magic 'HWF1'
 *   4  1  version, 1
 *   5  1  kind: 0 records; JSON bodies (`notes.ts`): 1 loss report, 2 clock anchor, 3 summary, 4 status
 *   6  1  compression of the body: 0 none, 1 raw deflate (RFC 1951)
 *   7  1  clock quality: 0 unknown, 1 set by hand or battery, 2 synchronised
 *   8  4  CRC-32C of all other bytes of the frame, in their order
 *  12  4  length of the whole frame in bytes
 *  16  8  epoch: random, new at every open of the buffer
 *  24  8  boot id
 *  32  8  sequence of the first record
 *  40  4  count of records
 *  44  4  length of the body before compression, in bytes
 *  48  8  wall clock at the group's first record, microseconds since 1970 UTC
 *  56  7  monotonic clock at the same moment, microseconds
 *  63  1  length of the gateway id in bytes (1 to 64), which follows
 * Then the body. Records one after another, integers as LEB128:
 *   flags (bits 0-1 QoS, 2 retain, 3 dup, 4 properties follow; 5 alone: thinned away, and the record ends here)
 *   source: 0 = new one follows, else its number counted from 1 in order of appearance in this frame
 *     [client: 0 = new one follows (length, UTF-8), else its number; topic (length, UTF-8)]
 *   microseconds since the record before (the first: since the header's wall clock)
 *   [length and bytes of the MQTT 5 properties]
 *   length and bytes of the payload
 */
import { inflateRawSync } from 'node:zlib';
import { HeadwaterError } from '../errors.ts';
import { crc32c } from './crc32c.ts';

export const FRAME_MAGIC = 0x31465748; // 'HWF1'
export const FRAME_VERSION = 1;
export const HEADER_BYTES = 64;
/** A frame that declares more is refused before anything is allocated for it. */
export const FRAME_BYTES_MAX = 4 * 1024 * 1024;
/** What a compressed body may grow to. */
export const BODY_BYTES_MAX = 16 * 1024 * 1024;

export const KIND_RECORDS = 0;
export const KIND_LOSS = 1;
export const KIND_ANCHOR = 2;
export const KIND_SUMMARY = 3;
/** Made for one connection and kept by nobody but the raw log: first sequence and count are 0. */
export const KIND_STATUS = 4;

/** Clock quality: what the gateway knew of its own wall clock when it wrote the frame. */
export const CLOCK_UNKNOWN = 0;
export const CLOCK_ASSUMED = 1;
export const CLOCK_SYNCHRONISED = 2;

/** The flags of a record that was thinned away: its sequence stays taken, its content is in a summary. */
export const RECORD_THINNED = 32;
export const COMPRESSION_NONE = 0;
export const COMPRESSION_DEFLATE = 1;

export interface FrameHeader {
  kind: number;
  compression: number;
  clockQuality: number;
  length: number;
  /** 16 hexadecimal digits. */
  epoch: string;
  bootId: string;
  firstSequence: number;
  count: number;
  bodyBytes: number;
  wallUs: number;
  monotonicUs: number;
  gateway: string;
}

export interface FrameRecord {
  sequence: number;
  client: string;
  topic: string;
  qos: number;
  retain: boolean;
  dup: boolean;
  /** Gateway's wall clock at receipt, microseconds since 1970 UTC. */
  receivedUs: number;
  properties: Uint8Array | undefined;
  payload: Buffer;
}

function invalid(why: string): never {
  throw new HeadwaterError('FRAME_INVALID', `frame refused: ${why}`);
}

/** Header of the frame at `offset`, checked for magic, version and bounds, not for its CRC. Throws FRAME_INVALID. */
export function readHeader(bytes: Buffer, offset = 0): FrameHeader {
  const available = bytes.length - offset;
  if (available < HEADER_BYTES) invalid(`${available} bytes are fewer than a header`);
  if (bytes.readUInt32LE(offset) !== FRAME_MAGIC) invalid('no frame magic');
  const version = bytes[offset + 4];
  if (version !== FRAME_VERSION) invalid(`version ${version} is not known`);
  const length = bytes.readUInt32LE(offset + 12);
  if (length > FRAME_BYTES_MAX) invalid(`${length} bytes declared, ${FRAME_BYTES_MAX} allowed`);
  if (length > available) invalid(`${length} bytes declared, ${available} there`);
  const idBytes = bytes[offset + 63] ?? 0;
  if (idBytes < 1 || idBytes > 64 || HEADER_BYTES + idBytes > length)
    invalid('gateway id out of bounds');
  const firstSequence = bytes.readBigUInt64LE(offset + 32);
  const count = bytes.readUInt32LE(offset + 40);
  const bodyBytes = bytes.readUInt32LE(offset + 44);
  if (firstSequence + BigInt(count) > BigInt(Number.MAX_SAFE_INTEGER))
    invalid('sequence out of range');
  if (bodyBytes > BODY_BYTES_MAX)
    invalid(`body of ${bodyBytes} bytes declared, ${BODY_BYTES_MAX} allowed`);
  // A record has at least four bytes: flags, source, time, payload length.
  if (count * 4 > bodyBytes && bytes[offset + 5] === KIND_RECORDS)
    invalid(`${count} records cannot be in ${bodyBytes} bytes`);
  return {
    kind: bytes[offset + 5] ?? 0,
    compression: bytes[offset + 6] ?? 0,
    clockQuality: bytes[offset + 7] ?? 0,
    length,
    epoch: bytes.toString('hex', offset + 16, offset + 24),
    bootId: bytes.toString('hex', offset + 24, offset + 32),
    firstSequence: Number(firstSequence),
    count,
    bodyBytes,
    wallUs: Number(bytes.readBigInt64LE(offset + 48)),
    monotonicUs: bytes.readUInt32LE(offset + 56) + bytes.readUIntLE(offset + 60, 3) * 2 ** 32,
    gateway: bytes.toString('utf8', offset + HEADER_BYTES, offset + HEADER_BYTES + idBytes),
  };
}

/** CRC of a frame's bytes: everything but the four bytes that hold it. */
export function frameCrc(frame: Buffer): number {
  return crc32c(frame, 12, frame.length, crc32c(frame, 0, 8));
}

/** The same frame under another gateway's name. `header` is what `checkFrame` gave for it. */
export function renamedFrame(frame: Buffer, header: FrameHeader, gateway: string): Buffer {
  const [was, is] = [Buffer.byteLength(header.gateway), Buffer.from(gateway, 'utf8')];
  const renamed = Buffer.concat([
    frame.subarray(0, HEADER_BYTES),
    is,
    frame.subarray(HEADER_BYTES + was),
  ]);
  renamed.writeUInt32LE(renamed.length, 12);
  renamed[63] = is.length;
  renamed.writeUInt32LE(frameCrc(renamed), 8);
  return renamed;
}

/** Checks length and CRC-32C of exactly one frame and returns its header. Throws FRAME_INVALID. */
export function checkFrame(frame: Buffer): FrameHeader {
  const header = readHeader(frame);
  if (header.length !== frame.length)
    invalid(`${header.length} bytes declared, ${frame.length} there`);
  if (frame.readUInt32LE(8) !== frameCrc(frame)) invalid('checksum does not match');
  return header;
}

/** Cuts a run of frames into single ones, each checked. The results are views on `bytes`. Throws FRAME_INVALID. */
export function splitFrames(bytes: Buffer, start = 0): { header: FrameHeader; frame: Buffer }[] {
  const frames = [];
  for (let offset = start; offset < bytes.length; ) {
    const { length } = readHeader(bytes, offset);
    const frame = bytes.subarray(offset, offset + length);
    frames.push({ header: checkFrame(frame), frame });
    offset += length;
  }
  return frames;
}

/** The body of a checked frame, decompressed. Throws FRAME_INVALID when it does not expand to the declared length. */
export function frameBody(frame: Buffer, header: FrameHeader): Buffer {
  const stored = frame.subarray(HEADER_BYTES + Buffer.byteLength(header.gateway));
  let body: Buffer = stored;
  if (header.compression === COMPRESSION_DEFLATE) {
    try {
      // One byte more than declared is enough to see that it is too long, and bounds the memory taken.
      body = inflateRawSync(stored, { maxOutputLength: header.bodyBytes + 1 });
    } catch (error) {
      throw new HeadwaterError('FRAME_INVALID', 'frame refused: body does not decompress', {
        cause: error,
      });
    }
  } else if (header.compression !== COMPRESSION_NONE) {
    invalid(`compression ${header.compression} is not known`);
  }
  if (body.length !== header.bodyBytes)
    invalid(`body has ${body.length} bytes, ${header.bodyBytes} declared`);
  return body;
}

/** Reads LEB128 integers and byte runs of a body, within its bounds. */
class BodyReader {
  readonly body: Buffer;
  offset = 0;

  constructor(body: Buffer) {
    this.body = body;
  }

  integer(): number {
    const { body } = this;
    let byte = body[this.offset++];
    if (byte === undefined) invalid('body ends within a record');
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    for (let scale = 128; ; scale *= 128) {
      byte = body[this.offset++];
      if (byte === undefined || scale > 2 ** 49) invalid('body ends within a record');
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  }

  bytes(): Buffer {
    const size = this.integer();
    const end = this.offset + size;
    if (end > this.body.length) invalid('body ends within a record');
    const run = this.body.subarray(this.offset, end);
    this.offset = end;
    return run;
  }
}

/**
 * The records of a checked frame, without those thinned away. Payloads are views on the frame or its decompressed
 * body. Throws FRAME_INVALID.
 */
export function readRecords(frame: Buffer, header: FrameHeader): FrameRecord[] {
  const reader = new BodyReader(frameBody(frame, header));
  const clients: string[] = [];
  const sources: { client: string; topic: string }[] = [];
  const records: FrameRecord[] = [];
  let receivedUs = header.wallUs;
  for (let index = 0; index < header.count; index++) {
    const flags = reader.integer();
    if (flags === RECORD_THINNED) continue;
    const reference = reader.integer();
    if (reference === 0) {
      const clientReference = reader.integer();
      if (clientReference === 0) clients.push(reader.bytes().toString('utf8'));
      const client = clients[clientReference === 0 ? clients.length - 1 : clientReference - 1];
      if (client === undefined) invalid('client not in the dictionary');
      sources.push({ client, topic: reader.bytes().toString('utf8') });
    }
    const source = sources[reference === 0 ? sources.length - 1 : reference - 1];
    if (source === undefined) invalid('source not in the dictionary');
    receivedUs += reader.integer();
    const properties = flags & 16 ? reader.bytes() : undefined;
    records.push({
      sequence: header.firstSequence + index,
      client: source.client,
      topic: source.topic,
      qos: flags & 3,
      retain: (flags & 4) !== 0,
      dup: (flags & 8) !== 0,
      receivedUs,
      properties,
      payload: reader.bytes(),
    });
  }
  if (reader.offset !== reader.body.length) invalid('bytes after the last record');
  return records;
}
