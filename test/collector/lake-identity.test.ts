/** Once in effect by the identity of a reading: whatever the log says again, from whatever offsets, the lake stays as it was. */
import { cpSync, existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { TOPIC_READINGS, TOPIC_RESULTS } from '../../collector/log/log.ts';
import { decodeReadings, encodeReadings } from '../../shared/model/readings-record.ts';
import { LakeSite, frameOf } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

const frames = [frameOf(1, 40), frameOf(41, 40), frameOf(81, 40)];

async function filled(): Promise<LakeSite> {
  const site = new LakeSite(temporaryFolder());
  await site.open();
  await site.append(frames);
  await site.caughtUp();
  return site;
}

describe('lake: once in effect by identity', () => {
  it('a log that is lost and filled again by its gateways leaves raw and readings as they were', async () => {
    const site = await filled();
    const before = { raw: await site.rows('raw'), readings: await site.rows('readings') };
    expect(before.raw).toHaveLength(3);
    expect(before.readings).toHaveLength(120);
    const spans = { '0102030405060708': [[1, 120]] };
    expect(await site.lake.has('gw')).toEqual({ raw: spans, readings: spans });
    await site.close();
    rmSync(join(site.folder, 'log'), { recursive: true });
    await site.open();
    await site.append([...frames.toReversed(), frameOf(121, 5)]);
    await site.caughtUp();
    const fresh = await site.rows('raw');
    expect(fresh.filter((row) => before.raw.includes(row))).toEqual(before.raw);
    expect(fresh).toHaveLength(4);
    const readings = await site.rows('readings');
    expect(readings.filter((row) => before.readings.includes(row))).toEqual(before.readings);
    expect(readings).toHaveLength(125);
    await site.close();
  });

  it('readings that are decoded again come from new offsets, in one step or in several, and are there once', async () => {
    const site = await filled();
    const before = await site.rows('readings');
    expect(before).toHaveLength(120);
    // As decode says it when its own place was lost: the same records, without a word that they were said before.
    const said = await recordsOf(site, TOPIC_READINGS);
    await site.log.append(TOPIC_READINGS, [...said, ...said]);
    await site.log.append(TOPIC_READINGS, said.slice(1));
    await site.caughtUp();
    expect(await site.rows('readings')).toEqual(before);
    await site.close();
  });

  it.each([
    'raw',
    'readings',
  ] as const)('a kill between the manifest of a day and its root doubles nothing of %s', async (zone) => {
    const site = new LakeSite(temporaryFolder());
    await site.open();
    await site.append([frameOf(1, 40)]);
    await site.caughtUp();
    // What a kill at this moment leaves.
    const killed = join(temporaryFolder(), 'killed');
    const { store } = site.lake;
    const put = store.put.bind(store);
    store.put = async (key, file) => {
      if (key.startsWith(`_manifest/roots/${zone}/`) && !existsSync(killed))
        cpSync(site.folder, killed, { recursive: true });
      await put(key, file);
    };
    await site.append([frameOf(41, 40), frameOf(81, 40)]);
    await site.caughtUp();
    await until('the moment', () => existsSync(killed) || undefined);
    const expected = { raw: await site.rows('raw'), readings: await site.rows('readings') };
    await site.close();
    const again = new LakeSite(killed);
    await again.open();
    await again.append([frameOf(41, 40), frameOf(81, 40)]);
    await again.caughtUp();
    expect(await again.rows('readings')).toEqual(expected.readings);
    expect(await again.rows('raw')).toEqual(expected.raw);
    await again.close();
  });

  it('a reading of the same identity and another time takes the place of the first, on whatever day that was', async () => {
    const site = await filled();
    const [first] = await recordsOf(site, TOPIC_READINGS);
    const batch = decodeReadings(first?.value ?? Buffer.alloc(0));
    const moved = batch.readings.map((reading) => ({
      ...reading,
      timeMs: reading.timeMs + 3 * 86_400_000,
    }));
    const value = encodeReadings({ ...batch, readings: moved });
    await site.log.append(TOPIC_READINGS, [{ key: 'gw', headers: {}, value }]);
    await site.caughtUp();
    const rows = await site.rows('readings');
    expect(rows).toHaveLength(120);
    const times = new Set(rows.map((row) => row.split(' ')[4]?.slice(0, 5)));
    expect(times.size).toBe(2);
    await site.close();
  });

  it('results of one revision that come again after a crash are there once', async () => {
    const site = await filled();
    const reading = {
      measurement: 'm',
      tags: { a: 'b' },
      fields: { mean: 1 },
      sequence: 7,
      index: 0,
      timeMs: Date.UTC(2026, 4, 1),
      ns: 0,
    };
    const batch = { gateway: '~stream', epoch: 'rule/x', arrivedMs: 1, readings: [reading] };
    const value = encodeReadings({ ...batch, revision: 3 });
    await site.log.append(TOPIC_RESULTS, [{ key: 'x', headers: {}, value }]);
    await site.caughtUp();
    await site.close();
    rmSync(join(site.folder, 'log'), { recursive: true });
    await site.open();
    await site.append(frames);
    await site.log.append(TOPIC_RESULTS, [{ key: 'x', headers: {}, value }]);
    await site.caughtUp();
    const files = await site.lake.files('results');
    const entries = await Promise.all(
      files.map(async ({ key, date }) =>
        (await site.lake.catalog('results').day(date)).entries.get(key),
      ),
    );
    expect(entries.map((entry) => entry?.rows)).toEqual([1]);
    await site.close();
  });
});

async function recordsOf(
  site: LakeSite,
  topic: string,
): Promise<{ key: string; headers: Record<string, string>; value: Buffer }[]> {
  const records = await site.log.read(topic, 0, 1 << 24);
  return records.map(({ key, headers, value }) => ({ key, headers, value }));
}
