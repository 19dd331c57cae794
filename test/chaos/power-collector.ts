/**
 * Power cuts of the collector under load: it runs in a guest with everything that it keeps on the guest's disk, its gateway on the
 * host. Each write and flush of that disk is kept in order, so one boot gives as many cuts as one likes, for a guest of QEMU
 * takes a minute to start: the gateway is halted and its folder copied, the collector works on for a moment, and in that moment
 * the disk is cut anywhere. What was flushed is there; of the rest all, nothing or any sectors. Of each a collector is started on the host. By itself
 * it must have as much as it had acknowledged to the gateway; then store, windows, lake (raw, readings, results) and ledger must have
 * what clients saw acknowledged, once, and an audit must find nothing.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../support/free-port.ts';
import {
  crowding,
  startCollector,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { getJson } from '../support/reconcile.ts';
import { WITHOUT_SYNC, boot, copyFrom, makeDisk, type Guest } from './guests.ts';
import { Site, wait, type Chance, type Result } from './site.ts';
import { differences, settingsFor } from './whole.ts';
import { WriteLog, entriesOf } from './write-log.ts';

/** Of one boot, and the cuts of each. */
const MOMENTS = 8;
const CUTS_OF_EACH = 4;
/** Cuts that are looked at side by side: a collector that starts waits most of its time. */
const AT_ONCE = 3;
const BOOTS_MAX = 3;
/** So much a collector writes on, whose gateway stands still, and for so long at most. */
const STILL_WRITES = 40;
const STILL_MS = 3000;
const PORT = 1884;
/** Nothing that was lost may come again from what a gateway keeps beyond its duty. */
const ENVIRONMENT = {
  HEADWATER_BUFFER_HISTORY_BYTES_MAX: '0',
  HEADWATER_UPLINK_RECONNECT_MS_MAX: '500',
};

interface Setup {
  site: Site;
  image: string;
  /** The disk as it was at first, and what was written to it since. */
  first: string;
  writes: string;
  settings: string;
  secret: string;
  port: number;
  preload: string;
}

/** Beyond the guest's loopback, where the host's port leads, nobody comes in without the secret. */
function bootCollector({ image, writes, settings, secret, port, preload }: Setup): Guest {
  return boot({
    image,
    writes,
    forward: { host: port, guest: PORT },
    commands: (disk) => `${preload}${process.execPath} cli/bin.mjs collector --data ${disk}/data \
--config ${settings} --uplink 0.0.0.0:${PORT} --uplink-secret-file ${secret} --allow-plaintext --http ''`,
  });
}

/** A moment in which the gateway stood still, as a kill would leave it, and the collector worked on. */
interface Moment {
  gateway: string;
  acknowledged: Set<number>;
  /** At least so many messages the collector had acknowledged to the gateway. */
  taken: number;
  /** Writes and flushes of the collector's disk until the gateway stood still, and until it went on. */
  from: number;
  to: number;
}

async function takenOf({ acknowledged, gateway }: Site): Promise<number> {
  const url = `http://${gateway?.address['http']}/api/v1/buffer`;
  const before = acknowledged.size;
  const { waitingMessages } = await getJson<{ waitingMessages: number }>(url);
  return Math.max(0, before - waitingMessages);
}

async function momentOf({ site, writes }: Setup): Promise<Moment> {
  const gateway = join(temporaryFolder(), 'gateway');
  const taken = await takenOf(site);
  const pid = site.gateway?.pid ?? 0;
  process.kill(pid, 'SIGSTOP');
  try {
    const acknowledged = new Set(site.acknowledged);
    const from = entriesOf(writes);
    cpSync(site.gatewayFolder, gateway, { recursive: true });
    await until('writes', () => entriesOf(writes) >= from + STILL_WRITES, STILL_MS).catch(
      () => undefined, // It has nothing to do.
    );
    return { gateway, acknowledged, taken, from, to: entriesOf(writes) };
  } finally {
    process.kill(pid, 'SIGCONT');
  }
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
  await until('what it has', look, 15_000 * crowding()).catch(() => undefined); // The count is what is asked for.
  return count;
}

/** What a collector on the host finds on that disk, once it has taken what the gateway of that moment still has. */
async function look(
  { site, settings, secret }: Setup,
  disk: string,
  moment: Moment,
): Promise<Result> {
  const gateway = join(temporaryFolder(), 'gateway');
  cpSync(moment.gateway, gateway, { recursive: true });
  const at = new Site(['--uplink-secret-file', secret], gateway, ENVIRONMENT);
  const data = temporaryFolder();
  copyFrom(disk, 'data', data);
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
    for (const folder of [data, gateway]) rmSync(folder, { recursive: true });
    rmSync(disk);
  }
}

const isConnected = async (gateway: Headwater): Promise<boolean> =>
  /^headwater_uplink_connected 1$/m.test(
    await (await fetch(`http://${gateway.address['http']}/metrics`)).text(),
  );

const hasDied = (guest: Guest): boolean =>
  guest.hasEnded || /Call Trace|Kernel panic/.test(guest.console());

