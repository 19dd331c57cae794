/** A stage that waits is named by status, metrics and doctor within ten seconds, and is well again when its reason is gone. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { startUp } from '../support/lake.ts';
import { run, temporaryFolder, until } from '../support/process.ts';
import { getJson } from '../support/reconcile.ts';

interface Status {
  waiting: { name: string; why: string }[];
}

it('a lake that cannot be written: status, metrics and doctor name the stages that wait, and no reading is held up', async () => {
  const folder = temporaryFolder();
  const lake = join(temporaryFolder(), 'lake');
  // A file where the lake's folder should be.
  writeFileSync(lake, '');
  const up = await startUp(folder, { lake, 'lake.flushSeconds': 1 });
  const http = `http://${up.address['http']}`;
  const waits = await until(
    'the lake to be named',
    async () => {
      const { waiting } = await getJson<Status>(`${http}/api/v1/status`);
      const found = waiting.filter(({ name }) => name.startsWith('lake_'));
      return found.length > 0 ? found : undefined;
    },
    10_000,
  );
  expect(waits[0]?.why).toMatch(/^lake_\w+: .*lake/);
  const stalled = async (): Promise<number> => {
    const text = await (await fetch(`${http}/metrics`)).text();
    expect(text).toMatch(/headwater_stage_stalled_seconds\{stage="decode"\} 0/);
    expect(text).toMatch(/headwater_clock_doubted 0/);
    return Math.max(
      ...[...text.matchAll(/headwater_stage_stalled_seconds\{stage="lake_\w+"\} (\S+)/g)].map(
        ([, value]) => Number(value),
      ),
    );
  };
  expect(await stalled()).toBeGreaterThan(0);
  const { stages } = await getJson<{ stages: { name: string; state: string }[] }>(
    `${http}/api/v1/stages`,
  );
  expect(new Map(stages.map(({ name, state }) => [name, state])).get('store')).toBe('works');
  // Readings are taken and stored all the same.
  expect((await fetch(`${http}/readyz`)).status).toBe(200);
  const doctor = await run(['doctor', '--http', String(up.address['http'])]);
  expect(doctor.output).toMatch(/^fail {2}lake_\w+ waits/m);
  expect(doctor.code).toBe(1);
  rmSync(lake);
  mkdirSync(lake);
  await until('the lake to be well', async () => (await stalled()) === 0 || undefined, 15_000);
  await up.kill();
});
