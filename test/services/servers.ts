/** Real servers for tests, each on free loopback ports with a temporary folder. `install.sh` has brought them. */
import { execFile, execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { freePort } from '../support/free-port.ts';
import { CACHE } from '../support/cache.ts';
import { ROOT, start, temporaryFolder, until, type Child } from '../support/process.ts';

export interface Server {
  host: string;
  port: number;
  /** HOST:PORT. */
  address: string;
  /** Of its process, as it was started first; servers that files share do not say it. */
  pid?: number;
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** The same data and port again. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

async function server(
  port: number,
  launch: () => Child,
  isUp: () => Promise<boolean>,
): Promise<Server> {
  let child = launch();
  const wait = async (): Promise<void> => {
    await until(
      `server on port ${port}: ${child.output().slice(-500)}`,
      async () => ((await isUp()) ? true : undefined),
      90_000,
    );
  };
  await wait();
  return {
    host: '127.0.0.1',
    port,
    address: `127.0.0.1:${port}`,
    pid: child.pid,
    kill: async (signal = 'SIGKILL') => void (await child.kill(signal)),
    restart: async () => {
      child = launch();
      await wait();
    },
    stop: async () => void (await child.kill('SIGKILL')),
  };
}

/** Of a listener with TLS and SASL. */
export interface KafkaSecurity {
  /** Key and certificates in one file, and whom clients' certificates are believed for. PEM. */
  keyAndCert: string;
  ca: string;
  user: string;
  password: string;
}

function securityProperties({ keyAndCert, ca, user, password }: KafkaSecurity): string {
  const login = 'org.apache.kafka.common.security';
  const listener = 'listener.name.sasl_ssl';
  return `sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
ssl.keystore.type=PEM
ssl.keystore.location=${keyAndCert}
ssl.truststore.type=PEM
ssl.truststore.location=${ca}
ssl.client.auth=required
${listener}.plain.sasl.jaas.config=${login}.plain.PlainLoginModule required user_${user}="${password}";
${listener}.scram-sha-256.sasl.jaas.config=${login}.scram.ScramLoginModule required;
${listener}.scram-sha-512.sasl.jaas.config=${login}.scram.ScramLoginModule required;
${listener}.oauthbearer.sasl.jaas.config=${login}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="admin";
`;
}

/** The quick compiler alone: halves what a start costs, of Kafka, HDFS and Spark. */
export const JAVA_FOR_A_MINUTE = '-XX:+UseSerialGC -XX:TieredStopAtLevel=1';
/** Kafka's classes as the JVM keeps them: half of what a start costs is to read them. Made once a machine (kafka-classes.ts). */
export const KAFKA_CLASSES = join(CACHE, 'kafka-classes.jsa');
const FROM_CLASSES = [
  `-XX:SharedArchiveFile=${KAFKA_CLASSES}`,
  // One of another JVM is left out without a word.
  ...['-Xshare:auto', '-Xlog:disable', '-Xlog:all=error:stderr'],
];

/** `extra`: lines of its properties; `set`: more of them, from the next start on; what comes later counts. */
export async function startKafka(
  security?: KafkaSecurity,
  extra = '',
  virtualMachine = existsSync(KAFKA_CLASSES) ? FROM_CLASSES : [],
): Promise<Server & { securePort: number; wipe(): void; set(lines: string): void }> {
  const folder = temporaryFolder();
  const [port, controller, securePort] = [await freePort(), await freePort(), await freePort()];
  const properties = join(folder, 'server.properties');
  const secure = security === undefined ? '' : `,SASL_SSL://127.0.0.1:${securePort}`;
  writeFileSync(
    properties,
    `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${controller}
listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller}${secure}
advertised.listeners=PLAINTEXT://127.0.0.1:${port}${secure}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL
log.dirs=${join(folder, 'data')}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
message.max.bytes=9000000
auto.create.topics.enable=false
${security === undefined ? '' : securityProperties(security)}${extra}`,
  );
  const scram = ['SCRAM-SHA-256', 'SCRAM-SHA-512'].flatMap((mechanism) =>
    security === undefined
      ? []
      : ['--add-scram', `${mechanism}=[name=${security.user},password=${security.password}]`],
  );
  const libraries = join(CACHE, 'kafka-4.1.0', 'libs', '*');
  const format = (cluster: string): void => {
    const tool = ['-cp', libraries, 'kafka.tools.StorageTool', 'format'];
    const args = [...tool, '-t', cluster, '-c', properties, ...scram];
    execFileSync('java', [...virtualMachine, ...args], { stdio: 'pipe' });
  };
  format('aGVhZHdhdGVyLXRlc3QtMQ');
  // While it is down: all that it had is gone, and another cluster stands in its place.
  const wipe = (): void => {
    rmSync(join(folder, 'data'), { recursive: true });
    format('aGVhZHdhdGVyLXRlc3QtMg');
  };
  const launch = (): Child =>
    start('java', [
      '-Xmx512m',
      ...virtualMachine,
      '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
      '-cp',
      libraries,
      'kafka.Kafka',
      properties,
    ]);
  const set = (lines: string): void => appendFileSync(properties, `\n${lines}\n`);
  return { ...(await server(port, launch, () => accepts(port))), securePort, wipe, set };
}

/** Redis that writes to disk before it answers. */
export async function startRedis(): Promise<Server> {
  const folder = temporaryFolder();
  const port = await freePort();
  const file = join(folder, 'redis.conf');
  writeFileSync(
    file,
    `bind 127.0.0.1
port ${port}
dir ${folder}
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
`,
  );
  return await server(
    port,
    () => start('redis-server', [file]),
    () => accepts(port),
  );
}

/** PostgreSQL of its own, which refuses to run as root; its user is `postgres`. */
export async function startPostgres(): Promise<Server> {
  const folder = temporaryFolder();
  const port = await freePort();
  const versions = '/usr/lib/postgresql';
  const bin = join(versions, readdirSync(versions).sort().at(-1) ?? '', 'bin');
  const asPostgres =
    process.getuid?.() === 0
      ? ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups']
      : ['env'];
  if (process.getuid?.() === 0) {
    execFileSync('chown', ['postgres:postgres', folder]);
    chmodSync(dirname(folder), 0o711); // The way there.
  }
  const [command = '', ...words] = asPostgres;
  const data = join(folder, 'data');
  execFileSync(
    command,
    [...words, join(bin, 'initdb'), '-D', data, '-A', 'trust', '-U', 'postgres', '--no-locale'],
    { stdio: 'pipe' },
  );
  const launch = (): Child =>
    start(command, [
      ...words,
      join(bin, 'postgres'),
      ...['-D', data, '-p', String(port), '-c', 'listen_addresses=127.0.0.1'],
      ...['-c', 'unix_socket_directories='],
    ]);
  const isUp = (): Promise<boolean> =>
    new Promise((resolve) => {
      // It listens before it answers.
      execFile(join(bin, 'pg_isready'), ['-h', '127.0.0.1', '-p', String(port)], (error) =>
        resolve(error === null),
      );
    });
  return await server(port, launch, isUp);
}

export async function startMosquitto(extra = '', command = 'mosquitto'): Promise<Server> {
  const folder = temporaryFolder();
  const port = await freePort();
  const file = join(folder, 'mosquitto.conf');
  // Else it becomes another user, who may not look into a test's folder.
  const asRoot = process.getuid?.() === 0 ? 'user root\n' : '';
  writeFileSync(
    file,
    `${asRoot}listener ${port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_inflight_messages 0\nmax_queued_messages 0\n${extra}`,
  );
  return await server(
    port,
    () => start(command, ['-c', file]),
    () => accepts(port),
  );
}

export interface Influx extends Server {
  /** What `--store` takes. */
  store: string;
  token: string;
}

async function healthy(url: string): Promise<boolean> {
  try {
    return (await fetch(url)).ok;
  } catch {
    return false; // Not listening yet.
  }
}

export async function startInflux1(folder = temporaryFolder()): Promise<Influx> {
  const port = await freePort();
  const file = join(folder, 'influxdb.conf');
  writeFileSync(
    file,
    `bind-address = "127.0.0.1:${await freePort()}"
reporting-disabled = true
[meta]
  dir = "${join(folder, 'meta')}"
[data]
  dir = "${join(folder, 'data')}"
  wal-dir = "${join(folder, 'wal')}"
  query-log-enabled = false
[http]
  bind-address = "127.0.0.1:${port}"
  log-enabled = false
  max-body-size = 0
[logging]
  level = "error"
`,
  );
  const launch = (): Child =>
    start(join(CACHE, 'bin', 'influxdb1-1.8.10', 'influxd'), ['-config', file]);
  const base = await server(port, launch, () => healthy(`http://127.0.0.1:${port}/ping`));
  return { ...base, store: `influxdb://127.0.0.1:${port}/headwater`, token: '' };
}

export async function startInflux2(folder = temporaryFolder()): Promise<Influx> {
  mkdirSync(join(folder, 'engine'));
  const port = await freePort();
  const launch = (): Child =>
    start(join(CACHE, 'bin', 'influxdb2-2.7.12', 'influxd'), [
      `--http-bind-address=127.0.0.1:${port}`,
      `--bolt-path=${join(folder, 'influxd.bolt')}`,
      `--sqlite-path=${join(folder, 'influxd.sqlite')}`,
      `--engine-path=${join(folder, 'engine')}`,
      '--reporting-disabled',
      '--log-level=error',
    ]);
  const base = await server(port, launch, () => healthy(`http://127.0.0.1:${port}/health`));
  const token = 'test-token-of-this-run-only';
  const setup = await fetch(`http://127.0.0.1:${port}/api/v2/setup`, {
    method: 'POST',
    body: JSON.stringify({
      username: 'test',
      password: 'test-password',
      org: 'org',
      bucket: 'bucket',
      token,
    }),
  });
  if (!setup.ok) throw new Error(`InfluxDB setup: ${await setup.text()}`);
  return { ...base, store: `influxdb://127.0.0.1:${port}/org/bucket`, token };
}

/** Fetches servers and tools, once a machine. */
export function bring(...names: string[]): void {
  const services = ['test/services/install.sh', ...names];
  execFileSync('bash', services, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] });
}

