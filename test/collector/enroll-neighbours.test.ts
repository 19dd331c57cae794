/** What happens around enrolment: other names, other clocks, other addresses, older copies, two at once. Each ends well, and is said. */
import { X509Certificate } from 'node:crypto';
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { connectAsync } from 'mqtt';
import { afterEach, expect, it } from 'vitest';
import { Authority } from '../../collector/enroll/authority.ts';
import { urlsOf } from '../../gateway/uplink/enroll.ts';
import { gatewayId } from '../../gateway/gateway.ts';
import { standingOf } from '../../gateway/standing.ts';
import { parseJoinToken } from '../../shared/access/join-token.ts';
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
import { runGateway } from '../support/gateway.ts';
import { temporaryFolder, until } from '../support/process.ts';

const DAY_MS = 86_400_000;
afterEach(endAll);

async function opened(): Promise<Site> {
  const site = await collector();
  cleanups.push(site.close);
  return site;
}

async function publish(port: number, from: number, count: number): Promise<void> {
  const device = await connectAsync(`mqtt://127.0.0.1:${port}`, { clientId: 'sensor' });
  for (let n = from; n < from + count; n++)
    await device.publishAsync('roof/climate', JSON.stringify({ n }), { qos: 1 });
  await device.endAsync();
}

/** Values and the gateways that they are told of, once all are there. */
async function arrived(site: Site, count: number): Promise<number[]> {
  return await until(`${count} readings`, async () => {
    const answer = await fetch(`${site.http}/api/v1/query?measurement=climate&field=n`);
    const { series } = (await answer.json()) as { series: { points: [number, number][] }[] };
    const values = series.flatMap(({ points }) => points.map(([, value]) => value));
    return values.length >= count ? values : undefined;
  });
}

it('what a gateway took before it had a token arrives under the name that the token gives it', async () => {
  const site = await opened();
  const folder = temporaryFolder();
  // As the package starts it: without name, token and collector.
  const nameless = await runGateway(folder, {}, { id: '' });
  expect(nameless.gateway.id).toBe(gatewayId(hostname()));
  await publish(nameless.port, 0, 20);
  await nameless.gateway.close();
  const running = await gateway(saved(await tokenFor(site, 'roof-1')), folder);
  expect(running.gateway.id).toBe('roof-1');
  await publish(running.port, 20, 20);
  const values = await arrived(site, 40);
  expect(new Set(values).size).toBe(40);
  expect(values).toHaveLength(40);
  expect((await fleet(site)).map(({ gateway: name }) => name)).toEqual(['roof-1']);
  await said(running.notices, /was called '.*' until it got a token; .* goes out as 'roof-1'/);
  const ledger = (await (await fetch(`${site.http}/api/v1/ledger`)).json()) as { missing: boolean };
  expect(ledger.missing).toBe(false);
  // Both notes of the folder are lost: the certificate says whose it is.
  await running.gateway.close();
  for (const name of ['headwater.json', 'headwater.json.copy']) rmSync(join(folder, name));
  await connected(await gateway('', folder));
});

it('a gateway without a name of its own keeps that of its data when its host is called otherwise', async () => {
  const folder = temporaryFolder();
  const first = await runGateway(folder, {}, { id: 'called-so-then' });
  await first.gateway.close();
  const later = await runGateway(folder, {}, { id: '' });
  cleanups.push(() => later.gateway.close());
  expect(later.gateway.id).toBe('called-so-then');
});

