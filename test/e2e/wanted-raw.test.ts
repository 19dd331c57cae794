/** Raw frames that log and lake have lost are asked for from the gateway that still holds them, with real processes. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { topicPrefix } from '../../collector/log/embedded-records.ts';
import { LevelDatabase } from '../../shared/kv/classic-level.ts';
import { after } from '../../shared/kv/kv.ts';
import { collectorSettings, processed } from '../support/lake.ts';
import { runLoad } from '../support/load.ts';
import { run, startCollector, startGateway, temporaryFolder, until } from '../support/process.ts';
import { getJson } from '../support/reconcile.ts';

interface Lake {
  zones: { zone: string; rows: number }[];
  damages: { zone: string; final: boolean }[];
}

const MESSAGES = 2000;

it('what neither log nor lake has of raw comes again from the gateway, and nothing is missing then', async () => {
  const [folder, edge] = [temporaryFolder(), temporaryFolder()];
  const flags = ['--data', folder, '--config', collectorSettings({ 'lake.flushSeconds': 1 })];
  let collector = await startCollector(flags);
  const uplink = collector.address['uplink'] ?? '';
  const own = ['--data', edge, '--id', 'gw'];
  let gateway = await startGateway(uplink, own);
  await runLoad({
    host: '127.0.0.1',
    port: gateway.port('mqtt'),
    connections: 1,
    messages: MESSAGES,
    window: 100,
    topic: () => 'hall/1/n',
    payload: (index) => `{"n":${index}}`,
  });
  const http = (): string => collector.address['http'] ?? '';
  const lake = (): Promise<Lake> => getJson<Lake>(`http://${http()}/api/v1/lake`);
  const stored = async (): Promise<number> =>
    (await lake()).zones.find(({ zone }) => zone === 'readings')?.rows ?? 0;
  await until('the lake to have all', async () => (await stored()) === MESSAGES || undefined);
  await processed([http()]);
  await gateway.kill();
  await collector.kill();

  // Both are gone: every frame of the log, and the files of the raw zone.
  const db = new LevelDatabase(join(folder, 'log'));
  await db.open();
  const raw = topicPrefix('raw');
  const entries = await db.read({ gte: raw, lt: after(raw) }, Number.POSITIVE_INFINITY);
  expect(entries.length).toBeGreaterThan(0);
  // The last one stays: a log without any would begin to count anew.
  await db.write(
    entries.slice(0, -1).map(([key]) => ({ type: 'del', key })),
    { sync: true },
  );
  await db.close();
  const zone = join(folder, 'lake', 'raw');
  const files = readdirSync(zone, { recursive: true, encoding: 'utf8' });
  for (const name of files.filter((each) => each.endsWith('.parquet'))) rmSync(join(zone, name));

  collector = await startCollector([...flags, '--uplink', uplink]);
  const checked = await run(['lake', 'check', '--http', http()]);
  expect(checked.code).toBe(3);
  await until(
    'it to be known that neither has them',
    async () => (await lake()).damages.some(({ final }) => final) || undefined,
  );
  expect((await run(['ledger', '--http', http()])).code).toBe(3);

  gateway = await startGateway(uplink, own);
  await until(
    'the gateway to be asked',
    () => collector.output().includes('it still holds them') || undefined,
  );
  await until(
    'nothing to be lost any more',
    async () => {
      const { code } = await run(['lake', 'check', '--http', http()]);
      return code === 0 || undefined;
    },
    90_000,
  ).catch((error: unknown) => {
    throw new Error(collector.output().slice(-3000), { cause: error });
  });
  await processed([http()]);
  expect(await stored()).toBe(MESSAGES);
  expect((await run(['ledger', '--http', http()])).code).toBe(0);
  const audit = await run(['audit', '--full', '--http', http(), '--json']);
  expect(JSON.parse(audit.stdout)).toMatchObject({ clean: true, findings: [] });
  await gateway.kill();
  await collector.kill();
});
