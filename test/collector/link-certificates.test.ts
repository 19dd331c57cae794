/**
 * Links that carry a secret to a server by TLS: with a certificate of another name, one that has expired or one of a foreign
 * authority, not one byte of a request is sent, and the error names the link and the cause. (Mail: delivery-links.test.ts;
 * the uplink: e2e/hostile-access.test.ts.)
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createServer, type Server } from 'node:tls';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { InfluxHttp } from '../../collector/store/influxdb-http.ts';
import { send, type Alert } from '../../collector/stream/delivery/senders.ts';
import { parseDelivery } from '../../collector/stream/delivery/targets.ts';
import { processTime } from '../../shared/env/env.ts';
import { Authority, type CertificateOptions } from '../support/certificates.ts';
import { temporaryFolder } from '../support/process.ts';

const folder = temporaryFolder();
const secretFile = join(folder, 'secret');
const SECRET = 'a secret that must not travel';
let ours: Authority;
let foreign: Authority;
let server: Server | undefined;

beforeAll(() => {
  ours = new Authority(join(folder, 'ours'));
  foreign = new Authority(join(folder, 'foreign'), 'Foreign');
  writeFileSync(secretFile, SECRET, { mode: 0o600 });
});
afterEach(async () => {
  await new Promise<void>((resolve) =>
    server === undefined ? resolve() : server.close(() => resolve()),
  );
  server = undefined;
});

/** A server with that certificate, and what it was sent. */
async function listen(
  authority: Authority,
  options: Omit<CertificateOptions, 'name'>,
): Promise<{ port: number; heard: () => string }> {
  const { cert, key } = authority.issue({ name: 'server', ...options });
  let heard = '';
  const listening = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (bytes: Buffer) => {
      heard += bytes.toString('latin1');
      socket.destroy();
    });
  });
  listening.on('tlsClientError', () => undefined); // A refused handshake is what is looked for.
  server = listening;
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  return { port: (listening.address() as AddressInfo).port, heard: () => heard };
}

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
};

describe.each(Object.entries(LINKS))('%s', (_name, ask) => {
  it('speaks to a server of its name and authority', async () => {
    const { port, heard } = await listen(ours, { hosts: ['127.0.0.1'] });
    // The server ends every conversation: what counts is that one began.
    await expect(ask(port, ours.cert)).rejects.toThrow(String(port));
    expect(heard()).toContain(SECRET);
  });

  it.each([
    ['of a wrong name', () => listen(ours, { hosts: ['10.9.9.9'] }), /not in the cert|altnames/],
    [
      'that has expired',
      () => listen(ours, { hosts: ['127.0.0.1'], from: '20200101000000Z', to: '20240101000000Z' }),
      /expired/,
    ],
    [
      'of a foreign authority',
      () => listen(foreign, { hosts: ['127.0.0.1'] }),
      /self.signed|unable to|issuer/,
    ],
  ])('sends nothing to a certificate %s', async (_what, start, why) => {
    const { port, heard } = await start();
    const asking = ask(port, ours.cert);
    await expect(asking).rejects.toThrow(why);
    await expect(asking).rejects.toThrow(String(port));
    expect(heard()).toBe('');
  });
});

it('a webhook sends nothing to a certificate of an authority that the system does not know', async () => {
  const { port, heard } = await listen(foreign, { hosts: ['127.0.0.1'] });
  const delivering = deliver(
    `webhook: "https://127.0.0.1:${port}/x", authorizationFile: ${secretFile}`,
  );
  await expect(delivering).rejects.toThrow(/self.signed|unable to|issuer/);
  expect(heard()).toBe('');
});
