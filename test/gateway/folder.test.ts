/** Data folders: notes that are damaged, paths that cannot be made, and folders that vanish while they are used. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { claimFolder } from '../../shared/config/data-folder.ts';
import { makeFolder } from '../../shared/config/folder.ts';
import { DiskGuard } from '../../collector/ops/disk-guard.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { encodePublish } from '../support/load.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { connected } from '../support/raw-mqtt.ts';

let running: RunningGateway | undefined;
afterEach(async () => {
  await running?.gateway.close();
  running = undefined;
});

describe('the note of a data folder', () => {
  it.each([
    'headwater.json',
    'headwater.json.copy',
  ])('any one bit of %s may flip: the folder is still its own, and still refused to others', async (name) => {
    const folder = temporaryFolder();
    await claimFolder(folder, 'gateway', 'roof-1');
    const path = join(folder, name);
    const right = readFileSync(path);
    for (let bit = 0; bit < right.length * 8; bit += 3) {
      const damaged = Buffer.from(right);
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      writeFileSync(path, damaged);
      await claimFolder(folder, 'gateway', 'roof-1');
      writeFileSync(path, damaged);
      await expect(claimFolder(folder, 'gateway', 'roof-2')).rejects.toThrow(/belongs to 'roof-1'/);
    }
    await claimFolder(folder, 'gateway', 'roof-1');
    expect(readFileSync(path)).toEqual(right);
  }, 20_000);

  it('both damaged: it is made again from what is known', async () => {
    const folder = temporaryFolder();
    await claimFolder(folder, 'collector', '');
    for (const name of ['headwater.json', 'headwater.json.copy'])
      writeFileSync(join(folder, name), '\0\0\0');
    await claimFolder(folder, 'collector', '');
  });
});

describe('a folder that cannot be made', () => {
  it('is one sentence at once, where the file system takes no such name', async () => {
    await expect(claimFolder('/proc/x', 'gateway', 'a')).rejects.toThrow(
      /data folder \/proc\/x cannot be used/,
    );
    await expect(makeFolder('/proc/x/y/z')).rejects.toThrow(/ENOENT/);
    const file = join(temporaryFolder(), 'file');
    writeFileSync(file, '');
    await expect(makeFolder(join(file, 'below'))).rejects.toThrow(/ENOTDIR/);
    await expect(makeFolder(file)).rejects.toThrow(/is a file, not a folder/);
    await makeFolder(join(temporaryFolder(), 'a', 'b', 'c'));
  });
});

describe('a file of credentials or rules', () => {
  it('that is a pipe is refused at once, and one behind a link is taken', async () => {
    const folder = temporaryFolder();
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', ['-m', '600', pipe]);
    for (const flag of ['password-file', 'acl-file', 'token-file'])
      await expect(runGateway(join(folder, 'data'), {}, { [flag]: pipe })).rejects.toThrow(
        /is a pipe, not a file/,
      );
    const rules = join(folder, 'rules.yaml');
    writeFileSync(rules, 'rules: []\n');
    symlinkSync(rules, join(folder, 'link.yaml'));
    running = await runGateway(join(folder, 'data'), {}, { 'acl-file': join(folder, 'link.yaml') });
  });

  it('with aliases that expand, or too deep to be read, is one sentence', async () => {
    const folder = temporaryFolder();
    const file = join(folder, 'rules.yaml');
    const bomb = ['a: &a [x, x]'];
    for (let at = 1; at < 30; at++)
      bomb.push(
        `k${at}: &k${at} [*${at === 1 ? 'a' : `k${at - 1}`}, *${at === 1 ? 'a' : `k${at - 1}`}]`,
      );
    for (const text of [bomb.join('\n'), `rules: ${'['.repeat(20_000)}`]) {
      writeFileSync(file, text);
      await expect(runGateway(join(folder, 'data'), {}, { 'acl-file': file })).rejects.toThrow(
        /rules\.yaml: /,
      );
    }
  });
});

describe('a data folder that vanishes while it is used', () => {
  it.each([
    ['deleted', (folder: string) => rmSync(folder, { recursive: true })],
    [
      'another in its place',
      (folder: string) => {
        renameSync(folder, `${folder}-away`);
        mkdirSync(folder);
      },
    ],
  ])('%s: the gateway acknowledges nothing more, and is not ready', async (_how, vanish) => {
    const folder = join(temporaryFolder(), 'data');
    running = await runGateway(folder);
    const client = await connected(running.port, 'device');
    client.send(encodePublish('t', '1', 1, 1));
    await client.bytes(8);
    await new Promise((resolve) => setTimeout(resolve, 30));
    vanish(folder);
    client.send(encodePublish('t', '2', 1, 2));
    await until('it to be said', () =>
      running?.notices.find(({ event }) => event === 'buffer_blocked'),
    );
    await until('not ready', async () =>
      (await fetch(`${running?.http}/readyz`)).status === 503 ? true : undefined,
    );
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect((await fetch(`${running.http}/readyz`)).status).toBe(503);
    expect(client.received()).toHaveLength(8);
    client.socket.destroy();
  });

  it('it comes back with what it held: everything goes on, and what waited is acknowledged', async () => {
    const folder = join(temporaryFolder(), 'data');
    running = await runGateway(folder);
    const client = await connected(running.port, 'device');
    client.send(encodePublish('t', '1', 1, 1));
    await client.bytes(8);
    await new Promise((resolve) => setTimeout(resolve, 30));
    renameSync(folder, `${folder}-away`);
    client.send(encodePublish('t', '2', 1, 2));
    await until('it to be said', () =>
      running?.notices.find(({ event }) => event === 'buffer_blocked'),
    );
    renameSync(`${folder}-away`, folder);
    expect((await client.bytes(12)).subarray(8).toString('hex')).toBe('40020002');
    client.socket.destroy();
  });

  it('the collector takes nothing more', async () => {
    const folder = join(temporaryFolder(), 'data');
    mkdirSync(folder);
    const said: string[] = [];
    const guard = new DiskGuard(folder, 0, ({ text }) => void said.push(text));
    await guard.start();
    expect(guard.full).toBeUndefined();
    renameSync(folder, `${folder}-away`);
    expect(await until('it to be noticed', () => guard.full)).toMatch(/is not there any more/);
    mkdirSync(folder);
    expect(
      await until('another to be told from it', () =>
        guard.full?.startsWith('another folder') === true ? guard.full : undefined,
      ),
    ).toMatch(/another folder stands where/);
    guard.stop();
    // Once, and not each time that it is looked for.
    expect(said).toEqual([expect.stringMatching(/is not there any more/)]);
  });
});
