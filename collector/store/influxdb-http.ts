/**
 * Requests to InfluxDB: one connection pool, a time limit on each, the token as it is now, and Retry-After obeyed.
 *
 * The server's certificate and host name are checked; `caFile` adds authorities of one's own.
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { rootCertificates } from 'node:tls';
import { readSettingFile } from '../../shared/config/user-file.ts';
import { monotonicMs, type Time } from '../../shared/env/env.ts';
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
/** What a query may answer is bounded by what its reader takes: a page of points. */
const ANSWER_BYTES_MAX = 256 * 1024 * 1024;
/** Requests under way at once: while InfluxDB works on one, the next is made. */
export const REQUESTS_MAX = 3;

export class InfluxHttp {
  private readonly options: InfluxHttpOptions;
  private readonly agent: HttpAgent;
  private readonly isSecure: boolean;
  /** Monotonic: nothing is asked before. */
  private notBefore = Number.NEGATIVE_INFINITY;

  /** Throws CONFIG_INVALID. */
  constructor(options: InfluxHttpOptions) {
    this.options = options;
    this.isSecure = options.url.startsWith('https:');
    const pool = { keepAlive: true, maxSockets: REQUESTS_MAX + 1 };
    this.agent = this.isSecure
      ? new HttpsAgent({ ...pool, ca: authorities(options.caFile), rejectUnauthorized: true })
      : new HttpAgent(pool);
  }

  /** Throws STORE_UNAVAILABLE when there is no answer, or one that asks to come later. */
  async ask(
    method: 'GET' | 'POST',
    path: string,
    body = '',
    type = 'text/plain; charset=utf-8',
  ): Promise<Answer> {
    const { url, time } = this.options;
    const restMs = this.notBefore - monotonicMs(time);
    if (restMs > 0)
      throw new HeadwaterError(
        'STORE_UNAVAILABLE',
        `InfluxDB at ${url} asked to be left alone for another ${Math.ceil(restMs / 1000)} s`,
      );
    let response: { message: IncomingMessage; text: string };
    try {
      response = await this.send(method, path, body, type);
    } catch (error) {
      const distrusted = distrust(error);
      throw new HeadwaterError(
        'STORE_UNAVAILABLE',
        distrusted === undefined
          ? `InfluxDB at ${url} does not answer: ${silence(error)}`
          : `InfluxDB at ${url}: ${distrusted}`,
        { cause: error },
      );
    }
    const { message, text } = response;
    const status = message.statusCode ?? 0;
    const date = Date.parse(message.headers.date ?? '');
    if (status === 429 || status === 503)
      this.notBefore =
        monotonicMs(time) + retryAfterMs(message.headers['retry-after'], message.headers.date);
    const { location = '', 'x-influxdb-version': mark } = message.headers;
    const isMarked = mark !== undefined;
    return { status, text, location, isMarked, dateMs: Number.isNaN(date) ? undefined : date };
  }

  private send(
    method: string,
    path: string,
    body: string,
    type: string,
  ): Promise<{ message: IncomingMessage; text: string }> {
    const { url, token: tokenOf, answerBytesMax = ANSWER_BYTES_MAX } = this.options;
    const token = tokenOf();
    const bytes = Buffer.from(body);
    return new Promise((resolve, reject) => {
      const request = (this.isSecure ? httpsRequest : httpRequest)(
        `${url}${path}`,
        {
          method,
          agent: this.agent,
          signal: AbortSignal.timeout(TIMEOUT_MS),
          headers: {
            'content-type': type,
            'content-length': bytes.length,
            ...(token === '' ? {} : { authorization: `Token ${token}` }),
          },
        },
        (message) => {
          const parts: Buffer[] = [];
          let length = 0;
          message.on('data', (part: Buffer) => {
            length += part.length;
            if (length > answerBytesMax)
              request.destroy(new Error(`its answer has more than ${answerBytesMax} bytes`));
            else parts.push(part);
          });
          message.on('error', reject);
          message.on('end', () =>
            resolve({ message, text: Buffer.concat(parts).toString('utf8') }),
          );
        },
      );
      request.on('error', reject);
      request.end(bytes);
    });
  }

  close(): void {
    this.agent.destroy();
  }
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
