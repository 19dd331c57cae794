/** What nothing but the store has any more goes back into log and lake; and a store that is another collector's is filled. */
import { cpSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { forget } from '../../collector/lake/forget.ts';
import { forgetPast } from '../../collector/lake/past.ts';
import { AuditSite } from '../support/audit-site.ts';
import { fill, filesOf } from '../support/lake-damage.ts';
import { frameOf } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

const sites: AuditSite[] = [];

afterEach(async () => {
  for (const site of sites.splice(0)) await site.close();
});

async function opened(folder = temporaryFolder()): Promise<AuditSite> {
  const site = new AuditSite(folder);
  await site.open();
  sites.push(site);
  return site;
}

async function closed(site: AuditSite): Promise<string> {
  sites.splice(sites.indexOf(site), 1);
  await site.close();
  return site.folder;
}

interface Kept {
  stored: string[];
  readings: string[];
  results: string[];
}

async function kept(site: AuditSite): Promise<Kept> {
  return {
    stored: await site.stored(),
    readings: await site.rows('readings'),
    results: await site.rows('results'),
  };
}

async function whole(site: AuditSite, before: Kept): Promise<void> {
  await until('lake and store to have everything', async () =>
    JSON.stringify(await kept(site)) === JSON.stringify(before) ? true : undefined,
  ).catch(async (error: unknown) => {
    const now = await kept(site);
    const counts = Object.entries(now).map(([name, rows]) => `${name} ${rows.length}`);
    throw new Error([...counts, ...site.said.slice(-12)].join('\n'), { cause: error });
  });
}

const gone = (folder: string, ...names: string[]): void => {
  for (const name of names) rmSync(join(folder, name), { recursive: true });
};

describe('only the store has it', () => {
  it('log and lake deleted: both have it again from the store, soon and by themselves, and it is told', async () => {
    let site = await opened();
    await fill(site);
    const before = await kept(site);
    const folder = await closed(site);
    gone(folder, 'log', 'lake');
    site = await opened(folder);
    site.audit.start();
    await whole(site, before);
    await until('the audit to have told it', () => site.audit.last);
    expect(site.said.join('\n')).toMatch(
      /the lake lacks 300 readings of gateway gw.*nothing but the store had them/,
    );
    const report = await site.audit.pass(true);
    expect(report.findings.filter(({ mended }) => mended !== 'harmless')).toEqual([]);
    await whole(site, before);
  });

  it('log and lake older, both of one copy: what came after it is said again', async () => {
    let site = await opened();
    await fill(site);
    let folder = await closed(site);
    const copy = join(temporaryFolder(), 'copy');
    cpSync(folder, copy, { recursive: true });
    site = await opened(folder);
    await site.append([frameOf(1000, 30, { dayMs: Date.UTC(2026, 4, 2) })]);
    await site.caughtUp();
    const before = await kept(site);
    folder = await closed(site);
    for (const name of ['log', 'lake']) {
      gone(folder, name);
      renameSync(join(copy, name), join(folder, name));
    }
    site = await opened(folder);
    site.audit.start();
    await whole(site, before);
  });

  it('raw and readings lost for good, and the log: the store is not made to forget them', async () => {
    let site = await opened();
    await fill(site);
    const before = await kept(site);
    const folder = await closed(site);
    const files = filesOf(site.lakeFolder);
    for (const key of files.filter((each) => each.startsWith('raw/'))) {
      const path = join(site.lakeFolder, key);
      const bytes = readFileSync(path);
      // Nothing of it can be read.
      writeFileSync(path, bytes.subarray(0, bytes.length - 9));
    }
    for (const key of files.filter((each) => each.startsWith('readings/')))
      rmSync(join(site.lakeFolder, key));
    gone(folder, 'log');
    site = await opened(folder);
    await site.scrub.pass();
    await site.healed();
    await site.audit.pass(true);
    await whole(site, before);
    await site.audit.pass(true);
    await whole(site, before);
  });

  it('days that the lake was told to forget are not made again of it, and nothing differs', async () => {
    const site = await opened();
    await fill(site);
    const [{ stored }, day] = [await kept(site), '2026-05-02'];
    await forget(site.lake, day, Date.now());
    await forgetPast(site.lake, Date.parse(day));
    const after = (await site.rows('readings')).length;
    expect(after).toBe(400);
    const { findings } = await site.audit.pass(true);
    expect(findings).toEqual([]);
    expect(await site.rows('readings')).toHaveLength(after);
    expect(await site.stored()).toEqual(stored);
  });
});

describe('a store that is not of this log', () => {
  it("another collector's, beside a new log: it is filled from the lake, and says that it is incomplete until then", async () => {
    const other = await opened();
    await other.append([frameOf(1, 40, { gateway: 'other' })]);
    await other.caughtUp();
    const otherFolder = await closed(other);
    let site = await opened();
    await fill(site);
    const before = await site.stored();
    const folder = await closed(site);
    gone(folder, 'log', 'store');
    cpSync(join(otherFolder, 'store'), join(folder, 'store'), { recursive: true });
    site = await opened(folder);
    site.storing.fill.isSame = site.audit.sameDay;
    await until('it to be known', () => site.storing.fill.incomplete().length > 0 || undefined);
    await until(
      'it to be filled',
      () =>
        site.said.filter((text) => text.includes('the store has all of')).length === 2 || undefined,
    );
    expect(site.storing.fill.incomplete()).toEqual([]);
    // What it had of the other collector is no reading of this one's: it is named, and comes no further.
    site.audit.start();
    await until('the audit to have looked at it', () => site.audit.last);
    expect(site.said.join('\n')).toMatch(/40 readings of gateway other.*it stays as it is/);
    expect((await site.rows('readings')).filter((row) => row.startsWith('other '))).toEqual([]);
    const now = await site.stored();
    expect(now.filter((row) => !row.startsWith('other '))).toEqual(before);
  });

  it('its own, beside a new log: days that are as the lake has them are not written again', async () => {
    let site = await opened();
    await fill(site);
    const before = await site.stored();
    const folder = await closed(site);
    gone(folder, 'log');
    site = await opened(folder);
    site.storing.fill.isSame = site.audit.sameDay;
    await until('it to be found whole', () =>
      site.said.find((text) => text.includes('the store has all of')),
    );
    expect(site.storing.fill.filledReadings).toBe(0);
    expect(await site.stored()).toEqual(before);
  });
});
