/** `headwater doctor --config FILE`: whose file it is, every sentence about it, and everything that it names. */
import { join } from 'node:path';
import { parse } from 'yaml';
import { COLLECTOR_CONFIG, type CollectorConfig } from '../../collector/config.ts';
import { GATEWAY_CONFIG, type GatewayConfig } from '../../gateway/config.ts';
import { gatewayId } from '../../gateway/gateway.ts';
import { Guard } from '../../gateway/ingress/guard.ts';
import { checkGateway } from '../../gateway/ingress/guard-part.ts';
import { readCertificates, type TlsFiles } from '../../shared/access/tls.ts';
import { checkFolder } from '../../shared/config/data-folder.ts';
import { strayVariables } from '../../shared/config/environment.ts';
import { inspectConfig, type ConfigOf, type ConfigSpec } from '../../shared/config/spec.ts';
import { readUserFile } from '../../shared/config/user-file.ts';
import { realEnv } from '../../shared/env/env.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { certificates } from './certificates.ts';
import { credentials, programs } from './files.ts';
import { fail, ok, tried, warn, type Finding } from './finding.ts';
import { clock, writable } from './machine.ts';
import { lake, log, store, targets, uplink } from './servers.ts';

export const SIDES = ['gateway', 'collector'] as const;
export type Side = (typeof SIDES)[number];

/** What is asked for on the command line counts as for a server. */
export interface Asked {
  file: string;
  side: Side | undefined;
  flags: Record<string, string | boolean | undefined>;
}

/** Top-level keys; none of a file that cannot be read, about which the configuration has the better sentence. */
function keysOf(file: string): string[] {
  try {
    const document: unknown = parse(readUserFile(file).toString('utf8'));
    return typeof document === 'object' && document !== null ? Object.keys(document) : [];
  } catch {
    return [];
  }
}

const heads = (spec: ConfigSpec): Set<string> =>
  new Set(Object.keys(spec).map((key) => key.split('.')[0] ?? ''));

/** By the keys that only one side has. */
function sideOf(keys: readonly string[]): Side {
  const [gateway, collector] = [heads(GATEWAY_CONFIG), heads(COLLECTOR_CONFIG)];
  const only = (own: Set<string>, other: Set<string>): number =>
    keys.filter((key) => own.has(key) && !other.has(key)).length;
  return only(gateway, collector) > only(collector, gateway) ? 'gateway' : 'collector';
}

/** '' for settings that this side does not have. */
function tlsOf(
  config: Readonly<Record<string, unknown>>,
  at: string,
  ca: string,
  crl = '',
): TlsFiles {
  const path = (name: string): string => {
    const value = config[`${at}.${name}`];
    return typeof value === 'string' ? value : '';
  };
  return {
    certFile: path('certFile'),
    keyFile: path('keyFile'),
    caFile: path(ca),
    crlFile: path(crl),
  };
}

/** Notes of a server's own check become warnings. */
function noted(): { notify: Notify; said: Finding[] } {
  const said: Finding[] = [];
  return { said, notify: ({ level, text }) => void (level !== 'info' && said.push(warn(text))) };
}

/** What either side has: its folder, as whom, with so much free; its secrets; the certificate of its doors. */
async function ownThings(
  config: GatewayConfig | CollectorConfig,
  [part, id]: [part: Side, id: () => string],
  freeBytes: number,
  nowMs: number,
): Promise<Finding[]> {
  return [
    ...(await tried(async () => {
      const trouble = await checkFolder(config.data, part, id());
      return trouble === undefined ? [] : [warn(trouble)];
    })),
    ...(await writable(config.data, freeBytes)),
    ...(await credentials(config)),
    ...(await certificates(
      'TLS certificate',
      tlsOf(config, 'tls', 'clientCaFile', 'crlFile'),
      true,
      nowMs,
    )),
  ];
}

