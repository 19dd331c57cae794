/**
 * Power cuts of the collector under load: it runs in a guest with everything that it keeps on the guest's disk, its gateway on the
 * host. A cut is the guest's disk at one moment, as SIGKILL of the guest would leave it, with the gateway's folder of that
 * moment; one boot gives many, for a guest of QEMU takes a minute to start. Of each a collector is started on the host. By itself
 * it must have as much as it had acknowledged to the gateway; then store, windows, lake (raw, readings) and ledger must have
 * what clients saw acknowledged, once, and an audit must find nothing.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../support/free-port.ts';
import { startCollector, temporaryFolder, until, type Headwater } from '../support/process.ts';
import { getJson } from '../support/reconcile.ts';
import { boot, copyFrom, makeDisk, type Guest } from './guests.ts';
import { Site, wait, type Chance, type Result } from './site.ts';
import { differences, settingsFor } from './whole.ts';

/** Of one boot. */
const CUTS = 10;
const PORT = 1884;
/** Nothing that was lost may come again from what a gateway keeps beyond its duty. */
const ENVIRONMENT = {
  HEADWATER_BUFFER_HISTORY_BYTES_MAX: '0',
  HEADWATER_UPLINK_RECONNECT_MS_MAX: '500',
};

interface Setup {
  site: Site;
  image: string;
  settings: string;
  secret: string;
  port: number;
  preload: string;
}

/** Beyond the guest's loopback, where the host's port leads, nobody comes in without the secret. */
function bootCollector({ image, settings, secret, port, preload }: Setup): Guest {
  return boot({
    image,
    forward: { host: port, guest: PORT },
    commands: (disk) => `${preload}${process.execPath} cli/bin.mjs collector --data ${disk}/data \
--config ${settings} --uplink 0.0.0.0:${PORT} --uplink-secret-file ${secret} --allow-plaintext --http ''`,
  });
}

/** A moment at which both sides ended, the collector by a cut and the gateway by a kill. */
interface Moment {
  disk: string;
  gateway: string;
  acknowledged: Set<number>;
  /** At least so many messages the collector had acknowledged to the gateway. */
  taken: number;
}

async function takenOf({ acknowledged, gateway }: Site): Promise<number> {
  const url = `http://${gateway?.address['http']}/api/v1/buffer`;
  const before = acknowledged.size;
  const { waitingMessages } = await getJson<{ waitingMessages: number }>(url);
  return Math.max(0, before - waitingMessages);
}

/** The guest's disk and the gateway's folder of one moment, at which nobody moves. */
async function momentOf({ site, image }: Setup, guest: Guest): Promise<Moment> {
  const folder = temporaryFolder();
  const taken = await takenOf(site);
  const moment = {
    disk: join(folder, 'image'),
    gateway: join(folder, 'gateway'),
    acknowledged: new Set(site.acknowledged),
    taken,
  };
  guest.whileStill(() => {
    const gateway = site.gateway?.pid ?? 0;
    process.kill(gateway, 'SIGSTOP');
    try {
      execFileSync('cp', ['--sparse=always', image, moment.disk]);
      cpSync(site.gatewayFolder, moment.gateway, { recursive: true });
    } finally {
      process.kill(gateway, 'SIGCONT');
    }
  });
  return moment;
}

interface Received {
  gateways: { epochs: { received: [number, number][] }[] }[];
}

/** How many messages the collector has of its own, once it has that many or had time enough. */
async function receivedBy(collector: Headwater, expected: number): Promise<number> {
  let count = 0;
  const look = async (): Promise<true | undefined> => {
    const { gateways } = await getJson<Received>(
      `http://${collector.address['http']}/api/v1/ledger`,
    );
    const ranges = gateways.flatMap(({ epochs }) => epochs.flatMap(({ received }) => received));
    count = ranges.reduce((sum, [from, to]) => sum + to - from + 1, 0);
    return count >= expected || undefined;
  };
  await until('what it has', look, 10_000).catch(() => undefined); // The count is what is asked for.
  return count;
}

