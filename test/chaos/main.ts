/**
 * `npm run chaos -- --peer NAME [--fault NAME] [--rounds N] [--save]`: rows of the loss table, by peers/run.ts.
 * `npm run chaos -- [--minutes N] [--fault NAME] [--seed S] [--at-once N] [--no-emulation] [--no-long] [--no-controls] [--rounds N]`: real processes and real faults, one trial of
 * each after another until the time is over. Each trial reconciles what clients saw acknowledged with what is stored.
 * A fault that needs what this machine lacks is named as not tried, with what brings it; the run goes on without it.
 */
import * as clocks from './clocks.ts';
import * as disks from './disks.ts';
import * as flips from './flips.ts';
import * as kills from './kills.ts';
import { NO_LONG, surroundings, whyNot, type Need } from './needs.ts';
import { namedTable } from './named.ts';
import * as network from './network.ts';
import * as operations from './operations.ts';
import { runPeers } from './peers/run.ts';
import * as power from './power.ts';
import { cutCollector, cutCollectorWithoutSync } from './power-collector.ts';
import * as refusals from './refusals.ts';
import * as retention from './retention.ts';
import * as servers from './servers.ts';
import type { Chance, Result } from './site.ts';
import { flagsOf } from '../../scripts/flags.mjs';

interface Fault {
  run: (chance: Chance) => Promise<Result>;
  /** Trials of one round: quick ones get more. */
  repeat?: number;
  /** What it needs besides Node: without it it is not tried, and the run says so. */
  needs?: Need[];
  /** `--no-long` leaves it out. */
  isLong?: true;
}

const FAULTS: Record<string, Fault> = {
  'kill -9 gateway': { run: kills.killGateway },
  'kill -9 collector': { run: kills.killCollector },
  'kill -9 collector, again and again': { run: kills.killCollectorOften, isLong: true },
  'kill -9 both': { run: kills.killBoth },
  'kill -9 Kafka or InfluxDB': {
    run: kills.killServers,
    needs: ['Kafka client', 'Kafka', 'InfluxDB'],
  },
  'power cut': { run: power.cut, needs: ['root', 'guest', 'mkfs.ext4'] },
  'power cut, collector': { run: cutCollector, needs: ['root', 'guest with network', 'mkfs.ext4'] },
  'disk full': { run: disks.fullDisk, needs: ['root', 'mkfs.ext4'] },
  'disk read-only': { run: disks.readOnly, needs: ['strace'] },
  'no inodes': { run: disks.noInodes, needs: ['root'] },
  'no file descriptors': { run: disks.noFiles, needs: ['prlimit'] },
  'EIO on fsync': { run: disks.failingFsync, needs: ['strace'] },
  'EIO on write': { run: disks.failingWrite, needs: ['strace'] },
  'EIO on open': { run: disks.failingOpen, needs: ['strace'] },
  'EIO on rename': { run: disks.failingRename, needs: ['strace'] },
  'bit flip, buffer': { run: flips.flipInBuffer, repeat: 25 },
  'bit flip, whole site': { run: flips.flipInSite },
  'link reset': { run: network.reset },
  'black hole': { run: network.blackHole },
  'half-open in a replay': { run: network.halfOpen },
  'slow link': { run: network.slowLink },
  '20 % packet loss': { run: network.loss, needs: ['root', 'iptables'] },
  'booted in 1970': { run: clocks.bootIn1970, needs: ['faketime'] },
  'clock steps': { run: clocks.steps, needs: ['faketime'] },
  'clock steps by years, gateway': { run: clocks.gatewayByYears, needs: ['faketime'] },
  'clock steps by years, collector': { run: clocks.collectorByYears, needs: ['faketime'] },
  'partitions raised': {
    run: operations.raisedPartitions,
    needs: ['Kafka client', 'Kafka'],
    isLong: true,
  },
  'topics too small': {
    run: operations.smallTopics,
    needs: ['Kafka client', 'Kafka'],
    isLong: true,
  },
  'collector clock': { run: operations.collectorClock, needs: ['faketime'] },
  'poison at every stage': { run: operations.poison },
  'cloned gateway': { run: operations.clonedGateway },
  'vanished folder': { run: operations.vanishedFolder },
  'cloned gateway, two collectors': {
    run: refusals.clonedApart,
    needs: ['Kafka client', 'Kafka'],
    isLong: true,
  },
  'Kafka refuses': { run: refusals.logRefuses, needs: ['Kafka client', 'Kafka'], isLong: true },
  'InfluxDB refuses': { run: refusals.storeAnswers, needs: ['InfluxDB'], isLong: true },
  'retention, InfluxDB 2': {
    run: retention.retention2,
    needs: ['Kafka client', 'Kafka', 'InfluxDB'],
    isLong: true,
  },
  'retention, InfluxDB 1.8': {
    run: retention.retention1,
    needs: ['Kafka client', 'Kafka', 'InfluxDB 1.8'],
    isLong: true,
  },
  'disk full, collector': { run: refusals.fullCentre, needs: ['root'], isLong: true },
  'disk full, InfluxDB 2': {
    run: servers.fullInflux2,
    needs: ['root', 'InfluxDB'],
    isLong: true,
  },
  'disk full, InfluxDB 1.8': {
    run: servers.fullInflux1,
    needs: ['root', 'InfluxDB 1.8'],
    isLong: true,
  },
  'disk full, Kafka': {
    run: servers.fullKafka,
    needs: ['root', 'Kafka client', 'Kafka'],
    isLong: true,
  },
  'Kafka moves': { run: servers.movedKafka, needs: ['Kafka client', 'Kafka'], isLong: true },
  'certificate expired': { run: refusals.expiredCertificate, isLong: true },
  'S3 away': { run: refusals.lakeAway, isLong: true },
};

