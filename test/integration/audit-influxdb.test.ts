/** A store without identities is audited by what its points are: real InfluxDB, 1.8 and 2. */
import { expect, it } from 'vitest';
import { InfluxStore, parseInfluxAddress } from '../../collector/store/influxdb.ts';
import type { Change, StoredPoint, TimeSeriesStore } from '../../collector/store/store.ts';
import { startInflux1, startInflux2 } from '../services/servers.ts';
import { AuditSite } from '../support/audit-site.ts';
import { fill } from '../support/lake-damage.ts';
import { temporaryFolder } from '../support/process.ts';

/** Every point, as text. */
async function points(store: TimeSeriesStore): Promise<StoredPoint[]> {
  const found: StoredPoint[] = [];
  for await (const part of store.scan?.(Date.UTC(2026, 4, 1), Date.UTC(2026, 4, 4)) ?? [])
    found.push(...part);
  return found;
}

const textOf = (all: readonly StoredPoint[]): string[] =>
  all
    .map(({ measurement, field, tags, timeNs, value }) =>
      JSON.stringify([measurement, field, Object.entries(tags).sort(), String(timeNs), value]),
    )
    .sort();

/** A change of nobody's, at the place of a point. */
function at({ measurement, tags, field, timeNs }: StoredPoint, value?: number, moreNs = 0): Change {
  const timeMs = Number(timeNs / 1_000_000n);
  const ns = Number(timeNs % 1_000_000n) + moreNs;
  const reading = { measurement, tags, fields: { [field]: value ?? 0 }, timeMs, ns };
  const identity = { gateway: 'nobody', epoch: '', sequence: Number(timeNs % 10_007n), index: 0 };
  const put = { ...reading, sequence: identity.sequence, index: 0 };
  return value === undefined ? { identity, put: undefined, was: [put] } : { identity, put };
}

it.each([
  ['1.8', startInflux1],
  ['2', startInflux2],
] as const)('InfluxDB %s: edits, removals and strange points are named and put right', async (_, start) => {
  const influx = await start();
  const site = new AuditSite(temporaryFolder(), (notify) => {
    const target = parseInfluxAddress(influx.store);
    return new InfluxStore({ ...target, token: () => influx.token, caFile: '' }, notify);
  });
  try {
    await site.open();
    await fill(site);
    const before = await points(site.store);
    expect(before).toHaveLength(1230);
    const clean = await site.audit.pass(true);
    expect(clean).toMatchObject({ clean: true, findings: [], storePoints: 1230, lakePoints: 1230 });
    const numbers = before.filter(({ field }) => field === 'n');
    const damages = [3, 50, 100].flatMap((first) => {
      const [a, b, c] = numbers.slice(first, first + 3) as [StoredPoint, StoredPoint, StoredPoint];
      return [at(a, -5), at(b), at(c, 7, 1)];
    });
    for (const damage of damages) await site.store.apply([damage], new Map());
    expect(textOf(await points(site.store))).not.toEqual(textOf(before));
    const { findings } = await site.audit.pass(false);
    const count = (kind: string): number =>
      findings.filter((each) => each.kind === kind).reduce((sum, each) => sum + each.readings, 0);
    expect([count('differs'), count('extra')]).toEqual([6, 3]);
    expect(findings.every(({ stage, mended }) => stage === 'store' && mended === 'yes')).toBe(true);
    expect(textOf(await points(site.store))).toEqual(textOf(before));
    expect(await site.audit.pass(false)).toMatchObject({ clean: true, findings: [] });
  } finally {
    await site.close();
    await influx.stop();
  }
});
