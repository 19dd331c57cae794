/** `headwater up`: gateway and collector in one process, with the sample of real stations. */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { makeFolder } from '../shared/config/folder.ts';
import { checkKinds } from '../shared/config/folder-kinds.ts';
import { Collector } from '../collector/collector.ts';
import { COLLECTOR_CONFIG } from '../collector/config.ts';
import { GATEWAY_CONFIG } from '../gateway/config.ts';
import { Gateway } from '../gateway/gateway.ts';
import { configFlags, helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { failProcess, outlast, privateFiles, readyLine, serve } from '../shared/config/process.ts';
import { tellStrays } from '../shared/config/environment.ts';
import { environmentName, loadConfig, parseFolder } from '../shared/config/spec.ts';
import { realEnv } from '../shared/env/env.ts';
import { HeadwaterError, assert } from '../shared/errors.ts';
import { isLoopback } from '../shared/net/address.ts';
import { addressText, type Address } from '../shared/net/listen.ts';
import { stderrNotify } from '../shared/telemetry/log.ts';
import { SampleShow, type SampleOptions } from './sample-show.ts';
import { SAMPLE_MAPPINGS } from './sample.ts';

const FLAGS: Flags = {
  config: {
    value: 'FILE',
    about:
      'YAML file with the sections `gateway` and `collector`; docs/configuration.md lists the keys.',
  },
  'no-sample': { about: 'Without the sample data.' },
  'sample-time': {
    value: 'now|true',
    about:
      "`now`: the sample's week is shown as if it ended at the first start, and goes on while this runs; `true`: as it was measured, in March 2019.",
    default: 'now',
  },
  ...configFlags(GATEWAY_CONFIG, COLLECTOR_CONFIG),
  data: {
    value: 'DIR',
    about: 'Folder for everything that must survive a restart.',
    default: './headwater-data',
  },
};
// In one process there is one collector, which this command names itself, and it has all roles.
delete FLAGS['collector'];
delete FLAGS['roles'];

export const UP_HELP = helpText(
  'up [flags]',
  'Runs a gateway and a collector in one process, embedded log and store by default, and replays a week of real air-quality stations into them.',
  FLAGS,
  `Examples:
  headwater up --no-sample --data ./my-data
  headwater up --sample-time true`,
);

const SECTIONS = ['gateway', 'collector'] as const;

function configs(values: Record<string, string | boolean | undefined>) {
  const given = values['data'] ?? process.env['HEADWATER_DATA'] ?? './headwater-data';
  const folder = parseFolder(String(given), '--data');
  const file = values['config'] as string | undefined; // A flag with a value is a string.
  const base = { file, sections: SECTIONS };
  // Both sides have an `http.listen`; in one process the environment's means the collector's.
  const forGateway = { ...process.env };
  delete forGateway[environmentName('http.listen')];
  delete forGateway[environmentName('data')];
  return {
    folder,
    gateway: loadConfig(GATEWAY_CONFIG, {
      ...base,
      section: 'gateway',
      flags: { ...values, data: join(folder, 'gateway') },
      environment: forGateway,
    }),
    collector: loadConfig(COLLECTOR_CONFIG, {
      ...base,
      section: 'collector',
      flags: { ...values, data: join(folder, 'collector') },
      environment: process.env,
    }),
  };
}

/** How gateways on this machine reach an address that may be a wildcard. */
function reachable({ host, port }: Address): string {
  return addressText({
    host: host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host,
    port,
  });
}

function sampleTimeOf(given: string): 'now' | 'true' {
  if (given === 'now' || given === 'true') return given;
  throw new HeadwaterError('USAGE', `--sample-time ${given} is neither 'now' nor 'true'`);
}

const STAYS = '\nCtrl-C stops it; a next start goes on from here.\n';

type SampleChoice = Pick<SampleOptions, 'isNow' | 'nowMs'>;

/** Both sides as one, with the sample. */
class Both {
  private readonly collector: Collector;
  private readonly gateway: Gateway;
  private readonly scheme: 'http' | 'https';
  private isStopping = false;
  private mqtt: Address | undefined;
  /** The week of the sample: a stop waits until it is noted how far it has come. */
  private showing: Promise<void> = Promise.resolve();

  constructor(collector: Collector, gateway: Gateway, scheme: 'http' | 'https') {
    this.collector = collector;
    this.gateway = gateway;
    this.scheme = scheme;
  }

  /** Resolves when both serve. */
  start(folder: string): Promise<void> {
    return this.orClose(() => this.open(folder));
  }

  /** Resolves when the sample, where there is one, is there. */
  show(folder: string, sample: SampleChoice | undefined): Promise<void> {
    return this.orClose(async () => {
      if (sample !== undefined) await this.fill(folder, sample);
      if (!this.isStopping) process.stdout.write(STAYS);
    });
  }

  private async orClose(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  private async open(folder: string): Promise<void> {
    const { collector, gateway } = this;
    await makeFolder(folder, 0o700);
    await checkKinds(folder);
    const token = process.env['HEADWATER_INFLUXDB_TOKEN'];
    const { http, uplink, uplinks, enroll } = await collector.start(token);
    assert(uplink !== undefined, 'with all roles there is an uplink');
    const {
      mqtt,
      http: gatewayHttp,
      ...others
    } = await gateway.start([`mqtt://${reachable(uplink)}`]);
    process.stdout.write(
      readyLine({ mqtt, http, uplink, uplinks, enroll, 'gateway-http': gatewayHttp, ...others }),
    );
    greet(http, mqtt, this.scheme);
    this.mqtt = mqtt;
  }

  private async fill(folder: string, sample: SampleChoice): Promise<void> {
    const { mqtt } = this;
    const { log } = this.collector.parts;
    const { store } = this.gateway;
    if (mqtt === undefined || log === undefined || store === undefined) return;
    const show = new SampleShow({
      ...{ ...sample, folder, log, buffer: store, address: reachable(mqtt) },
      stopping: () => this.isStopping,
    });
    this.showing = show.whole();
    await this.showing;
    show.goOn();
  }

  async close(): Promise<void> {
    this.isStopping = true;
    await this.showing.catch(() => undefined); // The start rejects with it.
    await this.gateway.close();
    await this.collector.close();
  }

  get waitsFor(): string | undefined {
    return this.gateway.waitsFor ?? this.collector.waitsFor;
  }
}

export async function up(args: string[]): Promise<void> {
  const { values, help } = parseFlags('up', args, FLAGS, 0);
  if (help) {
    process.stdout.write(UP_HELP);
    return;
  }
  const sampleTime = sampleTimeOf(String(values['sample-time'] ?? 'now'));
  const env = realEnv();
  const config = configs(values);
  const nowMs = (): number => env.clock.wallUs() / 1000;
  const sample = values['no-sample'] === true ? undefined : { isNow: sampleTime === 'now', nowMs };
  const notify = stderrNotify('up', nowMs, {
    format: config.collector['logging.format'],
    level: config.collector['logging.level'],
  });
  outlast(notify);
  const sides = [
    { spec: GATEWAY_CONFIG, config: config.gateway },
    { spec: COLLECTOR_CONFIG, config: config.collector },
  ];
  tellStrays(sides, 'headwater up', process.env, notify);
  privateFiles();
  const collector = new Collector(
    env,
    config.collector,
    notify,
    sample === undefined ? [] : [SAMPLE_MAPPINGS],
  );
  const gateway = new Gateway(env, config.gateway, notify);
  gateway.onFatal = (error) => {
    failProcess(error);
    process.exit();
  };
  const both = new Both(collector, gateway, config.collector['http.tls'] ? 'https' : 'http');
  await serve({
    start: () => both.start(config.folder),
    run: () => both.show(config.folder, sample),
    close: () => both.close(),
    waitsFor: () => both.waitsFor,
    notify,
  });
}

/** What of a server beyond this machine is opened there, and how one comes to one that is not. */
function elsewhere({ host, port }: Address, scheme: string): string[] {
  if (!isLoopback(host)) return [`         from other machines ${scheme}://${hostname()}:${port}/`];
  if (process.env['SSH_CONNECTION'] === undefined) return [];
  return [`         from where you are, after: ssh -L ${port}:127.0.0.1:${port} ${hostname()}`];
}

function greet(http: Address | undefined, mqtt: Address | undefined, scheme: string): void {
  const lines = [];
  if (http !== undefined)
    lines.push(`  Page   ${scheme}://${reachable(http)}/`, ...elsewhere(http, scheme));
  if (mqtt !== undefined) {
    lines.push(`  MQTT   ${reachable(mqtt)}`);
    const flag = mqtt.port === 1883 ? '' : ` --mqtt ${reachable(mqtt)}`;
    lines.push(
      `  Try    npx --no-install headwater publish home/kitchen/climate '{"temperature":21.5}'${flag}`,
    );
  }
  process.stdout.write(`\n${lines.join('\n')}\n\n`);
}
