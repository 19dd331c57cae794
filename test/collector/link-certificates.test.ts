/**
 * Links that carry a secret to a server by TLS: with a certificate of another name, one that has expired or is not valid yet,
 * one for clients, one of a foreign authority or of none, not one byte of a request is sent, and the error names the link and
 * the cause in the same sentence. (STARTTLS: delivery-links.test.ts; the uplink: e2e/hostile-access.test.ts; Kafka: integration/kafka-access.)
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { reasonOf } from '../../collector/log/kafka-admin.ts';
import { InfluxHttp } from '../../collector/store/influxdb-http.ts';
import { send, type Alert } from '../../collector/stream/delivery/senders.ts';
import { parseDelivery } from '../../collector/stream/delivery/targets.ts';
import { processTime } from '../../shared/env/env.ts';
import { start, temporaryFolder } from '../support/process.ts';
import {
  TlsServers,
  WRONG_CERTIFICATES,
  sentence,
  type Listening,
} from '../support/tls-servers.ts';

const folder = temporaryFolder();
const secretFile = join(folder, 'secret');
const SECRET = 'a secret that must not travel';
let servers: TlsServers;

beforeAll(() => {
  servers = new TlsServers(folder);
  writeFileSync(secretFile, SECRET, { mode: 0o600 });
});
afterAll(() => servers.close());

const alert: Alert = {
  rule: 'hot',
  status: 'firing',
  time: '2026-01-01T00:00:00Z',
  reason: 'above',
  message: 'hot',
  tags: {},
  id: 'x',
};

async function deliver(entry: string): Promise<void> {
  const [target] = parseDelivery(`deliver: [{ name: a, ${entry} }]`, 'rules.yaml').targets;
  if (target === undefined) throw new Error('no target');
  await send(target, alert);
}

/** Each asks the server at a port, trusting `caFile` beside what the system trusts. */
const LINKS: Record<string, (port: number, caFile: string) => Promise<unknown>> = {
  InfluxDB: async (port, caFile) => {
    const http = new InfluxHttp({
      url: `https://127.0.0.1:${port}`,
      caFile,
      token: () => SECRET,
      time: processTime,
    });
    try {
      return await http.ask('GET', '/ping');
    } finally {
      http.close();
    }
  },
  'alerts by MQTT': (port, caFile) =>
    deliver(
      `mqtt: "mqtts://127.0.0.1:${port}", topic: t, user: u, passwordFile: ${secretFile}, caFile: ${caFile}`,
    ),
  'alerts by mail': (port, caFile) =>
    deliver(
      `mail: "smtps://127.0.0.1:${port}", from: a@b.example, to: [c@d.example], user: u, passwordFile: ${secretFile}, caFile: ${caFile}`,
    ),
  'what Kafka is asked': async (port, caFile) => {
    const sasl = { mechanism: 'PLAIN', user: 'u', password: SECRET } as const;
    const ca = readFileSync(caFile);
    throw new Error(
      `127.0.0.1:${port}: ${await reasonOf(`127.0.0.1:${port}`, { tls: { ca }, sasl })}`,
    );
  },
};

/** Who says nothing before the server has, or nothing that is secret before it has answered. */
const WAITS = ['alerts by mail', 'what Kafka is asked', 'hdfs', 's3'];

describe.each(Object.entries(LINKS))('%s', (name, ask) => {
  it('speaks to a server of its name and authority', async () => {
    const { port, heard, secured } = await servers.good(
      name === 'alerts by mail' ? '220 mail.example\r\n' : '',
    );
    // The server ends every conversation: what counts is that one began.
    await expect(ask(port, servers.ours.cert)).rejects.toThrow(String(port));
    expect(secured()).toBeGreaterThan(0);
    if (!WAITS.includes(name)) expect(heard()).toContain(SECRET);
  });

  it.each(WRONG_CERTIFICATES)('sends nothing to a certificate %s', async (how, why) => {
    const { port, heard } = await servers.wrong(how);
    const asking = ask(port, servers.ours.cert);
    await expect(asking).rejects.toThrow(sentence(why));
    await expect(asking).rejects.toThrow(String(port));
    expect(heard()).toBe('');
  });
});

/** One process asks everybody, each over every link of the kind: its authorities are those that it starts with. */
describe('links that trust what the process trusts', () => {
  const links = ['webhook', 's3', 'hdfs'];
  const listening = new Map<string, Listening>();
  const said = new Map<string, string>();
  beforeAll(async () => {
    listening.set('good', await servers.good());
    for (const [how] of WRONG_CERTIFICATES) listening.set(how, await servers.wrong(how));
    const asks = [...listening].flatMap(([name, { port }]) =>
      links.map((link) => ({ id: `${name} ${link}`, link, port })),
    );
    const child = start(
      process.execPath,
      ['--import', 'tsx', 'test/support/ask-links.ts', secretFile, JSON.stringify(asks)],
      {
        NODE_EXTRA_CA_CERTS: servers.ours.cert,
        AWS_ACCESS_KEY_ID: 'id',
        AWS_SECRET_ACCESS_KEY: SECRET,
      },
    );
    expect(await child.exited, child.output()).toBe(0);
    for (const [id, text] of JSON.parse(child.stdout()) as [string, string][]) said.set(id, text);
  });

  it.each(links)('%s speaks to a server of its name and authority', (link) => {
    const good = listening.get('good');
    expect(good?.secured()).toBeGreaterThanOrEqual(links.length);
    expect(said.get(`good ${link}`)).not.toContain('certificate');
    if (!WAITS.includes(link)) expect(good?.heard()).toContain(SECRET);
  });

  describe.each(WRONG_CERTIFICATES)('a certificate %s', (name, why) => {
    it.each(links)('is sent nothing by %s', (link) => {
      expect(said.get(`${name} ${link}`)).toContain(sentence(why));
      expect(listening.get(name)?.heard()).toBe('');
    });
  });
});