/** The peers at their newest, fetched if need be: from here on `mosquitto` is 2.1 and not the system's. */
export function bringPeers(...names: string[]): void {
  bring('mosquitto2', ...names);
  process.env['PATH'] = `${join(CACHE, 'mosquitto2-2.1.2', 'bin')}:${process.env['PATH'] ?? ''}`;
}

/** Telegraf from MQTT to InfluxDB 2, as measurement `telegraf`; it acknowledges at MQTT what InfluxDB has. */
export function startTelegraf(
  mqtt: string,
  influx: Influx,
  topics: string,
  persistent = false,
): Child {
  const file = join(temporaryFolder(), 'telegraf.conf');
  writeFileSync(
    file,
    `[agent]
  interval = "1s"
  flush_interval = "200ms"
  metric_batch_size = 5000
  metric_buffer_limit = 1000000
  omit_hostname = true
[[inputs.mqtt_consumer]]
  servers = ["tcp://${mqtt}"]
  topics = ["${topics}"]
  qos = 1
  max_undelivered_messages = 20000
  persistent_session = ${persistent}
  client_id = "telegraf"
  data_format = "json"
  json_time_key = "ts"
  json_time_format = "unix_ms"
  name_override = "telegraf"
[[outputs.influxdb_v2]]
  urls = ["http://${influx.address}"]
  token = "${influx.token}"
  organization = "org"
  bucket = "bucket"
`,
  );
  return start(join(CACHE, 'bin', 'telegraf-1.39.3', 'telegraf'), ['--config', file, '--quiet']);
}

