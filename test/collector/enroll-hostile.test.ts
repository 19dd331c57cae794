/** The routes of enrolment × all who may ask, requests that mean no good, and what one of them can take from others. */
import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { statSync } from 'node:fs';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Authority } from '../../collector/enroll/authority.ts';
import { wishOf } from '../../collector/enroll/request.ts';
import { EST_ROUTES } from '../../collector/enroll/est.ts';
import { parseJoinToken } from '../../shared/access/join-token.ts';
import { keyPem, newKey } from '../../shared/access/x509.ts';
import { collector, csr, est, post, tokenFor, type Site } from '../support/enroll-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

let site: Site;
beforeAll(async () => {
  site = await collector();
});
afterAll(() => site.close());

const secretOf = async (name: string, more: object = {}): Promise<string> =>
  parseJoinToken(await tokenFor(site, name, more), 'test').secret;

/** Key and certificate of this authority; `daysAgo` more than its year: over. */
async function shown(authority: Authority, name: string, daysAgo = 0): Promise<string> {
  const keys = await newKey();
  const spki = Buffer.from(await globalThis.crypto.subtle.exportKey('spki', keys.publicKey));
  const pem = await authority.issueClient(name, spki, Date.now() - daysAgo * 86_400_000, 365);
  return (await keyPem(keys)) + pem;
}

/** Who may ask, and how he shows who he is. `gw` is the gateway that all of them ask for. */
const IDENTITIES = {
  nobody: async () => ({}),
  'a token that was guessed': async () => ({ token: 'guess' }),
  'a token with quotes and line breaks': async () => ({ token: `'"%0d%0a${'x'.repeat(4000)}` }),
  'a token of another name': async () => ({ token: await secretOf('other') }),
  'a token that was taken back': async () => {
    const token = await secretOf('gone');
    await post(site, 'revoke', { gateway: 'gone' });
    return { token };
  },
  'its token': async () => ({ token: await secretOf('gw') }),
  'a certificate of another authority': async () => ({
    own: await shown(await Authority.open(temporaryFolder(), Date.now(), () => undefined), 'gw'),
  }),
  'a certificate of another gateway': async () => ({ own: await shown(await ours(), 'other') }),
  'a certificate of a revoked gateway': async () => {
    await secretOf('out');
    await post(site, 'revoke', { gateway: 'out' });
    return { own: await shown(await ours(), 'out'), name: 'out' };
  },
  'a certificate that is over for good': async () => ({
    own: await shown(await ours(), 'gw', 1200),
  }),
  'its certificate': async () => ({ own: await shown(await ours(), 'kept'), name: 'kept' }),
} satisfies Record<string, () => Promise<{ token?: string; own?: string; name?: string }>>;

const ours = (): Promise<Authority> =>
  Authority.open(join(site.folder, 'enroll'), Date.now(), () => undefined);

/** By route: who gets a certificate. The authority's own is everybody's. */
const GETS: Record<string, (keyof typeof IDENTITIES)[]> = {
  cacerts: Object.keys(IDENTITIES) as (keyof typeof IDENTITIES)[], // As the table has them.
  simpleenroll: ['its token'],
  simplereenroll: ['its certificate'],
};

it('every route of enrolment answers everybody as the table says, and nobody else', async () => {
  for (const { path } of EST_ROUTES) {
    const route = path.split('/').at(-1) ?? '';
    const gets = GETS[route];
    expect(gets, `${path} has a row`).toBeDefined();
    for (const [who, show] of Object.entries(IDENTITIES)) {
      const { name = 'gw', ...credentials }: { token?: string; own?: string; name?: string } =
        await show();
      const { status } = await est(site, route, { ...credentials, body: await csr(name) });
      const isIn = gets?.includes(who as keyof typeof IDENTITIES) === true;
      expect([route, who, status === 200], String(status)).toEqual([route, who, isIn]);
      if (!isIn) expect([401, 403, 429]).toContain(status);
    }
  }
});

