/** Kafka over TLS with every kind of SASL, and what may not be passed through. */
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { kafkaAccess, passedThrough } from '../../collector/log/kafka-access.ts';
import { KafkaHealth } from '../../collector/log/kafka-health.ts';
import { lookAtKafka } from '../../collector/log/kafka-look.ts';
import { KafkaLog } from '../../collector/log/kafka.ts';
import { loadConfig } from '../../shared/config/spec.ts';
import { messageOf } from '../../shared/errors.ts';
import { startKafka } from '../services/servers.ts';
import { Authority } from '../support/certificates.ts';
import { startCollector, temporaryFolder, until } from '../support/process.ts';
import { getJson } from '../support/reconcile.ts';
import { TlsServers, WRONG_CERTIFICATES, sentence } from '../support/tls-servers.ts';

const folder = temporaryFolder();
const file = (name: string, content: string): string => {
  const path = join(folder, name);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
};
const PASSWORD = 'a-password-of-this-test';
/** RFC 7519's unsecured form, which Kafka takes where nothing else is configured. */
const token = (subject: string): string => {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  return `${part({ alg: 'none' })}.${part({ sub: subject, iat: now - 10, exp: now + 3600 })}.`;
};

let kafka: Awaited<ReturnType<typeof startKafka>>;
let tls: Record<string, string>;
beforeAll(async () => {
  const authority = new Authority(join(folder, 'ca'));
  const server = authority.issue({ name: 'kafka', hosts: ['127.0.0.1'] });
  const client = authority.issue({ name: 'headwater', use: 'clientAuth' });
  const keyAndCert = file(
    'kafka.pem',
    `${readFileSync(server.key, 'utf8')}${readFileSync(server.cert, 'utf8')}${readFileSync(authority.cert, 'utf8')}`,
  );
  kafka = await startKafka({ keyAndCert, ca: authority.cert, user: 'test', password: PASSWORD });
  tls = {
    HEADWATER_KAFKA_TLS: 'true',
    HEADWATER_KAFKA_CA_FILE: authority.cert,
    HEADWATER_KAFKA_CERT_FILE: client.cert,
    HEADWATER_KAFKA_KEY_FILE: client.key,
  };
});
afterAll(async () => await kafka.stop());

let logs = 0;
const make = (environment: Record<string, string>, port = kafka.securePort): Promise<KafkaLog> =>
  KafkaLog.create(
    {
      brokers: `127.0.0.1:${port}`,
      topicPrefix: `secure-${logs++}.`,
      partitions: 1,
      topics: [
        { name: 'events', compacted: false },
        { name: 'state', compacted: true },
      ],
      access: kafkaAccess(loadConfig(COLLECTOR_CONFIG, { environment })),
      now: () => Date.now(),
    },
    () => undefined,
  );
const withPassword = (mechanism: string, password: string): Record<string, string> => ({
  ...tls,
  HEADWATER_KAFKA_SASL: mechanism,
  HEADWATER_KAFKA_USER: 'test',
  HEADWATER_KAFKA_PASSWORD_FILE: file(`password-${mechanism}-${password.length}`, password),
});

/** Producer, transaction, consumer, administration and what librdkafka has no call for. */
async function exercise(log: KafkaLog): Promise<void> {
  await log.open();
  const value = Buffer.from('v');
  await log.append('events', [{ key: 'a', value, headers: {} }]);
  const consumer = await log.consumer({
    group: 'g',
    topic: 'events',
    from: 'start',
    bytesMax: 1000,
  });
  let found: { offset: number }[] = [];
  while (found.length === 0) found = await consumer.poll(500);
  await consumer.commit({
    produce: [{ topic: 'state', key: 'k', value, headers: {}, partition: 0 }],
    offsets: new Map([[0, (found[0]?.offset ?? 0) + 1]]),
  });
  expect(await log.state('state', 0, '')).toHaveLength(1);
  await consumer.close();
  await log.forget('g');
  expect(log.warnings().join()).not.toContain('could not be read');
  await log.close();
}

describe('Kafka over TLS', () => {
  it.each(['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'])('with SASL %s', async (mechanism) => {
    await exercise(await make(withPassword(mechanism, PASSWORD)));
  });

  it('with SASL OAUTHBEARER, by the token that the file holds', async () => {
    const tokenFile = file('token', token('headwater'));
    await exercise(
      await make({
        ...tls,
        HEADWATER_KAFKA_SASL: 'OAUTHBEARER',
        HEADWATER_KAFKA_TOKEN_FILE: tokenFile,
      }),
    );
  });

  it.each(['PLAIN', 'SCRAM-SHA-512'])('a wrong password for %s is said', async (mechanism) => {
    const log = await make(withPassword(mechanism, `${PASSWORD}-not`));
    await expect(log.open()).rejects.toThrow(
      /no Kafka broker answers at .*([Aa]uthentication|credentials)/,
    );
    await log.close();
  });
});

it('a password that is refused is named by a collector that serves, and one that is put right in its file is taken', async () => {
  const environment = withPassword('SCRAM-SHA-512', `${PASSWORD}-no`);
  const path = environment['HEADWATER_KAFKA_PASSWORD_FILE'] ?? '';
  const log = `kafka://127.0.0.1:${kafka.securePort}`;
  const collector = await startCollector(['--log', log], environment);
  const status = `http://${collector.address['http']}/api/v1/status`;
  const { blocked } = await getJson<{ blocked: string | null }>(status);
  expect(blocked).toMatch(
    /([Aa]uthentication|credentials).*: mend kafka\.user and what kafka\.passwordFile/,
  );
  writeFileSync(path, PASSWORD);
  await until('the log to be open', async () => {
    const now = await getJson<{ blocked: string | null }>(status);
    return now.blocked === null || undefined;
  });
  expect(collector.output()).toMatch(/log_up: /);
  expect(await collector.kill('SIGTERM')).toBe(0);
});

