/** Enrolment over real sockets: a token becomes a certificate, the certificate a link, and everything else nothing. */
import { execFileSync } from 'node:child_process';
import { X509Certificate, createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { join } from 'node:path';
import { connectAsync } from 'mqtt';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Authority } from '../../collector/enroll/authority.ts';
import type { Member } from '../../collector/enroll/registry.ts';
import { joinTokenText, parseJoinToken } from '../../shared/access/join-token.ts';
import { selfSigned } from '../support/certificates.ts';
import {
  again,
  age,
  certificate,
  cleanups,
  collector,
  connected,
  csr,
  endAll,
  est,
  fleet,
  gateway,
  post,
  said,
  saved,
  tokenFor,
  type Site,
} from '../support/enroll-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

const DAY_MS = 86_400_000;
/** Secret of a token whose time is over. */
const LATE = 'late'.repeat(8);
afterEach(endAll);

describe('enrolment', () => {
  let site: Site;
  beforeAll(async () => {
    const folder = temporaryFolder();
    await Authority.open(join(folder, 'enroll'), Date.now(), () => undefined);
    const hash = createHash('sha256').update(LATE).digest('hex');
    const expiresMs = Date.now() - DAY_MS;
    const token = { hash, gateway: 'late-1', site: '', labels: {}, expiresMs };
    writeFileSync(join(folder, 'enroll', 'registry.jsonl'), `${JSON.stringify({ token })}\n`);
    site = await collector(folder);
  });
  afterAll(() => site.close());

  it('a token and nothing else makes a gateway one of the collector: name, key, certificate, link; the token is wiped', async () => {
    const path = saved(await tokenFor(site, 'roof-1', { site: 'harbour', labels: 'floor=3' }));
    const folder = temporaryFolder();
    const running = await gateway(path, folder);
    await connected(running);
    expect(running.gateway.id).toBe('roof-1');
    expect(existsSync(path)).toBe(false);
    const own = readFileSync(join(folder, 'identity', 'own.pem'), 'utf8');
    expect(own).toMatch(/PRIVATE KEY[\s\S]+BEGIN CERTIFICATE/);
    const row = (await fleet(site)).find(({ gateway }) => gateway === 'roof-1');
    expect(row).toMatchObject({
      gateway: 'roof-1',
      connected: true,
      doubled: false,
      enrolled: { site: 'harbour', labels: { floor: '3' }, revokedMs: null },
    });
    // A start without the token: it knows who it is.
    await running.gateway.close();
    const again = await gateway('', folder);
    await connected(again);
    expect(again.gateway.id).toBe('roof-1');
  });

  it('a token counts once: a second machine with it is told so, and gets nothing', async () => {
    const token = await tokenFor(site, 'roof-2');
    await connected(await gateway(saved(token)));
    const second = await gateway(saved(token));
    await said(second.notices, /token for 'roof-2' was used on .* by another machine/);
    expect(await second.metric('headwater_uplink_connected')).toBe(0);
  });

  it('a lost answer costs no token: the same key may ask again', async () => {
    const token = await tokenFor(site, 'roof-3');
    const folder = temporaryFolder();
    const first = await gateway(saved(token), folder);
    await connected(first);
    await first.gateway.close();
    // As if the answer had not arrived: the key is there, the certificate is not.
    const own = readFileSync(join(folder, 'identity', 'own.pem'), 'utf8');
    const key = own.slice(0, own.indexOf('-----BEGIN CERTIFICATE'));
    const bare = temporaryFolder();
    const cut = await gateway(saved('x'), bare).catch((error: unknown) => String(error));
    expect(cut).toMatch(/is no join token as 'headwater enroll' prints it/);
    mkdirSync(join(bare, 'identity'));
    writeFileSync(join(bare, 'identity', 'next.key'), key, { mode: 0o600 });
    await connected(await gateway(saved(token), bare));
  });

  it('a revoked gateway is cut off and stays out, until a new token lets it in with a new key', async () => {
    const folder = temporaryFolder();
    const running = await gateway(saved(await tokenFor(site, 'roof-4')), folder);
    await connected(running);
    expect(await post(site, 'revoke', { gateway: 'roof-4' })).toMatchObject({ revoked: 'roof-4' });
    await said(running.notices, /could not be renewed: 'roof-4' was revoked on/);
    await said(site.notices, /refused: 'roof-4' was revoked/);
    expect(await running.metric('headwater_uplink_connected')).toBe(0);
    expect(await post(site, 'revoke', { gateway: 'nobody' })).toMatchObject({ status: 404 });
    await running.gateway.close();
    const before = readFileSync(join(folder, 'identity', 'own.pem'), 'utf8');
    await connected(await gateway(saved(await tokenFor(site, 'roof-4')), folder));
    expect(readFileSync(join(folder, 'identity', 'own.pem'), 'utf8')).not.toBe(before);
  });

  it('a token buys a certificate for its own name and a P-256 key alone; what is no request keeps it whole', async () => {
    const { secret } = parseJoinToken(await tokenFor(site, 'roof-5'), 'test');
    const bad: [string, RegExp][] = [
      ['', /no certificate request/],
      ['AAAA', /no certificate request/],
      [await csr('roof-9'), /the token is for 'roof-5', and the request for 'roof-9'/],
      [await csr('../etc'), /common name is no gateway's name/],
      [await csr('roof-5', 'P-384'), /not one on the curve P-256/],
      [tampered(await csr('roof-5')), /not signed with its own key|no certificate request/],
    ];
    for (const [body, why] of bad) {
      const answer = await est(site, 'simpleenroll', { token: secret, body });
      expect(answer.status, body).toBe(403);
      expect(answer.body).toMatch(why);
    }
    const good = await est(site, 'simpleenroll', { token: secret, body: await csr('roof-5') });
    expect(good.status).toBe(200);
    // RFC 7030: certs-only PKCS #7, which openssl reads.
    const pem = execFileSync('openssl', ['pkcs7', '-inform', 'DER', '-print_certs'], {
      input: Buffer.from(good.body, 'base64'),
    }).toString();
    expect(new X509Certificate(pem).subject).toBe('CN=roof-5');
  });

  it('an expired token, one of another collector, and one for another authority are refused with what to do', async () => {
    const { urls, collectors, fingerprint } = parseJoinToken(await tokenFor(site, 'x'), 'test');
    const usual = { gateway: 'late-1', urls, collectors, fingerprint, secret: LATE };
    const expired = await gateway(saved(joinTokenText(usual)));
    await said(expired.notices, /was good until .*: make another with 'headwater enroll late-1'/);
    const strange = await gateway(saved(joinTokenText({ ...usual, secret: 'x'.repeat(32) })));
    await said(strange.notices, /not known here: it is of another collector/);
    // It goes where another authority answers: its secret is not even shown.
    const other = fingerprint.replaceAll('A', 'B');
    const enrolled = await tokenFor(site, 'misled');
    const { secret } = parseJoinToken(enrolled, 'test');
    const misled = joinTokenText({ ...usual, gateway: 'misled', fingerprint: other, secret });
    await said((await gateway(saved(misled))).notices, /no pinned authority has signed it/);
    await connected(await gateway(saved(enrolled)));
  });

  it('a network that wants a login first answers in the place of the collector: that is said, the token stays, and it comes in later', async () => {
    const token = parseJoinToken(await tokenFor(site, 'hotel'), 'test');
    const shown: string[] = [];
    const redirect = (asked: IncomingMessage, answer: ServerResponse): void => {
      shown.push(String(asked.headers.authorization));
      answer.writeHead(302, { location: 'http://login.example/' }).end();
    };
    const { cert, key } = selfSigned(temporaryFolder(), '127.0.0.1');
    const files = { cert: readFileSync(cert), key: readFileSync(key) };
    for (const [portal, why] of [
      [
        createServer(redirect),
        /no TLS: wrong version number, as of another server or a login page/,
      ],
      [createSecureServer(files, redirect), /no pinned authority .*a login page of the network/],
    ] as const) {
      await new Promise<void>((resolve) => portal.listen(0, '127.0.0.1', () => resolve()));
      const { port } = portal.address() as { port: number };
      const urls = [`https://127.0.0.1:${port}`];
      const path = saved(joinTokenText({ ...token, urls }));
      await said((await gateway(path)).notices, why);
      expect(existsSync(path)).toBe(true);
      portal.close();
    }
    expect(shown).toEqual([]);
    await connected(await gateway(saved(joinTokenText(token))));
  });

  it('after 400 days offline, its certificate expired, it comes back by itself and brings what it had acknowledged; beyond the grace it is told that it needs a token', async () => {
    const site = await collector();
    const folder = temporaryFolder();
    const running = await gateway(saved(await tokenFor(site, 'roof-1')), folder);
    await connected(running);
    await site.close();
    const device = await connectAsync(`mqtt://127.0.0.1:${running.port}`, { clientId: 'sensor' });
    for (let n = 0; n < 20; n++)
      await device.publishAsync('roof/climate', JSON.stringify({ n }), { qos: 1 });
    await device.endAsync();
    await running.gateway.close();
    const [key, pem] = await age(site, 'roof-1', 400);
    writeFileSync(join(folder, 'identity', 'own.pem'), key + pem, { mode: 0o600 });
    const old = (await age(site, 'roof-2', 365 + 731)).join('');
    const back = await again(site);
    const later = await gateway('', folder);
    await said(later.notices, /the certificate was renewed/);
    await connected(later);
    await until('what it had acknowledged', async () => {
      const answer = await fetch(`${back.http}/api/v1/query?measurement=climate&field=n`);
      const { series } = (await answer.json()) as { series: { points: [number, number][] }[] };
      const values = series.flatMap(({ points }) => points.map(([, value]) => value));
      return values.length === 20 && new Set(values).size === 20 ? true : undefined;
    });
    const refused = await est(back, 'simplereenroll', { own: old, body: await csr('roof-2') });
    expect(refused.status).toBe(403);
    expect(refused.body).toMatch(/more than 730 days ago: make a token/);
  });

  it('a copied card that comes after a renewal is named, still heard, and gets no new certificate', async () => {
    const site = await collector();
    const folder = temporaryFolder();
    const running = await gateway(saved(await tokenFor(site, 'roof-1')), folder);
    await connected(running);
    const copy = readFileSync(join(folder, 'identity', 'own.pem'), 'utf8');
    // The original has renewed and come back since.
    const renewed = await est(site, 'simplereenroll', { own: copy, body: await csr('roof-1') });
    expect(renewed.status).toBe(200);
    const registry = join(site.folder, 'enroll', 'registry.jsonl');
    await running.gateway.close();
    await site.close();
    const [line] = lines(registry).filter(({ member }) => member.certificates.length > 1);
    for (const each of line?.member.certificates ?? []) each.seenMs = Date.now();
    // As a version before wrote it: without a seal.
    writeFileSync(registry, `${JSON.stringify({ member: line?.member })}\n`);
    const later = await again(site);
    const original = await gateway('', folder);
    await connected(original);
    await said(later.notices, /two machines have the identity of gateway roof-1/);
    expect((await fleet(later))[0]).toMatchObject({ connected: true, doubled: true });
    const refused = await est(later, 'simplereenroll', { own: copy, body: await csr('roof-1') });
    expect(refused).toMatchObject({ status: 403 });
    expect(refused.body).toMatch(/another machine has renewed .* a copied card/);
  });

  it('without token or certificate nobody gets, changes or costs anything; guessing ends', async () => {
    const site = await collector(temporaryFolder(), undefined, 8);
    cleanups.push(site.close);
    const file = join(site.folder, 'enroll', 'registry.jsonl');
    const known = await tokenFor(site, 'roof-1');
    const before = readFileSync(file, 'utf8');
    expect((await est(site, 'cacerts', {})).status).toBe(200);
    expect((await est(site, 'simpleenroll', {})).status).toBe(401);
    expect((await est(site, 'simplereenroll', {})).status).toBe(401);
    expect((await est(site, '../../api/v1/gateways', {})).status).toBe(401);
    const stranger = await Authority.open(temporaryFolder(), Date.now(), () => undefined);
    const own = await certificate(stranger, 'roof-1', 0);
    const foreign = await est(site, 'simplereenroll', { own, body: await csr('roof-1') });
    expect(foreign.status).toBe(403);
    expect(foreign.body).toMatch(/of another authority/);
    const large = await est(site, 'simpleenroll', { token: 'guess', body: 'A'.repeat(100_000) });
    expect(large.status).toBe(401);
    const statuses: number[] = [];
    for (let guess = 0; guess < 10; guess++)
      statuses.push((await est(site, 'simpleenroll', { token: `guess-${guess}` })).status);
    expect(statuses.at(-1)).toBe(429);
    // A right one behind the same address goes on.
    const { secret } = parseJoinToken(known, 'test');
    const right = await est(site, 'simpleenroll', { token: secret, body: 'no request' });
    expect(right.status).toBe(403);
    expect(readFileSync(file, 'utf8')).toBe(before);
  });
});

const lines = (path: string): { member: Member }[] =>
  readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line.includes('"member"'))
    .map((line) => JSON.parse(line) as { member: Member });

function tampered(request: string): string {
  const der = Buffer.from(request, 'base64');
  const at = der.length - 5;
  der[at] = (der[at] ?? 0) ^ 1;
  return der.toString('base64');
}
