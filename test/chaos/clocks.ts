/** A board that wakes in 1970, takes readings, and learns the time later: by libfaketime, while it runs. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { getJson } from '../support/reconcile.ts';
import { ready, start, temporaryFolder } from '../support/process.ts';
import { Site, wait, type Chance, type Result } from './site.ts';

const LIBRARY = '/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1';
/** What the readings' times may be off: the handshake's bound and the client's own delay. */
const BOUND_MS = 1500;

/** A process whose wall clock is what the file says, its monotonic one as it is. */
export const fakedClock = (stamp: string): Record<string, string> => ({
  LD_PRELOAD: LIBRARY,
  FAKETIME_TIMESTAMP_FILE: stamp,
  FAKETIME_DONT_FAKE_MONOTONIC: '1',
  DONT_FAKE_MONOTONIC: '1',
  FAKETIME_NO_CACHE: '1',
});

interface Answer {
  series: { points: [number, number][] }[];
}

/** All that was acknowledged is stored, and at its time. */
export async function reconcileTimes(site: Site, before: number, after: number): Promise<Result> {
  const result = await site.reconcile(true);
  const { series } = await getJson<Answer>(
    `http://${site.collector?.address['http']}/api/v1/query?measurement=${site.measurement}&field=n`,
  );
  const off = series
    .flatMap(({ points }) => points)
    .filter(([time]) => time < before - BOUND_MS || time > after + BOUND_MS);
  if (off.length > 0) {
    result.differing += off.length;
    result.note = `${off.length} readings off their time, the first at ${new Date(off[0]?.[0] ?? 0).toISOString()}`;
  }
  return result;
}

export async function bootIn1970(chance: Chance): Promise<Result> {
  const stamp = join(temporaryFolder(), 'time');
  writeFileSync(stamp, '1970-01-01 00:00:30\n');
  const site = new Site([], temporaryFolder(), fakedClock(stamp));
  const launch = (args: string[], environment: Record<string, string>) =>
    ready(start(process.execPath, ['cli/bin.mjs', ...args], environment), 'gateway in 1970');
  try {
    await site.startCollector();
    const uplink = site.collector?.address['uplink'] ?? '';
    await site.collector?.kill('SIGKILL');
    await site.startGateway(uplink, launch);
    const before = Date.now();
    // Nobody to ask: these are taken at an unknown time.
    await site.load(40, 1);
    await wait(500 + chance() * 1500);
    await site.load(40, 1);
    await site.startCollector();
    await wait(1500);
    // Then the clock is set, as NTP does it.
    writeFileSync(stamp, '+0\n');
    await wait(300);
    await site.load(40, 1);
    const after = Date.now();
    return await reconcileTimes(site, before, after);
  } finally {
    await site.stop();
  }
}

/** The wall clock jumps back and forth under load: identities and counts do not care. */
export async function steps(chance: Chance): Promise<Result> {
  const stamp = join(temporaryFolder(), 'time');
  writeFileSync(stamp, '+0\n');
  const site = new Site([], temporaryFolder(), fakedClock(stamp));
  const launch = (args: string[], environment: Record<string, string>) =>
    ready(
      start(process.execPath, ['cli/bin.mjs', ...args], environment),
      'gateway whose clock jumps',
    );
  try {
    await site.startCollector();
    await site.startGateway(undefined, launch);
    const load = site.load(40_000, 50);
    for (let i = 0; i < 4; i++) {
      await wait(50 + chance() * 200);
      writeFileSync(stamp, `${Math.round((chance() - 0.5) * 200_000)}s\n`.replace(/^(\d)/, '+$1'));
    }
    await load;
    writeFileSync(stamp, '+0\n');
    return await site.reconcile(true);
  } finally {
    await site.stop();
  }
}

const YEAR_SECONDS = 365.25 * 86_400;

/** The wall clock of one side goes by decades, both ways, and comes back: all readings are there, and at their time. */
async function byYears(chance: Chance, side: 'gateway' | 'collector'): Promise<Result> {
  const stamp = join(temporaryFolder(), 'time');
  writeFileSync(stamp, '+0\n');
  const faked = fakedClock(stamp);
  const site =
    side === 'gateway'
      ? new Site([], temporaryFolder(), faked)
      : new Site([], temporaryFolder(), {}, { environment: faked });
  const launch = (args: string[], environment: Record<string, string>) =>
    ready(start(process.execPath, ['cli/bin.mjs', ...args], environment), 'a gateway of decades');
  try {
    await site.startCollector();
    await site.startGateway(undefined, side === 'gateway' ? launch : undefined);
    const before = Date.now();
    for (const [least, most] of [
      [5, 50],
      [-40, -5],
      [-50, 50],
      [0, 0],
    ] as const) {
      const seconds = Math.round((least + chance() * (most - least)) * YEAR_SECONDS);
      writeFileSync(stamp, `${seconds < 0 ? '' : '+'}${seconds}s\n`);
      await wait(300 + chance() * 700);
      await site.load(40, 1);
      await wait(chance() * 1000);
    }
    await site.load(40, 1);
    return await reconcileTimes(site, before, Date.now());
  } finally {
    await site.stop();
  }
}

export const gatewayByYears = (chance: Chance): Promise<Result> => byYears(chance, 'gateway');
export const collectorByYears = (chance: Chance): Promise<Result> => byYears(chance, 'collector');