/** DER of a type and what it holds. */
function der(tag: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const { length } = body;
  const size =
    length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.from([tag, ...size]), body]);
}
const CN = Buffer.from('0603550403', 'hex');
const ECDSA_SHA256 = Buffer.from('300a06082a8648ce3d040302', 'hex');
const rdn = (value: Buffer): Buffer => der(0x31, der(0x30, CN, value));
const utf8 = (text: string): Buffer => der(0x0c, Buffer.from(text));

interface Made {
  names: Buffer[];
  /** Whose public key stands in it. */
  key?: { publicKey: KeyObject; privateKey: KeyObject };
  signedBy?: KeyObject;
  attributes?: Buffer;
}

const pair = (): { publicKey: KeyObject; privateKey: KeyObject } =>
  generateKeyPairSync('ec', { namedCurve: 'P-256' });

function request({ names, key = pair(), signedBy = key.privateKey, attributes }: Made): Buffer {
  const spki = key.publicKey.export({ type: 'spki', format: 'der' });
  const subject = der(0x30, ...names);
  const info = der(0x30, Buffer.from([2, 1, 0]), subject, spki, attributes ?? der(0xa0));
  const signature = sign('sha256', info, signedBy);
  return der(0x30, info, ECDSA_SHA256, der(0x03, Buffer.from([0]), signature));
}