export interface S3Server extends Server {
  endpoint: string;
  bucket: string;
  /** For the environment of whoever uses it. */
  credentials: Record<string, string>;
}

/** versitygw over a folder; a bucket is a folder in it. */
export async function startS3(): Promise<S3Server> {
  const folder = temporaryFolder();
  const port = await freePort();
  const bucket = 'lake';
  mkdirSync(join(folder, 'objects', bucket), { recursive: true });
  mkdirSync(join(folder, 'sidecar'));
  const credentials = { AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'testtest12' };
  const launch = (): Child =>
    start(
      join(CACHE, 'bin', 'versitygw-1.8.0', 'versitygw'),
      [
        '--port',
        `127.0.0.1:${port}`,
        'posix',
        '--sidecar',
        join(folder, 'sidecar'),
        join(folder, 'objects'),
      ],
      { ROOT_ACCESS_KEY: 'test', ROOT_SECRET_KEY: 'testtest12' },
    );
  const base = await server(port, launch, () => accepts(port));
  return { ...base, endpoint: `http://127.0.0.1:${port}`, bucket, credentials };
}

const JAVA_OPENS = [
  'java.base/java.lang',
  'java.base/java.util',
  'java.base/java.util.concurrent',
  'java.base/java.net',
  'java.base/java.io',
  'java.base/java.nio',
  'java.base/sun.nio.ch',
].map((name) => `--add-opens=${name}=ALL-UNNAMED`);

