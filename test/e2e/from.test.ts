/** docs/from.md with the servers that it is about: a Mosquitto that bridges to a gateway, a Telegraf that writes to one. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectAsync } from 'mqtt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { accepts } from '../services/servers.ts';
import { CACHE } from '../support/cache.ts';
import { blocksOf } from '../support/followed-page.ts';
import { freePort } from '../support/free-port.ts';
import { pointsOf } from '../support/lake.ts';
import {
  start,
  startCollector,
  startGateway,
  temporaryFolder,
  until,
  type Child,
  type Headwater,
} from '../support/process.ts';

const TELEGRAF = join(CACHE, 'bin/telegraf-1.39.3/telegraf');
/** Of this build of Telegraf: what it counts of itself. */
const INPUT = '[agent]\n  interval = "1s"\n  flush_interval = "1s"\n[[inputs.internal]]\n';

describe('coming from another', () => {
  let collector: Headwater;
  let gateway: Headwater;
  const others: Child[] = [];
  beforeAll(async () => {
    collector = await startCollector();
    gateway = await startGateway(collector.address['uplink'], ['--id', 'edge']);
  });
  afterAll(async () => {
    for (const each of others) await each.kill('SIGKILL');
    await gateway.kill('SIGKILL');
    await collector.kill('SIGKILL');
  });
  /** The page's block, with the ports of this run, in a file. */
  const placed = (language: string, before: string): string => {
    const [block] = blocksOf('docs/from.md').filter((each) => each.language === language);
    const file = join(temporaryFolder(), `block.${language}`);
    const text = (block?.body ?? '')
      .replace('127.0.0.1:1883', gateway.address['mqtt'] ?? '')
      .replace('127.0.0.1:8081', gateway.address['http'] ?? '');
    writeFileSync(file, `${before}${text}`);
    return file;
  };
  const seen = (measurement: string): Promise<unknown[]> =>
    until(measurement, async () => {
      const points = await pointsOf(collector.address['http'] ?? '', measurement);
      return points.length > 0 ? points : undefined;
    });

  it.each(['mqttv311', 'mqttv50'])('a Mosquitto that bridges by %s', async (version) => {
    const port = await freePort();
    const file = placed(
      'conf',
      `listener ${port} 127.0.0.1\nallow_anonymous true\npersistence false\n`,
    );
    writeFileSync(file, `bridge_protocol_version ${version}\n`, {
      flag: 'a',
    });
    others.push(start('mosquitto', ['-c', file]));
    await until('Mosquitto', async () => (await accepts(port)) || undefined);
    const device = await connectAsync(`mqtt://127.0.0.1:${port}`);
    // What a device says before the bridge is up waits in Mosquitto.
    await device.publishAsync(`hall/1/${version}`, '{"v":7.25}', { qos: 1 });
    await device.endAsync();
    expect(String(await seen(version))).toMatch(/hall\/1.* 7\.25$/);
    // It says of itself that it is connected.
    await seen('state');
  });

  it('a Telegraf that writes', async () => {
    others.push(start(TELEGRAF, ['--config', placed('toml', INPUT), '--quiet']));
    await seen('internal_gather');
  });
});
