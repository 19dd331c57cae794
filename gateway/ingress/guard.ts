/**
 * Who may come in and what they may do: credentials from the password file or a client certificate, client ids bound to
 * users, access rules, limits on wrong passwords, the audit log. Files are taken anew when they change; whoever is
 * connected on credentials that no longer count is let go within seconds.
 */
import { Audit } from '../../shared/access/audit.ts';
import { FailureLimiter } from '../../shared/access/failures.ts';
import { Refusals, distrustOf, mistakeOf } from '../../shared/access/refusals.ts';
import { HashQueue } from '../../shared/access/hash-queue.ts';
import { openAccess } from '../../shared/access/settings.ts';
import type { ClientCertificates, ServerTls } from '../../shared/access/tls.ts';
import { addressGroup } from '../../shared/access/shares.ts';
import type { Tokens } from '../../shared/access/tokens.ts';
import { WatchedFiles } from '../../shared/access/watched.ts';
import { Passwords } from '../../shared/config/secrets.ts';
import type { Env } from '../../shared/env/env.ts';
import type { MqttConnection } from '../../shared/mqtt/connection.ts';
import { TOO_LARGE } from '../../shared/mqtt/scanner.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { ClientIdRule } from '../choices.ts';
import type { GatewayConfig } from '../config.ts';
import { AccessRules } from './access.ts';
import { Identities } from './identities.ts';

/** CONNACK return codes [MQTT-3.2.2-6], table 3.1. */
export const IDENTIFIER_REJECTED = 2;
export const SERVER_UNAVAILABLE = 3;
export const NOT_AUTHORIZED = 5;

/** Addresses remembered as those of somebody who came in. */
const CAME_MAX = 10_000;

/** Why not; `elsewhere`: where to go instead, for now or for good. */
export interface Refused {
  refused: string;
  returnCode: number;
  elsewhere?: { server: string; isForGood: boolean };
}
export type Admission = { user: string | undefined } | Refused;

export class Guard {
  readonly passwords: Passwords | undefined;
  readonly rules: AccessRules | undefined;
  readonly tls: ServerTls | undefined;
  readonly tokens: Tokens;
  readonly audit: Audit;
  readonly failures: FailureLimiter;
  readonly hashes: HashQueue;
  readonly identities: Identities;
  readonly clientCertificates: ClientCertificates;
  /** Groups of addresses from which somebody came in, the latest last. */
  private readonly cameLately = new Set<string>();
  private readonly refusals: Refusals;
  private readonly watched: WatchedFiles[] = [];
  private readonly config: GatewayConfig;
  private readonly notify: Notify;

  /** Throws CONFIG_INVALID for any file that is not as it has to be. */
  constructor(config: GatewayConfig, env: Env, notify: Notify) {
    this.config = config;
    this.notify = notify;
    const passwordFile = config['mqtt.passwordFile'];
    const aclFile = config['mqtt.aclFile'];
    this.passwords = passwordFile === '' ? undefined : new Passwords(passwordFile);
    this.rules = aclFile === '' ? undefined : new AccessRules(aclFile);
    const access = openAccess(config, notify);
    this.tokens = access.tokens;
    this.tls = access.tls;
    this.clientCertificates = access.clientCertificates;
    const now = (): number => env.clock.monotonicUs();
    this.failures = new FailureLimiter(config['limits.authFailuresPerMinute'], now);
    this.hashes = new HashQueue(now);
    this.refusals = new Refusals(now, notify, 'login_refused');
    this.audit = new Audit(config.data, () => env.clock.wallUs() / 1000, notify);
    this.identities = new Identities(
      config['mqtt.clientIds'] as ClientIdRule, // One of the setting's choices.
      config['limits.connectsPerMinute'],
      env,
    );
  }

  /** `onRevoked` gets the users whose credentials no longer count, `onRules` is called when rights have changed. */
  watch(onRevoked: (users: ReadonlySet<string>) => void, onRules: () => void): void {
    const { config, notify, audit } = this;
    const follow = (file: string, what: string, reload: () => void): void => {
      if (file === '') return;
      const watched = new WatchedFiles([file], `${what} ${file}`, notify);
      watched.start(() => {
        reload();
        audit.say({ event: 'reloaded', about: file });
      });
      this.watched.push(watched);
    };
    follow(config['mqtt.passwordFile'], 'password file', () => {
      const changed = this.passwords?.reload();
      if (changed !== undefined && changed.size > 0) onRevoked(changed);
    });
    follow(config['mqtt.aclFile'], 'access rules', () => {
      this.rules?.reload();
      onRules();
    });
    follow(config['http.tokensFile'], 'API tokens', () => this.tokens.reload());
  }

  /** Decides on a CONNECT. */
  async admit(
    connection: MqttConnection,
    clientId: string,
    username: string | undefined,
    password: Buffer | undefined,
  ): Promise<Admission> {
    const { address } = connection.peer;
    const identity = await this.identify(connection, username, password);
    if ('refused' in identity) return this.refuse(identity, address, clientId, username);
    const { user } = identity;
    const elsewhere = this.elsewhere();
    if (elsewhere !== undefined) return this.refuse(elsewhere, address, clientId, user);
    const why = this.identities.refusal(clientId, user);
    if (why !== undefined)
      return this.refuse(
        { refused: why, returnCode: IDENTIFIER_REJECTED },
        address,
        clientId,
        user,
      );
    if (!this.identities.mayConnect(clientId)) {
      const refused = 'this client id connects too often';
      return this.refuse({ refused, returnCode: SERVER_UNAVAILABLE }, address, clientId, user);
    }
    return { user };
  }

