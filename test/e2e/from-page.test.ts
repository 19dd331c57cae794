/** docs/from.md as it stands: its lines are run, and its pieces of configuration by the real programs that they are for. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectAsync } from 'mqtt';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startMosquitto } from '../services/servers.ts';
import { CACHE, PAHO_PYTHON } from '../support/cache.ts';
import { blocksOf, follower, walk, type Follower } from '../support/followed-page.ts';
import { start, temporaryFolder, until } from '../support/process.ts';

const TELEGRAF = join(CACHE, 'bin', 'telegraf-1.39.3', 'telegraf');
const blocks = blocksOf('docs/from.md');
let page: Follower;

beforeAll(async () => {
  page = await follower(PAHO_PYTHON);
  for await (const { block, output, code, missing } of walk(page, blocks)) {
    expect(missing, `${block.body}\n${output}`).toEqual([]);
    expect(code, `${block.body}\n${output}`).toBe(0);
  }
}, 90_000);
afterAll(() => page.close());

/** A piece of configuration, with the ports of this run. */
const piece = (language: string): string =>
  page.placed(blocks.find((block) => block.language === language)?.body ?? '');
const latest = (): string =>
  page.run({
    language: 'sh',
    body: 'npx --no-install headwater query --latest\n',
    file: undefined,
  }).output;

it('a Mosquitto that is there bridges to the gateway', async () => {
  const mosquitto = await startMosquitto(piece('conf'));
  const device = await connectAsync(`mqtt://${mosquitto.address}`);
  await device.publishAsync('barn/milk', '{"litres":11.5}', { qos: 1 });
  await until('the reading', () => latest().includes('topic=barn/milk') || undefined);
  expect(latest()).toMatch(/milk,litres,topic=barn\/milk [^\n]*,11\.5/);
  await device.endAsync();
  await mosquitto.stop();
});

it.skipIf(!existsSync(TELEGRAF))('a Telegraf writes to it as to a database', async () => {
  const file = join(temporaryFolder(), 'telegraf.conf');
  const agent =
    '[agent]\n  interval = "200ms"\n  flush_interval = "200ms"\n  omit_hostname = true\n';
  const input =
    '[[inputs.mock]]\n  metric_name = "press"\n  [[inputs.mock.constant]]\n    name = "rms"\n    value = 0.25\n';
  writeFileSync(file, `${agent}${input}${piece('toml')}`);
  const telegraf = start(TELEGRAF, ['--config', file, '--quiet']);
  await until('its reading', () => /press,rms,[^\n]*,0\.25/.test(latest()) || undefined);
  await telegraf.kill();
});
