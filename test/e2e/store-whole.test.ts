/** The store of a real collector is damaged, or gone, when its log no longer has all that was in it. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { collectorSettings, ingest, processed } from '../support/lake.ts';
import {
  ROOT,
  headwater,
  start,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { getJson, type Points } from '../support/reconcile.ts';

const COUNT = 470;

interface Answer extends Points {
  incomplete?: { of: string; from: string | null; to: string | null; reason: string }[];
}

const startOn = (folder: string, fill: number): Promise<Headwater> =>
  headwater([
    ...['collector', '--data', folder],
    '--config',
    collectorSettings({
      'lake.flushSeconds': 1,
      'log.readingsBytesMax': 1024 * 1024,
      'store.fillReadingsPerSecond': fill,
    }),
    ...['--http', '127.0.0.1:0', '--uplink', '127.0.0.1:0'],
  ]);

async function values(server: Headwater): Promise<number[]> {
  const url = `http://${server.address['http']}/api/v1/query?measurement=m&field=n`;
  const { series } = await getJson<Points>(url);
  return series
    .flatMap(({ points }) => points.map(([, value]) => Number(value)))
    .sort((a, b) => a - b);
}

async function say(server: Headwater, from: number, to: number): Promise<void> {
  // One after the other: the log is cut by records, and each shall be one.
  for (let n = from; n < to; n++) await ingest(server, 'm', { n, pad: 'x'.repeat(6000) });
}

describe('a store that begins with less than its source once had', () => {
  it.each([
    'two bits flipped',
    'its folder deleted',
  ])('%s: every answer says so until all of it is there again', async (how) => {
    const folder = temporaryFolder();
    const first = await startOn(folder, 20_000);
    await say(first, 0, COUNT);
    await processed([first.address['http'] ?? '']);
    // A cut takes a later step.
    await say(first, COUNT, COUNT + 1);
    await processed([first.address['http'] ?? '']);
    await first.kill();
    const file = join(folder, 'store', 'readings.duckdb');
    if (how === 'its folder deleted') rmSync(join(folder, 'store'), { recursive: true });
    else {
      const bytes = readFileSync(file);
      for (const at of [4096 + 20, 8192 + 20]) bytes[at] = (bytes[at] ?? 0) ^ 0x10;
      writeFileSync(file, bytes);
    }
    const again = await startOn(folder, 200);
    const base = `http://${again.address['http']}`;
    await until('it to be said', () => again.output().includes('store_incomplete') || undefined);
    for (const path of ['query?measurement=m', 'latest', 'series']) {
      const response = await fetch(`${base}/api/v1/${path}`);
      const { incomplete } = (await response.json()) as Answer;
      expect(incomplete?.[0], path).toMatchObject({ of: 'readings', from: null });
      expect(response.headers.get('headwater-incomplete'), path).toMatch(/^readings \.\.\//);
    }
    const exported = await (await fetch(`${base}/api/v1/export?format=jsonl`)).text();
    expect(JSON.parse(exported.trim().split('\n').at(-1) ?? '')).toMatchObject({
      end: true,
      incomplete: [{ of: 'readings' }],
    });
    const ledger = start(
      process.execPath,
      ['cli/bin.mjs', 'ledger', '--http', base.slice(7)],
      {},
      ROOT,
    );
    await ledger.exited;
    expect(ledger.output()).toContain("The store's readings are incomplete");
    expect(await (await fetch(`${base}/metrics`)).text()).toContain('headwater_store_incomplete 1');
    await until(
      'the store to be whole',
      async () =>
        (await getJson<Answer>(`${base}/api/v1/series`)).incomplete === undefined || undefined,
      60_000,
    );
    expect(await values(again)).toEqual(Array.from({ length: COUNT + 1 }, (_, at) => at));
    await again.kill();
  });
});
