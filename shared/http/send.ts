/**
 * Sends an answer: whole, or in parts with the reader's back pressure, compressed where the reader takes it. An answer in
 * parts that fails when it has begun to go out is cut: a reader sees that it is short, since chunked coding has an end.
 */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setImmediate } from 'node:timers/promises';
import { constants, createGzip } from 'node:zlib';
import { isLongToCome, passOver } from './body.ts';
import type { Reply, StreamReply } from './route.ts';

/** An answer of parts goes out whole where it is no longer, and there so soon; in milliseconds. */
const GATHER_BYTES = 16 * 1024;
const GATHER_MS = 20;
/** A whole one that is shorter is not packed: it fits into a few packets. */
const PACKED_BYTES = 4096;
/** Others have their turn then, at the next end of a part. */
const TURN_MS = 10;
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
    const { gathered, rest } = await begunOf(iterator);
    const isWhole = rest === undefined;
    const packs = takes(request.headers, 'gzip') && !(isWhole && gathered.length < PACKED_BYTES);
    response.writeHead(status, {
      'content-type': type,
      ...(packs ? { 'content-encoding': 'gzip', vary: varyOf(response) } : {}),
      ...(isWhole && !packs ? { 'content-length': gathered.length } : {}),
      ...COMMON,
      ...headers,
    });
    if (head || (isWhole && !packs)) {
      response.end(head ? '' : gathered);
      return;
    }
    const source = Readable.from(remaining(gathered, iterator, rest), {
      objectMode: false,
      highWaterMark: 64 * 1024,
    });
    // A fast level: the network is rarely slower than one core.
    if (packs) await pipeline(source, createGzip({ level: constants.Z_BEST_SPEED }), response);
    else await pipeline(source, response);
  } finally {
    await iterator.return?.();
  }
}

type Parts = AsyncIterator<string | Uint8Array>;
type Next = IteratorResult<string | Uint8Array>;

interface Begun {
  gathered: Buffer;
  /** What comes behind it; undefined: nothing. */
  rest: Promise<Next> | undefined;
}

/** The begin of an answer: all of it where it is small and is soon there. */
async function begunOf(iterator: Parts): Promise<Begun> {
  const parts: Buffer[] = [];
  let bytes = 0;
  let timer: NodeJS.Timeout | undefined;
  let late: Promise<undefined> | undefined;
  const begun = (rest: Promise<Next> | undefined): Begun => {
    rest?.catch(() => undefined); // Whoever takes it sees it; perhaps nobody does.
    return { gathered: Buffer.concat(parts), rest };
  };
  try {
    for (;;) {
      const next = iterator.next();
      const came = await (late === undefined ? next : Promise.race([next, late]));
      if (came === undefined) return begun(next);
      if (came.done === true) return begun(undefined);
      const part = toBuffer(came.value);
      parts.push(part);
      bytes += part.length;
      if (bytes >= GATHER_BYTES) return begun(iterator.next());
      // Before the first part there is nothing that could go out.
      late ??= new Promise((resolve) => {
        timer = setTimeout(() => resolve(undefined), GATHER_MS);
      });
    }
  } finally {
    clearTimeout(timer);
  }
}

async function* remaining(
  gathered: Buffer,
  iterator: Parts,
  rest: Promise<Next> | undefined,
): AsyncGenerator<Buffer> {
  yield gathered;
  let since = performance.now();
  for (
    let next = await rest;
    next !== undefined && next.done !== true;
    next = await iterator.next()
  ) {
    yield toBuffer(next.value);
    // What is made in memory, and taken as quickly, would let nobody else in.
    if (performance.now() - since < TURN_MS) continue;
    await setImmediate();
    since = performance.now();
  }
}

const toBuffer = (part: string | Uint8Array): Buffer =>
  typeof part === 'string'
    ? Buffer.from(part)
    : Buffer.from(part.buffer, part.byteOffset, part.byteLength);
