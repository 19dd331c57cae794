/**
 * Sends an answer: whole, or in parts with the reader's back pressure, compressed where the reader takes it. An answer in
 * parts that fails after its first one is cut: a reader sees that it is short, since chunked coding has an end.
 */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createGzip } from 'node:zlib';
import { isLongToCome, passOver } from './body.ts';
import type { Reply, StreamReply } from './route.ts';

const COMMON = { 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' };

/** With what the server has said before. */
export const varyOf = (response: ServerResponse): string =>
  [...[response.getHeader('vary') ?? []].flat(), 'accept-encoding'].join(', ');

/** Whether a reader takes a coding by its name: not by `*`, which nobody sends who wants one. */
export const takes = (headers: IncomingHttpHeaders, coding: 'br' | 'gzip'): boolean =>
  String(headers['accept-encoding'] ?? '')
    .split(',')
    .map((each) => each.split(';').map((part) => part.trim().toLowerCase()))
    .some(
      ([name, ...rest]) =>
        name === coding && !rest.some((part) => /^q\s*=\s*0(?:\.0*)?$/.test(part)),
    );

export async function send(
  request: IncomingMessage,
  response: ServerResponse,
  reply: Reply | StreamReply,
  head: boolean,
): Promise<void> {
  if ('parts' in reply) {
    await sendParts(request, response, reply, head);
    return;
  }
  const body = typeof reply.body === 'string' ? Buffer.from(reply.body) : reply.body;
  const status = reply.status ?? 200;
  const isLong = isLongToCome(request);
  if (isLong) response.setHeader('connection', 'close');
  response.writeHead(status, {
    ...(status === 204
      ? {}
      : {
          'content-type': reply.type ?? 'text/plain; charset=utf-8',
          'content-length': body.length,
        }),
    ...COMMON,
    ...reply.headers,
  });
  const sent = head || status === 204 ? '' : body;
  if (!isLong) {
    response.end(sent);
    return;
  }
  if (sent.length > 0) response.write(sent);
  else response.flushHeaders();
  void passOver(request).then(() => response.end());
}

async function sendParts(
  request: IncomingMessage,
  response: ServerResponse,
  { status = 200, type, parts, headers }: StreamReply,
  head: boolean,
): Promise<void> {
  const iterator = parts[Symbol.asyncIterator]();
  try {
    const first = await iterator.next();
    const packs = takes(request.headers, 'gzip');
    response.writeHead(status, {
      'content-type': type,
      ...(packs ? { 'content-encoding': 'gzip', vary: varyOf(response) } : {}),
      ...COMMON,
      ...headers,
    });
    if (head) {
      response.end();
      return;
    }
    const rest: AsyncIterable<string | Uint8Array> = { [Symbol.asyncIterator]: () => iterator };
    async function* all(): AsyncGenerator<Buffer> {
      if (first.done !== true) yield toBuffer(first.value);
      if (first.done !== true) for await (const part of rest) yield toBuffer(part);
    }
    const source = Readable.from(all(), { objectMode: false, highWaterMark: 64 * 1024 });
    // A fast level: the network is rarely slower than one core.
    if (packs) await pipeline(source, createGzip({ level: constants.Z_BEST_SPEED }), response);
    else await pipeline(source, response);
  } finally {
    await iterator.return?.();
  }
}

const toBuffer = (part: string | Uint8Array): Buffer =>
  typeof part === 'string'
    ? Buffer.from(part)
    : Buffer.from(part.buffer, part.byteOffset, part.byteLength);