it('an enrolled gateway goes on whatever token is put before it: for another name, cut, or one that was used', async () => {
  const site = await opened();
  const folder = temporaryFolder();
  const first = await gateway(saved(await tokenFor(site, 'roof-1')), folder);
  await connected(first);
  await first.gateway.close();
  const other = await tokenFor(site, 'roof-9');
  for (const [token, why] of [
    [other, /is for 'roof-9', and the readings in .* are those of 'roof-1', as which it goes on/],
    [other.slice(0, 40), /is no join token .*; it goes on as 'roof-1'/],
  ] as const) {
    const running = await gateway(saved(token), folder);
    expect(running.gateway.id).toBe('roof-1');
    await said(running.notices, why);
    await connected(running);
    await running.gateway.close();
  }
  // The other token is as good as before.
  await connected(await gateway(saved(other)));
  const used = await gateway(saved(other), temporaryFolder());
  await said(used.notices, /was used on .* by another machine/);
  const spent = await tokenFor(site, 'roof-1');
  const { secret } = parseJoinToken(spent, 'test');
  const stranger = await est(site, 'simpleenroll', { token: secret, body: await csr('roof-1') });
  expect(stranger.status).toBe(200);
  const again = await gateway(saved(spent), folder);
  await said(again.notices, /was used on .*; without .* it goes on, at its next start/);
});

it('a certificate is renewed where the collector is by now, not only where the token said', async () => {
  const site = await opened();
  const folder = temporaryFolder();
  const first = await gateway(saved(await tokenFor(site, 'roof-1')), folder);
  await connected(first);
  await first.gateway.close();
  const note = join(folder, 'identity', 'enrolled.json');
  const known = JSON.parse(readFileSync(note, 'utf8')) as { urls: string[] };
  // Where it was nobody answers any more.
  const moved = known.urls.map((url) => url.replace('127.0.0.1', '127.0.0.9'));
  writeFileSync(note, JSON.stringify({ ...known, urls: moved }));
  await site.close();
  const [key, pem] = await age(site, 'roof-1', 400);
  writeFileSync(join(folder, 'identity', 'own.pem'), key + pem, { mode: 0o600 });
  await again(site);
  const later = await gateway('', folder);
  await said(later.notices, /the certificate was renewed/);
  await connected(later);
  const standing = standingOf(folder, '', '');
  if (standing === undefined) throw new Error('it is enrolled');
  const urls = urlsOf(standing, ['mqtts://new.example:8885', 'mqtt://plain.example:1884']);
  expect(urls.map((url) => new URL(url).hostname)).toEqual(['127.0.0.9', 'new.example']);
});

it('a collector that is put back from an older copy takes its gateways in as they were, and their tokens count as used', async () => {
  const site = await collector();
  const token = await tokenFor(site, 'roof-1', { site: 'harbour', labels: 'floor=3' });
  await site.close();
  const copy = join(temporaryFolder(), 'enroll');
  cpSync(join(site.folder, 'enroll'), copy, { recursive: true });
  const before = await again(site);
  const folder = temporaryFolder();
  const running = await gateway(saved(token), folder);
  await connected(running);
  await before.close();
  rmSync(join(site.folder, 'enroll'), { recursive: true });
  cpSync(copy, join(site.folder, 'enroll'), { recursive: true });
  const back = await again(before);
  await said(
    back.notices,
    /roof-1 came with a certificate that .* had no note of: .* older copy\?/,
  );
  expect((await fleet(back))[0]).toMatchObject({
    gateway: 'roof-1',
    enrolled: { site: 'harbour', labels: { floor: '3' }, certificate: {} },
  });
  const second = await gateway(saved(token));
  await said(second.notices, /token for 'roof-1' was used on .* by another machine/);
  // A newer token is what it was made for.
  await connected(await gateway(saved(await tokenFor(back, 'roof-1'))));
});

it('a collector with a new authority is not believed, and that is said; a token of its own brings the gateway in with what it holds', async () => {
  const site = await collector();
  const folder = temporaryFolder();
  const first = await gateway(saved(await tokenFor(site, 'roof-1')), folder);
  await connected(first);
  await site.close();
  rmSync(join(site.folder, 'enroll'), { recursive: true });
  await publish(first.port, 0, 10);
  const later = await again(site);
  await said(first.notices, /no pinned authority has signed it: .*a new join token/);
  await first.gateway.close();
  await connected(await gateway(saved(await tokenFor(later, 'roof-1')), folder));
  expect(new Set(await arrived(later, 10)).size).toBe(10);
});