describe('requests that mean no good', () => {
  it('the one that these are made of is good', async () => {
    const good = request({ names: [rdn(utf8('gw'))] });
    expect((await wishOf(good)).gateway).toBe('gw');
  });

  const refused: [string, () => Buffer][] = [
    [
      'signed by another key',
      () => request({ names: [rdn(utf8('gw'))], signedBy: pair().privateKey }),
    ],
    ['no name', () => request({ names: [] })],
    ['an empty name', () => request({ names: [rdn(utf8(''))] })],
    ['a name with a line break', () => request({ names: [rdn(utf8('gw\nCN=other'))] })],
    ['a name with a NUL', () => request({ names: [rdn(utf8('gw\0.evil'))] })],
    ['a name with a slash', () => request({ names: [rdn(utf8('../../etc/passwd'))] })],
    ['a name that reads the other way', () => request({ names: [rdn(utf8('gw\u202e1'))] })],
    ['a name of 7,000 characters', () => request({ names: [rdn(utf8('g'.repeat(7000)))] })],
    [
      'a name that is no UTF-8',
      () => request({ names: [rdn(der(0x0c, Buffer.from([0xff, 0xfe])))] }),
    ],
    ['a name of half a character', () => request({ names: [rdn(der(0x1e, Buffer.from([0x67])))] })],
    ['a thousand names', () => request({ names: Array(500).fill(rdn(utf8('x'))) })],
    [
      'an RSA key',
      () =>
        Buffer.from(
          request({
            names: [rdn(utf8('gw'))],
            key: generateKeyPairSync('rsa', { modulusLength: 1024 }),
          }),
        ),
    ],
    [
      'a signature of nothing',
      () =>
        der(
          0x30,
          request({ names: [rdn(utf8('gw'))] }).subarray(4, -80),
          ECDSA_SHA256,
          der(0x03, Buffer.from([0])),
        ),
    ],
    ['depth', () => Buffer.alloc(8000, Buffer.from([0x30, 0x80]))],
    ['a length of 2^31', () => Buffer.from('30847fffffff0200', 'hex')],
    ['lengths without end', () => Buffer.from(`30ff${'ff'.repeat(200)}`, 'hex')],
    [
      'attributes that nest',
      () =>
        request({
          names: [rdn(utf8('gw/'))],
          attributes: Buffer.concat([
            Buffer.from('a082', 'hex'),
            Buffer.from([0x10, 0]),
            Buffer.alloc(4096, Buffer.from([0x30, 0x80])),
          ]),
        }),
    ],
  ];
  it('a name that is no text is never taken for the text that it holds', async () => {
    for (const value of [der(0x02, Buffer.from('gw')), der(0x30, utf8('gw'))]) {
      const wish = await wishOf(request({ names: [rdn(value)] })).catch(() => undefined);
      expect(wish?.gateway).not.toBe('gw');
    }
  });

  it.each(refused)('%s: refused in one sentence, and soon', async (_what, make) => {
    const bytes = make();
    const before = process.cpuUsage();
    await expect(wishOf(bytes)).rejects.toMatchObject({ code: 'ENROLL_REFUSED' });
    expect(process.cpuUsage(before).user / 1000).toBeLessThan(1500);
  });

  it('over the socket, with a right token: huge, packed, of another type, PEM; the token stays whole', async () => {
    const token = await secretOf('whole');
    const ask = (body: string | Buffer, headers: Record<string, string> = {}) =>
      est(site, 'simpleenroll', { token, body, headers });
    expect((await ask('A'.repeat(100_000))).status).toBe(413);
    const bomb = gzipSync(Buffer.alloc(50_000_000));
    expect((await ask(bomb, { 'content-encoding': 'gzip' })).status).toBe(413);
    expect((await ask('x', { 'content-encoding': 'br' })).status).toBe(400);
    for (const body of ['=====', '-----BEGIN CERTIFICATE REQUEST-----', '\u0000', '{"csr":1}'])
      expect((await ask(body)).status).toBe(403);
    const [sentence] = (await ask(await csr('evil\u202e'))).body.split('\n');
    expect(sentence).toMatch(/common name is no gateway's name/);
    const pem = `-----BEGIN CERTIFICATE REQUEST-----\n${await csr('whole')}\n-----END CERTIFICATE REQUEST-----\n`;
    expect((await ask(pem)).status).toBe(200);
  });
});

it("a certificate buys none for another's key or name, and four an hour: the registry does not grow by asking", async () => {
  const keys = await newKey();
  const file = join(site.folder, 'enroll', 'registry.jsonl');
  const spki = Buffer.from(await globalThis.crypto.subtle.exportKey('spki', keys.publicKey));
  const own =
    (await keyPem(keys)) + (await (await ours()).issueClient('eager', spki, Date.now(), 365));
  const statuses: number[] = [];
  for (let time = 0; time < 8; time++)
    statuses.push((await est(site, 'simplereenroll', { own, body: await csr('eager') })).status);
  expect(statuses.slice(-4)).toEqual([429, 429, 429, 429]);
  const { size } = statSync(file);
  await est(site, 'simplereenroll', { own, body: await csr('eager') });
  await est(site, 'simplereenroll', { own, body: await csr('gw') });
  expect(statSync(file).size).toBe(size);
});

it('waiting_machines: one address cannot take all places of a token that a person decides about', async () => {
  const token = await secretOf('asked', { approval: 'true' });
  const ask = async (from: string) =>
    (await est(site, 'simpleenroll', { token, body: await csr('asked'), from })).status;
  for (let machine = 0; machine < 4; machine++) expect(await ask('127.0.0.2')).toBe(202);
  expect(await ask('127.0.0.2')).toBe(403);
  expect(await ask('127.0.0.3')).toBe(202);
});

it('connections: one address that opens all it can leaves the listener to others, and is counted', async () => {
  let closed = 0;
  const open = Array.from({ length: 1050 }, () => {
    const socket = connect({
      host: '127.0.0.1',
      port: site.enroll?.port ?? 0,
      localAddress: '127.0.0.2',
    });
    socket.on('error', () => undefined);
    socket.on('close', () => closed++);
    return socket;
  });
  await until('those beyond the share to be closed', () => (closed >= 50 ? true : undefined));
  expect((await est(site, 'cacerts', { from: '127.0.0.3' })).status).toBe(200);
  const metrics = await (await fetch(`${site.http}/metrics`)).text();
  const refused = /^headwater_enroll_limit_refused_total\{limit="connections"\} (\d+)$/m.exec(
    metrics,
  );
  expect(Number(refused?.[1])).toBeGreaterThanOrEqual(50);
  for (const socket of open) socket.destroy();
});
