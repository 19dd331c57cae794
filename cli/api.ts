/** A collector's HTTP API, for the commands. The token comes from HEADWATER_TOKEN. */
import { HeadwaterError } from '../shared/errors.ts';

interface Failure {
  error?: { message: string };
}

async function call(address: string, path: string, init: RequestInit): Promise<unknown> {
  const base = address.includes('://') ? address : `http://${address}`;
  const token = process.env['HEADWATER_TOKEN'];
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  if (token !== undefined) headers['authorization'] = `Bearer ${token}`;
  let response: Response;
  try {
    response = await fetch(`${base}${path}`, { ...init, headers });
  } catch (error) {
    throw new HeadwaterError(
      'UNREACHABLE',
      `no collector answers at ${address}: is it running? --http HOST:PORT names another`,
      { cause: error },
    );
  }
  const answer = (await response.json()) as Failure;
  if (answer.error !== undefined) throw new HeadwaterError('QUERY_INVALID', answer.error.message);
  return answer;
}

/** GET. Throws UNREACHABLE and QUERY_INVALID. */
export async function ask(address: string, path: string): Promise<unknown> {
  return await call(address, path, {});
}

/** POST of JSON. Throws UNREACHABLE and QUERY_INVALID. */
export async function tell(address: string, path: string, body: object): Promise<unknown> {
  return await call(address, path, { method: 'POST', body: JSON.stringify(body) });
}