async function gateway(config: GatewayConfig, isAlone: boolean): Promise<Finding[]> {
  const { notify, said } = noted();
  const nowMs = Date.now();
  const certFile = config['uplink.certFile'];
  const findings = [
    clock(nowMs, !config['clock.trusted']),
    ...(await ownThings(
      config,
      ['gateway', () => gatewayId(config.id, config.data)],
      config['buffer.reserveBytes'],
      nowMs,
    )),
    ...(await certificates('uplink', tlsOf(config, 'uplink', 'caFile'), false, nowMs)),
  ];
  const asWhom = await tried(() => {
    if (certFile === '') return [];
    const id = gatewayId(config.id, config.data);
    const subject = readCertificates(certFile, 'uplink')[0]?.subject ?? '';
    return subject.split('\n').includes(`CN=${id}`)
      ? []
      : [
          fail(
            `uplink: ${certFile} is of '${subject.replaceAll('\n', ', ')}', and this gateway is '${id}': a collector takes them for two; have one issued with CN=${id}, or set id`,
          ),
        ];
  });
  // What no server would start with was said above, file by file; whether the doors are guarded is only known then.
  const doors = findings.some(({ level }) => level === 'fail')
    ? []
    : await tried(() => {
        checkGateway(config, new Guard(config, realEnv(), notify), notify);
        return [ok('who may come to which address: as it must be')];
      });
  const reached = isAlone ? await uplink(config, notify) : [];
  return [...findings, ...asWhom, ...doors, ...said, ...reached];
}

async function collector(config: CollectorConfig, token: string): Promise<Finding[]> {
  const { notify, said } = noted();
  const nowMs = Date.now();
  const kafka = config.log.startsWith('kafka://');
  const storeCa = { certFile: '', keyFile: '', caFile: config['store.caFile'], crlFile: '' };
  const { checkRoles, parseRoles } = await import('../../collector/roles.ts');
  const { CollectorGuard } = await import('../../collector/ops/guard.ts');
  const findings = [
    clock(nowMs, false),
    ...(await ownThings(config, ['collector', () => ''], config['disk.freeBytesMin'], nowMs)),
    ...(kafka ? await certificates('kafka', tlsOf(config, 'kafka', 'caFile'), false, nowMs) : []),
    ...(await certificates('store', storeCa, false, nowMs)),
  ];
  const doors = findings.some(({ level }) => level === 'fail')
    ? []
    : await tried(() => {
        const roles = parseRoles(config.roles);
        checkRoles(roles, config);
        new CollectorGuard(config, realEnv(), notify).check(config, roles.has('ingest'), notify);
        return [ok('who may come to which address: as it must be')];
      });
  return [
    ...findings,
    ...doors,
    ...(await programs(config, notify)),
    ...(await log(config, notify)),
    ...(await store(config, token, notify)),
    ...(await lake(config, notify)),
    ...(await targets(config, notify)),
    ...said,
  ];
}

/** Everything that a file says and names. A file with sections is that of `headwater up`. */
export async function configuration(asked: Asked): Promise<Finding[]> {
  const { file, flags } = asked;
  const keys = keysOf(file);
  const isUp = keys.length > 0 && keys.every((key) => (SIDES as readonly string[]).includes(key));
  const sides = isUp ? SIDES : [asked.side ?? sideOf(keys)];
  const findings: Finding[] = [];
  const inspected: { spec: ConfigSpec; config: Readonly<Record<string, unknown>> }[] = [];
  const read = <S extends ConfigSpec>(spec: S, side: Side): ConfigOf<S> => {
    const root = String(flags['data'] ?? process.env['HEADWATER_DATA'] ?? './headwater-data');
    const { config, problems } = inspectConfig(spec, {
      file,
      flags: isUp ? { ...flags, data: join(root, side) } : flags,
      environment: process.env,
      ...(isUp ? { section: side, sections: SIDES } : {}),
    });
    inspected.push({ spec, config });
    const whose = isUp ? `the section '${side}' of ${file}` : `${file}, taken for a ${side}'s,`;
    findings.push(
      ...(problems.length === 0
        ? [ok(`${whose} is valid`)]
        : problems.map(({ message }) => fail(message))),
    );
    return config;
  };
  for (const side of sides) {
    const more = await tried(async () =>
      side === 'gateway'
        ? await gateway(read(GATEWAY_CONFIG, side), !isUp)
        : await collector(
            read(COLLECTOR_CONFIG, side),
            process.env['HEADWATER_INFLUXDB_TOKEN'] ?? '',
          ),
    );
    findings.push(...more);
  }
  const whose = isUp ? 'headwater up' : `a ${sides[0]}`;
  const strays = strayVariables(inspected, whose, process.env);
  return [...findings, ...strays.map(warn)];
}
