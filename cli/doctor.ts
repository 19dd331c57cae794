/** `headwater doctor`: looks at what the servers will stand on and says what is not as it should be. It makes nothing. */
import type { Answer, Earlier } from '../shared/http/client.ts';
import { COLLECTOR_CONFIG } from '../collector/config.ts';
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { loadConfig } from '../shared/config/spec.ts';
import { HeadwaterError } from '../shared/errors.ts';
import { SIDES, configuration, type Side } from './doctor/configuration.ts';
import { fail, ok, tried, warn, type Finding } from './doctor/finding.ts';
import { linesText } from '../shared/telemetry/log.ts';
import { clock, node, writable } from './doctor/machine.ts';
import { lake, log, store } from './doctor/servers.ts';

const FLAGS: Flags = {
  config: {
    value: 'FILE',
    about: "A gateway's, a collector's or `up`'s YAML file: it and all that it names is checked.",
  },
  as: { value: 'SIDE', about: 'Whose file it is: gateway or collector. Else its keys tell.' },
  data: { value: 'DIR', about: 'Data folder to try.', default: './headwater-data' },
  log: { value: 'LOG', about: 'Log to try, such as kafka://HOST:PORT.' },
  store: { value: 'STORE', about: 'Store to try, such as influxdb://HOST:PORT/ORG/BUCKET.' },
  lake: { value: 'LAKE', about: 'Lake to try, such as s3://BUCKET/PREFIX.' },
  http: { value: 'HOST:PORT', about: 'A running collector to ask what waits, and its warnings.' },
};

export const DOCTOR_HELP = helpText(
  'doctor [flags]',
  'Checks what Headwater stands on: Node, disk, fsync, clock, log, store and lake; with --config also the file, certificates, secrets, access, mappings, rules, jobs and the uplink. A line each: ok, warn or fail, and what to do. It makes no file, folder, topic or database. Ends with 1 when something fails.',
  FLAGS,
  `Examples:
  headwater doctor
  headwater doctor --config /etc/headwater/gateway.yaml`,
);

type Values = Record<string, string | boolean | undefined>;

async function collector(address: string): Promise<Finding[]> {
  return await tried(async () => {
    const { ask } = await import('./api.ts');
    const {
      warnings,
      blocked,
      // Not from a collector of an older version.
      waiting = [],
    } = (await ask(address, '/api/v1/status')) as Earlier<Answer<'/api/v1/status'>, 'waiting'>;
    return [
      ok(`collector ${address} answers`),
      ...(blocked === null ? [] : [fail(blocked)]),
      // What blocks all is one of them.
      ...waiting
        .filter(({ why }) => why !== blocked)
        .map(({ name, why }) => fail(`${name} waits: ${why}`)),
      ...warnings.map(warn),
    ];
  });
}

/** What is named on the command line alone. */
async function named(values: Values): Promise<Finding[]> {
  const environment = process.env;
  const config = loadConfig(COLLECTOR_CONFIG, { flags: { ...values, http: '' }, environment });
  const said: Finding[] = [];
  const notify = ({ text }: { text: string }): void => void said.push(warn(text));
  return [
    clock(Date.now(), false),
    ...(await writable(String(values['data'] ?? './headwater-data'), 0)),
    ...(values['log'] === undefined ? [] : await log(config, notify)),
    ...(values['store'] === undefined
      ? []
      : await store(config, environment['HEADWATER_INFLUXDB_TOKEN'] ?? '', notify)),
    ...(values['lake'] === undefined ? [] : await lake(config, notify)),
    ...said,
  ];
}

function sideAsked(text: string | boolean | undefined): Side | undefined {
  if (text === undefined) return undefined;
  const side = SIDES.find((each) => each === text);
  if (side === undefined)
    throw new HeadwaterError('USAGE', `--as '${text}' is not gateway or collector`);
  return side;
}

export async function doctor(args: string[]): Promise<void> {
  const { values, help } = parseFlags('doctor', args, FLAGS, 0);
  if (help) {
    process.stdout.write(DOCTOR_HELP);
    return;
  }
  const { config: file, http, as, ...flags } = values;
  const side = sideAsked(as);
  const findings = [
    node(),
    ...(typeof file === 'string' ? await configuration({ file, side, flags }) : await named(flags)),
    ...(typeof http === 'string' ? await collector(http) : []),
  ];
  process.stdout.write(linesText(findings.map(({ level, text }) => `${level.padEnd(4)}  ${text}`)));
  process.exit(findings.some(({ level }) => level === 'fail') ? 1 : 0);
}
