/**
 * Frames of a WebSocket (RFC 6455), as a server takes and makes them. The boundaries of messages mean nothing to MQTT
 * [MQTT-6.0.0-2], so what a frame carries goes on as it comes: of a message that is fragmented, large or never ends nothing is
 * kept here, and what a packet may take is counted where packets are cut. No extension is spoken: nothing is inflated.
 */
const BINARY = 2;
const TEXT = 1;
const CONTINUATION = 0;
const CLOSE = 8;
const PING = 9;
const PONG = 10;
const CONTROL_BYTES_MAX = 125;
const HEAD_BYTES_MAX = 14;

/** Codes of RFC 6455, 7.4.1. */
export const GOING = 1000;
const BROKEN = 1002;
const UNACCEPTABLE = 1003;

/** Why the other side is told goodbye. */
export class FrameError extends Error {
  readonly code: number;

  constructor(code: number, text: string) {
    super(`WebSocket: ${text}`);
    this.code = code;
  }
}

export interface FrameEvents {
  ping(payload: Buffer): void;
  close(): void;
}

export class FrameReader {
  private readonly events: FrameEvents;
  private readonly head = Buffer.alloc(HEAD_BYTES_MAX);
  private headBytes = 0;
  private headWanted = 2;
  private opcode = CONTINUATION;
  private isFinal = false;
  /** A data frame has come that was not the last of its message. */
  private isWithin = false;
  /** Of the frame's payload, not yet come. */
  private left = 0;
  private readonly mask = Buffer.alloc(4);
  private masked = 0;
  private readonly control = Buffer.alloc(CONTROL_BYTES_MAX);
  private controlBytes = 0;

  constructor(events: FrameEvents) {
    this.events = events;
  }

  /** What data frames carry of it, unmasked, in the chunk's own place. Throws FrameError. */
  push(chunk: Buffer): Buffer {
    let out = 0;
    let at = 0;
    while (at < chunk.length) {
      if (this.left === 0) {
        this.head[this.headBytes++] = chunk[at++] ?? 0;
        if (this.headBytes === this.headWanted) this.takeHead();
        continue;
      }
      const end = Math.min(chunk.length, at + this.left);
      const isControl = this.opcode >= CLOSE;
      const to = isControl ? this.control : chunk;
      let place = isControl ? this.controlBytes : out;
      let { masked } = this;
      const { mask } = this;
      for (let from = at; from < end; from++)
        to[place++] = (chunk[from] ?? 0) ^ (mask[masked++ & 3] ?? 0);
      this.masked = masked & 3;
      if (isControl) this.controlBytes = place;
      else out = place;
      this.left -= end - at;
      at = end;
      if (this.left === 0) this.ended();
    }
    return chunk.subarray(0, out);
  }

  private takeHead(): void {
    const { head } = this;
    const [first = 0, second = 0] = head;
    if (this.headBytes === 2) this.checkHead(first, second);
    const short = second & 0x7f;
    const longBytes = short === 127 ? 8 : short === 126 ? 2 : 0;
    this.headWanted = 6 + longBytes;
    if (this.headBytes < this.headWanted) return;
    this.left = lengthOf(head, short);
    head.copy(this.mask, 0, 2 + longBytes, 6 + longBytes);
    this.masked = 0;
    this.controlBytes = 0;
    this.headBytes = 0;
    this.headWanted = 2;
    if (this.left === 0) this.ended();
  }

  private checkHead(first: number, second: number): void {
    const opcode = first & 15;
    this.isFinal = first >= 0x80;
    this.opcode = opcode;
    if ((first & 0x70) !== 0) throw new FrameError(BROKEN, 'reserved bits are set');
    if (second < 0x80) throw new FrameError(BROKEN, 'a frame is not masked');
    if (opcode >= CLOSE) {
      if (opcode > PONG) throw new FrameError(BROKEN, `there is no frame of kind ${opcode}`);
      if (!this.isFinal || (second & 0x7f) > CONTROL_BYTES_MAX)
        throw new FrameError(BROKEN, 'a control frame is fragmented or too long');
      return;
    }
    if (opcode === TEXT) throw new FrameError(UNACCEPTABLE, 'text on an MQTT WebSocket'); // [MQTT-6.0.0-1]
    if (opcode !== BINARY && opcode !== CONTINUATION)
      throw new FrameError(BROKEN, `there is no frame of kind ${opcode}`);
    if ((opcode === CONTINUATION) !== this.isWithin)
      throw new FrameError(BROKEN, 'a fragment is not where it may be');
    this.isWithin = !this.isFinal;
  }

  private ended(): void {
    if (this.opcode === PING) this.events.ping(this.control.subarray(0, this.controlBytes));
    else if (this.opcode === CLOSE) this.events.close();
  }
}

function lengthOf(head: Buffer, short: number): number {
  if (short < 126) return short;
  if (short === 126) return head.readUInt16BE(2);
  const high = head.readUInt32BE(2);
  if (high > 0x1fffff) throw new FrameError(BROKEN, 'a frame of more bytes than can be counted');
  return high * 2 ** 32 + head.readUInt32BE(6);
}

function frameHead(opcode: number, length: number): Buffer {
  if (length < 126) return Buffer.from([0x80 | opcode, length]);
  if (length < 65_536) return Buffer.from([0x80 | opcode, 126, length >> 8, length & 255]);
  const head = Buffer.alloc(10);
  head[0] = 0x80 | opcode;
  head[1] = 127;
  head.writeUInt32BE(Math.floor(length / 2 ** 32), 2);
  head.writeUInt32BE(length % 2 ** 32, 6);
  return head;
}

export const binaryHead = (length: number): Buffer => frameHead(BINARY, length);

export const pong = (payload: Buffer): Buffer =>
  Buffer.concat([frameHead(PONG, payload.length), payload]);

export const goodbye = (code: number): Buffer =>
  Buffer.from([...frameHead(CLOSE, 2), code >> 8, code & 255]);
