/**
 * What an address is, decided in one place: by parsing, never by how a text begins or ends. A name is not an address; the
 * only name that means this machine is `localhost`. Other spellings of addresses (octal, decimal, short) are none here:
 * who sends them is refused, and what would listen on them has to ask for credentials.
 */
import { isIPv4, isIPv6 } from 'node:net';

/** An IPv4 address as it is, of an IPv6 address its eight groups, IPv4 mapped into IPv6 as IPv4; undefined for a name. */
function parse(host: string): { v4: string } | { v6: string } | undefined {
  if (isIPv4(host)) return { v4: host };
  const bare = /^\[.*\]$/.test(host) ? host.slice(1, -1) : host;
  // A zone says by which interface, not which address.
  const address = bare.replace(/%[\w.-]+$/, '');
  if (!isIPv6(address)) return undefined;
  const canonical = new URL(`http://[${address}]/`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical);
  if (mapped === null) return { v6: canonical };
  const [high, low] = [mapped[1], mapped[2]].map((group) => Number.parseInt(group ?? '', 16));
  const bytes = [high, low].flatMap((group = 0) => [group >> 8, group & 255]);
  return { v4: bytes.join('.') };
}

/** Whether only this machine is meant or can reach it. `host`: an address, in brackets or not, or a name. */
export function isLoopback(host: string): boolean {
  const address = parse(host);
  if (address === undefined) return host.toLowerCase().replace(/\.$/, '') === 'localhost';
  return 'v4' in address ? address.v4.startsWith('127.') : address.v6 === '::1';
}

export interface Authority {
  /** An address in its canonical form, IPv6 in brackets, or a name in small letters without the dot of the root. */
  host: string;
  /** Undefined: the scheme's. */
  port: number | undefined;
}

/** `HOST` or `HOST:PORT` as the Host header has it (RFC 9110, 7.2); undefined for anything else. */
export function parseAuthority(text: string): Authority | undefined {
  const match = /^(\[[^[\]]+\]|[^:[\]/?#@\\\s]+)(?::(\d{1,5}))?$/.exec(text);
  if (match === null) return undefined;
  const port = match[2] === undefined ? undefined : Number(match[2]);
  if (port !== undefined && port > 65_535) return undefined;
  const given = match[1] ?? '';
  const address = parse(given);
  if (address !== undefined)
    return { host: 'v4' in address ? address.v4 : `[${address.v6}]`, port };
  return given.startsWith('[') ? undefined : { host: given.toLowerCase().replace(/\.$/, ''), port };
}

/** Whether a page of this Origin was served by this Host: the same host and port. */
export function isSameOrigin(origin: string, host: string): boolean {
  if (!URL.canParse(origin)) return false;
  const { protocol, host: authority } = new URL(origin);
  const [asked, own] = [parseAuthority(authority), parseAuthority(host)];
  if (asked === undefined || own === undefined || !/^https?:$/.test(protocol)) return false;
  const usual = protocol === 'https:' ? 443 : 80;
  return asked.host === own.host && (asked.port ?? usual) === (own.port ?? usual);
}
