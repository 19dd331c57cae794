/**
 * Topic names that a connection has used: a device says the same ones again and again, and a known one is neither decoded
 * nor checked again.
 */

/** Distinct names remembered. */
const NAMES_MAX = 512;

export class TopicNames {
  private readonly known = new Map<string, string>();
  private readonly read: (bytes: Buffer, offset: number) => string;

  /** `read` decodes and checks the name whose length bytes stand at `offset`; what it throws is thrown by `at`. */
  constructor(read: (bytes: Buffer, offset: number) => string) {
    this.read = read;
  }

  /** The name whose two length bytes stand at `offset` and that ends before `end`. */
  at(bytes: Buffer, offset: number, end: number): string {
    const key = bytes.toString('latin1', offset + 2, end);
    const known = this.known.get(key);
    if (known !== undefined) return known;
    const name = this.read(bytes, offset);
    if (this.known.size >= NAMES_MAX) this.known.clear();
    this.known.set(key, name);
    return name;
  }
}
