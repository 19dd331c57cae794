/** Enrolment with a person's yes: nobody is in before it, and it is said to a key. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { parseJoinToken } from '../../shared/access/join-token.ts';
import {
  again,
  cleanups,
  collector,
  connected,
  csr,
  endAll,
  est,
  gateway,
  post,
  said,
  saved,
  tokenFor,
  type Site,
} from '../support/enroll-site.ts';
import { temporaryFolder } from '../support/process.ts';

afterEach(endAll);

interface Row {
  gateway: string;
  waiting?: { key: string; address: string }[];
}

async function opened(): Promise<Site> {
  const site = await collector();
  cleanups.push(site.close);
  return site;
}

async function waiting(site: Site, name: string): Promise<Row['waiting']> {
  const response = await fetch(`${site.http}/api/v1/enroll/tokens`);
  const { tokens } = (await response.json()) as { tokens: Row[] };
  return tokens.find((row) => row.gateway === name)?.waiting;
}

it('a gateway waits for a person, through a restart of the collector, and is in after the yes; both say what to do', async () => {
  const first = await collector();
  const path = saved(await tokenFor(first, 'roof-1', { approval: 'true' }));
  const folder = temporaryFolder();
  const running = await gateway(path, folder);
  const told = await said(running.notices, /waits to be let in .*--approve roof-1/);
  await said(first.notices, /waits to be let in as gateway 'roof-1'.*--approve roof-1/);
  expect(existsSync(join(folder, 'identity', 'own.pem'))).toBe(false);
  expect(existsSync(path)).toBe(true);
  const [machine] = (await waiting(first, 'roof-1')) ?? [];
  expect(told).toContain(`its key is ${machine?.key.slice(0, 12)}`);
  await first.close();

  const site = await again(first);
  expect(await waiting(site, 'roof-1')).toMatchObject([{ key: machine?.key }]);
  expect(await post(site, 'approve', { gateway: 'roof-1' })).toMatchObject({
    status: 200,
    key: machine?.key,
  });
  // Who is restarted does not wait for its next try.
  await running.gateway.close();
  await connected(await gateway(path, folder));
  expect(existsSync(path)).toBe(false);
  expect(await waiting(site, 'roof-1')).toBeUndefined();
  expect(await post(site, 'approve', { gateway: 'roof-1' })).toMatchObject({ status: 404 });
});

it('two machines with one token are told apart: the yes is to one key, the other is out', async () => {
  const site = await opened();
  const { secret } = parseJoinToken(await tokenFor(site, 'roof-2', { approval: 'true' }), 'test');
  const [mine, theirs] = [await csr('roof-2'), await csr('roof-2')];
  const ask = (body: string) => est(site, 'simpleenroll', { token: secret, body });
  for (const body of [mine, theirs, mine]) expect((await ask(body)).status).toBe(202);
  const machines = (await waiting(site, 'roof-2')) ?? [];
  expect(machines).toHaveLength(2);
  const unclear = await post(site, 'approve', { gateway: 'roof-2' });
  expect(unclear).toMatchObject({ status: 400 });
  expect(String(unclear['message'])).toMatch(/2 machines wait .*--key/);
  const key = machines[0]?.key ?? '';
  const wrong = { gateway: 'roof-2', key: 'ffffffffffff' };
  expect(await post(site, 'approve', wrong)).toMatchObject({ status: 404 });
  expect(await post(site, 'approve', { gateway: 'roof-2', key: key.slice(0, 12) })).toMatchObject({
    status: 200,
  });
  const refused = await ask(theirs);
  expect(refused.status).toBe(403);
  expect(refused.body).toMatch(/another machine was let in as 'roof-2'/);
  const given = await ask(mine);
  expect(given.status).toBe(200);
  // Its answer may have got lost.
  expect((await ask(mine)).body).toBe(given.body);
});

it('who waits costs little, changes nothing for others, and is refused by taking the token back', async () => {
  const site = await opened();
  await connected(await gateway(saved(await tokenFor(site, 'roof-3'))));
  const token = await tokenFor(site, 'roof-3', { approval: 'true' });
  const { secret } = parseJoinToken(token, 'test');
  const ask = async () => est(site, 'simpleenroll', { token: secret, body: await csr('roof-3') });
  for (let machine = 0; machine < 4; machine++) expect((await ask()).status).toBe(202);
  const fifth = await ask();
  expect(fifth.status).toBe(403);
  expect(fifth.body).toMatch(/4 machines of this address wait/);
  // The one that has the name goes on having it.
  const own = readFileSync(join(site.folder, 'enroll', 'registry.jsonl'), 'utf8');
  expect(own).not.toMatch(/revokedMs/);
  const { secret: other } = parseJoinToken(
    await tokenFor(site, 'roof-4', { approval: 'true' }),
    't',
  );
  const body = await csr('roof-4');
  expect((await est(site, 'simpleenroll', { token: other, body })).status).toBe(202);
  expect(await post(site, 'revoke', { gateway: 'roof-4' })).toMatchObject({ revoked: 'roof-4' });
  expect((await est(site, 'simpleenroll', { token: other, body })).status).toBe(401);
});
