/**
 * An InfluxDB that was put back to an older copy behind the collector's back, 1.8 and 2: it says yes to everything and has less than it
 * had acknowledged. The collector finds out by a point of its newest step, says that answers are incomplete, and fills it again.
 */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { InfluxStore, parseInfluxAddress } from '../../collector/store/influxdb.ts';
import { startInflux1, startInflux2, type Influx } from '../services/servers.ts';
import { AuditSite } from '../support/audit-site.ts';
import { frameOf } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

/** What it lacks, asked in every turn of the event loop: filled is a small store within milliseconds. Gives what was said so far. */
function watched(lacks: () => readonly { of: string }[]): () => string[] {
  const seen = new Set<string>();
  let isOver = false;
  const look = (): void => {
    for (const { of } of lacks()) seen.add(of);
    if (!isOver) setImmediate(look);
  };
  look();
  return () => {
    isOver = true;
    return [...seen];
  };
}

const DAY = Date.UTC(2026, 4, 1, 12);

async function pointsIn({ store }: AuditSite): Promise<string[]> {
  const found: string[] = [];
  for await (const part of store.scan?.(DAY - 86_400_000, DAY + 2 * 86_400_000) ?? [])
    for (const { measurement, field, tags, timeNs, value } of part)
      found.push(JSON.stringify([measurement, field, Object.entries(tags), String(timeNs), value]));
  return found.sort();
}

const siteOf = (folder: string, influx: Influx): AuditSite =>
  new AuditSite(folder, (notify) => {
    const target = parseInfluxAddress(influx.store);
    return new InfluxStore({ ...target, token: () => influx.token, caFile: '' }, notify);
  });

/** As it was when it was copied. */
async function restored(influx: Influx, at: string, older: string): Promise<void> {
  await influx.kill();
  rmSync(at, { recursive: true });
  cpSync(older, at, { recursive: true });
  await influx.restart();
}

it.each([
  ['1.8', 'stopped', startInflux1],
  ['1.8', 'running', startInflux1],
  ['2', 'stopped', startInflux2],
  ['2', 'running', startInflux2],
] as const)(
  'InfluxDB %s put back to an older copy under a collector that is %s',
  { timeout: 120_000 },
  async (_, how, start) => {
    const at = join(temporaryFolder(), 'influx');
    const older = join(temporaryFolder(), 'older');
    cpSync(temporaryFolder(), at, { recursive: true });
    const influx = await start(at);
    const folder = temporaryFolder();
    let site = siteOf(folder, influx);
    try {
      await site.open();
      await site.append([frameOf(1, 20, { dayMs: DAY })]);
      await until('the first', async () => (await pointsIn(site)).length === 40 || undefined);
      await influx.kill();
      cpSync(at, older, { recursive: true });
      await influx.restart();
      await site.append([frameOf(21, 200, { dayMs: DAY })]);
      await until('the rest', async () => (await pointsIn(site)).length === 440 || undefined);
      await site.caughtUp();
      const before = await pointsIn(site);
      const incomplete: string[] = [];
      if (how === 'stopped') {
        await site.close();
        await restored(influx, at, older);
        site = siteOf(folder, influx);
        // Answers before it is filled again.
        const seen = watched(() => site.storing?.fill.incomplete() ?? []);
        await site.open();
        await until('all of it', async () => (await pointsIn(site)).length === 440 || undefined);
        incomplete.push(...seen());
      } else {
        await restored(influx, at, older);
        expect((await pointsIn(site)).length).toBe(40);
        const seen = watched(() => site.storing.fill.incomplete());
        // It is found with what comes next.
        await new Promise((resolve) => setTimeout(resolve, 5100));
        await site.append([frameOf(221, 1, { dayMs: DAY })]);
        await until('all of it', async () => (await pointsIn(site)).length === 442 || undefined);
        incomplete.push(...seen());
      }
      expect(
        site.said.filter((text) => /has not kept what it had acknowledged/.test(text)),
      ).toEqual([expect.stringContaining('of readings')]);
      expect(incomplete).toContain('readings');
      await until('it to be whole', () => site.storing.fill.incomplete().length === 0 || undefined);
      const now = await pointsIn(site);
      expect(before.filter((point) => !now.includes(point))).toEqual([]);
      await site.caughtUp();
      expect(await site.audit.pass(true)).toMatchObject({ clean: true, findings: [] });
      // Nothing is read again where nothing is missing.
      const said = site.said.length;
      await site.close();
      site = siteOf(folder, influx);
      await site.open();
      await site.append([frameOf(301, 1, { dayMs: DAY })]);
      await until(
        'one more',
        async () => (await pointsIn(site)).length === now.length + 2 || undefined,
      );
      expect(site.said.slice(said).join()).not.toContain('has not kept');
      expect(site.storing.storedReadings).toBeLessThanOrEqual(1);
    } finally {
      await site.close();
      await influx.stop();
    }
  },
);
