/**
 * What the loss table compares: each system at its defaults and at the safest setting that its own documentation names. A
 * layout is what runs on the edge machine: the files of its configuration and its processes, the same on the host and in a
 * guest whose power is cut. What is printed in docs/loss-table.md is these texts.
 */
import { join } from 'node:path';
import { CACHE } from '../../support/cache.ts';
import type { Need } from '../needs.ts';

export interface Place {
  /** On the disk that faults strike; a system keeps everything there. */
  folder: string;
  /** Where it listens for MQTT, on loopback. */
  port: number;
  /** Where the centre listens, for systems that send to it by themselves. */
  centre: number;
}

export interface Layout {
  /** By name, in a folder whose path the processes get as {conf}. */
  files: Record<string, string>;
  processes: string[][];
}

export interface System {
  /** One line for the table: what, and at which setting. */
  title: string;
  version: string;
  /** How readings get from the edge to the centre. */
  centre: 'subscriber' | 'http' | 'collector';
  needs: Need[];
  layout: (place: Place) => Layout;
}

const MOSQUITTO_FOLDER = join(CACHE, 'mosquitto2-2.1.2');
const MOSQUITTO = join(MOSQUITTO_FOLDER, 'bin', 'mosquitto');
const SQLITE = '/usr/lib/x86_64-linux-gnu/mosquitto/mosquitto_persist_sqlite.so';
const TELEGRAF = join(CACHE, 'bin', 'telegraf-1.39.3', 'telegraf');
const NATS = join(CACHE, 'bin', 'nats-2.12.1', 'nats-server');

/** Without the limits of a queue that would drop by themselves. */
const mosquittoConf = (port: number, more: string): string => `listener ${port} 127.0.0.1
allow_anonymous true
user root
max_queued_messages 0
max_inflight_messages 0
${more}`;

const sqliteConf = (folder: string, options: string): string =>
  `persistence_location ${folder}/\nplugin ${MOSQUITTO_FOLDER}${SQLITE}\n${options}`;

const SAFEST_SQLITE = 'plugin_opt_sync extra\nplugin_opt_flush_period 0\n';

function mosquitto(setting: string, more: (folder: string) => string): System {
  return {
    title: `Mosquitto, ${setting}`,
    version: '2.1.2',
    centre: 'subscriber',
    needs: ['Mosquitto 2.1'],
    layout: ({ folder, port }) => ({
      files: { 'mosquitto.conf': mosquittoConf(port, more(folder)) },
      processes: [[MOSQUITTO, '-c', '{conf}/mosquitto.conf']],
    }),
  };
}

const telegrafConf = ({ port, centre }: Place, buffer: string): string => `[agent]
  interval = "1s"
  flush_interval = "1s"
  omit_hostname = true
  metric_buffer_limit = 1000000
${buffer}[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:${port}"]
  topics = ["chaos/#"]
  qos = 1
  persistent_session = true
  client_id = "forwarder"
  data_format = "json"
[[outputs.influxdb_v2]]
  urls = ["http://127.0.0.1:${centre}"]
  token = "loss-table"
  organization = "org"
  bucket = "bucket"
`;

function telegraf(setting: string, buffer: (folder: string) => string): System {
  return {
    title: `Mosquitto and Telegraf, ${setting}`,
    version: '2.1.2 and 1.39.3',
    centre: 'http',
    needs: ['Mosquitto 2.1', 'Telegraf'],
    layout: (place) => ({
      files: {
        'mosquitto.conf': mosquittoConf(place.port, sqliteConf(place.folder, SAFEST_SQLITE)),
        'telegraf.conf': telegrafConf(place, buffer(place.folder)),
      },
      processes: [
        [MOSQUITTO, '-c', '{conf}/mosquitto.conf'],
        [TELEGRAF, '--config', '{conf}/telegraf.conf', '--quiet'],
      ],
    }),
  };
}

function nats(setting: string, more: string): System {
  return {
    title: `NATS JetStream by MQTT, ${setting}`,
    version: '2.12.1',
    centre: 'subscriber',
    needs: ['NATS'],
    layout: ({ folder, port }) => ({
      files: {
        'nats.conf': `server_name: edge
listen: "127.0.0.1:-1"
jetstream { store_dir: "${folder}/jetstream"${more} }
mqtt { listen: "127.0.0.1:${port}" }
`,
      },
      processes: [[NATS, '-c', '{conf}/nats.conf']],
    }),
  };
}

const headwater: System = {
  title: 'Headwater, its defaults, which are its safest setting',
  version: 'this checkout',
  centre: 'collector',
  needs: [],
  layout: ({ folder, port, centre }) => ({
    files: {},
    processes: [
      [
        ...[process.execPath, 'cli/bin.mjs', 'gateway', '--data', `${folder}/data`],
        ...['--id', 'gw-table', '--mqtt', `127.0.0.1:${port}`, '--gateway-http', ''],
        ...['--collector', `mqtt://127.0.0.1:${centre}`],
      ],
    ],
  }),
};

export const SYSTEMS: Record<string, System> = {
  headwater,
  mosquitto: mosquitto('without persistence (its default)', () => 'persistence false\n'),
  'mosquitto-sqlite': mosquitto('persist-sqlite at its defaults', (folder) =>
    sqliteConf(folder, ''),
  ),
  'mosquitto-sqlite-safest': mosquitto(
    'persist-sqlite at its safest (sync extra, flush_period 0)',
    (folder) => sqliteConf(folder, SAFEST_SQLITE),
  ),
  'telegraf-memory': telegraf('buffer in memory', () => ''),
  'telegraf-disk': telegraf(
    'buffer on disk',
    (folder) => `  buffer_strategy = "disk"\n  buffer_directory = "${folder}/telegraf"\n`,
  ),
  nats: nats('its defaults (fsync each two minutes)', ''),
  'nats-sync-always': nats('sync_interval always', ', sync_interval: always'),
};
