/** A collector's HTTP API, for the commands. The token comes from HEADWATER_TOKEN. */
import { HeadwaterError, codeOf } from '../shared/errors.ts';
import {
  client,
  type Answer,
  type Asked,
  type Body,
  type Client,
  type Done,
  type Query,
  type Told,
} from '../shared/http/client.ts';
import { distrust } from '../shared/net/distrust.ts';

interface Failure {
  error?: { message: string };
}

/** What fetch says of a connection is behind its error, several levels deep. */
function causeOf(error: unknown): unknown {
  let at = error;
  for (let depth = 0; depth < 5; depth++) {
    const cause = (at as { cause?: unknown } | undefined)?.cause;
    if (cause === undefined) break;
    at = cause;
  }
  return at;
}

/** The other side closed the connection before it had answered. */
const isCut = (error: unknown): boolean =>
  /^(?:UND_ERR_SOCKET|ECONNRESET|EPIPE)$/.test(codeOf(causeOf(error)));

/**
 * On a connection of its own: one that is kept may be closed by the other side while the next request is on its way. What only
 * reads is asked once more where it was cut all the same.
 */
async function fetched(url: string, init: RequestInit): Promise<Response> {
  const once = async (): Promise<Response> => await fetch(url, init);
  if (init.method === 'POST') return await once();
  try {
    return await once();
  } catch (error) {
    if (!isCut(error)) throw error;
    return await once();
  }
}

function why(error: unknown, address: string): string {
  const cause = causeOf(error);
  const code = codeOf(cause);
  const distrusted = distrust(cause);
  if (distrusted !== undefined) return `the collector at ${address}: ${distrusted}`;
  if (/^ERR_SSL|EPROTO/.test(code)) return `${address} does not speak TLS: use http://`;
  const names = "--http HOST:PORT names the collector's page and API, by default 127.0.0.1:8080";
  if (code.startsWith('HPE_'))
    return `what answers at ${address} is not HTTP (it may be an MQTT or a TLS port): ${names}`;
  if (isCut(error))
    return `${address} closes the connection without an answer: either it is not HTTP (an MQTT or a TLS port), or it has too many connections or is just being stopped; ${names}`;
  if (/ENOTFOUND|EAI_AGAIN/.test(code)) return `there is no machine called ${address}`;
  return `no collector answers at ${address}: is it running? --http HOST:PORT names another`;
}

/** Where the API is. Throws USAGE for what is no address. */
function baseOf(address: string): string {
  const hasScheme = address.includes('://');
  const text = (hasScheme ? address : `http://${address}`).replace(/\/+$/, '');
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isHttp = url?.protocol === 'http:' || url?.protocol === 'https:';
  // Without a scheme the port has to be said: nobody means 80 by leaving it out.
  if (url === undefined || !isHttp || (!hasScheme && !/:\d+(\/|$)/.test(address)))
    throw new HeadwaterError(
      'USAGE',
      `--http '${address}' is no address: HOST:PORT, or https://HOST:PORT for TLS; by default 127.0.0.1:8080`,
    );
  return text;
}

/** Throws USAGE, UNREACHABLE, UNAUTHORIZED and QUERY_INVALID. */
async function call(address: string, path: string, init: RequestInit): Promise<Response> {
  const base = baseOf(address);
  const token = process.env['HEADWATER_TOKEN'];
  const headers: Record<string, string> = {
    'content-type': 'application/json',
    connection: 'close',
  };
  if (token !== undefined) headers['authorization'] = `Bearer ${token}`;
  let response: Response;
  try {
    response = await fetched(`${base}${path}`, { ...init, headers });
  } catch (error) {
    if (init.signal?.aborted === true) throw error;
    throw new HeadwaterError('UNREACHABLE', why(error, address), { cause: error });
  }
  if (response.ok) return response;
  const text = await response.text();
  let said: string | undefined;
  try {
    said = (JSON.parse(text) as Failure).error?.message;
  } catch {
    // Not ours: said below.
  }
  if (response.status === 401)
    throw new HeadwaterError(
      'UNAUTHORIZED',
      `the collector at ${address} wants a token: set HEADWATER_TOKEN${token === undefined ? '' : ' (the one that is set is not accepted)'}`,
    );
  if (response.status === 404 && (await isGateway(base, headers)))
    throw new HeadwaterError('UNREACHABLE', gatewayAt(address));
  if (said !== undefined) throw new HeadwaterError('QUERY_INVALID', said);
  throw new HeadwaterError(
    'UNREACHABLE',
    `what answers at ${address} is no collector (HTTP ${response.status}): --http HOST:PORT names the collector's page and API, by default 127.0.0.1:8080`,
  );
}

/** A gateway has an API as well, with other paths: whoever took one port for the other is told so. */
async function isGateway(base: string, headers: Record<string, string>): Promise<boolean> {
  try {
    const { status } = await fetch(`${base}/api/v1/buffer`, { headers });
    return status !== 404;
  } catch {
    return false;
  }
}

async function answerOf(response: Response, address: string): Promise<unknown> {
  const text = await response.text();
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new HeadwaterError(
      'UNREACHABLE',
      `what answers at ${address} is no collector: --http HOST:PORT names the collector's page and API, by default 127.0.0.1:8080`,
      { cause: error },
    );
  }
}

/** The sentence for it. */
export const gatewayAt = (address: string): string =>
  `what answers at ${address} is a gateway, not a collector: --http HOST:PORT names the collector's page and API, by default 127.0.0.1:8080`;

/** What is at an address. Its calls throw UNREACHABLE, UNAUTHORIZED and QUERY_INVALID. */
const clientOf = (address: string): Client =>
  client(async (path, body) => {
    const init = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
    return await answerOf(await call(address, path, init), address);
  });

/** GET. Throws UNREACHABLE, UNAUTHORIZED and QUERY_INVALID. */
export const ask = async <P extends Asked>(
  address: string,
  path: P,
  query?: Query<P> | URLSearchParams,
): Promise<Answer<P>> => await clientOf(address).get(path, query);

/** POST of JSON. Throws UNREACHABLE, UNAUTHORIZED and QUERY_INVALID. */
export const tell = async <P extends Told>(
  address: string,
  path: P,
  body: Body<P>,
): Promise<Done<P>> => await clientOf(address).post(path, body);

/** GET of a gateway. Throws as `ask`. */
export async function askGateway(address: string, path: string): Promise<unknown> {
  return await answerOf(await call(address, path, {}), address);
}

/** GET of a stream of server-sent events. Throws as `ask`. */
export async function listen(
  address: string,
  path: string,
  signal: AbortSignal,
): Promise<ReadableStream<Uint8Array>> {
  const response = await call(address, path, { signal });
  if (response.body === null) throw new HeadwaterError('UNREACHABLE', `${address} sends no stream`);
  return response.body;
}
