/**
 * Cuts a TCP byte stream into MQTT control packets without trusting a length before it is checked:
 * what is kept of an unfinished packet never exceeds `packetBytesMax`.
 */
import { refuse } from './packets.ts';

/** How the reason begins when a packet is larger than allowed. */
export const TOO_LARGE = 'packet of';

/** A control packet where it lies in the received bytes: a view of it is made for who asks, and a PUBLISH asks for none. */
export class RawPacket {
  readonly type: number;
  readonly flags: number;
  readonly source: Buffer;
  /** Offsets in `source`: of the fixed header, of the variable header, and behind the packet. */
  readonly start: number;
  readonly bodyStart: number;
  readonly end: number;

  constructor(first: number, source: Buffer, start: number, bodyStart: number, end: number) {
    this.type = first >> 4;
    this.flags = first & 15;
    this.source = source;
    this.start = start;
    this.bodyStart = bodyStart;
    this.end = end;
  }

  /** Whole, fixed header included. */
  get bytes(): Buffer {
    return this.source.subarray(this.start, this.end);
  }

  get body(): Buffer {
    return this.source.subarray(this.bodyStart, this.end);
  }

  /** Whether its length is said in more bytes than it needs, which 3.1.1 does not forbid. */
  get isPadded(): boolean {
    return this.bodyStart - this.start > 2 && this.source[this.bodyStart - 1] === 0;
  }
}

export class PacketScanner {
  /** Largest packet accepted, fixed header included, in bytes. May be raised after authentication. */
  packetBytesMax: number;
  /** Received and not yet cut: from `at` on. */
  private rest: Buffer | undefined;
  private at = 0;
  /** What came with the end of the packet that is in `rest`. */
  private later: Buffer | undefined;
  /** Length the unfinished packet will have once complete; 0 when not yet known. */
  private wanted = 0;
  /**
   * What is there of it, in one piece as long as the packet from the second read on: a packet that comes byte by byte takes
   * no more than one that comes at once.
   */
  private begun: Buffer | undefined;
  private begunAt = 0;

  constructor(packetBytesMax: number) {
    this.packetBytesMax = packetBytesMax;
  }

  /** Length of a packet that has begun and is not whole; 0: there is none. */
  get begunBytes(): number {
    return this.wanted;
  }

  push(chunk: Buffer): void {
    if (this.wanted > 0) {
      this.pushBegun(chunk);
    } else if (this.later !== undefined) {
      this.later = Buffer.concat([this.later, chunk]);
    } else {
      this.rest =
        this.rest === undefined ? chunk : Buffer.concat([this.rest.subarray(this.at), chunk]);
      this.at = 0;
    }
  }

  private pushBegun(chunk: Buffer): void {
    const { wanted } = this;
    let whole = this.begun;
    if (whole === undefined || whole.length < wanted) {
      const first = whole;
      this.begun = whole = Buffer.allocUnsafe(wanted);
      first?.copy(whole);
    }
    const taken = chunk.copy(whole, this.begunAt);
    this.begunAt += taken;
    if (this.begunAt < wanted) return;
    this.rest = whole;
    this.at = 0;
    this.later = taken === chunk.length ? undefined : chunk.subarray(taken);
    this.begun = undefined;
    this.begunAt = 0;
    this.wanted = 0;
  }

  /** Everything of `rest` is cut. */
  private advance(): void {
    this.rest = this.later;
    this.later = undefined;
    this.at = 0;
  }

  /** The next whole packet, or undefined. Throws PACKET_INVALID for a length that is malformed or too large. */
  next(): RawPacket | undefined {
    const bytes = this.rest;
    if (bytes === undefined) return undefined;
    const start = this.at;
    const first = bytes[start];
    if (first === undefined) {
      this.advance();
      return undefined;
    }
    let length = 0;
    let offset = start + 1;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[offset++];
      if (byte === undefined) return undefined;
      length += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
      if (scale === 2097152) refuse('remaining length has more than four bytes');
    }
    const end = offset + length;
    const total = end - start;
    if (total > this.packetBytesMax)
      refuse(`${TOO_LARGE} ${total} bytes, ${this.packetBytesMax} allowed`);
    if (end > bytes.length) {
      this.begun = start === 0 ? bytes : bytes.subarray(start);
      this.begunAt = this.begun.length;
      this.wanted = total;
      this.rest = undefined;
      this.at = 0;
      return undefined;
    }
    if (end === bytes.length) this.advance();
    else this.at = end;
    return new RawPacket(first, bytes, start, offset, end);
  }
}
