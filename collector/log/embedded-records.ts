/**
 * The embedded log on disk.
 *
 * Keys: 't' topic 0x00 offset (8 bytes) → record; 'c' topic 0x00 key → record of a compacted topic;
 * 'o' group 0x00 topic → next offset (8 bytes).
 * A record: CRC-32C of the rest (4), key length (2), headers length (2), key, headers as JSON, value. One that does not
 * match is handed on as it is, marked as damaged, for whoever reads it to set aside: it must not vanish unseen.
 */
import { HeadwaterError } from '../../shared/errors.ts';
import { after, type KvDatabase } from '../../shared/kv/kv.ts';
import { seal, unseal } from '../../shared/kv/sealed.ts';
import type { LogRecord } from './log.ts';

/** What two bytes of length hold: of a key, and of a record's headers. */
const NAME_BYTES_MAX = 65_535;

export function topicPrefix(topic: string): Buffer {
  return Buffer.concat([Buffer.from(`t${topic}`), Buffer.from([0])]);
}

export function recordKey(topic: string, offset: number): Buffer {
  const number = Buffer.alloc(8);
  number.writeBigUInt64BE(BigInt(offset));
  return Buffer.concat([topicPrefix(topic), number]);
}

export function stateKey(topic: string, key: string): Buffer {
  return Buffer.concat([Buffer.from(`c${topic}`), Buffer.from([0]), Buffer.from(key)]);
}

export function offsetKey(group: string, topic: string): Buffer {
  return Buffer.concat([Buffer.from(`o${group}`), Buffer.from([0]), Buffer.from(topic)]);
}

/** Throws LOG_TOO_LARGE. */
export function encode({ key, value, headers }: LogRecord): Buffer {
  const keyBytes = Buffer.from(key);
  const headerBytes = Buffer.from(JSON.stringify(headers));
  for (const [what, bytes] of [
    ['key', keyBytes],
    ['headers', headerBytes],
  ] as const)
    if (bytes.length > NAME_BYTES_MAX)
      throw new HeadwaterError(
        'LOG_TOO_LARGE',
        `a record's ${what} has ${bytes.length} bytes, and the embedded log takes ${NAME_BYTES_MAX}`,
      );
  const head = Buffer.alloc(4);
  head.writeUInt16LE(keyBytes.length, 0);
  head.writeUInt16LE(headerBytes.length, 2);
  return seal(Buffer.concat([head, keyBytes, headerBytes, value]));
}

/** Header of a record whose checksum does not match; its value is what was found. */
export const DAMAGED = 'damaged';

export function decode(sealed: Buffer): LogRecord {
  const bytes = unseal(sealed);
  if (bytes === undefined) return { key: '', headers: { [DAMAGED]: 'true' }, value: sealed };
  const keyEnd = 4 + bytes.readUInt16LE(0);
  const headersEnd = keyEnd + bytes.readUInt16LE(2);
  return {
    key: bytes.toString('utf8', 4, keyEnd),
    headers: JSON.parse(bytes.toString('utf8', keyEnd, headersEnd)) as Record<string, string>,
    value: bytes.subarray(headersEnd),
  };
}

/** Last values of the keys that begin so. */
export async function readState(
  db: KvDatabase,
  topic: string,
  keyPrefix: string,
): Promise<LogRecord[]> {
  const prefix = stateKey(topic, keyPrefix);
  const entries = await db.read({ gte: prefix, lt: after(prefix) }, Number.POSITIVE_INFINITY);
  return entries
    .map(([, value]) => decode(value))
    .filter(({ headers }) => headers[DAMAGED] === undefined);
}
