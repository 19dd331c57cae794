/** What InfluxDB, or what stands in its place, has answered: whether it is an answer of InfluxDB's, and one sentence for a person. */
import type { Answer } from './influxdb-http.ts';

/** InfluxDB's own answers to a write are 204 without a body; a proxy's page of status 200 has stored nothing. */
export const isWritten = ({ status }: Answer): boolean => status === 204;

/** InfluxDB says in JSON what it refuses; a web server in its place, in HTML, what it thinks of the request. */
export const isOfInflux = ({ text }: Answer): boolean => {
  try {
    const said = JSON.parse(text) as unknown;
    return typeof said === 'object' && said !== null;
  } catch {
    return false;
  }
};

/** What an answer says, however it is wrapped. */
export function wordsOf({ text, status }: Answer): string {
  try {
    const { message, error } = JSON.parse(text) as { message?: string; error?: string };
    return message ?? error ?? text;
  } catch {
    if (text === '') return `status ${status}`;
    const title = /<title>([^<]*)<\/title>/i.exec(text)?.[1]?.trim();
    return /^\s*</.test(text) ? `a web page${title === undefined ? '' : ` ('${title}')`}` : text;
  }
}

/** What to do about it; '' where its own words say all there is. */
function advice(answer: Answer, bucket: string): string {
  const { status, location, text } = answer;
  if (status >= 300 && status < 400)
    return `it sends this elsewhere${location === '' ? '' : ` (${location})`}: give --store the address of InfluxDB itself`;
  if (status < 300)
    return 'that is no answer of InfluxDB: look at the address, and at proxies in between';
  if (text.includes('opening shard previously failed'))
    return 'it opens that shard again only when it is started anew: see to its disk, then restart InfluxDB';
  if (text.includes('no space left')) return 'its disk is full: make room there';
  switch (status) {
    case 401:
      return 'it refuses the token: give a right one by store.tokenFile or HEADWATER_INFLUXDB_TOKEN';
    case 403:
      return `it does not allow this: give the token read and write on '${bucket}'`;
    case 404:
      return `look whether '${bucket}' is there, and at the address`;
    case 429:
      return 'it asks for less: it is tried again';
    default:
      return isOfInflux(answer) || status >= 500 ? '' : 'that may be a proxy in between';
  }
}

/** One sentence. */
export function sentenceOf(answer: Answer, url: string, bucket: string): string {
  const what = advice(answer, bucket);
  const said = `${answer.status} ${wordsOf(answer).slice(0, 300)}`;
  return `InfluxDB at ${url} (${bucket}): ${said}${what === '' ? '' : `; ${what}`}`;
}
