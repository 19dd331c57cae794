/** A log that is restored from an older copy, beside a store and a lake that went on: nothing of theirs is lost or replaced. */
import { cpSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { AuditSite } from '../support/audit-site.ts';
import { frameOf } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

const DAY = { dayMs: Date.UTC(2026, 4, 1, 12) };

const isSaidAgain = (site: AuditSite): true | undefined =>
  site.said.some((text) => text.includes('2 frames again that only the lake had')) || undefined;

it.each([
  ['', false],
  [', also where the process ends before it has said them', true],
])(
  'gets again what only the lake has, and what is new replaces nothing%s',
  { timeout: 60_000 },
  async (_, isCut) => {
    const folder = temporaryFolder();
    let site = new AuditSite(folder);
    await site.open();
    await site.append([frameOf(1, 20, DAY)]);
    await site.caughtUp();
    await site.close();
    cpSync(join(folder, 'log'), join(folder, 'log-old'), { recursive: true });
    site = new AuditSite(folder);
    await site.open();
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
