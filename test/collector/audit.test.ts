/** The audit finds what was done to readings behind every checksum's back, puts it right, and finds nothing else. */
import { describe, expect, it } from 'vitest';
import { Compare, type Stages } from '../../collector/audit/compare.ts';
import { judge, type Sides } from '../../collector/audit/findings.ts';
import type { PointSum } from '../../collector/duckdb/points.ts';
import { AuditSite } from '../support/audit-site.ts';
import { trial } from '../support/audit-trial.ts';
import { allRows, fill } from '../support/lake-damage.ts';
import { frameOf } from '../support/lake-site.ts';
import { temporaryFolder } from '../support/process.ts';
import { seeded } from '../support/seed.ts';

async function filled(): Promise<AuditSite> {
  const site = new AuditSite(temporaryFolder());
  await site.open();
  await fill(site);
  return site;
}

describe('an audit', () => {
  it(
    'names every edit, removal and doubling in log, lake and store, nothing else, and puts all of them right',
    { timeout: 90_000 },
    async () => {
      const { seed, next } = seeded();
      const site = await filled();
      const clean = await site.audit.pass(true);
      expect(clean).toMatchObject({ clean: true, findings: [], lakePoints: clean.storePoints });
      expect(clean.storePoints).toBe(1230);
      // Stages of one epoch are told of their gateway, also of one whose name has a slash (frames that others wrote to the log).
      expect(clean.epochs.map(({ gateway, epoch }) => [gateway, epoch])).toEqual([
        ['b/b', '0102030405060708'],
        ['gw', '0102030405060708'],
        ['~stream', 'rule/x'],
      ]);
      expect(site.audit.standing()).toMatchObject({ last: { clean: true, found: 0 }, found: 0 });
      const before = [await allRows(site), await site.stored()];
      const { damages, ...wrong } = await trial(site, 40, next);
      expect(damages).toBeGreaterThan(30);
      expect({ seed, ...wrong }).toEqual({ seed, missed: [], wrongly: [], unmended: [] });
      const { last, found, mended } = site.audit.standing();
      expect(last?.clean).toBe(false);
      expect(last?.found).toBeGreaterThan(10);
      expect([last?.mended, found, mended]).toEqual([last?.found, last?.found, last?.found]);
      expect(site.audit.workMs).toBeGreaterThan(0);
      expect([await allRows(site), await site.stored()]).toEqual(before);
      expect(await site.audit.pass(true)).toMatchObject({ clean: true });
      await site.close();
    },
  );

  it('names nothing while readings come in all the time, and ends at once when it is closed', async () => {
    const site = await filled();
    let isDone = false;
    const feeding = (async () => {
      for (let first = 10_000; !isDone; first += 20) {
        await site.append([frameOf(first, 20, { dayMs: Date.UTC(2026, 4, 5) })]);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    })();
    try {
      for (let pass = 0; pass < 3; pass++)
        expect(await site.audit.pass(pass === 0)).toMatchObject({ clean: true, findings: [] });
    } finally {
      isDone = true;
      await feeding;
    }
    site.audit.start();
    expect(site.audit.standing().next).toBeGreaterThan(Date.now());
    site.audit.begin(true);
    await site.close();
    expect(site.audit.asked.report).toBe(null);
  });

  it('names no frame whose file was merged between its being listed and its being read', async () => {
    const site = await filled();
    const { lake } = site;
    const whole = lake.whole.bind(lake);
    let merged = 0;
    // What a file is by its manifest once it was merged: one that counts no more.
    lake.whole = async (files, trustMs) => {
      if (files.some(({ zone }) => zone === 'raw') && merged++ === 0) return new Map();
      return await whole(files, trustMs);
    };
    expect(await site.audit.pass(false)).toMatchObject({ clean: true, findings: [] });
    expect(merged).toBeGreaterThan(0);
    await site.close();
  });
});

it('an audit says which days it left out, and is not clean, while rows of the lake are made again', async () => {
  const site = new AuditSite(temporaryFolder());
  await site.open();
  await site.append([frameOf(1, 5, { dayMs: Date.UTC(2026, 4, 1, 12) })]);
  await site.caughtUp();
  site.lake.check.less.zones.set('readings', { since: 0, times: 1, isSure: true });
  expect(await site.audit.pass(true)).toMatchObject({
    clean: false,
    days: 0,
    left: ['2026-05-01'],
  });
  site.lake.check.less.zones.clear();
  expect(await site.audit.pass(true)).toMatchObject({ clean: true, days: 1, left: [] });
  await site.close();
});

describe('what the store has, and nobody else', () => {
  /** A reading of a gateway that neither log nor lake has heard of, as a store of another collector has them. */
  const strange = (site: AuditSite): Promise<unknown> =>
    site.store.apply(
      [
        {
          identity: { gateway: 'gw-other', epoch: 'e', sequence: 7, index: 0 },
          put: {
            ...{ measurement: 'm', tags: {}, fields: { value: 1 }, sequence: 7, index: 0 },
            ...{ timeMs: Date.UTC(2026, 4, 1, 12), ns: 0 },
          },
        },
      ],
      new Map(),
    );

  it('is named by an audit that was asked for at once, by one in the background the second time', async () => {
    const site = new AuditSite(temporaryFolder());
    await site.open();
    await site.append([frameOf(1, 5, { dayMs: Date.UTC(2026, 4, 1, 12) })]);
    await site.caughtUp();
    await strange(site);
    expect(await site.audit.pass(false)).toMatchObject({ clean: true });
    const [second, full] = [await site.audit.pass(false), await site.audit.pass(true)];
    for (const { findings } of [second, full])
      expect(findings).toMatchObject([
        { gateway: 'gw-other', ranges: [[7, 7]], readings: 1, mended: 'no' },
      ]);
    await site.close();
  });
});

describe('who is wrong', () => {
  const sum = (digest: bigint, isTwice = false): PointSum => ({
    gateway: 'g',
    epoch: 'e',
    sequence: 1,
    index: 0,
    points: isTwice ? 2 : 1,
    digest,
    isTwice,
  });
  const [a, b, c, twice] = [sum(1n), sum(2n), sum(3n), sum(2n, true)];
  it.each<[string, Sides, string | undefined]>([
    ['all agree', { log: a, lake: a, store: a }, undefined],
    ['all agree that it is gone', { log: undefined, lake: undefined, store: undefined }, undefined],
    ['two against the store', { log: a, lake: a, store: b }, 'store differs from lake'],
    ['two against the lake', { log: a, lake: b, store: a }, 'lake differs from log'],
    ['two against the log', { log: b, lake: a, store: a }, 'log differs from raw'],
    ['three ways', { log: a, lake: b, store: c }, 'lake differs from raw'],
    [
      'gone, and the lake has it',
      { log: undefined, lake: a, store: undefined },
      'lake extra from log',
    ],
    [
      'no log, the store lacks it',
      { log: null, lake: a, store: undefined },
      'store missing from lake',
    ],
    [
      'no log, the lake lacks it',
      { log: null, lake: undefined, store: a },
      'lake missing from raw',
    ],
    ['no log, twice in the lake', { log: null, lake: twice, store: a }, 'lake doubled from raw'],
    ['no log, twice in the store', { log: null, lake: a, store: twice }, 'store doubled from lake'],
    ['no lake', { log: a, lake: null, store: b }, 'store differs from log'],
    ['no store', { log: a, lake: undefined, store: null }, 'lake missing from raw'],
  ])('%s', (_, sides, expected) => {
    const verdict = judge(sides);
    expect(verdict && `${verdict.stage} ${verdict.kind} from ${verdict.from}`).toBe(expected);
  });
});

describe('a store that differs from the lake in everything', () => {
  it('is looked at in portions, so that whoever waits for an acknowledgement has a turn', async () => {
    const BLOCKS = 1000;
    const PER_BLOCK = 40;
    const sum = (sequence: number): PointSum => ({
      ...{ gateway: 'gw', epoch: 'e', sequence, index: 0, points: 1, digest: 1n, isTwice: false },
    });
    const portions: number[] = [];
    const side = (has: boolean) => ({
      lake: {
        catalog: () => ({ loadRoots: () => Promise.resolve(new Map()) }),
        store: { list: () => Promise.resolve([]) },
      },
      days: () => Promise.resolve(['2026-05-01']),
      isHealing: () => false,
      sums: () => Promise.resolve([]),
      day: (_day: string, { only }: { only?: { asked: { sequence: number }[] } }) => {
        if (!has) return Promise.resolve([]);
        if (only === undefined)
          return Promise.resolve(Array.from({ length: BLOCKS }, (_, at) => sum(at * 1024)));
        portions.push(only.asked.length);
        return Promise.resolve(
          only.asked.flatMap(({ sequence }) =>
            Array.from({ length: PER_BLOCK }, (_, at) => sum(sequence + at)),
          ),
        );
      },
    });
    const log = { scan: () => Promise.resolve({ doubled: new Map() }) };
    // What of them a comparison asks.
    const stages = { log, lake: side(false), store: side(true) } as unknown as Stages;
    let turns = 0;
    let isDone = false;
    const turn = (): void => {
      turns++;
      if (!isDone) setImmediate(turn);
    };
    setImmediate(turn);
    const pacing = { rest: () => Promise.resolve(), isStopped: () => false };
    const { suspects } = await new Compare(stages, pacing).whole(new Map());
    isDone = true;
    expect(suspects.size).toBe(BLOCKS * PER_BLOCK);
    expect(portions.reduce((a, b) => a + b)).toBe(BLOCKS);
    expect(Math.max(...portions)).toBeLessThanOrEqual(256);
    expect(turns).toBeGreaterThan(15);
  });
});
