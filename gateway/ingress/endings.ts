/**
 * Sessions that end although their client has not asked for it: it was away for too long, lost its credentials or a right,
 * or more waits for it than is allowed. Each is counted and told.
 */
import type { Env } from '../../shared/env/env.ts';
import type { MqttConnection } from '../../shared/mqtt/connection.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { CounterBy } from '../../shared/telemetry/metrics.ts';
import { Seldom } from '../../shared/access/seldom.ts';
import { REASON } from '../mqtt5/reasons.ts';
import type { Guard } from './guard.ts';
import type { Standings } from './standing.ts';
import type { Subscriptions } from './subscriptions.ts';

export interface EndingParts {
  env: Env;
  guard: Guard;
  notify: Notify;
  standings: Standings;
  subscriptions: Subscriptions;
  /** Those that are here now. */
  connections: () => Iterable<MqttConnection>;
  /** Messages that wait for a session of ours. */
  queued: (clientId: string) => number;
  /** A session of ours ends, with its connection. */
  endOurs: (clientId: string, code: number, reason: string) => void;
  /** Everything that is kept under the id beside the session itself. */
  forget: (clientId: string) => void;
}

const LOOK_MS = 60_000;

const LOST = 'it may no longer subscribe to what it has subscribed to';

export class Endings {
  readonly endedBy = new CounterBy('reason');
  /** Messages that waited for a session that was ended. */
  lostMessages = 0;
  private readonly parts: EndingParts;
  /** A session that is away for longer ends. */
  private readonly expiryMs: number;
  private readonly seldom: Seldom;
  private timer: NodeJS.Timeout | undefined;

  constructor(parts: EndingParts, expiryMs: number) {
    this.parts = parts;
    this.expiryMs = expiryMs;
    this.seldom = new Seldom(() => parts.env.clock.monotonicUs());
  }

  start(): void {
    const everyMs = Math.min(LOOK_MS, Math.max(50, this.expiryMs / 4));
    this.timer = setInterval(() => this.expire(), everyMs);
    this.timer.unref();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /** Credentials that no longer count: their sessions end, here or away, and nothing that waits for them is delivered. */
  revoke(users: ReadonlySet<string>): void {
    const { audit, identities } = this.parts.guard;
    for (const connection of [...this.parts.connections()]) {
      const { user, clientId, peer } = connection;
      // A certificate is not of the password file.
      if (user === undefined || !users.has(user) || peer.certificateName !== undefined) continue;
      audit.say({ event: 'revoked', user, client: clientId, address: peer.address });
      this.end(clientId, 'its credentials were revoked');
      connection.close('its credentials were revoked', REASON.notAuthorized);
    }
    for (const [clientId, { user, isCertified }] of [...identities.away()]) {
      if (user === undefined || !users.has(user) || isCertified) continue;
      audit.say({ event: 'revoked', user, client: clientId });
      this.end(clientId, 'its credentials were revoked');
    }
  }

  /** Rights have changed: what was remembered of them is forgotten, and who listens to what it may not is let go. */
  rightsChanged(): void {
    const { guard, standings, subscriptions, connections } = this.parts;
    const { rules, identities, audit } = guard;
    for (const connection of connections()) standings.forget(connection);
    for (const client of subscriptions.clients()) {
      const user = identities.ownerOf(client);
      const lost = [...subscriptions.of(client)].find(
        (filter) => rules?.maySubscribe({ user, client }, filter) === false,
      );
      if (lost === undefined) continue;
      audit.say({ event: 'revoked', user, client, about: lost });
      this.end(client, LOST);
    }
  }

  /** The same for what was cut while nobody ran: clients that lost rights, users that are no more or have another password. */
  afterRestart(cut: Iterable<string>): void {
    const { passwords, clientCertificates, identities, audit } = this.parts.guard;
    for (const client of cut) {
      audit.say({ event: 'revoked', user: identities.ownerOf(client), client });
      this.end(client, LOST);
    }
    const gone = (user: string, mark: string | undefined): boolean =>
      mark === undefined
        ? // Where certificates are shown too, a user need not be of the password file.
          clientCertificates === 'none' && passwords?.has(user) === false
        : passwords?.markOf(user) !== mark;
    const all = [...identities.away()];
    this.revoke(
      new Set(
        all.flatMap(([, { user, passwordMark }]) =>
          user !== undefined && gone(user, passwordMark) ? user : [],
        ),
      ),
    );
  }

  private expire(): void {
    const beforeUs = this.parts.env.clock.monotonicUs() - this.expiryMs * 1000;
    for (const [clientId, { awaySinceUs }] of [...this.parts.guard.identities.away()])
      if (awaySinceUs < beforeUs) this.end(clientId, 'it was away for too long');
  }

  /** The session ends, with its connection if there is one, and all that was kept for it is forgotten. */
  end(clientId: string, reason: string, code: number = REASON.notAuthorized): void {
    const { notify, queued, forget, endOurs, connections } = this.parts;
    this.endedBy.add(reason);
    const unsaid = this.seldom.may(reason);
    if (unsaid !== undefined)
      notify({
        level: 'warn',
        event: 'session_ended',
        text: `the session of '${clientId}' has ended: ${reason}${unsaid === 0 ? '' : ` (and ${unsaid} more since this was said last)`}`,
      });
    this.lostMessages += queued(clientId);
    forget(clientId);
    endOurs(clientId, code, reason);
    for (const connection of [...connections()])
      if (connection.clientId === clientId) connection.close(reason, code);
  }
}
