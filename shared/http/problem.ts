/** What is told of what went wrong: RFC 9457, with what was there before it. */
import type { Socket } from 'node:net';
import { ERRORS, codeOf, type ErrorCode } from '../errors.ts';
import { Busy } from './turns.ts';

export const problem = (code: ErrorCode, detail: string): object => ({
  type: 'about:blank',
  title: code.toLowerCase().replaceAll('_', ' '),
  status: ERRORS[code].status,
  detail,
  error: { code, message: detail },
});

export const retryAfterSeconds = (error: unknown, status: number): number =>
  error instanceof Busy ? error.retryAfterSeconds : status === 429 ? 60 : 5;

/** Of what is no request: by Node's codes. */
const NOT_ONE: Record<string, [status: string, why: string]> = {
  HPE_HEADER_OVERFLOW: [
    '431 Request Header Fields Too Large',
    'the address and the headers have more than 16 KiB',
  ],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: ['413 Payload Too Large', 'the chunks have too long extensions'],
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'the request was not whole in time'],
};

/** The last words to whoever sent what is no request, where no answer is under way; `what` is Node's. */
export function turnAway(socket: Socket, error: Error): void {
  if (!socket.writable) return void socket.destroy();
  const [status, why] = NOT_ONE[codeOf(error)] ?? [
    '400 Bad Request',
    `that is no HTTP request: ${error.message.replace(/^Parse Error:\s*/, '')}`,
  ];
  const body = JSON.stringify(problem('QUERY_INVALID', why));
  socket.end(
    `HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-type: application/problem+json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}
