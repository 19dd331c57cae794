/** Of a lake's day nothing is left: what the log and other days have of it comes back, and what nothing has is told. */
import { copyFileSync, existsSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { forget } from '../../collector/lake/forget.ts';
import { ZONES } from '../../collector/lake/layout.ts';
import { topicPrefix } from '../../collector/log/embedded-records.ts';
import { TOPIC_RAW, TOPIC_RESULTS } from '../../collector/log/log.ts';
import { after, type KvDatabase } from '../../shared/kv/kv.ts';
import { allRows, damage, filesOf, filled } from '../support/lake-damage.ts';
import { LakeSite, frameOf } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

describe('a day of a lake of which nothing is left', () => {
  it.each([
    ['has them all: it says so of none', false],
    ['has less: what nobody remembers is told', true],
  ])('results of a day whose files and manifests are all gone come from the log, which %s', async (_, isCut) => {
    const site = await filled();
    const before = await allRows(site);
    if (isCut) {
      const { db } = site.log as unknown as { db: KvDatabase };
      const prefix = topicPrefix(TOPIC_RESULTS);
      const [first] = await db.read({ gte: prefix, lt: after(prefix) }, 1);
      if (first !== undefined) await db.write([{ type: 'del', key: first[0] }], { sync: true });
    }
    await site.close();
    for (const key of filesOf(site.lakeFolder))
      if (/^(_manifest\/)?results\/date=2026-05-01|^_manifest\/roots\/results\//.test(key))
        rmSync(join(site.lakeFolder, key));
    await site.open();
    await until('its stages to have looked', () => site.lake.settling.size === 0 || undefined);
    await site.scrub.pass();
    await site.healed();
    await site.caughtUp();
    const told = site.said.filter((text) =>
      /results of .*; the log has no more of them/.test(text),
    );
    expect(told).toHaveLength(isCut ? 1 : 0);
    const { results } = await allRows(site);
    expect(results).toEqual(isCut ? before['results']?.slice(10) : before['results']);
    await site.close();
  });

  describe('whose days share records of the log', () => {
    /** Readings of two days in each record, the first and last of the second day; the files of the first. */
    const shared = async (): Promise<{ site: LakeSite; first: string[]; readings: string[] }> => {
      const site = new LakeSite(temporaryFolder());
      await site.open();
      for (let at = 0; at < 4; at++) await site.append([frameOf(1 + at * 31, 31, { days: 2 })]);
      await site.caughtUp();
      const first = (
        await site.lake.files('readings', { from: '2026-05-01', to: '2026-05-01' })
      ).map(({ key }) => key);
      return { site, first, readings: await site.rows('readings') };
    };

    it('a day whose files and manifests are all gone is made again, and until then the lake says that it lacks something, also after a restart', async () => {
      const { site: before, first, readings } = await shared();
      let site = before;
      expect(readings).toHaveLength(124);
      site.heal.ask = () => undefined;
      for (const key of first) rmSync(join(site.lakeFolder, key));
      for (const folder of ['roots/readings', 'readings/date=2026-05-01'])
        for (const key of filesOf(join(site.lakeFolder, '_manifest', folder)))
          truncateSync(join(site.lakeFolder, '_manifest', folder, key), 20);
      await site.scrub.pass();
      // Its end before anything is made again.
      await site.close();
      site = new LakeSite(site.folder, { isHealHeld: true });
      await site.open();
      expect(site.lake.check.damages).toMatchObject([{ zone: 'readings', date: '', final: false }]);
      await expect(
        site.lake.query({ zones: ['readings'] }, () => Promise.resolve()),
      ).rejects.toMatchObject({ code: 'LAKE_UNAVAILABLE' });
      // Found once more while what was found before is being made again.
      const files = site.lake.files.bind(site.lake);
      let rounds = 0;
      site.lake.files = async (...args) => {
        if (args.length === 1 && rounds++ === 0) await site.lake.check.hasLess('readings');
        return await files(...args);
      };
      site.heals();
      await site.healed();
      expect(filesOf(join(site.lakeFolder, '_manifest/less/readings'))).toEqual([]);
      expect(rounds).toBeGreaterThan(1);
      expect(await site.rows('readings')).toEqual(readings);
      await site.close();
    });

    it('rows that nothing has any more are not taken for those of other days', async () => {
      const { site, first, readings } = await shared();
      const { db } = site.log as unknown as { db: KvDatabase };
      const raw = topicPrefix(TOPIC_RAW);
      await db.clear({ gte: raw, lt: after(raw) });
      const frames = (await site.lake.files('raw')).map(({ key }) => key);
      await site.close();
      for (const key of [...first, ...frames]) rmSync(join(site.lakeFolder, key));
      await site.open();
      await site.scrub.pass();
      await site.healed();
      const lost = site.lake.check.damages.filter(({ zone }) => zone === 'readings');
      expect(lost.map(({ key, final }) => [key, final])).toEqual(first.map((key) => [key, true]));
      expect(site.said.join('\n')).not.toMatch(/rows of readings.* are there again/);
      site.heal.ask();
      await site.healed();
      expect(site.lake.check.damages.filter(({ zone }) => zone === 'readings')).toEqual(lost);
      expect(await site.rows('readings')).toHaveLength(readings.length - 60);
      await site.close();
    });
  });
});

describe('a day of a lake whose manifest alone is lost', () => {
  it('is proven by what its root says of it, beside files of an attempt and after files that were made again', async () => {
    const site = await filled();
    const before = await allRows(site);
    const day = filesOf(site.lakeFolder).filter((key) => key.includes('date=2026-05-01'));
    const own = (zone: string): string => day.find((key) => key.startsWith(`${zone}/`)) ?? '';
    // One of the readings is lost and comes back in another file.
    damage(join(site.lakeFolder, own('readings')), () => 0.99);
    await site.scrub.pass();
    await site.healed();
    await site.caughtUp();
    const kept = filesOf(site.lakeFolder).filter((key) => key.endsWith('.parquet'));
    // A step that never came to its end has put a file.
    for (const zone of ['raw', 'results'])
      copyFileSync(
        join(site.lakeFolder, own(zone)),
        join(
          site.lakeFolder,
          own(zone).replace(/-\d+-\d+\.parquet$/, '-000000007000-000000007001.parquet'),
        ),
      );
    for (const key of day)
      if (key.startsWith('_manifest/') && !key.endsWith('-check.json'))
        rmSync(join(site.lakeFolder, key));
    site.lake.catalog('raw').refresh();
    for (let round = 0; round < 3; round++) await site.scrub.pass();
    await site.healed();
    expect(site.said.join('\n')).toMatch(/manifest .* was damaged or gone and is made again/);
    expect(site.said.join('\n')).not.toContain('nothing proves');
    expect(filesOf(site.lakeFolder).filter((key) => key.endsWith('.parquet'))).toEqual(kept);
    expect(await allRows(site)).toEqual(before);
    await site.close();
  });
});

describe('days that were deleted on purpose', () => {
  it('stay so where the manifests that say so are gone, and where everything is looked for', async () => {
    const site = await filled();
    await forget(site.lake, '2026-05-02', Date.now());
    const after = await allRows(site);
    expect(after['raw']).toHaveLength(16);
    await site.close();
    for (const key of filesOf(site.lakeFolder))
      if (key.startsWith('_manifest/') && key.endsWith('-check.json'))
        rmSync(join(site.lakeFolder, key));
    await site.open();
    await site.scrub.pass();
    await site.healed();
    await site.caughtUp();
    expect(site.lake.check.damages).toEqual([]);
    expect(await allRows(site)).toEqual(after);
    for (const zone of ZONES) await site.lake.check.hasLess(zone);
    await site.healed();
    await site.caughtUp();
    expect(await allRows(site)).toEqual(after);
    await site.close();
  });
});

it('results that a damaged log has lost are told, also long after it was made good', async () => {
  const site = await filled();
  const { db } = site.log as unknown as { db: KvDatabase };
  const prefix = topicPrefix(TOPIC_RESULTS);
  const records = await db.read({ gte: prefix, lt: after(prefix) }, Infinity);
  await db.write([{ type: 'del', key: records[1]?.[0] ?? Buffer.alloc(0) }], { sync: true });
  await site.close();
  const note = join(site.folder, 'log.lost');
  writeFileSync(note, 'lake\n');
  await site.open();
  await until('it to be made good', () => !existsSync(note) || undefined);
  const [lost = ''] = filesOf(site.lakeFolder).filter((key) =>
    key.startsWith('results/date=2026-05-02'),
  );
  rmSync(join(site.lakeFolder, lost));
  await site.scrub.pass();
  const told = /of the 10 results of .* 0 are there again/;
  await until('it to be told', () => told.test(site.said.join('\n')) || undefined);
  await site.close();
});
