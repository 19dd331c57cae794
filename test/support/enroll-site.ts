/** A collector that enrols, in this process, and gateways and strangers that ask it. */
import { X509Certificate } from 'node:crypto';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { Collector } from '../../collector/collector.ts';
import { Authority } from '../../collector/enroll/authority.ts';
import type { Member } from '../../collector/enroll/registry.ts';
import { keyPem, newKey, x509Library } from '../../shared/access/x509.ts';
import { environmentName, loadConfig } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import type { Address } from '../../shared/net/listen.ts';
import type { Notice } from '../../shared/telemetry/log.ts';
import { runGateway, type RunningGateway } from './gateway.ts';
import { temporaryFolder, until } from './process.ts';

const DAY_MS = 86_400_000;

/** What a test has started, ended by `endAll`. */
export const cleanups: (() => Promise<void>)[] = [];

export async function endAll(): Promise<void> {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
}

export interface Site {
  folder: string;
  http: string;
  enroll: Address | undefined;
  uplinks: Address | undefined;
  notices: Notice[];
  close: () => Promise<void>;
}

/** Ports of one that is started again on the same folder. */
export async function collector(
  folder = temporaryFolder(),
  before?: Site,
  failuresMax = 1000,
): Promise<Site> {
  const at = (address: Address | undefined): string => `127.0.0.1:${address?.port ?? 0}`;
  const config = loadConfig(COLLECTOR_CONFIG, {
    flags: {
      data: folder,
      lake: 'none',
      uplink: '127.0.0.1:0',
      http: '127.0.0.1:0',
      uplinks: at(before?.uplinks),
      enroll: at(before?.enroll),
    },
    environment: { [environmentName('ingest.authFailuresPerMinute')]: String(failuresMax) },
  });
  const notices: Notice[] = [];
  const running = new Collector(realEnv(), config, (notice) => void notices.push(notice));
  const { http, enroll, uplinks } = await running.start(undefined);
  const close = () => running.close();
  return { folder, http: `http://127.0.0.1:${http?.port}`, enroll, uplinks, notices, close };
}

export async function post(
  site: Site,
  path: string,
  fields: object,
): Promise<Record<string, unknown>> {
  const response = await fetch(`${site.http}/api/v1/enroll/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(fields),
  });
  return { status: response.status, ...((await response.json()) as object) };
}

export async function tokenFor(site: Site, gateway: string, more: object = {}): Promise<string> {
  const { tokens } = await post(site, 'tokens', { gateways: gateway, ...more });
  return (tokens as { token: string }[])[0]?.token ?? '';
}

export const fleet = async (site: Site): Promise<Record<string, never>[]> =>
  ((await (await fetch(`${site.http}/api/v1/gateways`)).json()) as { gateways: [] }).gateways;

export function saved(token: string): string {
  const path = join(temporaryFolder(), 'token');
  writeFileSync(path, `${token}\n`, { mode: 0o600 });
  return path;
}

export async function gateway(join: string, folder = temporaryFolder()): Promise<RunningGateway> {
  const running = await runGateway(folder, {}, { id: '', join });
  cleanups.push(() => running.gateway.close());
  return running;
}

export const connected = (running: RunningGateway): Promise<number> =>
  until(
    'a link',
    async () => (await running.metric('headwater_uplink_connected')) || undefined,
    10_000,
  );
export const said = (notices: Notice[], pattern: RegExp): Promise<string> =>
  until(String(pattern), () => notices.find(({ text }) => pattern.test(text))?.text, 10_000);

/** Started again on its folder and ports, with the registry as it is there now. */
export async function again(site: Site): Promise<Site> {
  const later = await collector(site.folder, site);
  cleanups.push(later.close);
  return later;
}

interface Answer {
  status: number;
  body: string;
}

interface Shown {
  token?: string;
  body?: string | Buffer;
  /** Key and certificate. */
  own?: string;
  headers?: Record<string, string>;
  from?: string;
}

/** What a stranger or an EST client of somebody else sends. */
export function est(
  site: Pick<Site, 'folder' | 'enroll'>,
  path: string,
  { token, body = '', own, headers = {}, from }: Shown,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: '127.0.0.1',
        port: site.enroll?.port,
        path: `/.well-known/est/${path}`,
        method: path === 'cacerts' ? 'GET' : 'POST',
        ca: readFileSync(join(site.folder, 'enroll', 'ca.pem')),
        ...(own === undefined ? {} : { cert: own, key: own }),
        headers: {
          ...headers,
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        },
        ...(from === undefined ? {} : { localAddress: from }),
        agent: false,
      },
      (response) => {
        let text = '';
        response.on('data', (part: Buffer) => (text += part.toString()));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
      },
    );
    sent.on('error', reject);
    sent.end(path === 'cacerts' ? '' : body);
  });
}

export async function csr(name: string, namedCurve = 'P-256'): Promise<string> {
  const { Pkcs10CertificateRequestGenerator } = await x509Library();
  const algorithm = { name: 'ECDSA', namedCurve, hash: 'SHA-256' };
  const keys = await globalThis.crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const made = await Pkcs10CertificateRequestGenerator.create({
    name: `CN=${name}`,
    keys,
    signingAlgorithm: algorithm,
  });
  return Buffer.from(made.rawData).toString('base64');
}

/** Key and certificate of somebody, given `daysAgo` for a year. */
export async function certificate(
  authority: Authority,
  name: string,
  daysAgo: number,
): Promise<string> {
  const keys = await newKey();
  const spki = Buffer.from(await globalThis.crypto.subtle.exportKey('spki', keys.publicKey));
  const pem = await authority.issueClient(name, spki, Date.now() - daysAgo * DAY_MS, 365);
  return (await keyPem(keys)) + pem;
}

/** As if a gateway had been enrolled so long ago (negative: by a clock that was ahead). Key and certificate that it would have. */
export async function age(site: Site, name: string, days: number): Promise<[string, string]> {
  const authority = await Authority.open(join(site.folder, 'enroll'), Date.now(), () => undefined);
  const own = await certificate(authority, name, days);
  const at = own.indexOf('-----BEGIN CERTIFICATE');
  const [key, pem] = [own.slice(0, at), own.slice(at)];
  const { serialNumber: serial, validFrom, validTo } = new X509Certificate(pem);
  const member: Member = {
    gateway: name,
    site: '',
    labels: {},
    enrolledMs: Date.now() - days * DAY_MS,
    certificates: [
      { serial, key: '', fromMs: Date.parse(validFrom), toMs: Date.parse(validTo), pem, seenMs: 1 },
    ],
  };
  appendFileSync(join(site.folder, 'enroll', 'registry.jsonl'), `${JSON.stringify({ member })}\n`);
  return [key, pem];
}
