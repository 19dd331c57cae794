/** Request bodies with a limit, unpacked when they come compressed. */
import type { IncomingMessage } from 'node:http';
import { gunzipSync, inflateSync } from 'node:zlib';
import { HeadwaterError, errorCode } from '../errors.ts';

/** `take` is asked for room before it is read, and throws where there is none. Throws BODY_TOO_LARGE (also for what unpacks to too much) and QUERY_INVALID. */
export async function readBody(
  request: IncomingMessage,
  bytesMax: number,
  take: (bytes: number) => void,
): Promise<Buffer> {
  const declared = Number(request.headers['content-length'] ?? 0);
  const tooLarge = (): never => {
    throw new HeadwaterError('BODY_TOO_LARGE', `the body has more than ${bytesMax} bytes`);
  };
  if (declared > bytesMax) tooLarge();
  if (declared > 0) take(declared);
  const parts: Buffer[] = [];
  let size = 0;
  try {
    for await (const part of request as AsyncIterable<Buffer>) {
      size += part.length;
      if (size > bytesMax) tooLarge();
      if (!(declared > 0)) take(part.length);
      parts.push(part);
    }
  } catch (error) {
    if (errorCode(error) !== 'INTERNAL') throw error;
    // Who sent it has gone: nobody hears this, and it is nothing that was not expected.
    throw new HeadwaterError('QUERY_INVALID', 'the body was cut', { cause: error });
  }
  const body = unpack(Buffer.concat(parts, size), request.headers['content-encoding'], bytesMax);
  if (body.length > size) take(body.length - size);
  return body;
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
