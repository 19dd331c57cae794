/**
 * The files that a configuration names, each read by what reads it in a server. Those of the collector are loaded when
 * they are needed: they bring much with them.
 */
import { AccessRules } from '../../gateway/ingress/access.ts';
import type { GatewayConfig } from '../../gateway/config.ts';
import { readTokens } from '../../shared/access/tokens.ts';
import { Passwords, readPrivateFile, readSecretFile } from '../../shared/config/secrets.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { CollectorConfig } from '../../collector/config.ts';
import { ok, tried, warn, type Finding } from './finding.ts';

/** Reads a file as a server does, and says what is in it. Throws one sentence. */
type Read = (path: string, setting: string) => Finding;

const secret: Read = (path, setting) => {
  readSecretFile(path, setting);
  return ok(`${setting}: ${path} is private and long enough`);
};
const privately: Read = (path, setting) => {
  readPrivateFile(path, setting);
  return ok(`${setting}: ${path} is private`);
};

/** Of both sides, by setting: who may come, and as whom a server goes elsewhere. */
const CREDENTIALS: Readonly<Record<string, Read>> = {
  'http.tokenFile': secret,
  'uplink.secretFile': secret,
  'kafka.passwordFile': secret,
  'kafka.tokenFile': secret,
  'store.tokenFile': privately,
  'http.tokensFile': (path, setting) => {
    const { length } = readTokens(path);
    return length === 0
      ? warn(`${setting}: ${path} has no token, so nobody may come: add one (headwater token)`)
      : ok(`${setting}: ${path} has ${length} tokens`);
  },
  'mqtt.passwordFile': (path, setting) => {
    const passwords = new Passwords(path);
    return ok(`${setting}: ${path} has ${passwords.size} users`);
  },
  'mqtt.aclFile': (path, setting) => {
    const rules = new AccessRules(path);
    return rules.size === 0
      ? warn(`${setting}: ${path} has no rule, so nobody may do anything: add some`)
      : ok(`${setting}: ${path} has ${rules.size} rules`);
  },
};

export async function credentials(config: GatewayConfig | CollectorConfig): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const [setting, read] of Object.entries(CREDENTIALS)) {
    const path = (config as Readonly<Record<string, unknown>>)[setting];
    // A setting of the other side is not there.
    if (typeof path === 'string' && path !== '')
      findings.push(...(await tried(() => [read(path, setting)])));
  }
  return findings;
}

/** What topics mean, what is computed, whom is told, and what is run. */
export async function programs(config: CollectorConfig, notify: Notify): Promise<Finding[]> {
  const mappings = tried(async () => {
    const { MappingSet } = await import('../../collector/decode/mapping/set.ts');
    const file = config.mappings;
    const options = {
      file,
      extra: [],
      shipped: config['decode.shippedMappings'],
      localZone: config['decode.localZone'],
      pastDays: config['decode.deviceTimePastDays'],
    };
    await new MappingSet(options, notify).load();
    return file === '' ? [] : [ok(`mappings: ${file} is valid`)];
  });
  const rules = tried(async () => {
    const { RuleFile } = await import('../../collector/stream/rule-file.ts');
    const file = config['stream.rules'];
    const set = await new RuleFile(file, notify).load();
    const counts = `${set.rules.length} rules and ${set.delivery.targets.length} targets`;
    return file === '' ? [] : [ok(`stream.rules: ${file} has ${counts}`)];
  });
  const jobs = tried(async () => {
    const { loadJobs } = await import('../../collector/batch/job.ts');
    const folder = config['batch.jobs'];
    const { length } = loadJobs(folder, false);
    loadJobs(folder, config['batch.shippedJobs']);
    return folder === '' ? [] : [ok(`batch.jobs: ${folder} has ${length} jobs`)];
  });
  return (await Promise.all([mappings, rules, jobs])).flat();
}
