/** A lake that is damaged says so and is made again; nobody reads what is not as it was written. */
import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { framesOf } from '../../collector/api/export/raw.ts';
import { loadJobs, parseJob } from '../../collector/batch/job.ts';
import { BatchRunner, type RunOutcome } from '../../collector/batch/runner.ts';
import type { HealOptions } from '../../collector/heal.ts';
import { ZONES, type LakeFile, type Zone } from '../../collector/lake/layout.ts';
import { writerOf } from '../../collector/lake/manifest.ts';
import { topicPrefix } from '../../collector/log/embedded-records.ts';
import { TOPIC_RAW, TOPIC_RESULTS, type LogRecord } from '../../collector/log/log.ts';
import { ANYBODY } from '../../shared/access/tokens.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { CLOCK_SYNCHRONISED, KIND_SUMMARY } from '../../shared/frame/frame.ts';
import { noteFrame } from '../../shared/frame/notes.ts';
import { after, type KvDatabase } from '../../shared/kv/kv.ts';
import { allRows, damage, filesOf, filled, result, trial } from '../support/lake-damage.ts';
import { LakeSite, frameOf } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { seeded } from '../support/seed.ts';

/** What is left of ten messages of the gateway that `frameOf` has. */
function summaryOf(sequence: number): LogRecord {
  const wallUs = Date.UTC(2026, 4, 1, 12) * 1000;
  const epoch = '0102030405060708';
  const series = {
    ...{ client: 'c', topic: 'hall/1/n', constants: {}, fromUs: wallUs, toUs: wallUs + 1e6 },
    numbers: { n: [10, 11, 20, 15.5] as [number, number, number, number] },
  };
  const value = noteFrame(
    KIND_SUMMARY,
    { epoch, replaces: [[11, 20]], series: [series] },
    { gateway: 'gw', epoch: Buffer.from(epoch, 'hex'), bootId: Buffer.alloc(8) },
    sequence,
    { wallUs, monotonicUs: 1, clockQuality: CLOCK_SYNCHRONISED },
  );
  return { key: 'gw', headers: { arrived: String(wallUs / 1000), lane: '0' }, value };
}

/** Of the gateway whose raw frames are lost. */
async function listed(site: LakeSite, zone: Zone): Promise<LakeFile[]> {
  return (await site.lake.files(zone)).filter(({ gateway }) => gateway === 'gw');
}

