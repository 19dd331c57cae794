/** Every setting of the collector: the check, `docs/configuration.md` and the sample file come from this table. */
import { accessSettings } from '../shared/access/settings.ts';
import { DEVICE_TIME_PAST_DAYS } from '../shared/codecs/time.ts';
import { LOGGING_SETTINGS } from '../shared/config/logging.ts';
import { UPLINK_SETTINGS } from './uplink-settings.ts';
import type { ConfigOf, ConfigSpec } from '../shared/config/spec.ts';
import { FIELD_LIMITS } from '../shared/model/limits.ts';

const MIB = 1024 * 1024;

export const COLLECTOR_CONFIG = {
  data: {
    type: 'string',
    default: './headwater-data/collector',
    flag: 'data',
    isFolder: true,
    about: 'Folder for everything that must survive a restart.',
  },
  roles: {
    type: 'list',
    default: ['ingest', 'decode', 'store', 'lake', 'stream', 'batch', 'query'],
    flag: 'roles',
    about:
      'What this process does. Apart from each other, roles need Kafka as log and InfluxDB as store.',
  },
  ...UPLINK_SETTINGS,
  'clock.trusted': {
    type: 'boolean',
    default: false,
    about:
      "You answer for this machine's wall clock. Else a clock that is behind this version's making, or behind what the log has, is told to no gateway.",
  },
  'http.listen': {
    type: 'address',
    default: '127.0.0.1:8080',
    flag: 'http',
    about: 'The page and the API. Empty switches it off.',
  },
  ...accessSettings('gateways'),
  ...LOGGING_SETTINGS,
  log: {
    type: 'string',
    default: 'embedded',
    flag: 'log',
    adapter: true,
    about:
      'The log: `embedded`, `kafka://HOST:PORT[,HOST:PORT]`, or a package that provides one (`NAME://ADDRESS`, see docs/adapters.md).',
  },
  store: {
    type: 'string',
    default: 'embedded',
    flag: 'store',
    adapter: true,
    about:
      'The store: `embedded`, `influxdb://HOST:PORT/ORG/BUCKET` (`influxdbs://` by TLS; 1.8: `/DB`; token by HEADWATER_INFLUXDB_TOKEN or `store.tokenFile`), or a package that provides one.',
  },
  'store.tokenFile': {
    type: 'string',
    default: '',
    about: "File (mode 0600) with InfluxDB's token; read again when it changes.",
  },
  'store.caFile': {
    type: 'string',
    default: '',
    about: 'Certificates (PEM) of authorities to trust for `influxdbs://`, beside the usual.',
  },
  'store.fillReadingsPerSecond': {
    type: 'integer',
    default: 20_000,
    min: 1,
    max: 10_000_000,
    unit: 'readings',
    about: 'How fast a store that lacks something is filled from the lake at most, a second.',
  },
  mappings: {
    type: 'string',
    default: '',
    flag: 'mappings',
    about: 'YAML file that says what topics mean; without it names come from topic and payload.',
  },
  'decode.shippedMappings': {
    type: 'boolean',
    default: true,
    about:
      'Know the topics of Tasmota, Shelly, Zigbee2MQTT, ESPHome, The Things Stack, ChirpStack, Sparkplug, Homie and others; your own mappings come first.',
  },
  'decode.codecs': {
    type: 'list',
    default: [],
    adapter: true,
    about:
      'Packages with codecs of their own (`NAME`, `NAME://?option=value`), which a mapping names by `codec`; see docs/adapters.md.',
  },
  'decode.localZone': {
    type: 'string',
    default: '',
    about:
      "Time zone (such as Europe/Berlin) of devices that send local time without saying so. Empty: such a time is not believed, and the gateway's receipt counts. It holds with and without a mapping.",
  },
  'decode.seriesPerClientMax': {
    type: 'integer',
    default: 100_000,
    min: 1,
    max: 10_000_000,
    unit: 'series',
    about:
      'Series (measurement and tags) that one MQTT client may bring; what would be one more goes to quarantine.',
  },
  'decode.seriesPerGatewayMax': {
    type: 'integer',
    default: 1_000_000,
    min: 1,
    max: 100_000_000,
    unit: 'series',
    about: 'The same for all clients of a gateway together.',
  },
  'decode.fieldsPerTopicMax': {
    type: 'integer',
    default: FIELD_LIMITS.perTopic,
    min: 1,
    max: 1_000_000,
    unit: 'names',
    about:
      'Names of fields that one topic may bring; a value under one more goes to quarantine, since a key that changes belongs into a tag.',
  },
  'decode.fieldsPerGatewayMax': {
    type: 'integer',
    default: FIELD_LIMITS.perGateway,
    min: 1,
    max: 10_000_000,
    unit: 'names',
    about: 'The same for all topics of a gateway together.',
  },
  'decode.fieldsMax': {
    type: 'integer',
    default: FIELD_LIMITS.inAll,
    min: 1,
    max: 10_000_000,
    unit: 'names',
    about: 'The same for all gateways together.',
  },
  'decode.deviceTimePastDays': {
    type: 'integer',
    default: DEVICE_TIME_PAST_DAYS,
    min: 1,
    max: 36_500,
    unit: 'days',
    about:
      "How long before its receipt a reading may have been measured by its device's own time; what is older is a clock that was never set, and stays a field.",
  },
  'log.cacheBytes': {
    type: 'integer',
    default: 16 * MIB,
    min: MIB,
    max: 1024 * MIB,
    unit: 'bytes',
    about: 'Recent records of each topic of the embedded log kept in memory.',
  },
  'log.readingsBytesMax': {
    type: 'integer',
    default: 1024 * MIB,
    min: MIB,
    max: 2 ** 50,
    unit: 'bytes',
    about:
      'How much of each of the topics `readings` and `results` the embedded log keeps after everybody has read it; a larger record stays alone. `raw` is kept whole.',
  },
  'log.namespace': {
    type: 'string',
    default: 'headwater',
    about:
      'Under which a log of another package keeps everything on its server; two installations on one server need two.',
  },
  'log.partitions': {
    type: 'integer',
    default: 4,
    min: 1,
    max: 1000,
    unit: 'partitions',
    about: 'Partitions of a new log of another package, where it has several.',
  },
  'kafka.topicPrefix': {
    type: 'string',
    default: 'headwater.',
    about: 'Put before the names of topics in Kafka.',
  },
  'kafka.partitions': {
    type: 'integer',
    default: 4,
    min: 1,
    max: 1000,
    unit: 'partitions',
    about:
      'Partitions of topics that are created for a new log. Later changes move nothing: keys stay where their state is.',
  },
  'kafka.tls': { type: 'boolean', default: false, about: 'Reach Kafka by TLS.' },
  'kafka.caFile': {
    type: 'string',
    default: '',
    about: "Authorities (PEM) that Kafka's certificate may be of. Empty: those of the system.",
  },
  'kafka.certFile': {
    type: 'string',
    default: '',
    about: 'Certificate (PEM) to show to Kafka.',
  },
  'kafka.keyFile': { type: 'string', default: '', about: 'Its key (PEM), without a password.' },
  'kafka.sasl': {
    type: 'string',
    default: 'none',
    choices: ['none', 'PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512', 'OAUTHBEARER'],
    about:
      'How Headwater says to Kafka who it is. Without TLS passwords and tokens can be read on the way.',
  },
  'kafka.user': { type: 'string', default: '', about: 'For PLAIN and SCRAM.' },
  'kafka.passwordFile': {
    type: 'string',
    default: '',
    about: 'File (mode 0600) with the password of that user.',
  },
  'kafka.tokenFile': {
    type: 'string',
    default: '',
    about: 'File (mode 0600) with the token for OAUTHBEARER; a new one is taken within seconds.',
  },
  'kafka.client': {
    type: 'list',
    default: [],
    about:
      'Settings of librdkafka as NAME=VALUE (such as socket.timeout.ms=20000). Those that acknowledgement, order, transactions and groups rest on are refused.',
  },
  'disk.freeBytesMin': {
    type: 'integer',
    default: 64 * MIB,
    min: 0,
    max: 2 ** 50,
    unit: 'bytes',
    about:
      'Below so much free space under the data folder the uplink is no longer acknowledged; reading goes on.',
  },
  'ingest.pendingBytesMax': {
    type: 'integer',
    default: 32 * MIB,
    min: MIB,
    max: 1024 * MIB,
    unit: 'bytes',
    about: 'Received from gateways and not yet in the log; beyond it reading from them stops.',
  },
  'ingest.httpGateway': {
    type: 'string',
    default: 'collector',
    about: 'Name of the gateway under which readings that come to the collector by HTTP are kept.',
  },
  'ingest.bodyBytesMax': {
    type: 'integer',
    default: MIB,
    min: 1024,
    max: 2 * MIB,
    unit: 'bytes',
    about: 'Largest body of an HTTP request that brings readings.',
  },
  'ingest.authFailuresPerMinute': {
    type: 'integer',
    default: 60,
    min: 1,
    max: 1_000_000,
    unit: 'failures',
    about:
      'Wrong credentials from one address in a minute; beyond it the address is refused without a look at them.',
  },
  'ingest.gatewaysMax': {
    type: 'integer',
    default: 10_000,
    min: 1,
    max: 1_000_000,
    unit: 'connections',
    about: 'Gateway connections at once.',
  },
  'ingest.epochsPerGatewayMax': {
    type: 'integer',
    default: 20_000,
    min: 100,
    max: 1_000_000,
    unit: 'epochs',
    about: 'Epochs of one gateway in the ledger; it begins one at each start. More are not taken.',
  },
  lake: {
    type: 'string',
    default: 'local',
    flag: 'lake',
    adapter: true,
    about:
      'The lake: `local` (the folder `lake` under `data`), a folder, `s3://BUCKET/PREFIX` (credentials where AWS tools look for them), `webhdfs://HOST:PORT/PATH?user=NAME`, a package that provides an object store, or `none`.',
  },
  'lake.s3Endpoint': {
    type: 'string',
    default: '',
    about: "URL of an S3 server other than AWS's.",
  },
  'lake.s3Region': { type: 'string', default: 'us-east-1', about: 'Region of the bucket.' },
  'lake.flushSeconds': {
    type: 'integer',
    default: 60,
    min: 1,
    max: 86_400,
    unit: 'seconds',
    about: 'What comes in waits at most so long for others before it is written to the lake.',
  },
  'lake.flushBytes': {
    type: 'integer',
    default: 64 * MIB,
    min: 64 * 1024,
    max: 1024 * MIB,
    unit: 'bytes',
    about:
      'So much of a zone is written to the lake without waiting; it is held in memory till then.',
  },
  'lake.memoryBytes': {
    type: 'integer',
    default: 512 * MIB,
    min: 64 * MIB,
    max: 2 ** 50,
    unit: 'bytes',
    about:
      'Memory that writing the lake may take, and again that questions to it may; beyond it the disk is used.',
  },
  'lake.cacheBytes': {
    type: 'integer',
    default: 1024 * MIB,
    min: MIB,
    max: 2 ** 50,
    unit: 'bytes',
    about: 'Disk space for files that were fetched from a lake elsewhere.',
  },
  'stream.rules': {
    type: 'string',
    default: '',
    flag: 'rules',
    about: 'YAML file with stream rules: windows, derived sensors, alerts.',
  },
  'stream.stateBytesMax': {
    type: 'integer',
    default: 256 * MIB,
    min: MIB,
    max: 2 ** 50,
    unit: 'bytes',
    about:
      'State of open windows in memory; beyond it the oldest are let go, and late readings correct them from the lake.',
  },
  'batch.jobs': {
    type: 'string',
    default: '',
    flag: 'jobs',
    about: 'Folder with SQL files of your own batch jobs, beside the shipped ones.',
  },
  'batch.shippedJobs': {
    type: 'boolean',
    default: true,
    about:
      'Run the shipped jobs: daily summaries, data quality, correlation, hour-of-week baselines.',
  },
  'batch.engine': {
    type: 'string',
    default: 'duckdb',
    adapter: true,
    about:
      'What runs the SQL of batch jobs: `duckdb`, `spark` (needs PySpark, `batch.python`), or a package that provides a batch engine (`NAME://ADDRESS`).',
  },
  'batch.secondsMax': {
    type: 'integer',
    default: 600,
    min: 1,
    max: 86_400,
    unit: 's',
    about: 'A job that runs longer for one day on DuckDB is stopped, and says so.',
  },
  'batch.python': {
    type: 'string',
    default: 'python3',
    about: 'Python with PySpark installed, for `batch.engine: spark`.',
  },
  'batch.sparkLake': {
    type: 'string',
    default: '',
    about:
      'URL of the lake as Spark reaches it (such as s3a://BUCKET/PREFIX); empty: the files as this process has them.',
  },
  'store.memoryBytes': {
    type: 'integer',
    default: 256 * MIB,
    min: 64 * MIB,
    max: 2 ** 50,
    unit: 'bytes',
    about: 'Memory that the embedded store may take.',
  },
} as const satisfies ConfigSpec;

export type CollectorConfig = ConfigOf<typeof COLLECTOR_CONFIG>;
export const ROLES = ['ingest', 'decode', 'store', 'lake', 'stream', 'batch', 'query'] as const;
export type Role = (typeof ROLES)[number];