/** What a collector on the host finds on the disk of that moment, once it has taken what the gateway still has. */
async function look({ site, settings, secret }: Setup, moment: Moment): Promise<Result> {
  const at = new Site(['--uplink-secret-file', secret], moment.gateway, ENVIRONMENT);
  const data = temporaryFolder();
  copyFrom(moment.disk, 'data', data);
  const uplink = `127.0.0.1:${await freePort()}`;
  for (const n of moment.acknowledged) at.acknowledged.add(n);
  for (const n of site.sent) at.sent.add(n);
  try {
    at.collector = await startCollector([
      ...['--data', data, '--config', settings, '--uplink', uplink],
      ...['--uplink-secret-file', secret],
    ]);
    // Before the gateway can bring again what it has not deleted yet.
    const has = await receivedBy(at.collector, moment.taken);
    await at.startGateway(uplink);
    const result = await at.reconcile(true, false, site.measurement);
    result.lost += Math.max(0, moment.taken - has);
    const said = await differences(at.collector, site.measurement);
    return {
      ...result,
      differing: result.differing + said.length,
      ...(said.length === 0 ? {} : { note: `${result.note ?? ''} ${said.join('; ')}` }),
    };
  } finally {
    await at.stop();
    for (const folder of [data, moment.gateway]) rmSync(folder, { recursive: true });
    rmSync(moment.disk);
  }
}

const isConnected = async (gateway: Headwater): Promise<boolean> =>
  /^headwater_uplink_connected 1$/m.test(
    await (await fetch(`http://${gateway.address['http']}/metrics`)).text(),
  );

/** Under load, cut after cut: of each but the last a copy is made, the last is the guest's end. */
async function cutsUnderLoad(setup: Setup, chance: Chance, cuts: number): Promise<Moment[]> {
  const { site } = setup;
  const guest = bootCollector(setup);
  const moments: Moment[] = [];
  let taken = 0;
  let isOver = false;
  let load = Promise.resolve();
  try {
    await site.startGateway(`127.0.0.1:${setup.port}`);
    const gateway = site.gateway as Headwater; // Started just now.
    await until('uplink', async () => (await isConnected(gateway)) || undefined, 240_000).catch(
      () => {
        throw new Error(`the guest did not come so far: ${guest.console().slice(-1500)}`);
      },
    );
    load = (async () => {
      while (!isOver) {
        await site.load(40, 10);
        await wait(150);
      }
    })();
    for (let cut = 1; cut < cuts; cut++) {
      await wait(1500 + chance() * 3500);
      moments.push(await momentOf(setup, guest));
    }
    await wait(chance() * 3000);
    taken = await takenOf(site);
  } finally {
    isOver = true;
    await guest.cut();
    await load;
    await site.gateway?.kill('SIGKILL');
  }
  const { image: disk, site: last } = setup;
  return [
    ...moments,
    { disk, gateway: last.gatewayFolder, acknowledged: new Set(last.acknowledged), taken },
  ];
}

async function trial(chance: Chance, preload: string, cuts: number): Promise<Result> {
  const base = temporaryFolder();
  const image = join(base, 'image');
  makeDisk(image, '512M');
  const secret = join(base, 'secret');
  writeFileSync(secret, 'a secret of this trial alone\n', { mode: 0o600 });
  const site = new Site(['--uplink-secret-file', secret], join(base, 'gateway'), ENVIRONMENT);
  const settings = settingsFor(site.measurement, base);
  const setup = { site, image, settings, secret, port: await freePort(), preload };
  const sum: Result = { fired: true, acknowledged: 0, lost: 0, extra: 0, differing: 0 };
  const notes: string[] = [];
  for (const [number, moment] of (await cutsUnderLoad(setup, chance, cuts)).entries()) {
    const { acknowledged, lost, extra, differing, note } = await look(setup, moment);
    sum.acknowledged += acknowledged;
    sum.lost += lost;
    sum.extra += extra;
    sum.differing += differing;
    if (note !== undefined) notes.push(`cut ${number + 1}: ${note}`);
    process.stdout.write(
      `    cut ${number + 1}: acknowledged ${acknowledged} (by the collector ${moment.taken} or more), lost ${lost}, extra ${extra}, differing ${differing}${note === undefined ? '' : `: ${note}`}\n`,
    );
  }
  return { ...sum, ...(notes.length === 0 ? {} : { note: notes.join('\n') }) };
}

export const cutCollector = (chance: Chance): Promise<Result> => trial(chance, '', CUTS);

/** Control: fsync does nothing. */
export const cutCollectorWithoutSync = (chance: Chance): Promise<Result> =>
  trial(chance, 'LD_PRELOAD=libeatmydata.so ', 4);
