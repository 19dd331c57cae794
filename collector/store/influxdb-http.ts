/**
 * Requests to InfluxDB: one connection pool, a time limit on each, the token as it is now, and Retry-After obeyed.
 *
 * The server's certificate and host name are checked; `caFile` adds authorities of one's own.
 */
import {
  Agent as HttpAgent,
  request as httpRequest,
  type ClientRequest,
  type IncomingMessage,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { rootCertificates } from 'node:tls';
import { readSettingFile } from '../../shared/config/user-file.ts';
import { monotonicMs, type Time } from '../../shared/env/env.ts';
import { within } from '../../shared/env/timers.ts';
import { HeadwaterError, codeOf, messageOf } from '../../shared/errors.ts';
import { retryAfterMs } from '../../shared/http/retry-after.ts';
import { distrust } from '../../shared/net/distrust.ts';

export interface Answer {
  status: number;
  text: string;
  /** It says of itself that it is InfluxDB, as both versions do unless a proxy takes that away. */
  isMarked: boolean;
  /** Where it sends whoever asks; '' for nowhere. */
  location: string;
  /** The server's clock, epoch milliseconds; undefined when it does not say. */
  dateMs: number | undefined;
}

export interface InfluxHttpOptions {
  url: string;
  /** '' for none. */
  caFile: string;
  /** '' for none; asked before each request. */
  token: () => string;
  time: Time;
  /** Of one answer; a proxy in its place may send anything, without an end. */
  answerBytesMax?: number;
}

const TIMEOUT_MS = 30_000;
/** Of one answer that is read whole, and of a line of one that is read as it comes. */
const ANSWER_BYTES_MAX = 256 * 1024 * 1024;
/** Requests under way at once: while InfluxDB works on one, the next is made. */
export const REQUESTS_MAX = 3;

export class InfluxHttp {
  private readonly options: InfluxHttpOptions;
  private readonly agent: HttpAgent;
  /** Of answers that are read as they come: a reader who takes his time keeps no other request waiting. */
  private readonly slow: HttpAgent;
  private readonly isSecure: boolean;
  /** Monotonic: nothing is asked before. */
  private notBefore = Number.NEGATIVE_INFINITY;

  /** Throws CONFIG_INVALID. */
  constructor(options: InfluxHttpOptions) {
    this.options = options;
    this.isSecure = options.url.startsWith('https:');
    const pool = { keepAlive: true, maxSockets: REQUESTS_MAX + 1 };
    const ca = this.isSecure ? authorities(options.caFile) : undefined;
    const agent = (of: object): HttpAgent =>
      this.isSecure ? new HttpsAgent({ ...of, ca, rejectUnauthorized: true }) : new HttpAgent(of);
    this.agent = agent(pool);
    this.slow = agent({ keepAlive: true });
  }

  /** Throws STORE_UNAVAILABLE when there is no answer, or one that asks to come later. */
  async ask(
    method: 'GET' | 'POST',
    path: string,
    body = '',
    type = 'text/plain; charset=utf-8',
  ): Promise<Answer> {
    this.checkRest();
    let request: ClientRequest | undefined;
    try {
      request = this.begin(this.agent, method, path, body, type);
      return await this.inTime(this.whole(request));
    } catch (error) {
      request?.destroy();
      throw this.silent(error);
    }
  }

  /**
   * Lines of an answer as they come: what their reader does not take waits at the server. `failed` makes the error of an answer
   * that is a refusal. Throws STORE_UNAVAILABLE as `ask`, and where nothing comes for 30 s or the answer is cut.
   */
  async *lines(
    path: string,
    body: string,
    failed: (answer: Answer) => HeadwaterError,
    abandoned?: AbortSignal,
  ): AsyncGenerator<string> {
    this.checkRest();
    const type = 'application/x-www-form-urlencoded';
    let request: ClientRequest | undefined;
    const stop = (): void => void request?.destroy();
    abandoned?.addEventListener('abort', stop);
    let refusal: Answer | undefined;
    let isWhole = false;
    try {
      request = this.begin(this.slow, 'POST', path, body, type);
      const message = await this.inTime(headersOf(request));
      if ((message.statusCode ?? 0) < 300) yield* this.split(message);
      else refusal = this.answerOf(message, await this.inTime(this.textOf(message)));
      isWhole = true;
    } catch (error) {
      throw this.silent(error);
    } finally {
      abandoned?.removeEventListener('abort', stop);
      if (!isWhole) stop();
    }
    if (refusal !== undefined) throw failed(refusal);
  }

  private async *split(message: IncomingMessage): AsyncGenerator<string> {
    const { answerBytesMax = ANSWER_BYTES_MAX } = this.options;
    const parts = message[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    let held: Buffer[] = [];
    let length = 0;
    for (;;) {
      const { done, value } = await this.inTime(parts.next());
      if (done === true) break;
      let from = 0;
      for (let at = value.indexOf(10); at >= 0; at = value.indexOf(10, from)) {
        yield Buffer.concat([...held, value.subarray(from, at)]).toString('utf8');
        held = [];
        length = 0;
        from = at + 1;
      }
      if (from === value.length) continue;
      held.push(value.subarray(from));
      length += value.length - from;
      if (length > answerBytesMax) throw new Error(tooLarge(answerBytesMax));
    }
    if (held.length > 0) yield Buffer.concat(held).toString('utf8');
  }

  private async inTime<T>(work: Promise<T>): Promise<T> {
    const boxed = work.then((value) => ({ value }));
    const given = await within(this.options.time.timers, TIMEOUT_MS, boxed);
    if (given !== undefined) return given.value;
    boxed.catch(() => undefined);
    throw new DOMException('', 'TimeoutError');
  }

  private async whole(request: ClientRequest): Promise<Answer> {
    const message = await headersOf(request);
    return this.answerOf(message, await this.textOf(message));
  }

  private checkRest(): void {
    const { url, time } = this.options;
    const restMs = this.notBefore - monotonicMs(time);
    if (restMs > 0)
      throw new HeadwaterError(
        'STORE_UNAVAILABLE',
        `InfluxDB at ${url} asked to be left alone for another ${Math.ceil(restMs / 1000)} s`,
      );
  }

  private silent(error: unknown): HeadwaterError {
    const { url } = this.options;
    const distrusted = distrust(error);
    return new HeadwaterError(
      'STORE_UNAVAILABLE',
      distrusted === undefined
        ? `InfluxDB at ${url} does not answer: ${silence(error)}`
        : `InfluxDB at ${url}: ${distrusted}`,
      { cause: error },
    );
  }

  private answerOf({ statusCode: status = 0, headers }: IncomingMessage, text: string): Answer {
    const date = Date.parse(headers.date ?? '');
    if (status === 429 || status === 503)
      this.notBefore =
        monotonicMs(this.options.time) + retryAfterMs(headers['retry-after'], headers.date);
    const { location = '', 'x-influxdb-version': mark } = headers;
    const isMarked = mark !== undefined;
    return { status, text, location, isMarked, dateMs: Number.isNaN(date) ? undefined : date };
  }

  private begin(
    agent: HttpAgent,
    method: string,
    path: string,
    body: string,
    type: string,
  ): ClientRequest {
    const { url, token: tokenOf } = this.options;
    const token = tokenOf();
    const bytes = Buffer.from(body);
    const request = (this.isSecure ? httpsRequest : httpRequest)(`${url}${path}`, {
      method,
      agent,
      headers: {
        'content-type': type,
        'content-length': bytes.length,
        ...(token === '' ? {} : { authorization: `Token ${token}` }),
      },
    });
    request.end(bytes);
    return request;
  }

  private async textOf(message: IncomingMessage): Promise<string> {
    const { answerBytesMax = ANSWER_BYTES_MAX } = this.options;
    const parts: Buffer[] = [];
    let length = 0;
    for await (const part of message as AsyncIterable<Buffer>) {
      length += part.length;
      if (length > answerBytesMax) throw new Error(tooLarge(answerBytesMax));
      parts.push(part);
    }
    return Buffer.concat(parts).toString('utf8');
  }

  close(): void {
    this.agent.destroy();
    this.slow.destroy();
  }
}

const tooLarge = (bytesMax: number): string => `its answer has more than ${bytesMax} bytes`;

function headersOf(request: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once('response', resolve);
    // Also of what comes behind the answer's beginning, whose reader hears of it by itself.
    request.on('error', reject);
  });
}

/** Why there is no answer, and where to look. */
function silence(error: unknown): string {
  const code = codeOf(error);
  const text = messageOf(error) || 'no connection';
  if (error instanceof Error && error.name === 'TimeoutError')
    return `nothing whole within ${TIMEOUT_MS / 1000} s`;
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return `${text}: the name is not known here, look at --store and at DNS`;
  if (code.startsWith('HPE_'))
    return `what listens there does not speak HTTP (${text}): look at the port, and whether it wants TLS (influxdbs://)`;
  return text;
}

function authorities(file: string): string[] | undefined {
  if (file === '') return undefined;
  return [...rootCertificates, readSettingFile(file, 'store.caFile').toString('utf8')];
}
