/**
 * Whose client ids are whose. A session belongs to the user that began it: another user's valid credentials do not take
 * it over. Ids that take each other over in a loop are slowed down. Whoever is away with a persistent session stays the
 * owner of its id, and how long it has been away is known.
 */
import { principalOf } from '../../shared/access/shares.ts';
import type { Env } from '../../shared/env/env.ts';
import type { ClientIdRule } from '../choices.ts';

const MINUTE_US = 60_000_000;
/** Ids whose connects are counted. */
const COUNTED_MAX = 10_000;

/** Control characters and wildcards are nobody's name; everything else is, and is encoded where it becomes a path or topic. */
export const isClientId = (id: string): boolean => !/[\p{Cc}+#]/u.test(id);

export interface Owner {
  user: string | undefined;
  /** Whom the session's share of the limits is counted for. */
  principal: string;
  /** By a certificate, which no password file knows. */
  isCertified: boolean;
  /** Of the password of an earlier run's session. */
  passwordMark?: string | undefined;
  /** Monotonic; undefined while it is here. */
  awaySinceUs: number | undefined;
}

export class Identities {
  private readonly rule: ClientIdRule;
  private readonly connectsPerMinuteMax: number;
  private readonly env: Env;
  private readonly owners = new Map<string, Owner>();
  private readonly connects = new Map<string, { sinceUs: number; count: number }>();
  /** The principal that came last, and the last one before it: enough to know whether there is more than one. */
  seen: string[] = [];

  constructor(rule: ClientIdRule, connectsPerMinuteMax: number, env: Env) {
    this.rule = rule;
    this.connectsPerMinuteMax = connectsPerMinuteMax;
    this.env = env;
  }

  ownerOf(clientId: string): string | undefined {
    return this.owners.get(clientId)?.user;
  }

  /** Undefined for an id that nobody holds. */
  principalOf(clientId: string): string | undefined {
    return this.owners.get(clientId)?.principal;
  }

  see(principal: string): void {
    if (principal !== this.seen[0]) this.seen = [principal, ...this.seen.slice(0, 1)];
  }

  /** Nobody else was ever here. */
  isAlone(principal: string): boolean {
    return this.seen.every((each) => each === principal);
  }

  /** Client ids that are away, and who they are. */
  *away(): Iterable<[string, Owner & { awaySinceUs: number }]> {
    for (const [clientId, owner] of this.owners) {
      const { awaySinceUs } = owner;
      if (awaySinceUs !== undefined) yield [clientId, { ...owner, awaySinceUs }];
    }
  }

  /** Why a user may not have this id, or undefined. */
  refusal(clientId: string, user: string | undefined): string | undefined {
    if (!isClientId(clientId)) return 'the client id has control characters or wildcards';
    if (this.rule === 'any') return undefined;
    const owner = this.ownerOf(clientId);
    if (owner !== undefined && owner !== user) return `the client id is another user's`;
    if (
      this.rule === 'user' &&
      user !== undefined &&
      clientId !== user &&
      !new RegExp('^[-_/.:]').test(clientId.startsWith(user) ? clientId.slice(user.length) : '')
    )
      return `the client id does not begin with the user's name`;
    return undefined;
  }

  /** Ids that have connected within the last minute. */
  get counted(): number {
    return this.connects.size;
  }

  /** Counts a connect; false when this id connects more often than it may. */
  mayConnect(clientId: string): boolean {
    const nowUs = this.env.clock.monotonicUs();
    const entry = this.connects.get(clientId);
    if (entry !== undefined && nowUs - entry.sinceUs <= MINUTE_US)
      return ++entry.count <= this.connectsPerMinuteMax;
    this.connects.delete(clientId);
    // Whose minute is over is forgotten, the oldest first: clients with ever new ids leave nothing behind.
    for (const [id, { sinceUs }] of this.connects) {
      if (nowUs - sinceUs <= MINUTE_US) break;
      this.connects.delete(id);
    }
    this.connects.set(clientId, { sinceUs: nowUs, count: 1 });
    if (this.connects.size > COUNTED_MAX) {
      const [oldest] = this.connects.keys();
      if (oldest !== undefined) this.connects.delete(oldest);
    }
    return true;
  }

  claim(clientId: string, user: string | undefined, address: string, isCertified: boolean): void {
    const principal = principalOf(user, address);
    this.see(principal);
    this.owners.set(clientId, { user, principal, isCertified, awaySinceUs: undefined });
  }

  /** A session of an earlier run, whose client has not come back yet. */
  restored(
    clientId: string,
    user: string | undefined,
    principal: string,
    passwordMark: string | undefined,
  ): void {
    const awaySinceUs = this.env.clock.monotonicUs();
    this.owners.set(clientId, { user, principal, isCertified: false, passwordMark, awaySinceUs });
  }

  /** It is away, and its session is kept; so are those of an earlier run, whose users are not known. */
  left(clientId: string): void {
    const owner = this.owners.get(clientId);
    const awaySinceUs = this.env.clock.monotonicUs();
    if (owner === undefined)
      this.owners.set(clientId, {
        user: undefined,
        principal: '',
        isCertified: false,
        awaySinceUs,
      });
    else owner.awaySinceUs = awaySinceUs;
  }

  release(clientId: string): void {
    this.owners.delete(clientId);
  }
}
