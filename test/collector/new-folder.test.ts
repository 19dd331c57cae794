/** A data folder that was empty at the start: who remembers an earlier collector says so, once each, and a really new one is left alone. */
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Collector } from '../../collector/collector.ts';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { NewFolder } from '../../collector/ops/new-folder.ts';
import { isNewFolder } from '../../shared/config/data-folder.ts';
import { loadConfig } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import { ledgerText } from '../../cli/ledger.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { getJson } from '../support/reconcile.ts';

const holdings = (next: number, waiting: [number, number][]) => ({
  epochs: [{ epoch: 'e', next, waiting, history: [], lost: [] }],
});

it("a gateway's first word counts, and only what was acknowledged to it", () => {
  const said: string[] = [];
  const make = (isNew: boolean): NewFolder =>
    new NewFolder('/data', isNew, ({ text }) => void said.push(text));
  const folder = make(true);
  folder.hear('fresh', holdings(1, []));
  folder.hear('waiting', holdings(11, [[1, 10]]));
  // All of it came to this process since.
  folder.hear('waiting', holdings(11, []));
  expect(folder.doubt).toBeUndefined();
  folder.hear('old', holdings(101, [[91, 100]]));
  folder.hear('older', holdings(1001, []));
  expect(said).toHaveLength(1);
  expect(folder.doubt).toMatch(
    /data folder \/data was empty .* gateway old says that a collector had acknowledged 90 messages .* not mounted .* --data/,
  );
  make(false).hear('old', holdings(101, []));
  expect(said).toHaveLength(1);
});

it.each([
  'headwater.json',
  'headwater.json.copy',
  'log',
  'store',
  'lake',
  'enroll',
])('a folder with %s is not new; one with what is not ours is', async (name) => {
  const folder = temporaryFolder();
  mkdirSync(join(folder, 'lost+found'));
  expect(await isNewFolder(folder)).toBe(true);
  mkdirSync(join(folder, name));
  expect(await isNewFolder(folder)).toBe(false);
});

interface Running {
  http: string;
  said: string[];
  close: () => Promise<void>;
}

async function started(data: string, lake: string): Promise<Running> {
  const config = loadConfig(COLLECTOR_CONFIG, {
    flags: { data, lake, uplink: '', http: '127.0.0.1:0' },
    environment: { HEADWATER_LAKE_FLUSH_SECONDS: '1' },
  });
  const said: string[] = [];
  const collector = new Collector(realEnv(), config, ({ event, text }) => {
    said.push(`${event}: ${text}`);
  });
  const { http } = await collector.start(undefined);
  return { http: `http://127.0.0.1:${http?.port}`, said, close: () => collector.close() };
}

it('a lake elsewhere that has days already is told by log, status and ledger; at the next start it is no news', async () => {
  const [data, lake, away] = [temporaryFolder(), temporaryFolder(), temporaryFolder()];
  const first = await started(data, lake);
  expect(first.said.join()).not.toContain('data_folder_new');
  await fetch(`${first.http}/api/v1/ingest?topic=a/b`, { method: 'POST', body: '{"n":1}' });
  await until('the lake to have it', async () => {
    const { zones } = await getJson<{ zones: { zone: string; rows: number }[] }>(
      `${first.http}/api/v1/lake`,
    );
    return zones.every(({ zone, rows }) => zone === 'results' || rows > 0) || undefined;
  });
  await first.close();
  // Its disk is not mounted.
  cpSync(data, away, { recursive: true });
  rmSync(data, { recursive: true });
  const second = await started(data, lake);
  const pattern = /was empty at the start .* the lake .* has 1 days already, \d{4}-\d\d-\d\d/;
  expect(second.said.filter((each) => each.startsWith('data_folder_new'))).toHaveLength(1);
  const { warnings } = await getJson<{ warnings: string[] }>(`${second.http}/api/v1/status`);
  expect(warnings.join()).toMatch(pattern);
  const ledger = await getJson<Parameters<typeof ledgerText>[0]>(`${second.http}/api/v1/ledger`);
  expect(ledgerText(ledger)).toMatch(pattern);
  await second.close();
  const third = await started(data, lake);
  expect(third.said.join()).not.toContain('data_folder_new');
  await third.close();
});