  /** Where everybody is sent who may come in: a stranger is not told. */
  private elsewhere(): Refused | undefined {
    const { 'mqtt.movedTo': moved, 'mqtt.useServer': forNow } = this.config;
    const server = moved === '' ? forNow : moved;
    if (server === '') return undefined;
    const refused = `devices are sent to ${server} (mqtt.movedTo, mqtt.useServer)`;
    return {
      refused,
      returnCode: SERVER_UNAVAILABLE,
      elsewhere: { server, isForGood: moved !== '' },
    };
  }

  /** Of the password that it came in with; undefined: with none. */
  markOf({ user, peer }: MqttConnection): string | undefined {
    return user === undefined || peer.certificateName !== undefined
      ? undefined
      : this.passwords?.markOf(user);
  }

  /** It comes in: the id is its user's as long as its session lasts. */
  claim({ clientId, user, peer }: MqttConnection): void {
    const { address, certificateName } = peer;
    this.identities.claim(clientId, user, address, certificateName !== undefined);
    if (user !== undefined) this.audit.say({ event: 'connected', user, client: clientId, address });
  }

  private async identify(
    connection: MqttConnection,
    username: string | undefined,
    password: Buffer | undefined,
  ): Promise<Admission> {
    const { peer } = connection;
    const { certificateName } = peer;
    if (certificateName !== undefined) {
      // A certificate says who it is; a name beside it must be the same.
      return username === undefined || username === certificateName
        ? { user: certificateName }
        : { refused: "the user name is not the certificate's", returnCode: NOT_AUTHORIZED };
    }
    if (this.passwords === undefined) {
      const needsCertificate = peer.transport !== 'tcp' && this.clientCertificates === 'required';
      return needsCertificate
        ? { refused: 'no certificate', returnCode: NOT_AUTHORIZED }
        : { user: undefined };
    }
    return await this.checkPassword(connection, this.passwords, username, password);
  }

  /**
   * What is remembered as right comes in at once. Everything else costs a hash, is counted as wrong until it has turned
   * out to be right, and waits for its turn among those of the same address.
   */
  private async checkPassword(
    connection: MqttConnection,
    passwords: Passwords,
    username: string | undefined,
    password: Buffer | undefined,
  ): Promise<Admission> {
    const { failures, hashes } = this;
    const { address } = connection.peer;
    const group = addressGroup(address);
    if (!failures.isFlooding(address) && passwords.isRemembered(username, password)) {
      this.cameFrom(group);
      return { user: username };
    }
    const isBlocked = failures.isBlocked(address);
    const isKnown = failures.isQuiet(address) && this.cameLately.has(group);
    failures.fail(address);
    const wrong = { refused: 'wrong credentials', returnCode: NOT_AUTHORIZED };
    const tooMany = {
      refused: 'too many wrong credentials from this address',
      returnCode: SERVER_UNAVAILABLE,
    };
    if (username === undefined || password === undefined) return isBlocked ? tooMany : wrong;
    const lane = isBlocked ? 'late' : isKnown ? 'known' : 'usual';
    const isWanted = (): boolean => !connection.isClosed;
    const isRight = await hashes.run(
      { lane, address: group, name: username, isWanted },
      async () => await passwords.verify(username, password),
    );
    if (isRight === true) {
      failures.forgive(address);
      this.cameFrom(group);
      return { user: username };
    }
    // Whether a blocked one was looked at or not is not told.
    return isBlocked || isRight === undefined ? tooMany : wrong;
  }

  /** A connection that was closed for what it sent, or before it said who it is by somebody's mistake. */
  turnedAway({ clientId, peer: { address }, hasBroken }: MqttConnection, reason: string): void {
    const who = clientId === '' ? 'a client' : `client '${clientId}'`;
    const mistake =
      (clientId === '' ? mistakeOf(reason, '3 (MQTT 3.1), 4 (3.1.1) and 5') : undefined) ??
      (hasBroken && !reason.startsWith(TOO_LARGE) ? reason : undefined);
    const kind = reason.replaceAll(/\d+/g, 'N');
    if (mistake !== undefined)
      this.refusals.say(address, kind, `${who} at ${address} was refused: ${mistake}`);
  }

  distrusted(address: string, code: string): void {
    const why = distrustOf(code);
    this.audit.say({ event: 'refused', address, reason: why });
    this.refusals.say(address, code, `a client at ${address} was refused: ${why}`);
  }

  private cameFrom(group: string): void {
    this.cameLately.delete(group);
    this.cameLately.add(group);
    if (this.cameLately.size <= CAME_MAX) return;
    const [oldest] = this.cameLately;
    if (oldest !== undefined) this.cameLately.delete(oldest);
  }

  private refuse(
    refusal: Refused,
    address: string,
    client: string,
    user: string | undefined,
  ): Admission {
    const { refused } = refusal;
    this.audit.say({ event: 'refused', user, client, address, reason: refused });
    const who = `client '${client}'${user === undefined ? ' without a user name' : ` as user '${user}'`}`;
    this.refusals.say(address, refused, `${who} at ${address} was refused: ${refused}`);
    return refusal;
  }

  async close(): Promise<void> {
    for (const watched of this.watched) watched.stop();
    this.tls?.stop();
    await this.audit.close();
  }
}
