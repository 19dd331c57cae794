/** A log that is restored from an older copy, beside a store and a lake that went on: nothing of theirs is lost or replaced. */
import { cpSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { SummingSide } from '../../collector/audit/store-side.ts';
import type { DuckDbStore } from '../../collector/store/duckdb.ts';
import { AuditSite } from '../support/audit-site.ts';
import { HEADER_AGAIN, TOPIC_READINGS } from '../../collector/log/log.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import { frameOf } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

const DAY = { dayMs: Date.UTC(2026, 4, 1, 12) };

const isSaidAgain = (site: AuditSite): true | undefined =>
  site.said.some((text) => text.includes('2 frames again that only the lake had')) || undefined;

/** An open site with a day of readings, whose log of now is kept aside as `log-old`. */
async function withOldLog(folder: string): Promise<AuditSite> {
  const before = new AuditSite(folder);
  await before.open();
  await before.append([frameOf(1, 20, DAY)]);
  await before.caughtUp();
  await before.close();
  cpSync(join(folder, 'log'), join(folder, 'log-old'), { recursive: true });
  const site = new AuditSite(folder);
  await site.open();
  return site;
}

it.each([
  ['', false],
  [', also where the process ends before it has said them', true],
])(
  'gets again what only the lake has, and what is new replaces nothing%s',
  { timeout: 60_000 },
  async (_, isCut) => {
    const folder = temporaryFolder();
    let site = await withOldLog(folder);
    for (const first of [21, 41]) {
      await site.append([frameOf(first, 20, DAY)]);
      await site.caughtUp();
    }
    await site.close();
    rmSync(join(folder, 'log'), { recursive: true });
    renameSync(join(folder, 'log-old'), join(folder, 'log'));
    site = new AuditSite(folder, undefined, { isHealHeld: isCut });
    await site.open();
    // At once: the steps that the log does not know of have the names that come next.
    await site.append([frameOf(61, 20, DAY)]);
    if (isCut) {
      // Its steps are in the log by now, under a name that no file of the lake is ahead of.
      await site.caughtUp();
      expect(isSaidAgain(site)).toBeUndefined();
      await site.close();
      const { said } = site;
      site = new AuditSite(folder);
      site.said.push(...said);
      await site.open();
    }
    await until('the log to have its frames again', () => isSaidAgain(site));
    await site.caughtUp();
    const [raw, readings, stored] = [
      await site.rows('raw'),
      await site.rows('readings'),
      await site.stored(),
    ];
    expect(raw).toHaveLength(4);
    expect(new Set(readings).size).toBe(80);
    expect(readings).toHaveLength(80);
    expect(stored).toHaveLength(160);
    expect(
      site.said.filter((text) => text.includes('the log is an older copy')).length,
    ).toBeGreaterThan(1);
    // Without a wait for what no stage will ever come to.
    expect(await site.audit.pass(true)).toMatchObject({ clean: true });
    await site.close();
  },
);

it(
  'takes back nothing that was corrected since, also where the store is filled from it anew',
  { timeout: 60_000 },
  async () => {
    const folder = temporaryFolder();
    const epoch = '0102030405060708';
    let site = await withOldLog(folder);
    const store = new SummingSide(site.store as DuckDbStore);
    const [known] = await store.readings([{ gateway: 'gw', epoch, sequence: 5, index: 0 }]);
    if (known?.put === undefined) throw new Error('no reading');
    const put = { ...known.put, fields: { ...known.put.fields, n: 500 } };
    // As a replay with another mapping says it.
    const value = encodeReadings({ gateway: 'gw', epoch, arrivedMs: 1, readings: [put] });
    await site.log.append(TOPIC_READINGS, [
      { key: 'gw', value, headers: { [HEADER_AGAIN]: 'true' } },
    ]);
    await site.caughtUp();
    const before = [await site.rows('readings'), await site.stored()];
    expect(before.join()).toContain('500');
    await site.close();
    for (const name of ['log', 'store']) rmSync(join(folder, name), { recursive: true });
    renameSync(join(folder, 'log-old'), join(folder, 'log'));
    site = new AuditSite(folder);
    await site.open();
    await site.caughtUp();
    // Whatever fills the store, an audit that looks before it is whole, or at one that was filled otherwise, believes no older log.
    const stale = { ...known, put: known.put };
    await until('it to be whole', () => site.storing.fill.incomplete().length === 0 || undefined);
    await site.storing.mend(() => Promise.resolve([stale]));
    await site.audit.pass(true);
    expect([await site.rows('readings'), await site.stored()]).toEqual(before);
    await site.close();
  },
);
