/** Bytes that a payload or a text in it stands for: compressed, base64 or hexadecimal. */
import { gunzipSync, inflateRawSync, inflateSync } from 'node:zlib';
import { Undecodable } from '../../shared/codecs/codec.ts';
import type { Tree } from '../../shared/codecs/tree.ts';
import { messageOf } from '../../shared/errors.ts';
import type { Compression } from './mapping/mapping.ts';

/** What a compressed payload may become, bytes. */
const INFLATED_BYTES_MAX = 16 * 1024 * 1024;

const INFLATE: Record<Compression, typeof gunzipSync> = {
  gzip: gunzipSync,
  zlib: inflateSync,
  deflate: inflateRawSync,
};

/** Throws Undecodable. */
export function inflated(payload: Buffer, compression: Compression): Buffer {
  try {
    return INFLATE[compression](payload, { maxOutputLength: INFLATED_BYTES_MAX });
  } catch (error) {
    throw new Undecodable(
      `not ${compression}, or more than ${INFLATED_BYTES_MAX} bytes when it is opened: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

/** Bytes of a text in a document. Throws Undecodable. */
export function bytesOf(
  value: Tree | undefined,
  encoding: 'base64' | 'hex',
  where: string,
): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if (typeof value !== 'string') throw new Undecodable(`there are no bytes at '${where}'`);
  const bytes = Buffer.from(value, encoding);
  const same = bytes.toString(encoding).replaceAll('=', '');
  const given = value.replaceAll('=', '');
  if (
    encoding === 'hex'
      ? same !== given.toLowerCase()
      : same !== given.replaceAll('-', '+').replaceAll('_', '/')
  )
    throw new Undecodable(`'${where}' is not ${encoding}`);
  return bytes;
}
