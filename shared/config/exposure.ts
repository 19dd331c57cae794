/**
 * Everything binds to loopback unless told otherwise; anything else needs credentials, and without TLS an explicit flag.
 * The same for what leaves: no secret goes to another machine in clear unless somebody asked for it.
 */
import { HeadwaterError } from '../errors.ts';
import { isLoopback } from '../net/address.ts';
import { addressText, type Address } from '../net/listen.ts';
import type { Notify } from '../telemetry/log.ts';

export interface Exposure {
  address: Address | undefined;
  /** Flag that sets the address. */
  flag: string;
  protected: boolean;
  /** It speaks TLS. */
  secure?: boolean;
  /** Flag that would bring the credentials. */
  credentialFlag: string;
  /** Flags that would bring TLS. */
  tlsFlags: string;
}

/** Throws ADDRESS_NOT_LOOPBACK. */
export function checkExposure(
  exposures: Exposure[],
  allowPlaintext: boolean,
  notify: Notify,
): void {
  for (const { address, flag, protected: hasCredentials, secure, ...advice } of exposures) {
    if (address === undefined || isLoopback(address.host)) continue;
    const text = addressText(address);
    if (!hasCredentials) {
      throw new HeadwaterError(
        'ADDRESS_NOT_LOOPBACK',
        `${flag} ${text} is reachable from other machines and asks nobody who they are: give ${advice.credentialFlag}, or use a loopback address`,
      );
    }
    if (secure === true) continue;
    if (!allowPlaintext) {
      throw new HeadwaterError(
        'ADDRESS_NOT_LOOPBACK',
        `${flag} ${text} is reachable from other machines without TLS: give ${advice.tlsFlags}, or add --allow-plaintext if that network is trusted, or use a loopback address`,
      );
    }
    notify({
      level: 'warn',
      event: 'plaintext',
      text: `${flag} ${text} serves other machines without TLS: passwords and data can be read on the way`,
    });
  }
}

export interface Outgoing {
  /** What it is, as the beginning of a sentence. */
  what: string;
  url: string;
  /** What would be sent. */
  secret: string;
  /** The other scheme, and what insists. */
  instead: string;
  insist: string;
}

/** Schemes that begin in clear: what is sent can be read on the way. */
const CLEAR = new Set(['http:', 'mqtt:', 'ws:', 'smtp:', 'tcp:']);

/** One sentence when a secret would cross the network in clear; undefined where it would not. */
export function clearSecret({ what, url, secret, instead, insist }: Outgoing): string | undefined {
  const { protocol, hostname } = new URL(url);
  if (!CLEAR.has(protocol) || isLoopback(hostname)) return undefined;
  return `${what} would send ${secret} to ${hostname} in clear: use ${instead}, or ${insist} if that network is trusted`;
}
