/** What a request is about, said once: RFC 9112, 3.2, and RFC 9110, 5.3. */
import type { IncomingMessage } from 'node:http';
import { HeadwaterError } from '../errors.ts';
import { parseAuthority } from '../net/address.ts';

/** What is read of them is one value: of two, Node takes the first or both, and another one on the way the last. */
const ONCE: ReadonlySet<string> = new Set([
  ...['host', 'origin', 'authorization', 'content-type', 'content-encoding', 'expect'],
  ...['content-length', 'transfer-encoding', 'idempotency-key', 'last-event-id'],
]);

/** Throws QUERY_INVALID for a header that is given twice. */
export function checkOnce({ rawHeaders }: IncomingMessage): void {
  const seen = new Set<string>();
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]?.toLowerCase() ?? '';
    if (!ONCE.has(name)) continue;
    if (seen.has(name))
      throw new HeadwaterError('QUERY_INVALID', `the header ${name} is given twice: send it once`);
    seen.add(name);
  }
}

const invalid = (why: string): never => {
  throw new HeadwaterError('QUERY_INVALID', why);
};

/** Of a request's line; with a host only where Host says the same. Throws QUERY_INVALID. */
export function urlOf({ url = '', headers: { host = '' } }: IncomingMessage): URL {
  // What begins with two slashes is a path too: it names no host.
  const isPath = url.startsWith('/') || url === '*';
  const text = isPath ? `http://localhost${url === '*' ? '/*' : url}` : url;
  if (!URL.canParse(text)) return invalid('that is no address of a page here');
  const parsed = new URL(text);
  if (isPath) return parsed;
  const [named, said] = [parseAuthority(parsed.host), parseAuthority(host)];
  const isHttp = /^https?:$/.test(parsed.protocol) && parsed.username === '';
  if (!isHttp || named === undefined) return invalid('that is no address of a page here');
  if (said?.host !== named.host || said.port !== named.port)
    return invalid('the address of the request names another host than its header Host');
  return parsed;
}
