/** kill -9 of every process. */
import { headwater, temporaryFolder, ready, start, until } from '../support/process.ts';
import { runLoad } from '../support/load.ts';
import { reconciled } from '../support/reconcile.ts';
import { startInflux2, startKafka } from '../services/servers.ts';
import { Site, wait, type Chance, type Result } from './site.ts';
import { differences, settingsFor } from './whole.ts';

async function underLoad(chance: Chance, strike: (site: Site) => Promise<void>): Promise<Result> {
  const site = new Site();
  try {
    await site.start();
    const load = site.load(60_000, 400);
    // On a busy machine the first acknowledgement may take longer than the strike.
    await until('something to be acknowledged', () => site.acknowledged.size > 0 || undefined);
    await wait(chance() * 500);
    await strike(site);
    const { broken, acknowledged } = await load;
    return await site.reconcile(broken > 0 || acknowledged > 0);
  } finally {
    await site.stop();
  }
}

export const killGateway = (chance: Chance): Promise<Result> =>
  underLoad(chance, async (site) => {
    await site.gateway?.kill('SIGKILL');
    await wait(chance() * 200);
    await site.startGateway();
  });

export const killCollector = (chance: Chance): Promise<Result> =>
  underLoad(chance, async (site) => {
    await site.collector?.kill('SIGKILL');
    await wait(chance() * 500);
    await site.startCollector();
  });

/** Of one trial. */
const KILLS = 5;

/** Again and again at any moment of its work, flushes and merges of the lake and windows among them; then everything is looked at. */
export async function killCollectorOften(chance: Chance): Promise<Result> {
  const site = new Site([], temporaryFolder(), { HEADWATER_BUFFER_HISTORY_BYTES_MAX: '0' });
  site.collectorFlags = ['--config', settingsFor(site.measurement, temporaryFolder())];
  let isOver = false;
  let load = Promise.resolve();
  try {
    await site.start();
    load = (async () => {
      while (!isOver) {
        await site.load(200, 50);
        await wait(50);
      }
    })();
    for (let kill = 0; kill < KILLS; kill++) {
      await wait(300 + chance() * 1700);
      await site.collector?.kill('SIGKILL');
      await wait(chance() * 300);
      await site.startCollector();
    }
    isOver = true;
    await load;
    const result = await site.reconcile(true);
    const said = site.collector && (await differences(site.collector, site.measurement));
    if (said === undefined || said.length === 0) return result;
    const note = [result.note ?? '', ...said].join('; ');
    return { ...result, differing: result.differing + said.length, note };
  } finally {
    isOver = true;
    await load;
    await site.stop();
  }
}

export const killBoth = (chance: Chance): Promise<Result> =>
  underLoad(chance, async (site) => {
    await site.gateway?.kill('SIGKILL');
    await wait(chance() * 100);
    await site.collector?.kill('SIGKILL');
    await site.startCollector();
    await site.startGateway();
  });

/** A single kill may fall between two groups, when nothing that was acknowledged too early is on its way. */
const CONTROL_KILLS = 8;

/** Control: a gateway that acknowledges before it stores. */
export async function killEarlyAck(chance: Chance): Promise<Result> {
  for (let kills = 1; ; kills++) {
    const result = await killEarlyAckOnce(chance);
    if (result.lost > 0 || kills === CONTROL_KILLS) return result;
  }
}

async function killEarlyAckOnce(chance: Chance): Promise<Result> {
  const site = new Site();
  const early = (args: string[]) =>
    ready(
      start(process.execPath, ['--import', 'tsx', 'test/support/ack-early.ts', ...args.slice(1)]),
      'early gateway',
    );
  try {
    await site.startCollector();
    await site.startGateway(undefined, early);
    const load = site.load(200_000, 400);
    await wait(150 + chance() * 200);
    await site.gateway?.kill('SIGKILL');
    await load;
    await site.startGateway();
    return await site.reconcile(true);
  } finally {
    await site.stop();
  }
}

/** Kafka and InfluxDB, one of them killed under load and started again. */
export async function killServers(chance: Chance): Promise<Result> {
  const [kafka, influx] = [await startKafka(), await startInflux2()];
  const collector = await headwater(
    [
      'collector',
      '--data',
      temporaryFolder(),
      '--http',
      '127.0.0.1:0',
      '--uplink',
      '127.0.0.1:0',
      '--log',
      `kafka://${kafka.address}`,
      '--store',
      influx.store,
    ],
    { HEADWATER_INFLUXDB_TOKEN: influx.token },
  );
  const gateway = await headwater([
    'gateway',
    '--data',
    temporaryFolder(),
    '--mqtt',
    '127.0.0.1:0',
    '--http',
    '127.0.0.1:0',
    '--id',
    'gw-servers',
    '--collector',
    `mqtt://${collector.address['uplink']}`,
  ]);
  const acknowledged = new Set<number>();
  const sent = new Set<number>();
  try {
    const load = runLoad({
      host: '127.0.0.1',
      port: gateway.port('mqtt'),
      connections: 4,
      messages: 60_000,
      window: 200,
      topic: () => 'chaos/servers',
      payload: (index) => `{"n":${index}}`,
      onSend: (index) => sent.add(index),
      onAck: (index) => acknowledged.add(index),
    });
    await wait(50 + chance() * 600);
    const victim = chance() < 0.5 ? kafka : influx;
    await victim.kill('SIGKILL');
    await load;
    await wait(chance() * 2000);
    await victim.restart();
    const { missing, extra, foreign } = await reconciled(
      collector,
      'servers',
      'n',
      acknowledged,
      sent,
      90_000,
    );
    return {
      fired: true,
      acknowledged: acknowledged.size,
      lost: missing,
      extra,
      differing: foreign,
    };
  } finally {
    await gateway.kill('SIGKILL');
    await collector.kill('SIGKILL');
    await Promise.all([kafka.stop(), influx.stop()]);
  }
}