describe('a certificate that is not believed', () => {
  let servers: TlsServers;
  beforeAll(() => {
    servers = new TlsServers(join(folder, 'wrong'));
  });
  afterAll(() => servers.close());
  const environment = (port: number): Record<string, string> => ({
    HEADWATER_LOG: `kafka://127.0.0.1:${port}`,
    HEADWATER_KAFKA_TLS: 'true',
    HEADWATER_KAFKA_CA_FILE: servers.ours.cert,
    HEADWATER_KAFKA_SASL: 'PLAIN',
    HEADWATER_KAFKA_USER: 'test',
    HEADWATER_KAFKA_PASSWORD_FILE: file('password', PASSWORD),
  });

  it('is sent nothing, and named with the reason, by a collector and by doctor', async () => {
    await Promise.all(
      WRONG_CERTIFICATES.map(async ([how, why]) => {
        const { port, heard } = await servers.wrong(how);
        const log = await make(environment(port), port);
        const looks = [
          log.open(),
          lookAtKafka(loadConfig(COLLECTOR_CONFIG, { environment: environment(port) })),
        ];
        const said = await Promise.all(looks.map((look) => look.then(() => 'fine', messageOf)));
        for (const text of said)
          expect(text, how).toContain(
            `no Kafka broker answers at 127.0.0.1:${port}: ${sentence(why)}`,
          );
        await log.close();
        expect(heard(), how).toBe('');
      }),
    );
  });

  it('of a running collector that meets it is told as such, and a reason that changes is told again', async () => {
    const said: string[] = [];
    let [now, why] = [0, sentence('it has expired (CERT_HAS_EXPIRED)')];
    const health = new KafkaHealth(
      () => now,
      async () => await Promise.resolve(why),
      ({ text }) => said.push(text),
    );
    health.mark('');
    health.trouble =
      'ssl://x/bootstrap: SSL handshake failed: certificate verify failed (after 3ms)';
    await health.down('all brokers are down');
    expect(health.present).toMatchObject({ up: false, reason: why });
    now += 60_000;
    health.trouble = 'x: Connect failed: Connection refused (after 1ms in state CONNECT)';
    await health.down('');
    now += 60_000;
    health.trouble = 'x: Connect failed: Connection refused (after 2ms in state CONNECT)';
    await health.down('');
    [health.trouble, why] = ['SSL', ''];
    now += 60_000;
    await health.down('');
    health.mark('');
    expect(health.trouble).toBe('');
    expect(said).toEqual([
      `Kafka does not answer: ${sentence('it has expired (CERT_HAS_EXPIRED)')}`,
      'Kafka does not answer: x: Connect failed: Connection refused (after 1ms in state CONNECT)',
      'Kafka does not answer: SSL',
      'Kafka answers again',
    ]);
  });
});

describe('settings', () => {
  it('what acknowledgement, order, groups and secrets rest on is not passed through', () => {
    expect(passedThrough(['socket.timeout.ms=20000', 'compression.codec = lz4'])).toEqual({
      'socket.timeout.ms': '20000',
      'compression.codec': 'lz4',
    });
    for (const name of [
      'acks',
      'enable.idempotence',
      'enable.auto.commit',
      'isolation.level',
      'group.id',
      'group.instance.id',
      'auto.offset.reset',
      'transactional.id',
      'bootstrap.servers',
      'sasl.password',
      'ssl.key.password',
      'partitioner',
      'max.in.flight.requests.per.connection',
    ])
      expect(() => passedThrough([`${name}=1`]), name).toThrow(`kafka.client: ${name} cannot`);
    expect(() => passedThrough(['nothing'])).toThrow('is not NAME=VALUE');
  });

  it('a setting that librdkafka does not know is one sentence', async () => {
    const log = await make({ HEADWATER_KAFKA_CLIENT: 'no.such.setting=1' });
    await expect(log.open()).rejects.toThrow(/^kafka.client: .*no\.such\.setting/);
  });

  it('half of an access is one sentence each', () => {
    const access = (environment: Record<string, string>): (() => unknown) => {
      return () => kafkaAccess(loadConfig(COLLECTOR_CONFIG, { environment }));
    };
    expect(access({ HEADWATER_KAFKA_SASL: 'PLAIN' })).toThrow('needs kafka.user and');
    expect(access({ HEADWATER_KAFKA_SASL: 'OAUTHBEARER' })).toThrow('needs kafka.tokenFile');
    expect(
      access({ HEADWATER_KAFKA_TLS: 'true', HEADWATER_KAFKA_CERT_FILE: join(folder, 'token') }),
    ).toThrow('go together');
    expect(
      access({ HEADWATER_KAFKA_TLS: 'true', HEADWATER_KAFKA_CA_FILE: join(folder, 'none.pem') }),
    ).toThrow(/^kafka.caFile: .*none.pem/);
    const open = file('open', PASSWORD);
    chmodSync(open, 0o644);
    expect(
      access({
        HEADWATER_KAFKA_SASL: 'PLAIN',
        HEADWATER_KAFKA_USER: 'u',
        HEADWATER_KAFKA_PASSWORD_FILE: open,
      }),
    ).toThrow('chmod 600');
  });
});