/** A NameNode and a DataNode; `address` is of WebHDFS, `rpc` of what Hadoop's own clients speak. */
export async function startHdfs(): Promise<Server & { rpc: string }> {
  const folder = temporaryFolder();
  const ports: number[] = [];
  while (ports.length < 5) ports.push(await freePort());
  const [rpc = 0, http = 0, data = 0, dataHttp = 0, dataIpc = 0] = ports;
  const settings = (values: Record<string, string>): string =>
    `<configuration>${Object.entries(values)
      .map(([name, value]) => `<property><name>${name}</name><value>${value}</value></property>`)
      .join('')}</configuration>`;
  writeFileSync(
    join(folder, 'core-site.xml'),
    settings({ 'fs.defaultFS': `hdfs://127.0.0.1:${rpc}`, 'hadoop.tmp.dir': join(folder, 'tmp') }),
  );
  writeFileSync(
    join(folder, 'hdfs-site.xml'),
    settings({
      'dfs.namenode.http-address': `127.0.0.1:${http}`,
      'dfs.namenode.name.dir': join(folder, 'name'),
      'dfs.datanode.data.dir': join(folder, 'data'),
      'dfs.datanode.address': `127.0.0.1:${data}`,
      'dfs.datanode.http.address': `127.0.0.1:${dataHttp}`,
      'dfs.datanode.ipc.address': `127.0.0.1:${dataIpc}`,
      'dfs.datanode.hostname': '127.0.0.1',
      'dfs.namenode.datanode.registration.ip-hostname-check': 'false',
      'dfs.replication': '1',
      'dfs.datanode.synconclose': 'true',
      'dfs.namenode.safemode.extension': '0',
      'dfs.permissions.enabled': 'false',
    }),
  );
  const classpath = `${folder}:${join(CACHE, 'hadoop-3.4.1', 'libs', '*')}`;
  const java = (main: string, ...args: string[]): string[] => [
    ...JAVA_OPENS,
    '-Xmx256m',
    '-cp',
    classpath,
    `org.apache.hadoop.hdfs.server.${main}`,
    ...args,
  ];
  execFileSync('java', java('namenode.NameNode', '-format', '-nonInteractive'), { stdio: 'pipe' });
  const launch = (): Child => {
    const name = start('java', java('namenode.NameNode'));
    const node = start('java', java('datanode.DataNode'));
    return {
      ...name,
      kill: async (signal) => {
        await node.kill(signal);
        return await name.kill(signal);
      },
    };
  };
  const isUp = async (): Promise<boolean> => {
    try {
      const url = `http://127.0.0.1:${http}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState`;
      const { beans } = (await (await fetch(url)).json()) as {
        beans: { NumLiveDataNodes?: number; FSState?: string }[];
      };
      return beans[0]?.NumLiveDataNodes === 1 && beans[0].FSState === 'Operational';
    } catch {
      return false; // Not listening yet.
    }
  };
  return { ...(await server(http, launch, isUp)), rpc: `127.0.0.1:${rpc}` };
}

/** Python with Spark, pandas, pyarrow and Jupyter's kernel. */
export const LAKE_PYTHON = join(CACHE, 'lake-python-2', 'bin', 'python');

/** A folder for SPARK_CONF_DIR: how Spark reaches that S3 server. */
export function sparkForS3({ endpoint }: S3Server): string {
  const folder = temporaryFolder();
  const settings = {
    'spark.driver.extraClassPath': join(CACHE, 'spark-s3-3.3.4', '*'),
    'spark.hadoop.fs.s3a.endpoint': endpoint,
    'spark.hadoop.fs.s3a.path.style.access': 'true',
    'spark.hadoop.fs.s3a.aws.credentials.provider':
      'com.amazonaws.auth.EnvironmentVariableCredentialsProvider',
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} ${value}\n`);
  writeFileSync(join(folder, 'spark-defaults.conf'), lines.join(''));
  return folder;
}