/** What is broken on purpose: a control that loses nothing proves that the trial sees nothing. */
const CONTROLS: Record<string, Fault> = {
  'control: early ack, kill -9': { run: kills.killEarlyAck },
  'control: no fsync, power cut': {
    run: power.cutWithoutSync,
    needs: ['root', 'guest', 'mkfs.ext4'],
  },
  'control: no fsync, power cut, collector': {
    run: cutCollectorWithoutSync,
    needs: ['root', 'guest with network', 'mkfs.ext4'],
  },
};

/** What stands for a need where nothing is emulated. */
const NATIVE: Partial<Record<Need, Need>> = {
  guest: 'linux.uml',
  'guest with network': 'emulation',
};

const { values } = flagsOf(import.meta.url, {
  options: {
    minutes: { type: 'number', default: 10, min: 0.01 },
    fault: { type: 'string', about: 'a part of its name' },
    seed: { type: 'integer' },
    rounds: { type: 'integer', min: 1 },
    'at-once': { type: 'integer', default: 1, min: 1, about: 'trials side by side' },
    peer: { type: 'string' },
    save: {
      type: 'boolean',
      about: 'with --peer: rows go to docs/bench/loss.json, docs/loss-table.md',
    },
    'no-controls': { type: 'boolean' },
    'no-emulation': { type: 'boolean', about: 'guests of QEMU take a minute each' },
    'no-long': { type: 'boolean' },
  },
});

function refuse(why: unknown): never {
  process.stderr.write(`chaos: ${why instanceof Error ? why.message : String(why)}\n`);
  process.exit(2);
}

