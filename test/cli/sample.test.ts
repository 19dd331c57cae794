/** What a start knows of the sample that an earlier one has left. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectAsync } from 'mqtt';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  SAMPLE_CLIENT,
  SAMPLE_FIRST_MS,
  SAMPLE_LAST_MS,
  SAMPLE_ROWS,
  loadSample,
  movedText,
  samplePath,
  saveSample,
  shiftTo,
} from '../../cli/sample.ts';
import { readCsv } from '../../cli/csv.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { topics } from '../../collector/log/topics.ts';
import type { MessageBuffer } from '../../gateway/buffer/buffer.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { temporaryFolder } from '../support/process.ts';

const NOW = Date.UTC(2026, 10, 26, 12, 0, 0, 500);
const folder = temporaryFolder();
let site: RunningGateway;
let log: EmbeddedLog;
const buffer = (): MessageBuffer<never> => site.gateway.store as unknown as MessageBuffer<never>;

beforeAll(async () => {
  site = await runGateway(join(folder, 'gateway'));
  log = new EmbeddedLog(
    { folder: join(folder, 'log'), cacheBytes: 1 << 20, topics: topics(Infinity), now: Date.now },
    () => undefined,
  );
  await log.open();
});
afterAll(async () => {
  await site.gateway.close();
  await log.close();
});

it('first and last row are of the times that the shift goes by, and the moved last one is of now', async () => {
  const times: string[] = [];
  for await (const { values } of readCsv(samplePath())) times.push(values.get('timestamp') ?? '');
  expect(times).toHaveLength(SAMPLE_ROWS);
  expect([Date.parse(`${times[0]}Z`), Date.parse(`${times.at(-1)}Z`)]).toEqual([
    SAMPLE_FIRST_MS,
    SAMPLE_LAST_MS,
  ]);
  expect([...times].sort()).toEqual(times);
  expect(movedText(times.at(-1) ?? '', shiftTo(NOW))).toBe('2026-11-26T12:00:00');
  expect(movedText(times[0] ?? '', 0)).toBe(times[0]);
});

it('what began once keeps its shift, also when the file that remembers it is broken; an old folder has none', async () => {
  const load = (): ReturnType<typeof loadSample> => loadSample(folder, buffer(), log, 7000);
  expect(await load()).toEqual({ rows: 0, shiftMs: 7000 });
  writeFileSync(join(folder, 'sample.json'), '{"ro');
  expect(await load()).toEqual({ rows: 0, shiftMs: 7000 });

  const shiftMs = shiftTo(NOW);
  const send = async (clientId: string, times: number[]): Promise<void> => {
    const client = await connectAsync(`mqtt://127.0.0.1:${site.port}`, { clientId });
    for (const ms of times) {
      const timestamp = new Date(ms).toISOString().slice(0, 19);
      await client.publishAsync('aberdeen/1/SDS011', JSON.stringify({ timestamp, P1: 1 }), {
        qos: 1,
      });
    }
    await client.endAsync();
  };
  await send('somebody', [SAMPLE_FIRST_MS]);
  await send(
    SAMPLE_CLIENT,
    [0, 3000, 4000].map((ms) => SAMPLE_FIRST_MS + shiftMs + ms),
  );
  expect(await load()).toEqual({ rows: 3, shiftMs });
  await saveSample(folder, { rows: 2, shiftMs: 5000, clean: false });
  expect(await load()).toEqual({ rows: 3, shiftMs: 5000 });
  await saveSample(folder, { rows: 2, shiftMs: 5000, clean: true });
  expect(await load()).toEqual({ rows: 2, shiftMs: 5000 });
  writeFileSync(join(folder, 'sample.json'), '{"rows":140504,"clean":true}');
  expect(await load()).toEqual({ rows: SAMPLE_ROWS, shiftMs: 0 });
  rmSync(join(folder, 'sample.json'));
});
