/** Errors of the disk under the embedded store: they are waited out, and are no damage; damage is set aside all the same. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ERRNO, faultyDisk, type DiskCall } from '../support/faulty-disk.ts';
import { collectorSettings, ingest } from '../support/lake.ts';
import { headwater, temporaryFolder, until, type Headwater } from '../support/process.ts';
import { getJson, type Points } from '../support/reconcile.ts';

const disk = faultyDisk();

const startOn = (folder: string): Promise<Headwater> =>
  headwater(
    [
      ...['collector', '--data', folder],
      ...['--config', collectorSettings({ 'lake.flushSeconds': 1 })],
      ...['--http', '127.0.0.1:0', '--uplink', '127.0.0.1:0'],
    ],
    disk?.environment ?? {},
  );

async function values(server: Headwater): Promise<number[]> {
  const url = `http://${server.address['http']}/api/v1/query?measurement=m&field=n`;
  const { series } = await getJson<Points>(url);
  return series.flatMap(({ points }) => points.map(([, value]) => Number(value)));
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, at) => at);

async function say(server: Headwater, from: number, to: number): Promise<void> {
  for (let n = from; n < to; n++) await ingest(server, 'm', { n });
}

const all = (server: Headwater, count: number): Promise<true> =>
  until(
    `${count} readings`,
    async () => {
      const found = (await values(server)).sort((a, b) => a - b);
      return JSON.stringify(found) === JSON.stringify(numbers(count)) || undefined;
    },
    40_000,
  );

const WRITING: [DiskCall, keyof typeof ERRNO][] = [
  ['fsync', 'EIO'],
  ['fsync', 'ENOSPC'],
  ['write', 'EIO'],
  ['write', 'ENOSPC'],
  ['write', 'EROFS'],
];
const OPENING: [DiskCall, keyof typeof ERRNO][] = [
  ['open', 'EIO'],
  ['open', 'EMFILE'],
  ['open', 'EACCES'],
  ['open', 'EROFS'],
  ['read', 'EIO'],
  ['mkdir', 'ENOSPC'],
  ['mkdir', 'EROFS'],
  ['readdir', 'EIO'],
];

describe('an error of the disk under the embedded store', () => {
  it('is waited out, whichever call fails while it writes and is opened again: nothing is set aside, lost or doubled', async ({
    skip,
  }) => {
    if (disk === undefined) {
      skip('there is no gcc');
      return;
    }
    const folder = temporaryFolder();
    const server = await startOn(folder);
    let count = 0;
    const more = async (): Promise<void> => {
      await say(server, count, count + 5);
      count += 5;
    };
    await more();
    await all(server, count);
    const troubles = (): number => server.output().split(' store_disk: ').length;
    for (const [call, error] of WRITING) {
      // Twice, and then for as long as it takes to be said.
      for (const times of [2, 1_000_000]) {
        const before = troubles();
        disk.fail(call, error, '/store/', times);
        await more();
        await until(`${call} ${error} to be said`, () => troubles() > before || undefined);
        disk.heal();
        await all(server, count);
      }
    }
    for (const [call, error] of OPENING) {
      disk.fail('fsync', 'EIO', '/store/', 1);
      const before = troubles();
      await more();
      await until('a fresh open', () => troubles() > before || undefined);
      disk.fail(call, error, call === 'mkdir' || call === 'readdir' ? '/store' : '/store/');
      await new Promise((resolve) => setTimeout(resolve, 400));
      disk.heal();
      await all(server, count);
    }
    expect(existsSync(join(folder, 'damaged'))).toBe(false);
    expect(await server.kill()).toBe(0);
    const again = await startOn(folder);
    await all(again, count);
    await again.kill();
  });

  it('keeps no collector from starting: it says what it waits for, and goes on', async ({
    skip,
  }) => {
    if (disk === undefined) {
      skip('there is no gcc');
      return;
    }
    const folder = temporaryFolder();
    const first = await startOn(folder);
    await say(first, 0, 5);
    await all(first, 5);
    await first.kill();
    for (const error of ['EIO', 'EACCES'] as const) {
      disk.fail('open', error, 'readings.duckdb');
      const server = await startOn(folder);
      await until('it to be said', () => server.output().includes('store_disk') || undefined);
      const answer = await fetch(`http://${server.address['http']}/api/v1/series`);
      expect(answer.status).toBe(503);
      disk.heal();
      await all(server, 5);
      await server.kill();
    }
    expect(existsSync(join(folder, 'damaged'))).toBe(false);
  });

  it('may strike while damage is set aside: each step is tried again', async ({ skip }) => {
    if (disk === undefined) {
      skip('there is no gcc');
      return;
    }
    const steps: [DiskCall, string][] = [
      ['mkdir', '/damaged'],
      ['rename', '/store'],
      ['open', 'readings.duckdb'],
    ];
    for (const [call, part] of steps) {
      const folder = temporaryFolder();
      const server = await startOn(folder);
      await say(server, 0, 3);
      await all(server, 3);
      await server.kill();
      const file = join(folder, 'store', 'readings.duckdb');
      const bytes = readFileSync(file);
      for (const at of [4096 + 20, 8192 + 20]) bytes[at] = (bytes[at] ?? 0) ^ 0x10;
      writeFileSync(file, bytes);
      disk.fail(call, 'EIO', part);
      const again = await startOn(folder);
      await until('it to be said', () => again.output().includes('store_disk') || undefined);
      disk.heal();
      await all(again, 3);
      expect(again.output().split('store_set_aside').length - 1, call).toBe(1);
      await again.kill();
    }
  });
});
