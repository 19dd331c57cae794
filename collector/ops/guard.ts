/** Who may come to the collector: certificates and secrets of gateways, API tokens, limits on wrong ones, the audit log. */
import { Audit } from '../../shared/access/audit.ts';
import { DOORS, checkDoors } from '../../shared/access/doors.ts';
import { FailureLimiter } from '../../shared/access/failures.ts';
import { openAccess } from '../../shared/access/settings.ts';
import type { ClientCertificates, ServerTls } from '../../shared/access/tls.ts';
import type { Tokens } from '../../shared/access/tokens.ts';
import { WatchedFiles } from '../../shared/access/watched.ts';
import { clearSecret } from '../../shared/config/exposure.ts';
import { optionalSecret } from '../../shared/config/secrets.ts';
import type { Env } from '../../shared/env/env.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { CollectorConfig } from '../config.ts';

export class CollectorGuard {
  readonly secret: string | undefined;
  readonly tokens: Tokens;
  readonly tls: ServerTls | undefined;
  readonly clientCertificates: ClientCertificates;
  readonly failures: FailureLimiter;
  readonly audit: Audit;
  private readonly watched: WatchedFiles;

  /** Throws CONFIG_INVALID for any file that is not as it has to be. */
  constructor(config: CollectorConfig, env: Env, notify: Notify) {
    this.secret = optionalSecret(config['uplink.secretFile'], 'uplink secret');
    const tokensFile = config['http.tokensFile'];
    const access = openAccess(config, notify);
    this.tokens = access.tokens;
    this.tls = access.tls;
    // Enrolled gateways have a certificate; others come with the secret, where there is one.
    const ofEnrolled = this.secret === undefined ? 'required' : 'optional';
    const isEnrolling = config['enroll.listen'] !== undefined;
    this.clientCertificates = isEnrolling ? ofEnrolled : access.clientCertificates;
    if (isEnrolling && config['tls.clientCaFile'] !== '')
      throw new HeadwaterError(
        'CONFIG_INVALID',
        "enroll.listen and tls.clientCaFile exclude each other: enrolled gateways have certificates of the collector's own authority",
      );
    if (isEnrolling && config['uplinks.listen'] === undefined)
      throw new HeadwaterError(
        'CONFIG_INVALID',
        'enroll.listen needs uplinks.listen, where enrolled gateways connect: --uplinks HOST:PORT',
      );
    this.failures = new FailureLimiter(config['ingest.authFailuresPerMinute'], () =>
      env.clock.monotonicUs(),
    );
    this.audit = new Audit(config.data, () => env.clock.wallUs() / 1000, notify);
    this.watched = new WatchedFiles([tokensFile], `API tokens ${tokensFile}`, notify);
    this.watched.start(() => {
      this.tokens.reload();
      this.audit.say({ event: 'reloaded', about: tokensFile });
    });
  }

  /** Throws ADDRESS_NOT_LOOPBACK and CONFIG_INVALID. */
  check(config: CollectorConfig, isIngest: boolean, notify: Notify): void {
    const { tls, secret, tokens, clientCertificates } = this;
    const endpoint = config['lake.s3Endpoint'];
    const clear =
      endpoint === '' || !URL.canParse(endpoint)
        ? undefined
        : clearSecret({
            what: `lake.s3Endpoint ${endpoint}`,
            url: endpoint,
            secret: 'everything that is stored, signed with your credentials,',
            instead: 'https://',
            insist: 'add --allow-plaintext',
          });
    if (clear !== undefined && !config.allowPlaintext)
      throw new HeadwaterError('CONFIG_INVALID', clear);
    checkDoors(
      // Gateways come in only where that is this process's role.
      DOORS.filter(({ side, asks }) => side === 'collector' && (isIngest || asks !== 'secret')),
      config,
      {
        asked: { secret: secret !== undefined, token: tokens.areNeeded, join: true },
        asksCertificate: clientCertificates === 'required',
        hasCertificate: tls !== undefined,
        allowPlaintext: config.allowPlaintext,
      },
      notify,
    );
  }

  async close(): Promise<void> {
    this.watched.stop();
    this.tls?.stop();
    await this.audit.close();
  }
}
