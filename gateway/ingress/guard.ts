/**
 * Who may come in and what they may do: credentials from the password file or a client certificate, client ids bound to
 * users, access rules, limits on wrong passwords, the audit log. Files are taken anew when they change; whoever is
 * connected on credentials that no longer count is let go within seconds.
 */
import { Audit } from '../../shared/access/audit.ts';
import { FailureLimiter } from '../../shared/access/failures.ts';
import { openAccess } from '../../shared/access/settings.ts';
import type { ClientCertificates, ServerTls } from '../../shared/access/tls.ts';
import type { Tokens } from '../../shared/access/tokens.ts';
import { WatchedFiles } from '../../shared/access/watched.ts';
import { Passwords } from '../../shared/config/secrets.ts';
import type { Env } from '../../shared/env/env.ts';
import type { MqttConnection } from '../../shared/mqtt/connection.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { ClientIdRule } from '../choices.ts';
import type { GatewayConfig } from '../config.ts';
import { AccessRules } from './access.ts';
import { Identities } from './identities.ts';

/** CONNACK return codes [MQTT-3.2.2-6], table 3.1. */
export const IDENTIFIER_REJECTED = 2;
export const SERVER_UNAVAILABLE = 3;
export const NOT_AUTHORIZED = 5;

export type Admission = { user: string | undefined } | { refused: string; returnCode: number };

export class Guard {
  readonly passwords: Passwords | undefined;
  readonly rules: AccessRules | undefined;
  readonly tls: ServerTls | undefined;
  readonly tokens: Tokens;
  readonly audit: Audit;
  readonly failures: FailureLimiter;
  readonly identities: Identities;
  readonly clientCertificates: ClientCertificates;
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

  /** It comes in: the id is its user's as long as its session lasts. */
  claim({ clientId, user, peer }: MqttConnection): void {
    const { address, certificateName } = peer;
    this.identities.claim(clientId, user, address, certificateName !== undefined);
    if (user !== undefined) this.audit.say({ event: 'connected', user, client: clientId, address });
  }

  private async identify(
    { peer }: MqttConnection,
    username: string | undefined,
    password: Buffer | undefined,
  ): Promise<Admission> {
    const { address, certificateName } = peer;
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
    if (this.failures.isBlocked(address))
      return {
        refused: 'too many wrong credentials from this address',
        returnCode: SERVER_UNAVAILABLE,
      };
    if (await this.passwords.verify(username, password)) return { user: username };
    this.failures.fail(address);
    return { refused: 'wrong credentials', returnCode: NOT_AUTHORIZED };
  }

  private refuse(
    refusal: { refused: string; returnCode: number },
    address: string,
    client: string,
    user: string | undefined,
  ): Admission {
    this.audit.say({ event: 'refused', user, client, address, reason: refusal.refused });
    return refusal;
  }

  async close(): Promise<void> {
    for (const watched of this.watched) watched.stop();
    this.tls?.stop();
    await this.audit.close();
  }
}