it('one token, or one request, at the same moment twice: one certificate', async () => {
  const site = await opened();
  const { secret } = parseJoinToken(await tokenFor(site, 'roof-1'), 'test');
  const [mine, theirs] = [await csr('roof-1'), await csr('roof-1')];
  const ask = (body: string) => est(site, 'simpleenroll', { token: secret, body });
  const answers = await Promise.all([mine, theirs, mine, mine, theirs].map(ask));
  const given = answers.filter(({ status }) => status === 200).map(({ body }) => body);
  const [first] = given;
  expect(new Set(given).size).toBe(1);
  expect([2, 3]).toContain(given.length);
  for (const { status, body } of answers)
    if (status !== 200) expect(body).toMatch(/was used on .* by another machine/);
  expect(first).toBeDefined();
});

it('a collector whose clock is wrong at its first start makes an authority that counts when it is right', async () => {
  for (const nowMs of [0, Date.now() + 30 * 365 * DAY_MS]) {
    const folder = join(temporaryFolder(), 'enroll');
    const authority = await Authority.open(folder, nowMs, () => undefined);
    const { certificate: own } = authority;
    expect(Date.parse(own.validFrom)).toBeLessThan(Date.now());
    expect(Date.parse(own.validTo)).toBeGreaterThan(Date.now() + 15 * 365 * DAY_MS);
    const { certFile } = await authority.serverFiles(['127.0.0.1'], nowMs);
    const text = readFileSync(certFile, 'utf8');
    // In 1970 nothing better is known than what was good; and what comes of the future is made anew when that is over.
    await authority.serverFiles(['127.0.0.1'], 1000);
    expect(readFileSync(certFile, 'utf8')).toBe(text);
    await authority.serverFiles(['127.0.0.1'], Date.now());
    const now = new X509Certificate(readFileSync(certFile, 'utf8'));
    expect(Date.parse(now.validFrom)).toBeLessThan(Date.now());
    expect(Date.parse(now.validTo)).toBeGreaterThan(Date.now());
  }
});

it('a certificate of the future, of another authority, or none: the collector says so, and the first is renewed by itself', async () => {
  const site = await opened();
  const folder = temporaryFolder();
  const first = await gateway(saved(await tokenFor(site, 'roof-1')), folder);
  await connected(first);
  await first.gateway.close();
  await site.close();
  const [key, pem] = await age(site, 'roof-1', -700);
  writeFileSync(join(folder, 'identity', 'own.pem'), key + pem, { mode: 0o600 });
  const later = await again(site);
  const running = await gateway('', folder);
  await said(later.notices, /a gateway at 127\.0\.0\.1 was refused: .*not valid yet/);
  await connected(running);
  await running.gateway.close();
  const stranger = await Authority.open(temporaryFolder(), Date.now(), () => undefined);
  writeFileSync(join(folder, 'identity', 'own.pem'), await certificate(stranger, 'roof-1', 0));
  const foreign = await gateway('', folder);
  await said(later.notices, /was refused: its certificate is of another authority/);
  await said(foreign.notices, /could not be renewed: .* of another authority/);
  await foreign.gateway.close();
  const bare = await runGateway(
    temporaryFolder(),
    {},
    {
      collector: `mqtts://127.0.0.1:${later.uplinks?.port}`,
      'uplink-ca': join(later.folder, 'enroll', 'ca.pem'),
    },
  );
  cleanups.push(() => bare.gateway.close());
  await said(later.notices, /was refused: it shows no certificate, and one is needed/);
  expect(existsSync(join(folder, 'identity', 'own.pem'))).toBe(true);
  expect(await post(later, 'revoke', { gateway: 'roof-1' })).toMatchObject({ revoked: 'roof-1' });
});
