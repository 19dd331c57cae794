/** A look at InfluxDB for `headwater doctor`: nothing is made, and nothing is written. */
import { processTime } from '../../shared/env/env.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { CollectorConfig } from '../config.ts';
import { TokenSource, checkPlaintext } from './credentials.ts';
import { InfluxHttp, type Answer } from './influxdb-http.ts';
import { ident } from './influxdb-lines.ts';
import { parseInfluxAddress } from './influxdb.ts';

const NOT_ALLOWED = new Set([401, 403]);

function accepted(url: string, { status, text }: Answer): void {
  if (NOT_ALLOWED.has(status))
    throw new HeadwaterError(
      'STORE_UNAVAILABLE',
      `InfluxDB at ${url} refuses the token (${status} ${text.slice(0, 200)}): give a right one by store.tokenFile or HEADWATER_INFLUXDB_TOKEN`,
    );
  if (status >= 500 || status === 429)
    throw new HeadwaterError(
      'STORE_UNAVAILABLE',
      `InfluxDB at ${url}: ${status} ${text.slice(0, 200)}`,
    );
}

/** What is not as it should be. Throws STORE_UNAVAILABLE and CONFIG_INVALID. */
export async function lookAtInfluxdb(
  config: CollectorConfig,
  token: string,
  notify: Notify,
): Promise<string[]> {
  const { url, org, bucket } = parseInfluxAddress(config.store);
  const tokens = new TokenSource(config['store.tokenFile'], token, notify);
  checkPlaintext(url, tokens.now() !== '', config.allowPlaintext, notify);
  const http = new InfluxHttp({
    url,
    caFile: config['store.caFile'],
    token: () => tokens.now(),
    time: processTime,
  });
  if (org === '') {
    const q = `SHOW RETENTION POLICIES ON ${ident(bucket)}`;
    const body = new URLSearchParams({ q }).toString();
    const type = 'application/x-www-form-urlencoded';
    const answer = await http.ask('POST', '/query', body, type);
    accepted(url, answer);
    return answer.text.includes('database not found')
      ? [`InfluxDB at ${url} has no database '${bucket}' yet: a collector makes it where it may`]
      : [];
  }
  const query = new URLSearchParams({ org, name: bucket }).toString();
  const answer = await http.ask('GET', `/api/v2/buckets?${query}`);
  accepted(url, answer);
  let buckets: readonly { name: string }[];
  try {
    ({ buckets = [] } = JSON.parse(answer.text) as { buckets?: { name: string }[] });
  } catch (error) {
    throw new HeadwaterError(
      'STORE_UNAVAILABLE',
      `${url} answers, but not as InfluxDB does (${answer.text.slice(0, 80)}): look at the address, and at proxies`,
      { cause: error },
    );
  }
  if (buckets.some(({ name }) => name === bucket)) return [];
  throw new HeadwaterError(
    'STORE_UNAVAILABLE',
    `InfluxDB at ${url} has no bucket '${bucket}' in '${org}' that this token may see: make it, or give a token that may`,
  );
}
