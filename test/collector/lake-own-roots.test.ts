/** Manifests that are damaged while their writer is at work: what it wrote last it knows, and what is gone with them is missed. */
import { copyFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { OwnRoots } from '../../collector/lake/own-roots.ts';
import { sealOf, type FileEntry, type Root } from '../../collector/lake/manifest.ts';
import { allRows, fill, filesOf } from '../support/lake-damage.ts';
import { LakeSite, frameOf } from '../support/lake-site.ts';
import { temporaryFolder } from '../support/process.ts';

const DAY = 'date=2026-05-02';

async function filled(): Promise<LakeSite> {
  const site = new LakeSite(temporaryFolder());
  await site.open();
  await fill(site);
  return site;
}

const remove = (site: LakeSite, key: string): void => rmSync(join(site.lakeFolder, key));

/** Another day, so that the writers of all that is asked for write once more. */
async function another(site: LakeSite): Promise<void> {
  await site.append([frameOf(1001, 5, { dayMs: Date.UTC(2026, 4, 9) - 1001_000 })]);
  await site.caughtUp();
}

async function again(site: LakeSite): Promise<void> {
  // As whoever makes rows again does.
  for (const zone of ['raw', 'readings'] as const) site.lake.catalog(zone).refresh();
  await site.scrub.pass();
  await site.healed();
  await site.caughtUp();
}

describe('while its writer is at work', () => {
  it.each([
    'raw',
    'readings',
  ])('a root that is lost with the manifest and all files of a day hides no day of %s', async (zone) => {
    const site = await filled();
    await another(site);
    const before = await allRows(site);
    const lost = filesOf(site.lakeFolder).filter(
      (key) =>
        key.startsWith(`_manifest/roots/${zone}/`) ||
        key.startsWith(`_manifest/${zone}/${DAY}/`) ||
        key.startsWith(`${zone}/${DAY}/`),
    );
    expect(lost.length).toBeGreaterThan(3);
    for (const key of lost) remove(site, key);
    await again(site);
    expect(await allRows(site)).toEqual(before);
    expect(site.said.join('\n')).toMatch(
      new RegExp(`_manifest/roots/${zone}/.*was damaged or gone`),
    );
    expect(site.said.join('\n')).toMatch(
      new RegExp(`_manifest/${zone}/${DAY}/.*was damaged or gone`),
    );
    await site.close();
  });

  it('older copies of a root and of a day hide no file that came since', async () => {
    const site = new LakeSite(temporaryFolder());
    await site.open();
    const dayMs = Date.UTC(2026, 4, 2, 1);
    await site.append([frameOf(1, 5, { dayMs })]);
    await site.caughtUp();
    const manifests = filesOf(site.lakeFolder).filter((key) => /^_manifest\/.*raw/.test(key));
    expect(manifests).toHaveLength(2);
    const kept = temporaryFolder();
    for (const [at, key] of manifests.entries())
      copyFileSync(join(site.lakeFolder, key), join(kept, String(at)));
    const files = filesOf(site.lakeFolder).filter((key) => key.startsWith('raw/'));
    await site.append([frameOf(6, 5, { dayMs })]);
    await site.caughtUp();
    const before = await allRows(site);
    for (const [at, key] of manifests.entries())
      copyFileSync(join(kept, String(at)), join(site.lakeFolder, key));
    const [since = '', ...others] = filesOf(site.lakeFolder).filter(
      (key) => key.startsWith('raw/') && !files.includes(key),
    );
    expect(others).toEqual([]);
    remove(site, since);
    await again(site);
    expect(await allRows(site)).toEqual(before);
    // Where nothing is damaged nothing is made again.
    const said = site.said.length;
    await again(site);
    await another(site);
    await again(site);
    expect(site.said.slice(said).filter((text) => text.includes('made again'))).toEqual([]);
    await site.close();
  });

  it('a root that is damaged is written again as it was, with what it says of the past', async () => {
    const site = await filled();
    const before = await allRows(site);
    const catalog = site.lake.catalog('readings');
    const [[writer, root] = []] = await catalog.loadRoots();
    const key = `_manifest/roots/readings/${writer}.json`;
    writeFileSync(join(site.lakeFolder, key), 'no manifest');
    await again(site);
    catalog.refresh();
    expect((await catalog.loadRoots()).get(writer ?? '')).toEqual(root);
    expect(root?.past?.sinceMs).toBe(0);
    expect(await allRows(site)).toEqual(before);
    await site.close();
  });
});

describe('what a process knows of its own manifests', () => {
  const entry = (key: string): FileEntry => ({
    ...{ key, bytes: 1, crc: '00000001', rows: 1 },
    ...{ groups: [], spans: {}, gen: 1 },
  });
  const rootOf = (files: FileEntry[]): Root => ({
    zone: 'raw',
    writer: 'w',
    dates: { d: sealOf(files) },
    spans: {},
  });
  const [old, now] = [[entry('a')], [entry('a'), entry('b')]];

  it('is compared where nothing is being written, and only of what this process wrote', () => {
    const own = new OwnRoots();
    own.claim('w', rootOf(old));
    expect(own.isOtherRoot('w', rootOf(old))).toBe(false);
    expect(own.isOtherRoot('w', rootOf(now))).toBe(true);
    expect(own.isOtherRoot('w', undefined)).toBe(true);
    // A day that a process before has written.
    expect(own.isOtherDay('w', 'd', now)).toBe(false);
    own.begin('w', ['d']);
    expect(own.isOtherRoot('w', rootOf(now))).toBe(false);
    own.wrote('w', rootOf(now));
    expect(own.isOtherRoot('w', rootOf(old))).toBe(true);
    expect(own.isOtherDay('w', 'd', old)).toBe(true);
    expect(own.isOtherDay('w', 'd', now)).toBe(false);
  });

  it('is nothing after a write that failed, and of a writer that another process may have', () => {
    const own = new OwnRoots();
    own.claim('w', rootOf(old));
    own.begin('w', ['d']);
    own.failed('w');
    expect(own.isOtherRoot('w', rootOf(now))).toBe(false);
    expect(own.get('w')).toBeUndefined();
    own.begin('w', ['d']);
    own.wrote('w', rootOf(now));
    expect(own.isOtherRoot('w', rootOf(old))).toBe(true);
    own.failed('w');
    expect(own.isOtherRoot('w', rootOf(old))).toBe(true);
    own.release('w');
    own.wrote('w', rootOf(now));
    expect(own.isOtherRoot('w', rootOf(old))).toBe(false);
  });
});
