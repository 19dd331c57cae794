/**
 * The guard of Host and Origin, the same on every door that a browser can open (HTTP and WebSocket): a page from elsewhere,
 * open in a browser on this machine or network, must not use a server in its user's name.
 */
import { isLoopback, isSameOrigin, parseAuthority } from './address.ts';

export interface WebRequest {
  host: string | undefined;
  origin: string | undefined;
  /** It changes something, or opens a connection that can. */
  changes: boolean;
}

export interface WebDoor {
  /** It listens where only this machine reaches it. */
  onlyLoopback: boolean;
  /** Whoever comes has to say who he is by what no browser sends on its own. */
  asksWho: boolean;
  /** Pages from anywhere may come: they have to know a password. */
  anyOrigin: boolean;
  /** Pages of these may come as its own do. */
  origins?: ReadonlySet<string>;
}

/** Why not, or undefined. */
export function webRefusal(
  { host = '', origin, changes }: WebRequest,
  door: WebDoor,
): string | undefined {
  const isOwn = (from: string): boolean =>
    isSameOrigin(from, host) || door.origins?.has(from) === true;
  if (changes && origin !== undefined && !door.anyOrigin && !isOwn(origin))
    return `requests from pages of ${origin.slice(0, 100)} are not taken`;
  if (!door.onlyLoopback || door.asksWho) return undefined;
  // Against DNS rebinding: who is not asked who he is must at least have meant this machine.
  const meant = parseAuthority(host);
  return meant !== undefined && isLoopback(meant.host)
    ? undefined
    : `'${host.slice(0, 100)}' is not a name of this machine: a server that asks nobody who they are answers only to 127.0.0.1, ::1 and localhost (with --tokens-file FILE to any name)`;
}
