/** A damaged file's row groups that are whole stay in the lake, also where nothing else has their rows any more. */
import {
  closeSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { topicPrefix } from '../../collector/log/embedded-records.ts';
import { STREAM } from '../../collector/stream/results.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import { crc32c, crc32cCombine } from '../../shared/frame/crc32c.ts';
import { after, type KvDatabase } from '../../shared/kv/kv.ts';
import { AuditSite } from '../support/audit-site.ts';
import { frameOf } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { seeded } from '../support/seed.ts';

/** One file of three row groups, of which nothing else has the rows; its row groups. */
async function onlyInLake(): Promise<{
  site: AuditSite;
  key: string;
  groups: readonly number[][];
}> {
  const site = new AuditSite(temporaryFolder());
  await site.open();
  await site.append(
    Array.from({ length: 5 }, (_, at) =>
      frameOf(1 + at * 1000, 1000, { dayMs: Date.UTC(2026, 4, 1) }),
    ),
  );
  await site.caughtUp();
  // What the log keeps is somebody else's.
  await site.append([frameOf(1, 1, { gateway: 'other', dayMs: Date.UTC(2026, 4, 2) })]);
  await site.caughtUp();
  const [file] = await site.lake.files('readings', { gateway: 'gw' });
  const key = file?.key ?? '';
  await site.rewriteLake(key, (rows) => rows, 2048);
  const { db } = site.log as unknown as { db: KvDatabase };
  for (const topic of ['raw', 'readings']) {
    const prefix = topicPrefix(topic);
    const entries = await db.read({ gte: prefix, lt: after(prefix) }, Number.POSITIVE_INFINITY);
    await db.write(
      entries.slice(0, -1).map(([own]) => ({ type: 'del', key: own })),
      { sync: true },
    );
  }
  rmSync(join(site.lakeFolder, 'raw'), { recursive: true });
  const entry = (await site.lake.catalog('readings').day(file?.date ?? '')).entries.get(key);
  const groups = (entry?.groups ?? []).map(([at, bytes, rows]) => [at, bytes, rows]);
  return { site, key, groups };
}

function flip(path: string, at: number): void {
  const file = openSync(path, 'r+');
  writeSync(file, Buffer.from([0x5a, 0xa5, 0x5a]), 0, 3, at);
  closeSync(file);
}

describe('a damaged file of the lake', () => {
  it.each([
    ['', false],
    [', also where it is found while others are made again', true],
  ])('keeps the rows of its other row groups, once, and as they were%s', async (_, isMeanwhile) => {
    const { site, key, groups } = await onlyInLake();
    expect(groups).toHaveLength(3);
    const before = await site.rows('readings');
    const [, [at = 0, , lost = 0] = []] = groups;
    flip(join(site.lakeFolder, key), at + 100);
    if (isMeanwhile) {
      const heal = site.heal as unknown as { raw(isAll: boolean): Promise<void> };
      const raw = heal.raw.bind(heal);
      heal.raw = async (isAll) => {
        heal.raw = raw;
        await site.scrub.pass();
        await raw(isAll);
      };
      site.heal.ask();
      await until('it to be found', () => site.lake.check.damages.length > 0 || undefined);
    } else await site.scrub.pass();
    await site.healed();
    let now: string[] = [];
    await until('what is whole of it', async () => {
      now = await site.rows('readings');
      return now.length > 1 || undefined;
    });
    expect(now).toHaveLength(5001 - lost);
    expect(now.every((row) => before.includes(row))).toBe(true);
    await site.scrub.pass();
    site.heal.ask();
    expect(await site.rows('readings')).toEqual(now);
    await site.close();
  });

  it('is kept without what was written again meanwhile, and what the log still has is not called lost', async () => {
    const site = new AuditSite(temporaryFolder());
    await site.open();
    const timeMs = Date.UTC(2026, 4, 1);
    const reading = (sequence: number): Reading => ({
      ...{ measurement: 'm', tags: {}, fields: { v: sequence }, index: 0, ns: 0 },
      ...{ sequence, timeMs: timeMs + sequence },
    });
    const value = encodeReadings({
      ...{ gateway: STREAM, epoch: 'rule/x', arrivedMs: timeMs, revision: 5 },
      readings: Array.from({ length: 5000 }, (_, at) => reading(at)),
    });
    const records = Array.from({ length: 5 }, (_, at) =>
      frameOf(1 + at * 1000, 1000, { dayMs: timeMs }),
    );
    await site.append(records);
    await site.log.append('results', [{ key: 'rule/x', headers: {}, value }]);
    await site.caughtUp();
    for (const zone of ['readings', 'results'] as const) {
      const before = await site.rows(zone);
      const [file] = await site.lake.files(zone);
      const key = file?.key ?? '';
      await site.rewriteLake(key, (rows) => rows, 2048);
      const entry = (await site.lake.catalog(zone).day(file?.date ?? '')).entries.get(key);
      flip(join(site.lakeFolder, key), (entry?.groups[1]?.[0] ?? 0) + 100);
      await site.scrub.pass();
      await site.healed();
      await until('all of it', async () => (await site.rows(zone)).length >= 5000 || undefined);
      expect(await site.rows(zone)).toEqual(before);
      expect(site.lake.check.damages).toEqual([]);
    }
    await site.close();
  });

  it('keeps nothing where its footer is damaged: nobody could say what its rows are', async () => {
    const { site, key, groups } = await onlyInLake();
    const [at = 0, bytes = 0] = groups.at(-1) ?? [];
    flip(join(site.lakeFolder, key), at + bytes + 20);
    await site.scrub.pass();
    await site.healed();
    expect(await site.rows('readings')).toHaveLength(1);
    await site.close();
  });

  it('checksums of parts make that of the whole', () => {
    const { seed, next } = seeded();
    for (let trial = 0; trial < 50; trial++) {
      const bytes = Buffer.from(
        Array.from({ length: Math.floor(next() * 5000) }, () => next() * 256),
      );
      const cut = Math.floor(next() * (bytes.length + 1));
      const made = crc32cCombine(crc32c(bytes, 0, cut), crc32c(bytes, cut), bytes.length - cut);
      expect([seed, made]).toEqual([seed, crc32c(bytes)]);
    }
  });

  it('proves nothing by itself where its manifest is lost as well: what was changed in it is no reading', async () => {
    const site = new AuditSite(temporaryFolder());
    await site.open();
    const dayMs = Date.UTC(2026, 4, 1);
    await site.append(
      Array.from({ length: 5 }, (_, at) => frameOf(1 + at * 1000, 1000, { dayMs })),
    );
    await site.caughtUp();
    const before = await site.rows('readings');
    const [file] = await site.lake.files('readings');
    const roots = join(site.lakeFolder, '_manifest/roots/readings');
    const kept = readdirSync(roots).map((name) => [name, readFileSync(join(roots, name))] as const);
    // Whole row groups that say something else, and only the root says that they are others.
    const other = 'SELECT * REPLACE (sequence + 100000 AS sequence)';
    await site.rewriteLake(
      file?.key ?? '',
      (rows) =>
        `${other} FROM (${rows} WHERE sequence < 10) UNION ALL ${rows} WHERE sequence >= 10`,
      2048,
    );
    for (const [name, bytes] of kept) writeFileSync(join(roots, name), bytes);
    const day = join(site.lakeFolder, '_manifest/readings', `date=${file?.date}`);
    for (const name of readdirSync(day)) rmSync(join(day, name));
    site.lake.catalog('readings').refresh();
    await site.scrub.pass();
    await site.healed();
    expect(site.said.join()).toContain('nothing proves that it is as it was written');
    await until('all of it', async () => {
      const now = await site.rows('readings');
      return now.length >= before.length || undefined;
    });
    expect(await site.rows('readings')).toEqual(before);
    await site.close();
  });
});
