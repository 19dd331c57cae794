/** Request bodies with a limit, unpacked when they come compressed. */
import type { IncomingMessage } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { gunzipSync, inflateSync } from 'node:zlib';
import { HeadwaterError, errorCode } from '../errors.ts';

/** Who asks before he sends (RFC 9110, 10.1.1), and what tells him to go on. */
const asking = new WeakMap<IncomingMessage, () => void>();

/** Its body comes when it is wanted: who is refused has not sent it. */
export const asksFirst = (request: IncomingMessage, goOn: () => void): void =>
  void asking.set(request, goOn);

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
  asking.get(request)?.();
  asking.delete(request);
  const parts: Buffer[] = [];
  let size = 0;
  try {
    // One that is given up here is still to be answered: its connection stays.
    const arriving = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
    for await (const part of arriving) {
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

/** Of the body of a request that was refused, so that its connection may go on. */
const UNREAD_BYTES_MAX = 64 * 1024;
/** What is passed over of a longer one, and for how long: a client that has not read its answer by then reads none. */
const PASSED_OVER_BYTES_MAX = 16 * 1024 * 1024;
const PASSED_OVER_MS = 2000;

/** Whether the connection ends with the answer; whether a body still comes of somebody who asked first, nobody knows. */
export const isLongToCome = (request: IncomingMessage): boolean =>
  !request.complete &&
  (asking.has(request) ||
    request.headers['transfer-encoding'] !== undefined ||
    Number(request.headers['content-length'] ?? 0) > UNREAD_BYTES_MAX);

/**
 * Many clients read no answer before they have sent all, and a connection that is closed with bytes unread is reset, which
 * takes the answer with it (RFC 9112, 9.6). So what still comes after an early answer is read, kept nowhere, and bounded.
 */
export async function passOver(request: IncomingMessage): Promise<void> {
  const over = new AbortController();
  const end = (): void => over.abort();
  let bytes = 0;
  request.on('data', (part: Buffer) => {
    bytes += part.length;
    if (bytes > PASSED_OVER_BYTES_MAX) end();
  });
  for (const event of ['end', 'error', 'close']) request.once(event, end);
  request.resume();
  await delay(PASSED_OVER_MS, undefined, { signal: over.signal }).catch(() => undefined);
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
