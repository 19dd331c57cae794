import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { crc32c } from '../../shared/frame/crc32c.ts';
import { headwater, run, temporaryFolder, until } from '../support/process.ts';
import { runLoad, encodePublish } from '../support/load.ts';
import { connected } from '../support/raw-mqtt.ts';
import { getJson } from '../support/reconcile.ts';

const free = ['--mqtt', '127.0.0.1:0', '--gateway-http', '127.0.0.1:0'];
const mounts: string[] = [];
afterEach(() => {
  for (const mount of mounts.splice(0)) execFileSync('umount', ['-l', mount]);
});

/** A file system of its own, so that it can fill up or turn read-only. */
function mountTmpfs(megabytes: number): string {
  if (process.getuid?.() !== 0)
    throw new Error(
      'mounting a small file system needs root: run npm test as root, or in a container',
    );
  const folder = join(temporaryFolder(), 'disk');
  mkdirSync(folder);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', folder]);
  mounts.push(folder);
  return folder;
}

const noteOf = (layout: number, id: string): string => {
  const crc = crc32c(Buffer.from(JSON.stringify([layout, 'gateway', id])));
  return JSON.stringify({ layout, part: 'gateway', id, crc: crc.toString(16).padStart(8, '0') });
};

/** Path of each file of a folder, its content and when it was written. */
const contents = (folder: string): Map<string, string> =>
  new Map(
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .map((name) => join(folder, name))
      .filter((path) => statSync(path).isFile())
      .map((path) => [path, `${statSync(path).mtimeMs} ${readFileSync(path).toString('base64')}`]),
  );

