/**
 * What is written to a connection within one turn of the event loop leaves as one write, in its order: a group of messages
 * that becomes durable at once is delivered at once, and a system call for each copy was half of what fan-out cost.
 */
import type { Duplex } from 'node:stream';

/** More does not wait for the turn's end. */
const GATHER_BYTES = 64 * 1024;

export class Gather {
  private readonly socket: Duplex;
  private parts: Buffer[] = [];
  private bytes = 0;
  private isAsked = false;

  constructor(socket: Duplex) {
    this.socket = socket;
  }

  /** Bytes that the other side has not taken: here, and in the socket. */
  get unread(): number {
    return this.bytes + this.socket.writableLength;
  }

  /** Whether the socket takes more before it has drained. */
  get isFlowing(): boolean {
    return !this.socket.writableNeedDrain;
  }

  /** The bytes may not change afterwards. */
  write(bytes: Buffer): void {
    this.parts.push(bytes);
    this.bytes += bytes.length;
    if (this.bytes >= GATHER_BYTES) this.flush();
    else if (!this.isAsked) {
      this.isAsked = true;
      setImmediate(() => {
        this.isAsked = false;
        this.flush();
      });
    }
  }

  flush(): void {
    const { parts, bytes, socket } = this;
    const [only] = parts;
    if (only === undefined) return;
    this.parts = [];
    this.bytes = 0;
    if (socket.destroyed || socket.writableEnded) return;
    socket.write(parts.length === 1 ? only : Buffer.concat(parts, bytes));
  }
}
