import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  startCollector,
  headwater,
  ready,
  start,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { runLoad } from '../support/load.ts';
import { reconciled, settled } from '../support/reconcile.ts';
import { FULL, seeded } from '../support/seed.ts';

const MOMENTS = FULL ? 20 : 6;
const CONNECTIONS = 4;

describe('kill -9 of the gateway under load', () => {
  let collector: Headwater;
  beforeAll(async () => {
    collector = await startCollector();
  });
  afterAll(async () => void (await collector.kill()));

  /** One life that ends at `killMs`, then another that brings everything to the collector. */
  async function trial(
    measurement: string,
    launch: (args: string[]) => Promise<Headwater>,
    folder: string,
    killMs: number,
  ) {
    const acknowledged = new Set<number>();
    const sent = new Set<number>();
    const common = [
      '--data',
      folder,
      '--mqtt',
      '127.0.0.1:0',
      '--gateway-http',
      '127.0.0.1:0',
      '--id',
      'gw-kill',
    ];
    const first = await launch(common);
    const load = runLoad({
      host: '127.0.0.1',
      port: first.port('mqtt'),
      connections: CONNECTIONS,
      messages: 2_000_000 / 5,
      window: 256,
      topic: (connection) => `site/${connection}/${measurement}`,
      payload: (index) => `{"n":${index}}`,
      onSend: (index) => sent.add(index),
      onAck: (index) => acknowledged.add(index),
    });
    // The moment is counted from the first message: before it there is nothing to lose.
    await until('the load to begin', () => sent.size > 0 || undefined);
    await new Promise((resolve) => setTimeout(resolve, killMs));
    await first.kill('SIGKILL');
    const { broken } = await load;
    const second = await headwater([
      'gateway',
      ...common,
      '--collector',
      `mqtt://${collector.address['uplink']}`,
    ]);
    await settled(second.address['http'] ?? '', collector.address['http'] ?? '');
    const result = await reconciled(collector, measurement, 'n', acknowledged, sent, 3000);
    await second.kill();
    return { ...result, acknowledged: acknowledged.size, fired: broken > 0 };
  }

  it(`loses nothing acknowledged and doubles nothing, at ${MOMENTS} seeded moments`, async () => {
    const { seed, next } = seeded();
    const folder = temporaryFolder();
    let fired = 0;
    for (let moment = 0; moment < MOMENTS; moment++) {
      const killMs = 1 + Math.floor(next() * 300);
      const result = await trial(
        `m${moment}`,
        (args) => headwater(['gateway', ...args]),
        folder,
        killMs,
      );
      if (result.fired) fired++;
      expect(result, `seed ${seed}, moment ${moment}, killed after ${killMs} ms`).toMatchObject({
        missing: 0,
        extra: 0,
        foreign: 0,
      });
    }
    process.stdout.write(
      `kill -9: 0 of ${MOMENTS} moments lost anything (95 % bound ${(3 / MOMENTS).toFixed(2)}), fired ${fired}, seed ${seed}\n`,
    );
    expect(fired).toBeGreaterThan(MOMENTS / 2);
  });

  it('negative control: with the acknowledgement sent early, the same test finds losses', async () => {
    const early = (args: string[]): Promise<Headwater> =>
      ready(
        start(process.execPath, ['--import', 'tsx', 'test/support/ack-early.ts', ...args]),
        'early gateway',
      );
    let missing = 0;
    for (let attempt = 0; attempt < 5 && missing === 0; attempt++) {
      ({ missing } = await trial(`early${attempt}`, early, temporaryFolder(), 150 + attempt * 37));
    }
    expect(missing).toBeGreaterThan(0);
  });
});