/** A guest whose collector the gateway has found. Kernels that are translated sometimes die as they boot: they boot again. */
async function bootConnected(setup: Setup): Promise<Guest> {
  const { image, first, site } = setup;
  for (let boots = 1; ; boots++) {
    execFileSync('cp', ['--sparse=always', first, image]);
    const guest = bootCollector(setup);
    const gateway = site.gateway as Headwater; // Its caller has started it.
    const isThere = async (): Promise<boolean> => hasDied(guest) || (await isConnected(gateway));
    await until('uplink', async () => (await isThere()) || undefined, 240_000).catch(
      () => undefined,
    );
    if (!hasDied(guest) && (await isConnected(gateway))) return guest;
    await guest.cut();
    if (boots === BOOTS_MAX)
      throw new Error(`the guest did not come so far: ${guest.console().slice(-1500)}`);
  }
}

async function underLoad(setup: Setup, chance: Chance, count: number): Promise<Moment[]> {
  const { site } = setup;
  await site.startGateway(`127.0.0.1:${setup.port}`);
  const guest = await bootConnected(setup);
  const moments: Moment[] = [];
  let isOver = false;
  let load = Promise.resolve();
  try {
    load = (async () => {
      while (!isOver) {
        await site.load(40, 10);
        await wait(150);
      }
    })();
    // Nearly a hundred times slower than here, a collector has its own pace.
    await until('the guest to acknowledge', async () => (await takenOf(site)) > 0, 240_000);
    while (moments.length < count) {
      const before = entriesOf(setup.writes);
      await wait(500 + chance() * 1500);
      // Without fsync it may write nothing for as long as it likes.
      if (setup.preload === '')
        await until('the guest to write', () => entriesOf(setup.writes) > before, 60_000);
      moments.push(await momentOf(setup));
    }
  } finally {
    isOver = true;
    await load;
    await guest.cut();
    await site.gateway?.kill('SIGKILL');
  }
  return moments;
}

/** What of the unflushed was written: all, nothing, or sectors by chance. */
function keeping(way: number, chance: Chance): () => boolean {
  if (way === 0) return () => true;
  if (way === 1) return () => false;
  const share = chance();
  return () => chance() < share;
}

interface Cut {
  moment: Moment;
  name: string;
  disk: string;
}

/** The disk of a cut is made when it is looked at. */
function* cutsOf({ first, writes }: Setup, moments: Moment[], chance: Chance): Generator<Cut> {
  const log = new WriteLog(writes);
  for (const [number, moment] of moments.entries())
    for (let way = 0; way < CUTS_OF_EACH; way++) {
      const place = moment.from + Math.floor(chance() * (moment.to - moment.from + 1));
      const disk = join(temporaryFolder(), 'image');
      execFileSync('cp', ['--sparse=always', first, disk]);
      const open = log.replay(disk, place, keeping(way, chance));
      const how = ['all', 'none', 'some'][Math.min(way, 2)];
      yield {
        moment,
        disk,
        name: `cut ${number + 1}.${way + 1} at write ${place} (${how} of ${open} sectors)`,
      };
    }
}

async function trial(chance: Chance, preload: string, moments: number): Promise<Result> {
  const base = temporaryFolder();
  const [image, first] = [join(base, 'image'), join(base, 'first')];
  makeDisk(image, '512M');
  execFileSync('cp', ['--sparse=always', image, first]);
  const secret = join(base, 'secret');
  writeFileSync(secret, 'a secret of this trial alone\n', { mode: 0o600 });
  const site = new Site(['--uplink-secret-file', secret], join(base, 'gateway'), ENVIRONMENT);
  const settings = settingsFor(site.measurement, base);
  const writes = join(base, 'writes');
  const setup = { site, image, first, writes, settings, secret, port: await freePort(), preload };
  const cuts = cutsOf(setup, await underLoad(setup, chance, moments), chance);
  const sum: Result = { fired: true, acknowledged: 0, lost: 0, extra: 0, differing: 0 };
  const notes: string[] = [];
  const lane = async (): Promise<void> => {
    for (const { name, disk, moment } of cuts) {
      const { acknowledged, lost, extra, differing, note } = await look(setup, disk, moment);
      sum.acknowledged += acknowledged;
      sum.lost += lost;
      sum.extra += extra;
      sum.differing += differing;
      if (note !== undefined) notes.push(`${name}: ${note}`);
      process.stdout.write(
        `    ${name}: acknowledged ${acknowledged} (by the collector ${moment.taken} or more), lost ${lost}, extra ${extra}, differing ${differing}${note === undefined ? '' : `: ${note}`}\n`,
      );
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  return { ...sum, ...(notes.length === 0 ? {} : { note: notes.join('\n') }) };
}

export const cutCollector = (chance: Chance): Promise<Result> => trial(chance, '', MOMENTS);

/** Control: fsync does nothing. */
export const cutCollectorWithoutSync = (chance: Chance): Promise<Result> =>
  trial(chance, WITHOUT_SYNC, 2);
