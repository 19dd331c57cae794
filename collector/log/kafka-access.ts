/**
 * How Kafka is reached: TLS, SASL, and settings of librdkafka that the user passes through by name. What Headwater's
 * promises rest on cannot be passed through, and secrets come from private files alone.
 */
import { readSecretFile } from '../../shared/config/secrets.ts';
import { readSettingFile } from '../../shared/config/user-file.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { CollectorConfig } from '../config.ts';
import type { AdminAccess } from './kafka-admin.ts';

export interface KafkaAccess {
  client: Record<string, unknown>;
  admin: AdminAccess;
  /** For OAUTHBEARER: read anew each time, since whoever renews it writes the file. */
  token?: () => string;
}

/** Acknowledgement, order, transactions and groups are Headwater's; brokers and secrets have a setting of their own. */
const DENIED =
  /^(acks|request\.required\.acks|enable\.|isolation\.level|transactional\.id|transaction\.|group\.|auto\.|bootstrap\.servers|metadata\.broker\.list|client\.id|partition\.assignment|partitioner|max\.in\.flight|dr_|.*_cb$|message\.max\.bytes|delivery\.timeout|message\.timeout|queue\.buffering\.max|.*password|sasl\.username|sasl\.mechanism|sasl\.oauthbearer\.(config|client\.secret)|security\.protocol|ssl\.key\.pem|ssl\.(ca|certificate|key)\.|plugin\.|fetch\.message\.max|.*opaque)/;

const invalid = (text: string): HeadwaterError => new HeadwaterError('CONFIG_INVALID', text);

/** Throws CONFIG_INVALID. */
export function passedThrough(settings: readonly string[]): Record<string, string> {
  const client: Record<string, string> = {};
  for (const setting of settings) {
    const at = setting.indexOf('=');
    if (at < 1) throw invalid(`kafka.client: '${setting}' is not NAME=VALUE`);
    const name = setting.slice(0, at).trim();
    if (DENIED.test(name))
      throw invalid(
        `kafka.client: ${name} cannot be passed through: what is acknowledged rests on it, or kafka.* has a setting for it`,
      );
    client[name] = setting.slice(at + 1).trim();
  }
  return client;
}

/** What `--log` names, as librdkafka takes it: HOST:PORT, several with commas. Throws CONFIG_INVALID. */
export function brokersOf(log: string): string {
  const brokers = /^kafka:\/\/(.*)$/.exec(log)?.[1] ?? '';
  if (!brokers.split(',').every((each) => /^(\[[^\]]+\]|[^\s/:@]+):\d{1,5}$/.test(each.trim())))
    throw invalid(
      `--log '${log}' is not of the form kafka://HOST:PORT (several: kafka://A:9092,B:9092)`,
    );
  return brokers;
}

type Settings = Pick<
  CollectorConfig,
  | 'kafka.tls'
  | 'kafka.caFile'
  | 'kafka.certFile'
  | 'kafka.keyFile'
  | 'kafka.sasl'
  | 'kafka.user'
  | 'kafka.passwordFile'
  | 'kafka.tokenFile'
  | 'kafka.client'
>;

function tlsAccess(config: Settings): Pick<KafkaAccess, 'client' | 'admin'> {
  if (!config['kafka.tls']) return { client: {}, admin: {} };
  const client: Record<string, unknown> = {};
  const tls: NonNullable<AdminAccess['tls']> = {};
  const files = [
    ['kafka.caFile', 'ssl.ca.location', 'ca'],
    ['kafka.certFile', 'ssl.certificate.location', 'cert'],
    ['kafka.keyFile', 'ssl.key.location', 'key'],
  ] as const;
  for (const [setting, name, part] of files) {
    const path = config[setting];
    if (path === '') continue;
    client[name] = path;
    tls[part] = readSettingFile(path, setting);
  }
  if ((config['kafka.certFile'] === '') !== (config['kafka.keyFile'] === ''))
    throw invalid('kafka.certFile and kafka.keyFile go together: give both, or neither');
  return { client, admin: { tls } };
}

function saslAccess(config: Settings): Omit<KafkaAccess, 'admin'> & Pick<AdminAccess, 'sasl'> {
  const mechanism = config['kafka.sasl'];
  if (mechanism === 'none') return { client: {} };
  if (mechanism === 'OAUTHBEARER') {
    const path = config['kafka.tokenFile'];
    if (path === '') throw invalid('kafka.sasl OAUTHBEARER needs kafka.tokenFile');
    const token = (): string => readSecretFile(path, 'kafka.tokenFile');
    token();
    return { client: { 'sasl.mechanisms': mechanism }, sasl: { mechanism, token }, token };
  }
  const user = config['kafka.user'];
  const path = config['kafka.passwordFile'];
  if (user === '' || path === '')
    throw invalid(`kafka.sasl ${mechanism} needs kafka.user and kafka.passwordFile`);
  const password = readSecretFile(path, 'kafka.passwordFile');
  // The setting's choices are these.
  const sasl = { mechanism: mechanism as 'PLAIN', user, password };
  return {
    client: { 'sasl.mechanisms': mechanism, 'sasl.username': user, 'sasl.password': password },
    sasl,
  };
}

/** Throws CONFIG_INVALID. */
export function kafkaAccess(config: Settings): KafkaAccess {
  const { client: tlsClient, admin } = tlsAccess(config);
  const { client: saslClient, sasl, token } = saslAccess(config);
  const isSasl = sasl !== undefined;
  const protocol = `${isSasl ? 'sasl_' : ''}${config['kafka.tls'] ? 'ssl' : 'plaintext'}`;
  return {
    client: {
      ...passedThrough(config['kafka.client']),
      ...tlsClient,
      ...saslClient,
      'security.protocol': protocol,
    },
    admin: { ...admin, ...(isSasl ? { sasl } : {}) },
    ...(token === undefined ? {} : { token }),
  };
}
