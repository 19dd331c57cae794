/** The registry of gateways: two files of sealed lines, of which a damaged, cut or older one changes nothing, and is told. */
import { copyFileSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Authority } from '../../collector/enroll/authority.ts';
import { Registry, type Member } from '../../collector/enroll/registry.ts';
import { temporaryFolder } from '../support/process.ts';
import { rng } from '../support/seed.ts';

const member = (gateway: string): Member => ({
  gateway,
  site: 's',
  labels: {},
  enrolledMs: 1,
  certificates: [],
});

async function opened(
  folder: string,
  isNew = false,
): Promise<{ registry: Registry; said: string[] }> {
  const said: string[] = [];
  const registry = new Registry(folder, ({ text }) => void said.push(text));
  await registry.open(1000, isNew);
  return { registry, said };
}

const stateOf = ({ members, tokens }: Registry): string =>
  JSON.stringify([[...members], [...tokens]]);

const token = (hash: string, gateway: string) => ({
  ...{ hash, gateway, site: '', labels: {} },
  expiresMs: 1e15,
});

/** Two revoked of six, one token, over three lives; an older copy has also a token that was taken back since. */
async function filled(): Promise<{ folder: string; older: string; state: string }> {
  const [folder, older] = [temporaryFolder(), temporaryFolder()];
  const first = (await opened(folder, true)).registry;
  for (const name of ['a', 'b', 'c', 'd']) await first.put(member(name));
  await first.revoke(member('b'), 5);
  await first.addTokens([token('taken back', 'c')]);
  await first.close();
  for (const name of NAMES) copyFileSync(join(folder, name), join(older, name));
  const { registry, said } = await opened(folder);
  expect(said).toEqual([]);
  await registry.put(member('e'));
  await registry.put(member('f'));
  await registry.addTokens([token('h', 'g')]);
  await registry.revoke(member('c'), 6);
  const state = stateOf(registry);
  await registry.close();
  await (await opened(folder)).registry.close();
  return { folder, older, state };
}

const NAMES = ['registry.jsonl', 'registry.jsonl.copy'];

it('a file that is damaged anywhere, cut, emptied, gone or an older copy is made again from the other, and told', async () => {
  const { folder, older, state } = await filled();
  const next = rng(1);
  const texts = NAMES.map((name) => readFileSync(join(folder, name)));
  const size = texts[0]?.length ?? 0;
  const ways: ((path: string, name: string) => void)[] = [
    ...Array.from({ length: 60 }, () => (path: string) => {
      const bytes = readFileSync(path);
      const at = Math.floor(next() * size);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << Math.floor(next() * 8));
      writeFileSync(path, bytes);
    }),
    (path) => truncateSync(path, Math.floor(next() * size)),
    (path) => truncateSync(path, readFileSync(path, 'utf8').indexOf('\n') + 1),
    (path) => truncateSync(path, 0),
    (path) => rmSync(path),
    (path, name) => copyFileSync(join(older, name), path),
  ];
  for (const [at, way] of ways.entries())
    for (const name of NAMES) {
      for (const [which, text] of texts.entries())
        writeFileSync(join(folder, NAMES[which] ?? ''), text ?? '');
      way(join(folder, name), name);
      const { registry, said } = await opened(folder);
      expect(stateOf(registry), `way ${at}, ${name}`).toBe(state);
      expect(said.join(), `way ${at}, ${name}`).toContain(join(folder, name));
      await registry.close();
      const again = await opened(folder);
      expect([stateOf(again.registry), again.said]).toEqual([state, []]);
      await again.registry.close();
    }
});

it('what both have lost is told, and the rest counts; one that is gone is missed', async () => {
  const { folder } = await filled();
  for (const name of NAMES) {
    const path = join(folder, name);
    writeFileSync(path, readFileSync(path, 'utf8').replace('"e"', '"x"'));
  }
  const { registry, said } = await opened(folder);
  expect([...registry.members.keys()]).toEqual(['a', 'b', 'c', 'd', 'f']);
  expect(said.join()).toMatch(/some lines of .*registry\.jsonl cannot be read, nor in its copy/);
  await registry.close();
  for (const name of NAMES) rmSync(join(folder, name));
  const again = await opened(folder);
  expect(again.said.join()).toMatch(/registry\.jsonl and its copy are gone/);
  await again.registry.close();
});

it('a file of a version before is taken as it is, whatever a copy from before that says', async () => {
  const { folder } = await filled();
  writeFileSync(join(folder, NAMES[0] ?? ''), `${JSON.stringify({ member: member('only') })}\n`);
  const { registry, said } = await opened(folder);
  expect([...registry.members.keys(), ...said]).toEqual(['only']);
  await registry.close();
});

it('a write that failed is in force in neither file, also when half of it was written', async () => {
  const { folder, state } = await filled();
  const { registry } = await opened(folder);
  const files = (registry as unknown as { files: { datasync: () => Promise<void> }[] }).files;
  const [, second] = files;
  if (second !== undefined) second.datasync = () => Promise.reject(new Error('no'));
  await expect(registry.put(member('x'))).rejects.toThrow('no');
  await registry.put(member('y'));
  expect(registry.members.has('x')).toBe(false);
  await registry.close();
  const again = await opened(folder);
  expect(again.said).toEqual([]);
  expect(again.registry.members.has('y')).toBe(true);
  again.registry.members.delete('y');
  expect(stateOf(again.registry)).toBe(state);
  await again.registry.close();
});

const AUTHORITY = ['ca.key', 'ca.key.copy', 'ca.pem', 'ca.pem.copy'];

it('the authority stays the one that it was: each of its files is made again from its copy, and told; none makes a new one', async () => {
  const folder = temporaryFolder();
  const said: string[] = [];
  const open = (): Promise<Authority> =>
    Authority.open(folder, Date.now(), ({ text }) => void said.push(text));
  const { isNew, certificate } = await open();
  expect([isNew, said]).toEqual([true, []]);
  const kept = AUTHORITY.map((name) => readFileSync(join(folder, name)));
  const next = rng(2);
  for (const name of AUTHORITY)
    for (let way = 0; way < 12; way++) {
      const path = join(folder, name);
      const bytes = readFileSync(path);
      const at = Math.floor(next() * bytes.length);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << Math.floor(next() * 7));
      if (way === 0) rmSync(path);
      else writeFileSync(path, way === 1 ? bytes.subarray(0, at) : bytes);
      const again = await open();
      expect(again.certificate.fingerprint256, `${name} ${way}`).toBe(certificate.fingerprint256);
      expect(again.isNew).toBe(false);
      const told = said.splice(0).join();
      // Versions before kept no copy.
      if (way > 0 || !name.endsWith('.copy')) expect(told, `${name} ${way}`).toContain(path);
      expect(
        AUTHORITY.map((each) =>
          readFileSync(join(folder, each)).equals(kept[AUTHORITY.indexOf(each)] ?? Buffer.alloc(0)),
        ),
      ).toEqual([true, true, true, true]);
    }
  for (const name of ['ca.pem', 'ca.pem.copy']) rmSync(join(folder, name));
  // Who is a member was written down after it.
  writeFileSync(join(folder, 'registry.jsonl'), '');
  await expect(open()).rejects.toThrow(/cannot be used .*put ca\.key and ca\.pem back/);
});
