/** The servers that a configuration names: reached and asked, never given anything. */
import { connect, isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { GatewayConfig } from '../../gateway/config.ts';
import { checkClear, checkCollector } from '../../gateway/uplink/part.ts';
import { connectSecurely } from '../../gateway/uplink/secure.ts';
import type { CollectorConfig } from '../../collector/config.ts';
import { readUserFile } from '../../shared/config/user-file.ts';
import { messageOf } from '../../shared/errors.ts';
import { distrust } from '../../shared/net/distrust.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { fail, ok, tried, warn, type Finding } from './finding.ts';
import { writable } from './machine.ts';

const REACH_MS = 5000;

/** `ca` asks for TLS, against these authorities or the system's. Rejects with one sentence when nobody takes the connection. */
function reach(host: string, port: number, tls?: { ca?: Buffer }): Promise<void> {
  return new Promise((resolve, reject) => {
    const name = isIP(host) === 0 ? { servername: host } : {};
    const socket =
      tls === undefined ? connect({ host, port }) : connectTls({ host, port, ...name, ...tls });
    const end = (error?: Error): void => {
      socket.destroy();
      if (error === undefined) resolve();
      else reject(error);
    };
    socket.setTimeout(REACH_MS, () => end(new Error(`no connection within ${REACH_MS} ms`)));
    socket.once('error', end);
    socket.once(tls === undefined ? 'connect' : 'secureConnect', () => end());
  });
}

async function collectorAt(url: string, config: GatewayConfig): Promise<void> {
  const { protocol, hostname, port } = new URL(url);
  const host = hostname.replaceAll(/[[\]]/g, '');
  if (protocol === 'mqtt:') return await reach(host, Number(port || 1883));
  const tls = {
    caFile: config['uplink.caFile'],
    certFile: config['uplink.certFile'],
    keyFile: config['uplink.keyFile'],
  };
  const { socket } = await connectSecurely(
    host,
    Number(port || 8883),
    tls,
    () => (config['clock.trusted'] ? Date.now() : undefined),
    REACH_MS,
  );
  socket.destroy();
}

/** Of several collectors one is enough. */
export async function uplink(config: GatewayConfig, notify: Notify): Promise<Finding[]> {
  if (config.collectors.length === 0)
    return [warn('no collector is named: readings stay in the buffer; give --collector')];
  const failures: string[] = [];
  const findings: Finding[] = [];
  for (const url of config.collectors) {
    findings.push(
      ...(await tried(async () => {
        checkCollector(url);
        if (config['uplink.secretFile'] !== '') checkClear(url, config.allowPlaintext, notify);
        try {
          await collectorAt(url, config);
          return [ok(`collector ${url} can be reached`)];
        } catch (error) {
          failures.push(
            `collector ${url} cannot be reached: ${messageOf(error)}; start it, or look at address, network and firewall`,
          );
          return [];
        }
      })),
    );
  }
  const level = failures.length === config.collectors.length ? fail : warn;
  return [...findings, ...failures.map(level)];
}

const answers = (what: string, warnings: readonly string[]): Finding[] => [
  ok(`${what} answers`),
  ...warnings.map(warn),
];
const untried = (what: string): Finding =>
  ok(`${what}: the package is there; it is not opened, since that may make something`);

export function log(config: CollectorConfig, notify: Notify): Promise<Finding[]> {
  const name = config.log;
  return tried(async () => {
    if (name === 'embedded') return [];
    if (name.startsWith('kafka://')) {
      const { lookAtKafka } = await import('../../collector/log/kafka-look.ts');
      return answers(`log ${name}`, await lookAtKafka(config));
    }
    const { createLog } = await import('../../collector/log/open.ts');
    await createLog({ config, notify, nowMs: () => Date.now() });
    return [untried(`log ${name}`)];
  });
}

export function store(config: CollectorConfig, token: string, notify: Notify): Promise<Finding[]> {
  const name = config.store;
  return tried(async () => {
    if (name === 'embedded') return [];
    if (/^influxdbs?:\/\//.test(name)) {
      const { lookAtInfluxdb } = await import('../../collector/store/influxdb-look.ts');
      return answers(`store ${name}`, await lookAtInfluxdb(config, token, notify));
    }
    const { createStore } = await import('../../collector/store/open.ts');
    await createStore({ config, notify, nowMs: () => Date.now(), token });
    return [untried(`store ${name}`)];
  });
}

export function lake(config: CollectorConfig, notify: Notify): Promise<Finding[]> {
  const name = config.lake;
  return tried(async () => {
    // The local one is in the data folder, which is looked at anyway.
    if (name === 'none' || name === 'local') return [];
    const { createObjectStore } = await import('../../collector/lake/open.ts');
    const objects = await createObjectStore({ config, notify, nowMs: () => Date.now() });
    const folder = objects.path('');
    if (folder !== undefined) return await writable(folder, config['disk.freeBytesMin']);
    if (name.startsWith('s3://')) await objects.open();
    // To open this one makes its folder.
    else if (/^webhdfss?:\/\//.test(name)) await objects.list('headwater-doctor/');
    else return [untried(`lake ${name}`)];
    return answers(`lake ${objects.address}`, []);
  });
}

/** With TLS from its first byte, and the port that is meant when none is said. */
const SCHEMES: Readonly<Record<string, [isSecure: boolean, port: number]>> = {
  'http:': [false, 80],
  'https:': [true, 443],
  'smtp:': [false, 25],
  'smtps:': [true, 465],
  'mqtt:': [false, 1883],
  'mqtts:': [true, 8883],
};

/** Those to whom alerts go: connected to, and told nothing. What of the rules cannot be read is said elsewhere. */
export async function targets(config: CollectorConfig, notify: Notify): Promise<Finding[]> {
  const { RuleFile } = await import('../../collector/stream/rule-file.ts');
  const set = await new RuleFile(config['stream.rules'], notify).load().catch(() => undefined);
  const findings = (set?.delivery.targets ?? []).map(async (target) => {
    const at = target.kind === 'webhook' ? target.url : target.server;
    const what = `alerts: ${target.kind} '${target.name}' at ${at}`;
    const { protocol, hostname, port } = new URL(at);
    const [isSecure, usual] = SCHEMES[protocol] ?? [false, 0];
    const caFile = target.kind === 'webhook' ? undefined : target.caFile;
    try {
      const tls = caFile === undefined ? {} : { ca: readUserFile(caFile) };
      const host = hostname.replaceAll(/[[\]]/g, '');
      await reach(host, Number(port || usual), isSecure ? tls : undefined);
      return ok(`${what} can be reached`);
    } catch (error) {
      return fail(`${what}: ${distrust(error) ?? messageOf(error)}`);
    }
  });
  return await Promise.all(findings);
}
