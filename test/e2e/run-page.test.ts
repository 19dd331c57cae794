/** The procedures of docs/run.md with real processes: an old copy is put back, a log is new, a collector moves; and its samples. */
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectAsync } from 'mqtt';
import { afterAll, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { STOP_MS } from '../../shared/config/process.ts';
import { passwordLine } from '../../shared/config/secrets.ts';
import { freePort } from '../support/free-port.ts';
import {
  ROOT,
  headwater,
  run,
  startCollector,
  startGateway,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { fetchOnce, forwarded, reconcile, reconciled } from '../support/reconcile.ts';

const opened: Headwater[] = [];
afterAll(async () => {
  await Promise.all(opened.map((each) => each.kill('SIGKILL')));
});

/** A collector and a gateway on folders of their own, and the numbers that devices saw acknowledged. */
class Site {
  readonly gatewayFolder = temporaryFolder();
  readonly acknowledged = new Set<number>();
  private gatewayServer: Headwater | undefined;
  private collectorServer: Headwater | undefined;

  get gateway(): Headwater {
    if (this.gatewayServer === undefined) throw new Error('no gateway was started');
    return this.gatewayServer;
  }

  get collector(): Headwater {
    if (this.collectorServer === undefined) throw new Error('no collector was started');
    return this.collectorServer;
  }

  async startCollector(folder: string, uplink: string): Promise<void> {
    this.collectorServer = await startCollector(['--data', folder, '--uplink', uplink]);
    opened.push(this.collectorServer);
  }

  async startGateway(uplink: string, folder = this.gatewayFolder): Promise<void> {
    this.gatewayServer = await startGateway(uplink, ['--id', 'roof-1', '--data', folder], {
      HEADWATER_UPLINK_RECONNECT_MS_MAX: '300',
    });
    opened.push(this.gatewayServer);
  }

  async publish(count: number): Promise<void> {
    const client = await connectAsync(`mqtt://${this.gateway.address['mqtt']}`);
    const from = this.acknowledged.size;
    const numbers = Array.from({ length: count }, (_, at) => from + at);
    await Promise.all(
      numbers.map(async (n) => {
        await client.publishAsync('roof/weather', JSON.stringify({ n }), { qos: 1 });
        this.acknowledged.add(n);
      }),
    );
    await client.endAsync();
  }

  /** Waits until all that was acknowledged is there; it is there once, and `headwater ledger` says that nothing is missing. */
  async isWhole(): Promise<void> {
    const { acknowledged, collector } = this;
    await reconciled(collector, 'weather', 'n', acknowledged, acknowledged);
    await forwarded(this.gateway.address['http'] ?? '');
    const http = collector.address['http'] ?? '';
    const stored = await reconcile(http, 'weather', 'n', acknowledged, acknowledged);
    expect(stored).toEqual({ missing: 0, extra: 0, foreign: 0, stored: acknowledged.size });
    const { code, output } = await run(['ledger', '--http', http]);
    expect(code, output).toBe(0);
  }
}

const uplinkOn = async (): Promise<string> => `127.0.0.1:${await freePort()}`;

function copyOf(folder: string): string {
  const copy = join(temporaryFolder(), 'copy');
  cpSync(folder, copy, { recursive: true });
  return copy;
}

function putBack(copy: string, folder: string): void {
  rmSync(folder, { recursive: true });
  cpSync(copy, folder, { recursive: true });
}

const SAMPLES = join(ROOT, 'docs/samples');

interface Pod {
  terminationGracePeriodSeconds: number;
  containers: {
    args: string[];
    livenessProbe: { httpGet: { path: string } };
    readinessProbe: { httpGet: { path: string } };
    resources: { limits: { memory: string } };
  }[];
}

interface StatefulSet {
  kind: string;
  metadata: { name: string };
  spec: { template: { spec: Pod } };
}

function manifests(): StatefulSet[] {
  const documents = parseAllDocuments(readFileSync(join(SAMPLES, 'kubernetes.yaml'), 'utf8'));
  for (const { errors } of documents) expect(errors).toEqual([]);
  const all = [...documents].map((document) => document.toJS() as StatefulSet);
  expect(all).toHaveLength(4);
  return all.filter(({ kind }) => kind === 'StatefulSet');
}

/** Puts the line that a command prints for a file of credentials there; gives the token, which is shown once. */
async function made(command: string[], folder: string, name: string): Promise<string> {
  const { code, output, stdout } = await run(command);
  expect(code, output).toBe(0);
  writeFileSync(join(folder, name), stdout, { mode: 0o600 });
  return /^token: (.*)$/m.exec(output)?.[1] ?? '';
}

describe('docs/run.md', () => {
  it('an old copy of a collector is put back, its log is made anew, it moves: nothing acknowledged is lost or doubled', async () => {
    const site = new Site();
    const folder = temporaryFolder();
    const uplink = await uplinkOn();
    await site.startCollector(folder, uplink);
    await site.startGateway(uplink);
    await site.publish(300);
    await forwarded(site.gateway.address['http'] ?? '');
    await site.collector.kill();
    const copy = copyOf(folder);
    await site.startCollector(folder, uplink);
    await site.publish(300);
    await forwarded(site.gateway.address['http'] ?? '');
    await site.collector.kill('SIGKILL');

    putBack(copy, folder);
    await site.startCollector(folder, uplink);
    await until(
      'the gateway to send again what the copy lacks',
      () => site.gateway.output().includes('uplink_recalled') || undefined,
    );
    await site.isWhole();

    await site.collector.kill();
    rmSync(join(folder, 'log'), { recursive: true });
    await site.publish(100);
    const elsewhere = await uplinkOn();
    await site.startCollector(copyOf(folder), elsewhere);
    await site.gateway.kill();
    await site.startGateway(elsewhere);
    await site.isWhole();
  });

  it('an old copy of a gateway is put back: what it sends again is there once, and new messages follow', async () => {
    const site = new Site();
    const uplink = await uplinkOn();
    await site.startGateway(uplink);
    await site.publish(200);
    await site.gateway.kill();
    const copy = copyOf(site.gatewayFolder);
    await site.startCollector(temporaryFolder(), uplink);
    await site.startGateway(uplink);
    await site.publish(200);
    await forwarded(site.gateway.address['http'] ?? '');
    await site.gateway.kill('SIGKILL');

    putBack(copy, site.gatewayFolder);
    await site.startGateway(uplink);
    await site.publish(200);
    await site.isWhole();
  });

  it('the manifests are YAML, and their commands run and reach each other with the secrets that they name', async () => {
    const pods = manifests();
    const [collector, gateway] = ['collector', 'gateway'].map((name) => {
      const pod = pods.find(({ metadata }) => metadata.name === `headwater-${name}`)?.spec.template;
      if (pod === undefined) throw new Error(`no manifest of the ${name}`);
      return pod.spec;
    }) as [Pod, Pod];
    for (const { containers, terminationGracePeriodSeconds } of [collector, gateway]) {
      expect(terminationGracePeriodSeconds * 1000).toBeGreaterThan(STOP_MS);
      for (const { livenessProbe, readinessProbe, resources } of containers) {
        expect(livenessProbe.httpGet.path).toBe('/healthz');
        expect(readinessProbe.httpGet.path).toBe('/readyz');
        expect(resources.limits.memory).toMatch(/^\d+[MG]i$/);
      }
    }
    const secrets = temporaryFolder();
    const token = await made(['token', 'ops', '--scopes', 'admin'], secrets, 'tokens');
    writeFileSync(join(secrets, 'uplink_secret'), 'a secret of both sides', { mode: 0o600 });
    const password = await passwordLine('sensor', Buffer.from('of a test'));
    writeFileSync(join(secrets, 'passwords'), `${password}\n`, { mode: 0o600 });
    const uplink = await uplinkOn();
    const here = ({ containers: [first] }: Pod): string[] =>
      (first?.args ?? []).map((arg) =>
        arg
          .replace('/run/secrets', secrets)
          .replace('=/data/', `=${temporaryFolder()}/`)
          .replace('0.0.0.0:1884', uplink)
          .replace('headwater-collector:1884', uplink)
          .replace(/0\.0\.0\.0:\d+/, '127.0.0.1:0'),
      );
    const centre = await headwater(here(collector));
    opened.push(centre);
    const edge = await headwater(['gateway', ...here(gateway)], { HEADWATER_ID: 'gateway-0' });
    opened.push(edge);
    for (const { address } of [centre, edge])
      for (const path of ['healthz', 'readyz'])
        expect((await fetchOnce(`http://${address['http']}/${path}`)).status, path).toBe(200);
    const ledger = `http://${centre.address['http']}/api/v1/ledger`;
    expect((await fetchOnce(ledger)).status).toBe(401);
    await until('the gateway to be in the ledger', async () => {
      const headers = { authorization: `Bearer ${token}` };
      return (await (await fetchOnce(ledger, { headers })).text()).includes('gateway-0');
    });
  });

  it('the units start commands that exist, restart always, and give a stop the time that it may take', () => {
    for (const name of ['collector', 'gateway']) {
      const unit = readFileSync(join(SAMPLES, `headwater-${name}.service`), 'utf8');
      const setting = (key: string): string =>
        new RegExp(`^${key}=(.*)$`, 'm').exec(unit)?.[1] ?? '';
      const [, file = ''] = /node (?:--\S+ )*(\S+)/.exec(setting('ExecStart')) ?? [];
      expect(existsSync(join(ROOT, file)), file).toBe(true);
      expect(setting('ExecStart')).toContain(`--data /var/lib/${setting('StateDirectory')} `);
      expect(setting('ProtectSystem')).toBe('strict');
      expect(setting('Restart')).toBe('always');
      expect(Number(setting('TimeoutStopSec')) * 1000).toBeGreaterThan(STOP_MS);
    }
    // What Docker gives, where nothing else is said.
    expect(STOP_MS).toBeLessThan(10_000);
  });
});
