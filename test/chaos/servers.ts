/** Servers of others that a collector stands on: their disks are full, or they come back under another address. Each is named, and nothing is lost by it. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { startInflux1, startInflux2, startKafka, type Influx } from '../services/servers.ts';
import { temporaryFolder } from '../support/process.ts';
import { mount } from './disks.ts';
import { Relay } from './network.ts';
import { OF_LOG, OF_STORE, under } from './refusals.ts';
import { Site, type Result } from './site.ts';

/** All that is left of a disk. */
function fill(folder: string): () => void {
  const file = join(folder, 'filler');
  execFileSync('bash', ['-c', `cat /dev/zero > ${file} 2>/dev/null || true`]);
  return () => void execFileSync('rm', [file]);
}

async function fullStore(
  name: string,
  launch: (folder: string) => Promise<Influx>,
): Promise<Result> {
  const { folder, free } = mount('size=128m');
  const influx = await launch(folder);
  const environment = { HEADWATER_INFLUXDB_TOKEN: influx.token };
  const more = ['--store', influx.store];
  const site = new Site([], temporaryFolder(), {}, { more, environment });
  try {
    await site.start();
    await site.load(400);
    const empty = fill(folder);
    const says = OF_STORE(/no space left on device.*(its disk is full|then restart InfluxDB)/);
    const mend = async (): Promise<void> => {
      empty();
      await influx.kill('SIGTERM');
      await influx.restart();
    };
    // More than the last pages of its files have room for.
    await under(site, `${name}: disk full`, says, mend, 'store', 16_384);
    return await site.reconcile(true);
  } finally {
    await site.stop();
    await influx.stop();
    free();
  }
}

export const fullInflux2 = (): Promise<Result> => fullStore('InfluxDB 2', startInflux2);
export const fullInflux1 = (): Promise<Result> => fullStore('InfluxDB 1.8', startInflux1);

/** The broker's disk is full: it gives its only log up and ends, and comes back when there is room. */
export async function fullKafka(): Promise<Result> {
  const { folder, free } = mount('size=256m');
  const kafka = await startKafka(undefined, `log.dirs=${join(folder, 'data')}\n`);
  const more = ['--log', `kafka://${kafka.address}`];
  const site = new Site([], temporaryFolder(), {}, { more });
  try {
    await site.start();
    await site.load(400);
    const empty = fill(folder);
    const mend = async (): Promise<void> => {
      empty();
      await kafka.kill();
      await kafka.restart();
    };
    await under(
      site,
      'Kafka: disk full',
      OF_LOG(/Kafka does not answer|the log: /),
      mend,
      '',
      16_384,
    );
    return await site.reconcile(true);
  } finally {
    await site.stop();
    await kafka.stop();
    free();
  }
}

/** A broker comes back and calls itself by a name that nobody knows, then by another address. */
export async function movedKafka(): Promise<Result> {
  const kafka = await startKafka();
  // What is configured stays: a name of DNS, a service of Kubernetes.
  const [configured, moved] = [new Relay(() => kafka.port), new Relay(() => kafka.port)];
  const [at, to] = [await configured.listen(), await moved.listen()];
  const site = new Site([], temporaryFolder(), {}, { more: ['--log', `kafka://${at}`] });
  const restart = async (advertised: string): Promise<void> => {
    await kafka.kill();
    kafka.set(`advertised.listeners=PLAINTEXT://${advertised}`);
    await kafka.restart();
  };
  try {
    await site.start();
    await site.load(200);
    await restart('nobody.invalid:9092');
    const says = OF_LOG(/nobody\.invalid.*advertised\.listeners/);
    await under(site, 'Kafka: a name that nobody knows', says, () => restart(to));
    return await site.reconcile(true);
  } finally {
    await site.stop();
    await configured.close();
    await moved.close();
    await kafka.stop();
  }
}
