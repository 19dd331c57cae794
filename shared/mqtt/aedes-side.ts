/** The stream between aedes and a connection's socket. */
import { Duplex } from 'node:stream';

/** The stream that aedes reads and writes. What it writes goes to the socket, packet by packet. */
export class AedesSide extends Duplex {
  private readonly socket: Duplex;
  private readonly wanted: () => void;

  /** `wanted` is called when aedes has taken what was pushed. */
  constructor(socket: Duplex, wanted: () => void) {
    super();
    this.socket = socket;
    this.wanted = wanted;
  }

  override _read(): void {
    this.wanted();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    if (this.socket.write(chunk)) done();
    else this.socket.once('drain', done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this.socket.cork();
    let flowing = true;
    for (const { chunk } of chunks) flowing = this.socket.write(chunk);
    this.socket.uncork();
    if (flowing) done();
    else this.socket.once('drain', done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    // What was written last (a CONNACK that refuses) still goes out.
    if (!this.socket.destroyed) this.socket.end(() => this.socket.destroy());
    done(error);
  }
}
