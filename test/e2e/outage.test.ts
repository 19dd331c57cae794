import { describe, expect, it } from 'vitest';
import { startCollector, startGateway, temporaryFolder, until } from '../support/process.ts';
import { runLoad, type LoadOptions } from '../support/load.ts';
import { reconciled, settled } from '../support/reconcile.ts';
import { startInflux2, startKafka } from '../services/servers.ts';
import { sharedKafka } from '../services/shared.ts';
import { FULL } from '../support/seed.ts';

/** More than is in flight anywhere at once; with HEADWATER_FULL=1 several times as many. */
const MESSAGES = FULL ? 200_000 : 60_000;
/** Of each trial with servers. */
const HALF = FULL ? 100_000 : 25_000;
const THIRD = FULL ? 60_000 : 15_000;
const T0 = Date.UTC(2026, 0, 1);

/** Two readings of one series in each millisecond: today's tools overwrite one of them without a word. */
function load(
  port: number,
  measurement: string,
  messages = MESSAGES,
): LoadOptions & { acknowledged: Set<number>; sent: Set<number> } {
  const acknowledged = new Set<number>();
  const sent = new Set<number>();
  return {
    host: '127.0.0.1',
    port,
    connections: 4,
    messages,
    window: 500,
    topic: () => `plant/line1/${measurement}`,
    payload: (index) => `{"n":${index},"ts":${T0 + Math.floor(index / 8)}}`,
    onAck: (index) => acknowledged.add(index),
    onSend: (index) => sent.add(index),
    acknowledged,
    sent,
  };
}

describe('outages', () => {
  it(`collector down while ${MESSAGES} readings are published, gateway killed: all stored, each once`, async () => {
    const folder = temporaryFolder();
    const centre = ['--data', temporaryFolder()];
    let collector = await startCollector(centre);
    const uplink = collector.address['uplink'] ?? '';
    let gateway = await startGateway(uplink, ['--data', folder, '--id', 'gw-outage']);
    await collector.kill('SIGKILL');
    const work = load(gateway.port('mqtt'), 'down');
    const { acknowledged } = await runLoad(work);
    expect(acknowledged).toBe(MESSAGES);
    await gateway.kill('SIGKILL');
    gateway = await startGateway(uplink, ['--data', folder, '--id', 'gw-outage']);
    collector = await startCollector([...centre, '--uplink', uplink]);
    const result = await reconciled(collector, 'down', 'n', work.acknowledged, work.sent);
    expect(result).toEqual({ missing: 0, extra: 0, foreign: 0, stored: MESSAGES });
    await gateway.kill();
    await collector.kill();
  });

  it('Kafka killed and restarted, InfluxDB down for a while: all stored, each once', async () => {
    const [kafka, influx] = [await startKafka(), await startInflux2()];
    const environment = { HEADWATER_INFLUXDB_TOKEN: influx.token };
    const collector = await startCollector(
      ['--log', `kafka://${kafka.address}`, '--store', influx.store],
      environment,
    );
    const gateway = await startGateway(collector.address['uplink']);
    const first = load(gateway.port('mqtt'), 'kafka-killed', HALF);
    const running = runLoad(first);
    await until('some of it', () => first.acknowledged.size > HALF / 10 || undefined);
    await kafka.kill('SIGKILL');
    await running;
    await until('its end to be told', () => collector.output().includes('log_down') || undefined);
    await kafka.restart();
    const afterKafka = await reconciled(
      collector,
      'kafka-killed',
      'n',
      first.acknowledged,
      first.sent,
      90_000,
    );
    expect(afterKafka, collector.output().slice(-2000)).toEqual({
      missing: 0,
      extra: 0,
      foreign: 0,
      stored: HALF,
    });

    await influx.kill('SIGKILL');
    const second = load(gateway.port('mqtt'), 'influx-down', HALF);
    await runLoad(second);
    await until('the store to wait', () => /store_waits/.test(collector.output()) || undefined);
    if (FULL) await new Promise((resolve) => setTimeout(resolve, 60_000));
    await influx.restart();
    await settled(gateway.address['http'] ?? '', collector.address['http'] ?? '');
    const afterInflux = await reconciled(
      collector,
      'influx-down',
      'n',
      second.acknowledged,
      second.sent,
      90_000,
    );
    expect(afterInflux, collector.output().slice(-2000)).toEqual({
      missing: 0,
      extra: 0,
      foreign: 0,
      stored: HALF,
    });
    await gateway.kill();
    await collector.kill();
    await Promise.all([kafka.stop(), influx.stop()]);
  }, 400_000);

  it('two collectors behind one list of addresses, one killed under load: all stored, each once', async () => {
    const [kafka, influx] = [await sharedKafka(), await startInflux2()];
    const environment = { HEADWATER_INFLUXDB_TOKEN: influx.token, ...kafka.environment };
    const more = ['--log', kafka.log, '--store', influx.store];
    const [first, second] = [
      await startCollector(more, environment),
      await startCollector(more, environment),
    ];
    const both = `mqtt://${first.address['uplink']},mqtt://${second.address['uplink']}`;
    const gateways = await Promise.all(
      [0, 1, 2].map((at) => startGateway(undefined, ['--id', `gw-${at}`, '--collector', both])),
    );
    const works = gateways.map((gateway, at) => {
      const work = load(gateway.port('mqtt'), `moved-${at}`, THIRD);
      return { work, running: runLoad(work) };
    });
    await until(
      'some of it',
      () => works.every(({ work }) => work.acknowledged.size > THIRD / 3) || undefined,
    );
    await first.kill('SIGKILL');
    for (const [at, { work, running }] of works.entries()) {
      await running;
      const result = await reconciled(
        second,
        `moved-${at}`,
        'n',
        work.acknowledged,
        work.sent,
        90_000,
      );
      expect(result, second.output().slice(-2000)).toEqual({
        missing: 0,
        extra: 0,
        foreign: 0,
        stored: THIRD,
      });
    }
    for (const gateway of gateways) await gateway.kill();
    await second.kill();
    await influx.stop();
  }, 300_000);
});
