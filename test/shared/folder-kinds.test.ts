/** A data folder in which something else stands where a file was: one sentence at the start, which waits for nobody. (As a process: e2e/bad-input.test.ts.) */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createObjectStore } from '../../collector/lake/open.ts';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { checkFolder, claimFolder } from '../../shared/config/data-folder.ts';
import { checkKinds, checkLakeKinds } from '../../shared/config/folder-kinds.ts';
import { loadConfig } from '../../shared/config/spec.ts';
import { temporaryFolder } from '../support/process.ts';

const FILES: Record<'gateway' | 'collector', readonly string[]> = {
  gateway: [
    'headwater.json',
    'headwater.json.copy',
    'reserve',
    'audit.log',
    'buffer.opened',
    'buffer/CURRENT',
    'buffer/LOCK',
    'buffer/MANIFEST-000002',
    'buffer/000003.log',
    'buffer/000005.ldb',
    'identity/own.pem',
    'identity/enrolled.json',
  ],
  collector: [
    'headwater.json',
    'log/CURRENT',
    'log/000012.log',
    'log/000013.ldb',
    'store/readings.duckdb',
    'store/readings.duckdb.wal',
    'enroll/registry.jsonl',
    'lake/raw/gateway=a/date=2026-11-26/0-1.parquet',
    'lake/batch/daily_summary/2026-11-20.json',
  ],
};

const cases = Object.entries(FILES).flatMap(([part, files]) =>
  files.map((file): [string, 'gateway' | 'collector'] => [file, part as 'gateway' | 'collector']),
);

function replaced(data: string, file: string): string {
  const path = join(data, file);
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { recursive: true, force: true });
  return path;
}

describe.each(cases)('%s of a %s', (file, part) => {
  it.each<[string, (path: string) => void]>([
    ['a pipe', (path) => execFileSync('mkfifo', [path])],
    ['a folder', (path) => mkdirSync(path)],
    ['a device', (path) => symlinkSync('/dev/zero', path)],
  ])('%s in its place is refused', async (kind, make) => {
    const data = temporaryFolder();
    const path = replaced(data, file);
    make(path);
    const sentence = `${path} is ${kind}, not a file: move it away, or choose another folder with --data`;
    for (const open of [claimFolder, checkFolder])
      await expect(open(data, part, '')).rejects.toMatchObject({
        code: 'DATA_UNUSABLE',
        message: sentence,
      });
  });
});

describe('a data folder', () => {
  it('refuses a socket, and a file where a folder must be', async () => {
    const data = temporaryFolder();
    mkdirSync(join(data, 'buffer'));
    const path = join(data, 'buffer', 'CURRENT');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(path, resolve));
    await expect(claimFolder(data, 'gateway', 'a')).rejects.toThrow('is a socket, not a file');
    await new Promise((resolve) => server.close(resolve));
    const other = temporaryFolder();
    writeFileSync(join(other, 'buffer'), '');
    await expect(claimFolder(other, 'gateway', 'a')).rejects.toThrow('is a file, not a folder');
  });

  it("is used with what is nobody's in it, links to folders and to nowhere, and names of the lake that look like files", async () => {
    const data = temporaryFolder();
    execFileSync('mkfifo', [join(data, 'mine')]);
    mkdirSync(join(data, 'lost+found'));
    mkdirSync(join(data, 'damaged', '000001.log'), { recursive: true });
    mkdirSync(join(data, 'lake', 'raw', 'gateway=a.parquet'), { recursive: true });
    mkdirSync(join(data, 'elsewhere'));
    symlinkSync('elsewhere', join(data, 'store'));
    symlinkSync('..', join(data, 'lake', 'up'));
    symlinkSync('nowhere', join(data, 'reserve'));
    await claimFolder(data, 'collector', '');
  });

  it('that cannot be read now is not refused for it: a lake waits, and says so itself', async () => {
    const file = join(temporaryFolder(), 'file');
    writeFileSync(file, '');
    await checkLakeKinds(file);
    await checkKinds(join(file, 'below'));
  });

  it('is not the only place of a lake: one in a folder of its own is looked at as well', async () => {
    const lake = temporaryFolder();
    const path = replaced(lake, 'readings/m=x/manifest.json');
    execFileSync('mkfifo', [path]);
    const config = loadConfig(COLLECTOR_CONFIG, { flags: { lake }, environment: {} });
    const context = { config, notify: () => undefined, nowMs: () => 0 };
    await expect(createObjectStore(context)).rejects.toThrow(`${path} is a pipe, not a file`);
  });
});
