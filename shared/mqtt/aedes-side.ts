/** The stream between aedes and a connection's socket. */
import { Duplex } from 'node:stream';
import type { Gather } from './gather.ts';

/** The stream that aedes reads and writes. What it writes goes to the socket by `Gather`. */
export class AedesSide extends Duplex {
  private readonly socket: Duplex;
  readonly out: Gather;
  private readonly wanted: () => void;

  /** `wanted` is called when aedes has taken what was pushed. */
  constructor(socket: Duplex, out: Gather, wanted: () => void) {
    super();
    this.socket = socket;
    this.out = out;
    this.wanted = wanted;
  }

  override _read(): void {
    this.wanted();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.out.write(chunk);
    this.onceFlowing(done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    for (const { chunk } of chunks) this.out.write(chunk);
    this.onceFlowing(done);
  }

  private onceFlowing(done: () => void): void {
    if (this.out.isFlowing) done();
    else this.socket.once('drain', done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.out.flush();
    // What was written last (a CONNACK that refuses) still goes out.
    if (!this.socket.destroyed) this.socket.end(() => this.socket.destroy());
    done(error);
  }
}