function generator(seed: number): Chance {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

interface Row extends Result {
  trials: number;
  firedCount: number;
  failures: string[];
  /** What a trial says beside its figures. */
  notes: string[];
  /** All its trials together. */
  ms: number;
}

const emptyRow = (): Row => ({
  trials: 0,
  fired: false,
  firedCount: 0,
  acknowledged: 0,
  lost: 0,
  extra: 0,
  differing: 0,
  failures: [],
  notes: [],
  ms: 0,
});

const seed = values.seed ?? Date.now() % 1_000_000_007;
if (values.peer !== undefined) {
  const { peer, fault, save } = values;
  const rounds = values.rounds ?? 3;
  process.exit(await runPeers({ peer, fault, seed, rounds, save }, generator).catch(refuse));
}
const all: Record<string, Fault> = {
  ...FAULTS,
  ...(values['no-controls'] ? {} : CONTROLS),
};
const named = Object.entries(all).filter(
  ([name]) => values.fault === undefined || name.includes(values.fault),
);
if (named.length === 0) refuse(`--fault is a part of one of: ${Object.keys(all).join('; ')}`);
const here = surroundings();
const notTried = new Map(
  named.flatMap(([name, { needs = [], isLong = false }]) => {
    const asked = values['no-emulation'] ? needs.map((need) => NATIVE[need] ?? need) : needs;
    const why = isLong && values['no-long'] ? NO_LONG : whyNot(asked, here);
    return why === undefined ? [] : [[name, why] as const];
  }),
);
const chosen = named.filter(([name]) => !notTried.has(name));
const notTriedLines = [...notTried].map(([name, why]) => `not tried: ${name}: ${why}`);
if (chosen.length === 0) refuse(`nothing could be tried\n${notTriedLines.join('\n')}`);

const rows = new Map<string, Row>();
const deadline = performance.now() + values.minutes * 60_000;
process.stdout.write(`chaos: seed ${seed}\n`);
for (const line of notTriedLines) process.stdout.write(`  ${line}\n`);
const rounds = values.rounds ?? Number.POSITIVE_INFINITY;

async function oneTrial(row: Row, run: Fault['run'], own: number): Promise<void> {
  row.trials++;
  const began = performance.now();
  try {
    const result = await run(generator(own));
    if (result.fired) row.firedCount++;
    row.acknowledged += result.acknowledged;
    row.lost += result.lost;
    row.extra += result.extra;
    row.differing += result.differing;
    if (result.note !== undefined) row.notes.push(result.note.trim());
    if (result.lost + result.extra + result.differing > 0)
      row.failures.push(
        `trial seed ${own}: lost ${result.lost}, extra ${result.extra}, differing ${result.differing} ${result.note ?? ''}`,
      );
  } catch (error) {
    row.differing++;
    row.failures.push(
      `trial seed ${own}: ${error instanceof Error ? error.message.slice(0, 600) : String(error)}`,
    );
  }
  row.ms += performance.now() - began;
}

let trial = 0;
for (let round = 0; round < rounds && (round === 0 || performance.now() < deadline); round++) {
  const queue = chosen.flatMap(([name, { run, repeat = 1 }]) =>
    Array.from({ length: repeat }, (_, index) => ({
      name,
      run,
      isLast: index === repeat - 1,
      own: (seed + trial++ * 7919) % 2 ** 32,
    })),
  );
  // Trials wait most of their time, each for servers of its own: several may run side by side.
  const lane = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const { name, run, isLast, own } = next;
      if (round > 0 && performance.now() > deadline) return;
      // A control that has failed as it should has said what it can.
      if (name.startsWith('control') && (rows.get(name)?.lost ?? 0) > 0) continue;
      const row = rows.get(name) ?? emptyRow();
      rows.set(name, row);
      await oneTrial(row, run, own);
      const { trials, firedCount, lost, extra, differing, ms } = row;
      if (isLast)
        process.stdout.write(
          `  ${name}: ${trials} trials, fired ${firedCount}, lost ${lost}, extra ${extra}, differing ${differing}, ${(ms / 1000).toFixed(1)} s\n`,
        );
    }
  };
  await Promise.all(Array.from({ length: values['at-once'] }, lane));
}

const width = Math.max(...[...rows.keys()].map((name) => name.length));
const lines = [`${'fault'.padEnd(width)}  trials  fired  acknowledged  lost  extra  differing`];
let bad = 0;
for (const [name, row] of rows) {
  const { trials, firedCount, acknowledged, lost, extra, differing } = row;
  const isControl = name.startsWith('control');
  // Where nothing was acknowledged nothing could be lost.
  const isVoid = firedCount === 0 || acknowledged === 0;
  const failed = isControl ? lost === 0 : lost + extra + differing > 0 || isVoid;
  if (failed) bad++;
  lines.push(
    `${name.padEnd(width)}  ${String(trials).padStart(6)}  ${String(firedCount).padStart(5)}  ${String(acknowledged).padStart(12)}  ${String(lost).padStart(4)}  ${String(extra).padStart(5)}  ${String(differing).padStart(9)}${failed ? '  FAILED' : ''}`,
  );
  if (!isControl || failed) for (const text of row.failures) lines.push(`    ${text}`);
  if (!isControl && !failed)
    for (const text of row.notes) if (text !== '') lines.push(`    ${text}`);
}
const trials = [...rows]
  .filter(([name]) => !name.startsWith('control'))
  .reduce((sum, [, row]) => sum + row.trials, 0);
const verdict =
  bad === 0
    ? `0 of ${trials} trials broke a promise (95 % bound ${(3 / trials).toPrecision(2)})`
    : `${bad} of ${rows.size} faults FAILED`;
process.stdout.write(
  `\n${[...lines, ...notTriedLines].join('\n')}\n${namedTable()}\n${verdict}, seed ${seed}\n`,
);
process.exit(bad === 0 ? 0 : 1);
