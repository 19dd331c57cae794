/**
 * Who may do what, decided in one place for both servers. An action is a scope; a subject is what it is about. `admin`
 * may whatever `read` and `write` may. A token that is for some gateways may nothing that is about all of them.
 */
import type { Identity, Scope } from './tokens.ts';

export type Subject =
  /** What is about all gateways together. */
  | 'all'
  /** A list or a stream of which each may see what is of their gateways: the answer is filtered by `maySee`. */
  | 'each'
  /** One gateway. */
  | { gateway: string };

/** Why not, or undefined. */
export function refusal(
  { scopes, gateways }: Identity,
  action: Scope,
  subject: Subject,
): string | undefined {
  if (!scopes.has(action) && !scopes.has('admin')) return `this token has no scope '${action}'`;
  if (gateways === undefined || subject === 'each') return undefined;
  if (subject === 'all') return 'this is about all gateways, and this token may see some';
  return gateways.has(subject.gateway)
    ? undefined
    : `this token may not see gateway '${subject.gateway.slice(0, 64)}'`;
}

export const may = (identity: Identity, action: Scope, subject: Subject): boolean =>
  refusal(identity, action, subject) === undefined;

/** Of a list whose scope was asked for already. */
export const maySee = ({ gateways }: Identity, gateway: string): boolean =>
  gateways === undefined || gateways.has(gateway);