describe('bad input: one clear sentence, and a failing exit', () => {
  it.each<[string, string[], RegExp, number?]>([
    ['an unknown command', ['fly'], /'fly' is no command: headwater --help/, 2],
    [
      'an unknown flag',
      ['gateway', '--colector', 'x'],
      /Unknown option '--colector' \(did you mean '--collector'\?\).*headwater gateway --help/,
      2,
    ],
    ['a flag without its value', ['gateway', '--id'], /--id/, 2],
    [
      'a number out of range',
      ['replay', 'x.csv', '--topic', 't', '--window', '0'],
      /--window is between/,
      2,
    ],
    ['a file that is not there', ['replay', '/nowhere.csv', '--topic', 't'], /nowhere\.csv/],
    [
      'no gateway',
      ['publish', 'a', 'b', '--mqtt', '127.0.0.1:9'],
      /no gateway answers at 127\.0\.0\.1:9.*--mqtt/,
    ],
    [
      'no collector',
      ['query', '--http', '127.0.0.1:9'],
      /no collector answers at 127\.0\.0\.1:9.*--http/,
    ],
    [
      'an unknown adapter',
      ['collector', '--data', '/tmp/headwater-none', '--store', 'nosuchstore'],
      /--store @headwater\/nosuchstore is neither built in nor an installed package/,
    ],
    [
      'roles apart on embedded parts',
      ['collector', '--roles', 'ingest'],
      /embedded log is one process's own.*--log kafka/,
    ],
    [
      'an address for everybody',
      ['collector', '--http', '0.0.0.0:0'],
      /--http 0\.0\.0\.0:0 is reachable from other machines.*--token-file/,
    ],
    [
      'a collector that is no URL',
      ['gateway', '--collector', 'localhost'],
      /--collector 'localhost'/,
    ],
    ['a mapping that is not there', ['collector', '--mappings', '/nowhere.yaml'], /nowhere\.yaml/],
  ])('%s', async (_name, args, sentence, exit = 1) => {
    const { code, output } = await run([
      ...args,
      ...(['gateway', 'collector'].includes(args[0] ?? '') && !args.includes('--data')
        ? ['--data', temporaryFolder()]
        : []),
    ]);
    expect(code).toBe(exit);
    expect(output.trim().split('\n').at(-1)).toMatch(/^headwater: /);
    expect(output).toMatch(sentence);
    expect(output).not.toMatch(/\n\s+at /);
  });

  it('a busy port names the flag that changes it', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const { code, output } = await run([
      'gateway',
      '--data',
      temporaryFolder(),
      '--gateway-http',
      '127.0.0.1:0',
      '--mqtt',
      `127.0.0.1:${port}`,
    ]);
    expect(code).toBe(1);
    expect(output).toMatch(
      new RegExp(
        `127\\.0\\.0\\.1:${port} is in use by another process: choose another with --mqtt`,
      ),
    );
    server.close();
  });

  it('a data folder of another version, and one that another process has', async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'headwater.json'), '{"layout":7,"part":"gateway","id":"x"}');
    expect((await run(['gateway', '--data', folder, '--id', 'x', ...free])).output).toMatch(
      /layout 7, this version knows 1/,
    );
    const other = temporaryFolder();
    const first = await headwater(['gateway', '--data', other, '--id', 'x', ...free]);
    expect((await run(['gateway', '--data', other, '--id', 'x', ...free])).output).toMatch(
      /another process has .* open/,
    );
    await first.kill();
    // An older version meets what a later one has left: it touches nothing.
    for (const name of ['headwater.json', 'headwater.json.copy'])
      writeFileSync(join(other, name), noteOf(7, 'x'));
    const before = contents(other);
    expect((await run(['gateway', '--data', other, '--id', 'x', ...free])).output).toMatch(
      /layout 7, this version knows 1: .* nothing in it was changed/,
    );
    expect(contents(other)).toEqual(before);
    expect(before.size).toBeGreaterThan(4);
  });

  it.each([
    ['gateway', 'buffer/CURRENT', ['--id', 'x', ...free]],
    ['gateway', 'reserve', ['--id', 'x', ...free]],
    ['collector', 'log/MANIFEST-000002', ['--http', '127.0.0.1:0', '--uplink', '127.0.0.1:0']],
    ['up', 'sample.json', free],
  ])('%s: a pipe as %s of its data folder keeps nobody waiting', async (command, file, more) => {
    const data = temporaryFolder();
    const path = join(data, file);
    mkdirSync(dirname(path), { recursive: true });
    execFileSync('mkfifo', [path]);
    const { code, output } = await run([command, '--data', data, ...more]);
    expect(output).toContain(
      `headwater: ${path} is a pipe, not a file: move it away, or choose another folder with --data\n`,
    );
    expect(code).toBe(1);
  });

  it('a read-only disk', async () => {
    const folder = mountTmpfs(64);
    execFileSync('mount', ['-o', 'remount,ro', folder]);
    const { code, output } = await run([
      'gateway',
      '--data',
      join(folder, 'g'),
      '--id',
      'x',
      ...free,
    ]);
    expect(code).toBe(1);
    expect(output).toMatch(
      /headwater: data folder .* cannot be used: .*can only be read \(EROFS\)/,
    );
  });

  it('a disk that fills up: acknowledgements are held back, it says why, and goes on by itself; nothing acknowledged is lost', async () => {
    const folder = mountTmpfs(48);
    const gateway = await headwater(
      ['gateway', '--data', join(folder, 'g'), '--id', 'x', ...free],
      {
        HEADWATER_BUFFER_COMPRESS: 'false',
        HEADWATER_BUFFER_RESERVE_BYTES: String(4 * 1024 * 1024),
      },
    );
    const port = gateway.port('mqtt');
    const lone = await connected(port, 'lone');
    lone.send(encodePublish('before', 'x', 1, 1));
    await lone.bytes(8);
    // Another process takes the rest of the disk.
    execFileSync('bash', ['-c', `dd if=/dev/zero of=${folder}/filler bs=64k 2>/dev/null || true`]);
    const acknowledged = new Set<number>();
    const load = runLoad({
      host: '127.0.0.1',
      port,
      connections: 2,
      messages: 4000,
      window: 500,
      topic: () => 'full',
      payload: (index) => `${index} ${'x'.repeat(2000)}`,
      onAck: (index) => acknowledged.add(index),
    });
    const why = await until('the gateway to say why', async () => {
      const { state, why } = await getJson<{ state: string; why: string }>(
        `http://${gateway.address['http']}/api/v1/buffer`,
      );
      return state === 'blocked' ? why : undefined;
    });
    expect(why).toMatch(/full|space/i);
    expect((await fetch(`http://${gateway.address['http']}/readyz`)).status).toBe(503);
    const before = acknowledged.size;
    await new Promise((resolve) => setTimeout(resolve, 800));
    expect(acknowledged.size).toBe(before);
    execFileSync('rm', [`${folder}/filler`]);
    const { acknowledged: all } = await load;
    expect(all).toBe(4000);
    await gateway.kill('SIGKILL');
    const again = await headwater(['gateway', '--data', join(folder, 'g'), '--id', 'x', ...free]);
    const { waitingMessages } = await until('the count', async () => {
      const state = await getJson<{ waitingMessages?: number }>(
        `http://${again.address['http']}/api/v1/buffer`,
      );
      return state.waitingMessages === undefined ? undefined : state;
    });
    // With one or two notes of the gateway's own.
    expect(waitingMessages).toBeGreaterThan(4000);
    expect(waitingMessages).toBeLessThan(4003);
    await again.kill();
  });
});
