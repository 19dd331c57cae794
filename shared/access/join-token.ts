/**
 * A join token: what a gateway needs to become one of a collector's, in a line of text that fits on a card. It names the
 * gateway, where to go, and the fingerprint of the authority that it finds there, so that a token trusts one collector
 * alone. Its secret counts once.
 *
 * `hw1.` and base64url of JSON: n name, u enrolment URLs, c collectors, f fingerprint (SHA-256, base64url), s secret.
 */
import { HeadwaterError } from '../errors.ts';
import { GATEWAY_ID } from '../wire/wire.ts';

export interface JoinToken {
  gateway: string;
  /** `https://HOST:PORT`, tried in turn. */
  urls: string[];
  /** `mqtts://HOST:PORT`, for the uplink. */
  collectors: string[];
  /** SHA-256 of the authority's certificate, as Node writes it: hex with colons. */
  fingerprint: string;
  secret: string;
}

const MARK = 'hw1.';
export const JOIN_TOKEN_CHARS_MAX = 2048;

const isUrl = (value: unknown, protocol: string): value is string =>
  typeof value === 'string' && URL.canParse(value) && new URL(value).protocol === protocol;
const areUrls = (value: unknown, protocol: string): value is string[] =>
  Array.isArray(value) && value.length > 0 && value.every((each) => isUrl(each, protocol));

export function joinTokenText(token: JoinToken): string {
  const { gateway: n, urls: u, collectors: c, fingerprint, secret: s } = token;
  const f = Buffer.from(fingerprint.replaceAll(':', ''), 'hex').toString('base64url');
  return MARK + Buffer.from(JSON.stringify({ n, u, c, f, s })).toString('base64url');
}

/** Throws CONFIG_INVALID; `where` names the file or flag that it comes from. */
export function parseJoinToken(text: string, where: string): JoinToken {
  const wrong = (why: string): never => {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `${where} is no join token as 'headwater enroll' prints it: ${why}`,
    );
  };
  const line = text.trim();
  if (!line.startsWith(MARK)) return wrong(`it does not begin with '${MARK}'`);
  if (line.length > JOIN_TOKEN_CHARS_MAX) return wrong('it is too long');
  let fields: Record<string, unknown>;
  try {
    const json = Buffer.from(line.slice(MARK.length), 'base64url').toString('utf8');
    fields = { ...(JSON.parse(json) as Record<string, unknown> | null) };
  } catch {
    return wrong('it was cut or changed on its way');
  }
  const { n, u, c, f, s } = fields;
  const digest = Buffer.from(typeof f === 'string' ? f : '', 'base64url');
  if (typeof n !== 'string' || !GATEWAY_ID.test(n)) return wrong('it names no gateway');
  if (!areUrls(u, 'https:') || !areUrls(c, 'mqtts:')) return wrong('it names no collector');
  if (digest.length !== 32 || typeof s !== 'string' || s.length < 20)
    return wrong('it was cut or changed on its way');
  const fingerprint = digest
    .toString('hex')
    .toUpperCase()
    .replaceAll(/..(?=.)/g, '$&:');
  return { gateway: n, urls: u, collectors: c, fingerprint, secret: s };
}
