/** Request bodies with a limit, unpacked when they come compressed. */
import type { IncomingMessage } from 'node:http';
import { gunzipSync, inflateSync } from 'node:zlib';
import { HeadwaterError } from '../errors.ts';

/** Throws BODY_TOO_LARGE (also for what unpacks to too much) and QUERY_INVALID. */
export async function readBody(request: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const declared = Number(request.headers['content-length'] ?? 0);
  const tooLarge = (): never => {
    throw new HeadwaterError('BODY_TOO_LARGE', `the body has more than ${bytesMax} bytes`);
  };
  if (declared > bytesMax) tooLarge();
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > bytesMax) tooLarge();
    parts.push(part);
  }
  return unpack(Buffer.concat(parts, size), request.headers['content-encoding'], bytesMax);
}

function unpack(body: Buffer, encoding: string | undefined, bytesMax: number): Buffer {
  const name = (encoding ?? 'identity').toLowerCase();
  if (name === 'identity') return body;
  if (name !== 'gzip' && name !== 'deflate')
    throw new HeadwaterError(
      'QUERY_INVALID',
      `content-encoding ${name} is not understood: gzip, deflate or none`,
    );
  try {
    const options = { maxOutputLength: bytesMax };
    return name === 'gzip' ? gunzipSync(body, options) : inflateSync(body, options);
  } catch (error) {
    if (error instanceof RangeError)
      throw new HeadwaterError(
        'BODY_TOO_LARGE',
        `the body unpacks to more than ${bytesMax} bytes`,
        {
          cause: error,
        },
      );
    throw new HeadwaterError('QUERY_INVALID', `the body is not ${name}`, { cause: error });
  }
}
