/**
 * Variables of the environment that look like settings and are none: a misspelt one would do nothing, and nobody would say so.
 * They end no start: a file of variables may serve several programs, and Kubernetes adds some for each service.
 */
import type { Notify } from '../telemetry/log.ts';
import { didYouMean } from './nearest.ts';
import { adapterName, environmentName, type ConfigSpec } from './spec.ts';

const PREFIX = 'HEADWATER_';
/** What commands, compose.yaml and tests read beside settings. */
const OTHERS = [
  ...['TOKEN', 'INFLUXDB_TOKEN', 'MQTT_USER', 'MQTT_PASSWORD', 'DEBUG', 'CACHE', 'SERVICES'],
  ...['INFLUXDB_URL', 'INFLUXDB_BUCKET', 'INFLUXDB_DATABASE', 'PROMETHEUS_URL', 'ALERT_WEBHOOK'],
  ...['MQTT_BIND', 'FULL', 'LONG', 'SEED', 'UPDATE'],
].map((name) => `${PREFIX}${name}`);
const OF_TESTS = /^HEADWATER_(TEST|SIM)_/;
/** `HEADWATER_COLLECTOR_SERVICE_HOST`, `HEADWATER_PORT_1883_TCP_ADDR`: a service's address, put there by Kubernetes. */
const OF_KUBERNETES =
  /_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?)$/;

export interface Side {
  spec: ConfigSpec;
  config: Readonly<Record<string, unknown>>;
}

/** Before the variables of adapters, whose options only they know. */
const adaptersOf = ({ spec, config }: Side): string[] =>
  Object.entries(spec)
    .filter(([, each]) => 'adapter' in each && each.adapter === true)
    .flatMap(([key]) => config[key] as string | string[]) // As the kinds that have `adapter` are.
    .filter((value) => !value.startsWith('influxdb://'))
    .map((value) => `${environmentName(adapterName(value).replaceAll('-', '_'))}_`);

/** A sentence each. `whose`: of what they would be a setting. */
export function strayVariables(
  sides: readonly Side[],
  whose: string,
  environment: NodeJS.ProcessEnv,
): string[] {
  const settings = sides.flatMap(({ spec }) => Object.keys(spec).map(environmentName));
  const known = [...settings, ...OTHERS];
  // Those of ours have their options among the settings.
  const adapters = sides
    .flatMap(adaptersOf)
    .filter((prefix) => !settings.some((name) => name.startsWith(prefix)));
  return Object.keys(environment)
    .filter((name) => name.toUpperCase().startsWith(PREFIX) && !known.includes(name))
    .filter((name) => !OF_TESTS.test(name) && !OF_KUBERNETES.test(name))
    .filter((name) => !adapters.some((prefix) => name.startsWith(prefix)))
    .map(
      (name) =>
        `${name} is in the environment, and ${whose} has no setting of that name${didYouMean(name.toUpperCase(), known)}: it does nothing; docs/configuration.md lists those that do`,
    );
}

/** Tells of each. */
export function tellStrays(
  sides: readonly Side[],
  whose: string,
  environment: NodeJS.ProcessEnv,
  notify: Notify,
): void {
  for (const text of strayVariables(sides, whose, environment))
    notify({ level: 'warn', event: 'environment', text });
}
