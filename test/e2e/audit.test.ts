/** `headwater audit` on a real collector: what it says, how it ends, and what it puts right. */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openDuckDb } from '../../collector/duckdb/database.ts';
import { ingest, processed, startUp } from '../support/lake.ts';
import { run, temporaryFolder, type Headwater } from '../support/process.ts';
import { getJson, type Points } from '../support/reconcile.ts';

const settings = { 'lake.flushSeconds': 1 };
const http = (server: Headwater): string => server.address['http'] ?? '';

it('a reading that was changed in the store is named, put right, and named no more', async () => {
  const folder = temporaryFolder();
  let server = await startUp(folder, settings, ['--no-sample']);
  for (let n = 1; n <= 20; n++) await ingest(server, 'hall/1/n', { n, ts: 1_780_000_000_000 + n });
  await processed([http(server)]);
  const audit = (...flags: string[]) => run(['audit', '--http', http(server), ...flags]);
  const clean = await audit('--full', '--json');
  expect(clean.code).toBe(0);
  expect(JSON.parse(clean.stdout)).toMatchObject({ clean: true, findings: [], full: true });
  await server.kill();

  const file = join(folder, 'collector', 'store', 'readings.duckdb');
  const instance = await openDuckDb(file, { memoryBytes: 64 << 20, files: false });
  const connection = await instance.connect();
  await connection.run('UPDATE points SET num = num + 1000 WHERE num = 7');
  connection.closeSync();
  instance.closeSync();

  server = await startUp(folder, settings, ['--no-sample']);
  const found = await audit();
  expect(found.code).toBe(1);
  expect(found.stdout).toContain('store: 1 differs of gateway');
  expect(found.stdout).toContain('put right');
  const { series } = await getJson<Points>(`http://${http(server)}/api/v1/query?field=n`);
  const values = series.flatMap(({ points }) => points.map(([, value]) => value));
  expect(values.toSorted((a, b) => Number(a) - Number(b))).toEqual(
    Array.from({ length: 20 }, (_, at) => at + 1),
  );
  expect(await audit()).toMatchObject({ code: 0 });
  const told = await run(['ledger', '--http', http(server)]);
  expect(told.stdout).toMatch(
    /audited .*: lake \d+ points \(([0-9a-f]{16})\), store \d+ points \(\1\)/,
  );

  const body = (full: string) => ({
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ full }),
  });
  const bad = await fetch(`http://${http(server)}/api/v1/audit`, body('perhaps'));
  expect(bad.status).toBe(400);
  const large = await fetch(`http://${http(server)}/api/v1/audit`, body('x'.repeat(10_000_000)));
  expect(large.status).toBe(413);
  await server.kill();
});
