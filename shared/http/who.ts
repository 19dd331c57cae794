/** Who asks, and whether he may: the guard of Host and Origin, and the token, the same for what is answered and for what stays open. */
import type { IncomingMessage } from 'node:http';
import type { Audit } from '../access/audit.ts';
import type { FailureLimiter } from '../access/failures.ts';
import { refusal } from '../access/may.ts';
import type { Identity, Tokens } from '../access/tokens.ts';
import { HeadwaterError } from '../errors.ts';
import { webRefusal } from '../net/web.ts';
import { isListed, type Origins } from './cors.ts';
import type { Right } from './route.ts';
import { tokenOfProtocols } from './upgrade.ts';

export interface WhoOptions {
  tokens: Tokens;
  failures: FailureLimiter;
  audit: Audit | undefined;
  /** The gateway that this is, or the name under which a collector takes messages. */
  here: string;
  /** Whose pages may call it, beside its own. */
  origins?: Origins;
}

export const NO_ORIGINS: Origins = new Set();

export class Who {
  private readonly options: WhoOptions;
  /** It listens where only this machine reaches it. */
  onlyLoopback = false;

  constructor(options: WhoOptions) {
    this.options = options;
  }

  /** `changes`: as `webRefusal` has it. Throws FORBIDDEN. */
  checkWeb({ headers }: IncomingMessage, changes: boolean): void {
    const why = webRefusal(
      { host: headers.host, origin: headers.origin, changes },
      {
        onlyLoopback: this.onlyLoopback,
        asksWho: this.options.tokens.areNeeded,
        anyOrigin: false,
        origins: this.options.origins ?? NO_ORIGINS,
      },
    );
    if (why !== undefined) throw new HeadwaterError('FORBIDDEN', why);
  }

  /** Throws UNAUTHORIZED, FORBIDDEN and TOO_MANY_REQUESTS. */
  authorize(raw: IncomingMessage, url: URL, right: Right | 'open'): Identity {
    const { tokens, failures, audit, here, origins = NO_ORIGINS } = this.options;
    const address = raw.socket.remoteAddress ?? '';
    const isOpen = right === 'open';
    const presented = presentedToken(raw, url, isListed(origins, raw));
    const identity = tokens.identify(presented);
    // A right token is not refused for wrong ones from the same address: looking costs next to nothing.
    if (!isOpen && identity === undefined && failures.isBlocked(address))
      throw new HeadwaterError(
        'TOO_MANY_REQUESTS',
        'too many wrong tokens from this address: try again in a minute',
      );
    if (isOpen) return identity ?? { name: '', scopes: new Set(), gateways: new Set() };
    const deny = (reason: string): void =>
      audit?.say({
        event: 'http_denied',
        user: identity?.name,
        address,
        about: url.pathname,
        reason,
      });
    if (identity === undefined) {
      // Asking without any token is how a browser begins.
      if (presented !== '') {
        failures.fail(address);
        deny('wrong token');
      }
      throw new HeadwaterError('UNAUTHORIZED', 'send the API token as Authorization: Bearer TOKEN');
    }
    const { scope, subject } = right;
    const why = refusal(identity, scope, subject === 'here' ? { gateway: here } : subject);
    if (why !== undefined) {
      deny(why);
      throw new HeadwaterError('FORBIDDEN', why);
    }
    return identity;
  }
}

/**
 * Bearer; `Token` and Basic as InfluxDB's clients and Grafana send it; the page's cookie, but not of a page from elsewhere; `p=` of
 * InfluxDB 1.x on its own paths.
 */
function presentedToken(raw: IncomingMessage, url: URL, isFromElsewhere: boolean): string {
  const header = raw.headers.authorization ?? '';
  const plain = /^(?:Bearer|Token) (.+)$/.exec(header)?.[1];
  if (plain !== undefined) return plain;
  const basic = /^Basic (.+)$/.exec(header)?.[1];
  if (basic !== undefined)
    return /:(.*)$/s.exec(Buffer.from(basic, 'base64').toString('utf8'))?.[1] ?? '';
  const ofSocket = tokenOfProtocols(raw);
  if (ofSocket !== '') return ofSocket;
  // A browser cannot set a header on its first request: the page may carry the token in a cookie that it sets itself.
  const cookies = isFromElsewhere ? '' : (raw.headers.cookie ?? '');
  const cookie = /(?:^|;\s*)headwater_token=([^;]+)/.exec(cookies)?.[1];
  if (cookie !== undefined) return decode(cookie);
  return url.pathname === '/write' || url.pathname === '/query'
    ? (url.searchParams.get('p') ?? '')
    : '';
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return ''; // Not what the page wrote.
  }
}
