/** Who may ask for what, as a table made of the routes by the same function that decides: for the docs, and for the test. */
import { refusal, type Subject } from '../access/may.ts';
import { SCOPES, type Identity, type Scope } from '../access/tokens.ts';
import type { Route } from './route.ts';

/** Which gateways a token is for: all, the one that the server is, another. */
export const REACHES = ['all', 'here', 'other'] as const;
export type Reach = (typeof REACHES)[number];

const HERE = 'here';
const GATEWAYS: Record<Reach, ReadonlySet<string> | undefined> = {
  all: undefined,
  here: new Set([HERE]),
  other: new Set(['other']),
};

/** What a route answers: all of it, what is of the token's gateways, nothing. */
export type Answered = 'yes' | 'its own' | 'no';

export function answered(
  { right }: Pick<Route<never>, 'right'>,
  scope: Scope | undefined,
  reach: Reach,
): Answered {
  if (right === 'open') return 'yes';
  if (scope === undefined) return 'no';
  const identity: Identity = { name: '', scopes: new Set([scope]), gateways: GATEWAYS[reach] };
  const subject: Subject = right.subject === 'here' ? { gateway: HERE } : right.subject;
  if (refusal(identity, right.scope, subject) !== undefined) return 'no';
  return right.subject === 'each' && reach !== 'all' ? 'its own' : 'yes';
}

export interface RightsRow {
  route: string;
  /** Scopes that do; empty: nobody is asked for a token. */
  scopes: Scope[];
  byReach: Record<Reach, Answered>;
}

export const rightsOf = (routes: readonly Route<never>[]): RightsRow[] =>
  routes.map((route) => {
    const scopes = SCOPES.filter((scope) => answered(route, scope, 'all') !== 'no');
    const byReach = (reach: Reach): Answered => answered(route, scopes[0], reach);
    return {
      route: `${route.method} ${route.path}`,
      scopes: route.right === 'open' ? [] : scopes,
      byReach: { all: byReach('all'), here: byReach('here'), other: byReach('other') },
    };
  });
