/** A kill at each write of a commit that no step of the log answers for: the next start knows of every row, so that none is written twice. */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { adopt, unlisted } from '../../collector/lake/adopt.ts';
import { Lake } from '../../collector/lake/lake.ts';
import type { Zone } from '../../collector/lake/layout.ts';
import { LocalObjects } from '../../collector/lake/local.ts';
import { LakeSite, frameOf } from '../support/lake-site.ts';
import { temporaryFolder } from '../support/process.ts';

const EPOCH = '0102030405060708';
const LAST = 80;

/** A lake as an older version left it: two days, no manifest. */
async function older(): Promise<string> {
  const site = new LakeSite(temporaryFolder());
  await site.open();
  await site.append([frameOf(1, 40), frameOf(41, 40, { dayMs: Date.UTC(2026, 4, 2, 12) })]);
  await site.caughtUp();
  await site.close();
  rmSync(join(site.lakeFolder, '_manifest'), { recursive: true });
  return site.lakeFolder;
}

async function opened(folder: string): Promise<Lake> {
  const options = { folder: temporaryFolder(), memoryBytes: 64 << 20, cacheBytes: 1 << 24 };
  const lake = new Lake(new LocalObjects(folder), options);
  await lake.open();
  return lake;
}

async function adoptAll(lake: Lake, zone: Zone): Promise<void> {
  const strays = await unlisted(lake, zone, await lake.files(zone));
  expect(await adopt(lake, zone, 'old-0', strays)).toEqual([]);
}

it('a kill at each write of an adoption hides no row from what comes again', async () => {
  const folder = await older();
  const lake = await opened(folder);
  const moments: { zone: Zone; folder: string; before: string }[] = [];
  const put = lake.store.put.bind(lake.store);
  let zone: Zone = 'raw';
  lake.store.put = async (key, file) => {
    const copy = join(temporaryFolder(), 'lake');
    cpSync(folder, copy, { recursive: true });
    moments.push({ zone, folder: copy, before: key });
    await put(key, file);
  };
  for (zone of ['raw', 'readings'] as const) await adoptAll(lake, zone);
  await lake.close();
  // Of each zone the root, two days and the root once more.
  expect(moments.length).toBe(8);
  for (const moment of moments) {
    const again = await opened(moment.folder);
    await adoptAll(again, moment.zone);
    const catalog = again.catalog(moment.zone);
    expect(await catalog.covers('gw', EPOCH, 1, LAST), moment.before).toBe(true);
    const found = await catalog.candidates('gw', { [EPOCH]: [[1, LAST]] });
    expect(found.length, moment.before).toBe(2);
    // Whoever reads it next, after a commit of its own, too.
    await catalog.commit('old-0', new Map());
    catalog.refresh();
    expect(await catalog.covers('gw', EPOCH, 1, LAST), moment.before).toBe(true);
    await again.close();
  }
});

it('a disk that fails once while a file is looked into makes it no damaged one', async () => {
  const folder = await older();
  const lake = await opened(folder);
  const facts = lake.parquet.facts.bind(lake.parquet);
  let failures = 1;
  lake.parquet.facts = (zone, path) =>
    failures-- > 0
      ? Promise.reject(
          new Error(`IO Error: Could not read from file "${path}": Input/output error`),
        )
      : facts(zone, path);
  const strays = await unlisted(lake, 'raw', await lake.files('raw'));
  await expect(adopt(lake, 'raw', 'old-0', strays)).rejects.toThrow('Input/output error');
  await adoptAll(lake, 'raw');
  expect(await lake.catalog('raw').covers('gw', EPOCH, 1, LAST)).toBe(true);
  await lake.close();
});
