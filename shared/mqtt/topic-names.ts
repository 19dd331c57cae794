/**
 * Topic names that a connection has used: a device says the same ones again and again, and a known one is neither decoded
 * nor checked again. Found by its bytes, so that no text is made for it. All connections together have a room for them: where
 * it is used up, a name is read anew each time.
 */
import { Pool } from '../model/remembered.ts';

/** Names remembered; one that falls on another's slot takes its place. */
const SLOTS = 512;
/** A longer one is read anew each time. */
const REMEMBERED_BYTES_MAX = 256;
/** Of all connections. */
const room = new Pool(64 * 1024 * 1024);
/** What one takes beside its text, once as bytes and once as a name. */
const KNOWN_BYTES = 128;
const takenBy = ({ key }: Known): number => KNOWN_BYTES + 2 * key.length;

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
    if (known !== undefined) room.give(takenBy(known));
    const next = { key: bytes.toString('latin1', start, end), name };
    if (room.take(takenBy(next))) this.known.set(slot, next);
    else this.known.delete(slot);
    return name;
  }

  /** The connection is gone. */
  forget(): void {
    for (const each of this.known.values()) room.give(takenBy(each));
    this.known.clear();
  }
}

function stands(key: string, bytes: Buffer, start: number, end: number): boolean {
  if (key.length !== end - start) return false;
  for (let at = 0; at < key.length; at++)
    if (key.charCodeAt(at) !== bytes[start + at]) return false;
  return true;
}
