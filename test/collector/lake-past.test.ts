/** What the lake keeps of what was replaced: a file of it that is gone is missed, many small ones become one, and none is lost by it. */
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { forgetPast, listing, pastFound, pastOf } from '../../collector/lake/past.ts';
import { TOPIC_READINGS } from '../../collector/log/log.ts';
import { HEADER_SAID } from '../../collector/log/topics.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import { LakeSite } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

const DAY = Date.UTC(2026, 4, 1, 12);
const EPOCH = '0102030405060708';

let site: LakeSite;

afterEach(async () => {
  await site.close();
});

/** The reading 1 as it is from `saidMs` on. */
async function say(value: number, saidMs: number): Promise<void> {
  const reading = {
    measurement: 'm',
    tags: {},
    fields: { n: value },
    sequence: 1,
    index: 0,
    timeMs: DAY,
    ns: 0,
  };
  const batch = { gateway: 'gw', epoch: EPOCH, arrivedMs: DAY, readings: [reading] };
  const headers = { [HEADER_SAID]: String(saidMs), again: 'true' };
  await site.log.append(TOPIC_READINGS, [{ key: 'gw', headers, value: encodeReadings(batch) }]);
  await until('the lake to have it', () => {
    const own = site.log.groups().filter(({ group }) => group.endsWith('lake-readings'));
    return (own.length > 0 && own.every(({ lagRecords }) => lagRecords === 0)) || undefined;
  });
}

const folder = (): string => join(site.lakeFolder, '_past', 'readings');
const names = (): string[] => readdirSync(folder()).sort();
const said = (text: string): string[] => site.said.filter((each) => each.includes(text));

async function opened(corrections: number): Promise<void> {
  site = new LakeSite(temporaryFolder());
  await site.open();
  for (let at = 0; at <= corrections; at++) await say(at, DAY + at * 1000);
}

/** As many more files of the past, of steps to come, as if there had been so many corrections. */
async function grow(count: number): Promise<void> {
  const [name = ''] = names();
  const [until = '', log = '', partition = '', , crc = ''] = name.split('-');
  const catalog = site.lake.catalog('readings');
  for (let at = 0; at < count; at++) {
    const copy = [until, log, partition, String(1000 + names().length), crc].join('-');
    copyFileSync(join(folder(), name), join(folder(), copy));
    const bytes = readFileSync(join(folder(), copy)).length;
    const past = listing({ key: `_past/readings/${copy}`, bytes });
    await catalog.commit(`${log}-${partition}`, new Map(), { past });
  }
}

async function values(): Promise<string[]> {
  const { paths, damaged, missing } = await pastOf(site.lake, -1);
  expect({ damaged, missing }).toEqual({ damaged: [], missing: [] });
  return await site.lake.query({ zones: [] }, async (connection) => {
    const list = paths.map((path) => `'${path}'`).join(', ');
    const sql = `SELECT fields['n'], epoch_ms("until") FROM read_parquet([${list}]) ORDER BY ALL`;
    return (await connection.runAndReadAll(sql)).getRows().map(String);
  });
}

describe('the past', () => {
  it('a file of it that was deleted is missed, while the collector runs and between stop and start', async () => {
    await opened(3);
    const [first = '', second = ''] = names();
    rmSync(join(folder(), first));
    const { pastLost } = await site.scrub.pass();
    await site.scrub.pass();
    expect(pastLost).toEqual([`_past/readings/${first}`]);
    expect(said(`${first} is missing`)).toHaveLength(1);
    rmSync(join(folder(), second));
    const { missing } = await pastOf(site.lake, -1);
    expect(missing.sort()).toEqual([first, second].map((name) => `_past/readings/${name}`));
    // All of it, with the mark since when it is kept.
    await site.close();
    const all = [first, ...names(), second];
    rmSync(join(site.lakeFolder, '_past'), { recursive: true });
    await site.open();
    await say(9, DAY + 9000);
    expect((await site.scrub.pass()).pastLost).toHaveLength(new Set(all).size);
    expect(said('_past/since/0, which says since when')).toHaveLength(1);
    expect((await pastFound(site.lake)).sinceMs).toBe(0);
  });

  it('many small files become one, which has all of them; a kill before the end leaves none twice', async () => {
    await opened(2);
    await grow(10);
    const before = await values();
    const kept = join(temporaryFolder(), 'kept');
    mkdirSync(kept);
    for (const name of names()) copyFileSync(join(folder(), name), join(kept, name));
    expect(before).toHaveLength(13);
    await grow(3);
    await until('them to be merged', () => (names().length === 1 ? true : undefined));
    const after = await values();
    expect(after).toHaveLength(16);
    expect(new Set(after)).toEqual(new Set(before));
    // They are there again, as after a power cut.
    for (const name of readdirSync(kept)) copyFileSync(join(kept, name), join(folder(), name));
    expect(await values()).toEqual(after);
    await site.scrub.pass();
    expect(names()).toHaveLength(1);
    expect(await values()).toEqual(after);
  });

  it('a damaged one is merged into nothing, and is told', async () => {
    await opened(2);
    const [, name = ''] = names();
    const bytes = readFileSync(join(folder(), name));
    bytes[20] = (bytes[20] ?? 0) ^ 1;
    writeFileSync(join(folder(), name), bytes);
    await grow(16);
    // On a slow machine they are merged before all have come, and those that come then are too few to be merged again.
    await until('the others to be merged', () => (names().length < 10 ? true : undefined));
    expect(names()).toContain(name);
    expect((await site.scrub.pass()).pastLost).toEqual([`_past/readings/${name}`]);
  });

  it('what was forgotten on purpose is not missed; what no list names must be there from the second look on', async () => {
    await opened(4);
    const root = join(site.lakeFolder, '_manifest', 'roots', 'readings');
    await forgetPast(site.lake, DAY + 2500);
    expect((await site.scrub.pass()).pastLost).toEqual([]);
    expect((await pastFound(site.lake)).sinceMs).toBe(DAY + 2500);
    await site.close();
    for (const name of readdirSync(root)) rmSync(join(root, name));
    await site.open();
    await say(7, DAY + 7000);
    await site.scrub.pass();
    await site.scrub.pass();
    const [, second = ''] = names();
    rmSync(join(folder(), second));
    expect((await site.scrub.pass()).pastLost).toEqual([`_past/readings/${second}`]);
  });
});