describe('a damaged lake', () => {
  it(
    'flips, truncations and deletions in files and manifests are each told, and every row is there again',
    { timeout: 90_000 },
    async () => {
      const { seed, next } = seeded();
      const site = await filled();
      const before = await allRows(site);
      expect(before['readings']).toHaveLength(600);
      for (let round = 0; round < 2; round++) {
        const keys = filesOf(site.lakeFolder).filter(() => next() < 0.4);
        const { untold, differing } = await trial(site, before, keys, next);
        expect({ seed, round, untold, differing }).toEqual({
          seed,
          round,
          untold: [],
          differing: [],
        });
      }
      await site.close();
    },
  );

  it('so is a lake that lies elsewhere, whose files are fetched to be read', async () => {
    const { seed, next } = seeded();
    const site = await filled(true);
    const before = await allRows(site);
    const keys = filesOf(site.lakeFolder).filter(() => next() < 0.3);
    const { untold, differing } = await trial(site, before, keys, next);
    expect({ seed, untold, differing }).toEqual({ seed, untold: [], differing: [] });
    await site.close();
  });

  it('a query waits for rows that are being made again, and what the lake has is still said', async () => {
    const { next } = seeded();
    const site = await filled();
    site.heal.ask = () => undefined;
    site.lake.check.onLost = () => undefined;
    const [key = ''] = filesOf(site.lakeFolder).filter((each) => each.startsWith('readings/'));
    damage(join(site.lakeFolder, key), next);
    await expect(
      site.lake.query({ zones: ['readings'] }, () => Promise.resolve()),
    ).rejects.toMatchObject({ code: 'LAKE_UNAVAILABLE' });
    expect(site.lake.check.damages).toMatchObject([{ key, zone: 'readings', final: false }]);
    const summary = await site.lake.summary();
    expect(summary.find(({ zone }) => zone === 'readings')?.rows).toBe(
      600 - (site.lake.check.damages[0]?.rows ?? 0),
    );
    await site.close();
  });

  it('an export of raw messages is not said to be whole while a day of them is being made again', async () => {
    const site = await filled();
    site.heal.ask = () => undefined;
    site.lake.check.onLost = () => undefined;
    const { signal } = new AbortController();
    const exported = async (gateways?: string[]): Promise<number> => {
      const all = { from: undefined, to: undefined, gateway: undefined, after: undefined };
      const identity = { ...ANYBODY, gateways: gateways && new Set(gateways) };
      let count = 0;
      for await (const { rows } of framesOf(site.lake, all, identity, signal)) count += rows.length;
      return count;
    };
    expect(await exported()).toBe(600);
    for (const { key } of await site.lake.files('raw')) rmSync(join(site.lakeFolder, key));
    // Found by the first of them; of what was found no file is listed.
    for (let tries = 0; tries < 2; tries++)
      await expect(exported()).rejects.toMatchObject({ code: 'LAKE_UNAVAILABLE' });
    expect(await exported(['another'])).toBe(0);
    await site.close();
  });

  it('what two find at the same time is set aside once, and what was set aside and is gone keeps nothing waiting', async () => {
    const site = await filled();
    const before = await allRows(site);
    const files = await site.lake.files('raw');
    for (const { key } of files) truncateSync(join(site.lakeFolder, key), 100);
    const { check } = site.lake;
    await Promise.all(files.flatMap((file) => [check.whole(file, 0), check.whole(file, 0)]));
    expect(check.found).toBe(files.length);
    // Deleted by hand, or on a disk that lost it.
    rmSync(join(site.lakeFolder, '_aside'), { recursive: true });
    await site.healed();
    await site.caughtUp();
    expect(await allRows(site)).toEqual(before);
    await site.close();
  });

  it('a file that cannot be read and that no manifest speaks of holds up nobody, and puts nothing into quarantine', async () => {
    const site = await filled();
    const before = await allRows(site);
    const [file] = await site.lake.files('raw');
    const { key, date, log, partition } = file as LakeFile; // Filled.
    const said: LogRecord[] = [];
    const raw = await site.log.consumer({
      group: 'g',
      topic: TOPIC_RAW,
      from: 'start',
      bytesMax: 1e8,
    });
    said.push(...(await raw.poll(1000)));
    await raw.close();
    const changes = new Map([[date, { dropped: [key] }]]);
    await site.lake.catalog('raw').commit(writerOf(log, partition), changes);
    truncateSync(join(site.lakeFolder, key), 2);
    // What comes again is looked for in it.
    await site.append(said);
    await site.caughtUp();
    await site.healed();
    await site.caughtUp();
    expect(await allRows(site)).toEqual(before);
    expect(site.said.join()).toContain(`${key} is damaged: it is no Parquet file that can be read`);
    expect(site.said.join()).not.toContain('quarantine');
    await site.close();
  });

  it('a batch whose own note in the lake is damaged is run again, takes its rows for what they are, and gives the same', async () => {
    const { next } = seeded();
    const site = await filled();
    const folder = join(site.folder, 'batch-work');
    const runner = new BatchRunner({
      log: site.log,
      lake: site.lake,
      jobs: loadJobs('', true),
      packaged: undefined,
      engine: 'duckdb',
      spark: { python: '', lakeUrl: '', folder },
      folder,
      timeoutMs: 60_000,
      wallMs: () => Date.now(),
      notify: ({ text }) => void site.said.push(text),
    });
    const run = async (): Promise<RunOutcome | undefined> => {
      const task = runner.begin('daily_summary', ['2026-05-02'], 'duckdb', false);
      await until('the batch to end', () => task.finished || undefined);
      expect(task.failure).toBeUndefined();
      await site.caughtUp();
      return task.done[0];
    };
    const first = await run();
    expect(first?.rows).toBeGreaterThan(0);
    const before = await site.rows('results');
    const note = join(site.lakeFolder, 'batch/daily_summary/2026-05-02.json');
    // A flip, at a place of chance.
    let draws = 0;
    damage(note, () => (draws++ === 0 ? 0 : next()));
    expect(await run()).toMatchObject({ rows: first?.rows, removed: 0, unchanged: false });
    expect(await site.rows('results')).toEqual(before);
    expect(site.said.join('\n')).toContain('batch/daily_summary/2026-05-02.json is damaged');
    await runner.close();
    await site.close();
  });

  it('what a batch has said before it was killed is taken back by its next run where that gives it no more, also by a clock that was set back', async () => {
    const site = await filled();
    const folder = join(site.folder, 'batch-work');
    // Another row with each number of readings.
    const sql = "SELECT 'of' || count(*) AS seen, count(*) AS n FROM readings";
    const jobs = [parseJob('tally.sql', sql)];
    const [runs, said]: [BatchRunner[], string[]] = [[], []];
    const run = async (wallMs: () => number): Promise<string | undefined> => {
      const runner = new BatchRunner({
        ...{ log: site.log, lake: site.lake, jobs, packaged: undefined, engine: 'duckdb' },
        spark: { python: '', lakeUrl: '', folder },
        ...{ folder, timeoutMs: 60_000, wallMs, notify: ({ text }) => void said.push(text) },
      });
      runs.push(runner);
      const task = runner.begin('tally', ['2026-05-02'], 'duckdb', false);
      await until('the batch to end', () => task.finished || undefined);
      await site.caughtUp();
      return task.failure;
    };
    const tallies = async (): Promise<(string | undefined)[]> =>
      (await site.rows('results')).map((row) => /of\d+/.exec(row)?.[0]).filter(Boolean);
    const { lake, log } = site;
    const [put, append] = [lake.put.bind(lake), log.append.bind(log)];
    log.append = async (topic, records) => {
      await append(topic, records);
      lake.put = async (key, file) => {
        if (key.startsWith('batch/')) throw new HeadwaterError('LAKE_UNAVAILABLE', 'killed here');
        await put(key, file);
      };
    };
    expect(await run(() => Date.now())).toContain('killed here');
    Object.assign(log, { append });
    Object.assign(lake, { put });
    await site.caughtUp();
    expect(await tallies()).toEqual(['of200']);
    await site.append([frameOf(9001, 5, { dayMs: Date.UTC(2026, 4, 2, 6) - 9001 * 1000 })]);
    await site.caughtUp();
    // What was said last the lake has not taken yet.
    lake.newestRevision = () => Promise.resolve(0);
    expect(await run(() => Date.now() - 400 * 86_400_000)).toBeUndefined();
    expect(await tallies()).toEqual(['of205']);
    for (const runner of runs) await runner.close();
    await site.close();
  });

  it.each(
    ZONES,
  )('a file of %s that a step puts again under its name, after it was set aside with its manifest, counts (seed 7400149)', async (zone) => {
    let site = await filled();
    await site.close();
    const [path = ''] = filesOf(site.lakeFolder).filter((key) =>
      key.startsWith(`_manifest/${zone}/date=2026-05-01/`),
    );
    const bytes = readFileSync(join(site.lakeFolder, path));
    bytes[30] = (bytes[30] ?? 0) ^ 1;
    writeFileSync(join(site.lakeFolder, path), bytes);
    site = new LakeSite(site.folder, { isHealHeld: true });
    await site.open();
    // Of that day: its manifest is found damaged once the step's file is there.
    await site.append([frameOf(9001, 5, { dayMs: Date.UTC(2026, 4, 1, 6) - 9001 * 1000 })]);
    await site.log.append(TOPIC_RESULTS, [result(0, 'rule/more')]);
    await site.caughtUp();
    site.heals();
    await site.healed();
    await site.caughtUp();
    await site.scrub.pass();
    expect(site.said.join('\n')).toContain(`the manifest ${path} was damaged or gone`);
    const { [zone]: rows } = await allRows(site);
    const expected = { raw: 25, readings: 605, results: 40 };
    expect(rows).toHaveLength(expected[zone]);
    await site.close();
  });

  it('readings that stand for messages that were thinned come again as well', async () => {
    const site = new LakeSite(temporaryFolder());
    await site.open();
    await site.append([frameOf(1, 10), summaryOf(31)]);
    await site.caughtUp();
    const before = await allRows(site);
    expect(before['readings']?.at(-1)).toContain("'n_count': 10");
    for (const key of filesOf(site.lakeFolder).filter((each) => each.startsWith('readings/')))
      damage(join(site.lakeFolder, key), () => 0);
    await site.scrub.pass();
    await site.healed();
    await site.caughtUp();
    expect(site.said.join()).toContain('its 11 rows are made again');
    expect(await allRows(site)).toEqual(before);
    await site.close();
  });

  it('what was given up is not lost any more once it came after all', async () => {
    const { next } = seeded();
    const site = await filled();
    const before = await allRows(site);
    const groups = site.log.groups.bind(site.log);
    const [key = ''] = filesOf(site.lakeFolder).filter((each) => each.startsWith('readings/'));
    // A log that cannot say how far its groups are is not taken at its word.
    let asked = 0;
    site.log.groups = () => (asked++ < 5 ? [] : groups());
    damage(join(site.lakeFolder, key), next);
    await site.scrub.pass();
    await site.healed();
    expect(site.lake.check.damages).toEqual([]);
    const [{ date, gateway } = { date: '', gateway: '' }] = await site.lake.files('readings');
    const [entry] = (await site.lake.catalog('readings').day(date)).entries.values();
    if (entry !== undefined)
      site.lake.check.learn('readings', { ...entry, gone: 'missing', final: true });
    await site.scrub.pass();
    await until('it to be settled', () => site.lake.check.lost.size === 0 || undefined);
    expect(gateway).not.toBe('');
    expect(await allRows(site)).toEqual(before);
    await site.close();
  });

  /** Raw frames and readings of a gateway are gone from lake and log; `records` are the frames, which the gateway has. */
  async function rawless(): Promise<{
    site: LakeSite;
    before: Awaited<ReturnType<typeof allRows>>;
    records: LogRecord[];
  }> {
    const site = await filled();
    const before = await allRows(site);
    const frames = await listed(site, 'raw');
    const records: LogRecord[] = [];
    for (const file of frames)
      for (const { frame, headers } of await site.lake.parquet.frames(await site.lake.fetch(file)))
        records.push({ key: 'gw', value: frame, headers });
    const { db } = site.log as unknown as { db: KvDatabase };
    const raw = topicPrefix(TOPIC_RAW);
    await db.clear({ gte: raw, lt: after(raw) });
    const lost = [...frames, ...(await listed(site, 'readings'))];
    await site.close();
    for (const { key } of lost) rmSync(join(site.lakeFolder, key), { force: true });
    await site.open();
    return { site, before, records };
  }

  it('nothing is given up that a gateway which is connected holds: it is asked, and brings it', async () => {
    const { site, before, records } = await rawless();
    let asked = 0;
    const { options } = site.heal as unknown as { options: HealOptions };
    options.holds = (gateway) => gateway === 'gw';
    options.askGateways = () => {
      if (asked++ === 0) void site.append(records);
    };
    await site.scrub.pass();
    await site.healed();
    await site.caughtUp();
    expect(asked).toBeGreaterThan(0);
    expect(site.lake.check.damages).toEqual([]);
    expect(site.said.join('\n')).not.toContain('not all of the');
    expect(await allRows(site)).toEqual(before);
    await site.close();
  });

  it.each([
    ['', false],
    [', also after a restart', true],
  ])('readings that had no raw frame to be made of are made when a gateway has sent it again, decoded as it was before%s', async (_, isRestarted) => {
    const { site, before, records } = await rawless();
    await site.scrub.pass();
    await site.healed();
    expect(site.lake.check.damages.length).toBeGreaterThan(0);
    if (isRestarted) {
      await site.close();
      await site.open();
    }
    const asked = (): string[] => Object.keys(site.heal.stillWanted('gw'));
    await until('its gateway to be asked', () => asked().length > 0 || undefined);
    // The ledger knows them: they are not decoded once more by themselves. Nothing else is read for it.
    const { parquet } = site.lake;
    let read = 0;
    const sequences = parquet.sequences.bind(parquet);
    parquet.sequences = (path) => {
      read++;
      return sequences(path);
    };
    await site.append(records);
    await site.caughtUp();
    site.heal.ask();
    await until('all of it', () => site.lake.check.lost.size === 0 || undefined, 40_000);
    await site.caughtUp();
    expect(read).toBe(0);
    expect(await allRows(site)).toEqual(before);
    await site.close();
  });

  it('a lake that was emptied while nobody looked is known from the log, and filled again from it', async () => {
    const site = await filled();
    const before = await allRows(site);
    await site.close();
    rmSync(site.lakeFolder, { recursive: true });
    await site.open();
    await site.scrub.pass();
    await site.caughtUp();
    const { raw, readings, results } = before;
    const all = async (): Promise<true | undefined> => {
      const now = await allRows(site);
      return JSON.stringify(now) === JSON.stringify({ raw, readings, results }) || undefined;
    };
    for (let tries = 0; tries < 100 && (await all()) === undefined; tries++)
      await new Promise((resolve) => setTimeout(resolve, 200));
    expect(await allRows(site)).toEqual(before);
    expect(site.said.join('\n')).toContain('is not as this collector left it');
    await site.close();
  });
});
