/**
 * Topic names that a connection has used: a device says the same ones again and again, and a known one is neither decoded
 * nor checked again. Found by its bytes, so that no text is made for it.
 */

/** Names remembered; one that falls on another's slot takes its place. */
const SLOTS = 512;
/** A longer one is read anew each time. */
const REMEMBERED_BYTES_MAX = 256;

interface Known {
  /** Its bytes as characters. */
  key: string;
  name: string;
}

export class TopicNames {
  private readonly known = new Map<number, Known>();
  private readonly read: (bytes: Buffer, offset: number) => string;

  /** `read` decodes and checks the name whose length bytes stand at `offset`; what it throws is thrown by `at`. */
  constructor(read: (bytes: Buffer, offset: number) => string) {
    this.read = read;
  }

  /** The name whose two length bytes stand at `offset` and that ends before `end`. */
  at(bytes: Buffer, offset: number, end: number): string {
    const start = offset + 2;
    if (end - start > REMEMBERED_BYTES_MAX) return this.read(bytes, offset);
    let hash = 0;
    for (let at = start; at < end; at++) hash = (Math.imul(hash, 31) + (bytes[at] ?? 0)) | 0;
    const slot = hash & (SLOTS - 1);
    const known = this.known.get(slot);
    if (known !== undefined && stands(known.key, bytes, start, end)) return known.name;
    const name = this.read(bytes, offset);
    this.known.set(slot, { key: bytes.toString('latin1', start, end), name });
    return name;
  }
}

function stands(key: string, bytes: Buffer, start: number, end: number): boolean {
  if (key.length !== end - start) return false;
  for (let at = 0; at < key.length; at++)
    if (key.charCodeAt(at) !== bytes[start + at]) return false;
  return true;
}
