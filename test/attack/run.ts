/**
 * `npm run attack`: each attack against a site with a good device and a good reader on it. What is told of each: PUBACK's
 * p50 and p99 of the good device, `/healthz`, the reader's answers and memory; calm, attacked, and under a control.
 *
 * Attacker, servers and the good ones share this machine's cores, so three things are done that the attacker's own work is not
 * taken for harm: it is a process of low priority, the good ones have a higher one than the servers where that is
 * allowed (a real device has a processor of its own), and after each attack a control follows, in which the attacker's process
 * burns as much CPU as the attack took and sends nothing. An attack has harmed when PUBACK's p99 is more than three times the
 * larger of the two p99 without it (calm, control); one that seems to have is tried again, with its control, and the median of
 * `--times` pairs counts, since a disk that somebody else keeps busy is no attack. `/healthz` may take 200 ms (p99), or, on a machine on
 * which it takes that without an attack, three times what it takes then. Beside it stands what needs no clock: the longest
 * block of a server's event loop in processor time, and what it burns; `--profile DIR` writes a CPU profile of each attack.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { setPriority } from 'node:os';
import { RangeSet, rangesText, type Range } from '../../shared/model/ranges.ts';
import { ATTACKS, type Order, type Report } from './attacker.ts';
import { GoodDevice, GoodReader, percentile } from './good.ts';
import { SITES, rssOf, type Site } from './site.ts';
import { Watch, type Watched } from './watch.ts';

const MIB = 1024 * 1024;
const TIMES_MAX = 3;
const HEALTH_MS_MAX = 200;
/** Below it a p99 is what this machine's disk and timers make of it. */
const FLOOR_MS = 3;
const GROWN_BYTES_MAX = 256 * MIB;

export interface Settings {
  sites: (keyof typeof SITES)[];
  /** Parts of names; '': all. */
  only: readonly string[];
  /** How often an attack that seems to harm is tried; odd. */
  timesMax: number;
  /** A folder for CPU profiles, or ''. */
  profile: string;
  /** Of an attack and its control. */
  ms: number;
  /** Whether times are held against their limits; else only what is lost. */
  judgesTimes: boolean;
  say: (line: string) => void;
}

/** An attack with what is without it. */
interface Pair {
  report: Report;
  calm: Phase;
  hit: Phase;
  control: Phase;
  /** PUBACK's p99, of what it is without. */
  times: number;
  healthMax: number;
  cost: Watched;
  rss: [before: number, peak: number];
  own: string[];
}

interface Phase {
  p50: number;
  p99: number;
  health: number;
  answers: number;
}

const LEAVES_OUT: Record<string, (site: keyof typeof SITES) => boolean> = {
  'wrong passwords, one address': (site) => site === 'up',
  'wrong passwords, 400 addresses': (site) => site === 'up',
  'TLS that never gets done': (site) => site === 'up',
  'TLS handshakes, one after another': (site) => site === 'up',
  'HTTP: wrong tokens': (site) => site === 'up',
  'enrolment: guessed tokens': (site) => site === 'up',
};

class Trial {
  readonly problems: string[] = [];
  private readonly device = new GoodDevice();
  private readonly reader: GoodReader;
  private readonly site: Site;
  private readonly attacker: ChildProcess;
  private readonly settings: Settings;
  private readonly watch: Watch;

  constructor(site: Site, attacker: ChildProcess, settings: Settings, watch: Watch) {
    this.watch = watch;
    this.site = site;
    this.attacker = attacker;
    this.settings = settings;
    this.reader = new GoodReader(site.target, site.good);
  }

  private order(order: Order): Promise<Report> {
    return new Promise((resolve) => {
      this.attacker.once('message', (report) => resolve(report as Report)); // What the attacker sends.
      this.attacker.send(order);
    });
  }

  private async phase<T>(work: () => Promise<T>): Promise<[T, Phase]> {
    const { device, reader } = this;
    device.latenciesMs = [];
    reader.healthMs = [];
    reader.answersMs = [];
    const result = await work();
    return [
      result,
      {
        p50: percentile(device.latenciesMs, 0.5),
        p99: percentile(device.latenciesMs, 0.99),
        health: percentile(reader.healthMs, 0.99),
        answers: percentile(reader.answersMs, 0.99),
      },
    ];
  }

  private calm(): Promise<[unknown, Phase]> {
    const { judgesTimes, ms } = this.settings;
    return this.phase(
      () => new Promise((resolve) => setTimeout(resolve, judgesTimes ? ms / 2 : 100)),
    );
  }

  private troubles(): string[] {
    return [...this.device.troubles.splice(0), ...this.reader.troubles.splice(0)];
  }

  /** What native code or another process ends says nothing itself: 134 and 139 are faults of native code, 137 a kill. */
  private async dead(): Promise<string[]> {
    const ended = this.site.processes.filter(({ pid }) => !isAlive(pid));
    return await Promise.all(
      ended.map(
        async ({ output, exited }) =>
          `a server has ended with exit code ${await exited}: ${output().slice(-500)}`,
      ),
    );
  }

  private async pair(name: string): Promise<Pair> {
    const { settings, site, watch } = this;
    const { target } = site;
    const rss = rssOf(site);
    const [, calm] = await this.calm();
    let peak = rss;
    const look = setInterval(() => (peak = Math.max(peak, rssOf(site))), 100);
    const watched = watch.begin(site.processes, name);
    const [report, hit] = await this.phase(() => this.order({ name, target, ms: settings.ms }));
    clearInterval(look);
    const own = this.troubles();
    const dead = await this.dead();
    // Nothing more can be tried on it, nor measured.
    if (dead.length > 0) throw new Error(`${name}: ${[...dead, ...own].join('\n')}`);
    const cost = await watched();
    let control = calm;
    if (settings.judgesTimes)
      [, control] = await this.phase(() =>
        this.order({ name, target, ms: settings.ms / 2, load: report.load }),
      );
    own.push(...this.troubles());
    const times = hit.p99 / Math.max(calm.p99, control.p99, FLOOR_MS);
    const healthMax = Math.max(HEALTH_MS_MAX, TIMES_MAX * Math.max(calm.health, control.health));
    return { report, calm, hit, control, times, healthMax, cost, rss: [rss, peak], own };
  }

  async attack(name: string): Promise<void> {
    const { settings, site } = this;
    const pairs: Pair[] = [];
    const isLate = ({ times, hit, healthMax }: Pair): boolean =>
      !(times <= TIMES_MAX) || !(hit.health <= healthMax);
    const own: string[] = [];
    for (let tries = 0; tries < (settings.judgesTimes ? settings.timesMax : 1); tries++) {
      const pair = await this.pair(name);
      pairs.push(pair);
      own.push(...pair.own);
      settings.say(row(name, pair, own.length === 0 && !isLate(pair)));
      if (!isLate(pair) && tries === 0) break;
    }
    const times = percentile(
      pairs.map((pair) => pair.times),
      0.5,
    ); // Of an odd number.
    if (settings.judgesTimes) {
      if (!(times <= TIMES_MAX))
        own.push(`PUBACK's p99 is ${times.toFixed(1)} times that without it`);
      const health = percentile(
        pairs.map(({ hit }) => hit.health),
        0.5,
      );
      if (!(health <= Math.max(...pairs.map(({ healthMax }) => healthMax))))
        own.push(`/healthz took ${health.toFixed(0)} ms`);
    }
    const grown = Math.max(...pairs.map(({ rss: [before, peak] }) => peak - before));
    if (grown > GROWN_BYTES_MAX) own.push(`memory grew by ${Math.round(grown / MIB)} MiB`);
    this.problems.push(...own.map((text) => `${site.target.site}, ${name}: ${text}`));
    for (const text of new Set(own.slice(0, 5))) settings.say(`    ${text}`);
  }

  async run(names: readonly string[]): Promise<void> {
    const { device, reader, site } = this;
    await device.start(site.target, site.good);
    reader.start();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    device.latenciesMs = [];
    for (const name of names) await this.attack(name);
    await device.stop();
    await reader.stop(device.acknowledged);
    let missing = [...device.acknowledged];
    for (let tries = 0; missing.length > 0 && tries < 100; tries++) {
      const stored = await reader.stored();
      missing = [...device.acknowledged].filter((n) => !stored.has(n));
      if (missing.length > 0) await new Promise((resolve) => setTimeout(resolve, 200));
    }
    if (missing.length > 0) {
      const text = `${missing.length} acknowledged messages are not in the store`;
      // What is on its way is no loss, and is told apart from it here.
      this.problems.push(
        `${text}: ${rangesText(asRanges(missing), 20)} of ${device.acknowledged.size}; ${await reader.standing()}`,
      );
      this.settings.say(site.processes.map(({ output }) => output().slice(-3000)).join('\n'));
    }
    reader.close();
    this.problems.push(...this.troubles());
    this.settings.say(
      `${site.target.site}: ${device.acknowledged.size} acknowledged, ${missing.length} of them missing in the store`,
    );
  }
}

const asRanges = (numbers: readonly number[]): readonly Range[] =>
  new RangeSet(numbers.map((n): Range => [n, n])).ranges;

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

const ms = (value: number): string =>
  (Number.isNaN(value) ? '-' : value.toFixed(value < 10 ? 1 : 0)).padStart(6);

const HEAD = `${'attack'.padEnd(52)} ${'tried'.padStart(8)} ${'refused'.padStart(8)}  CPU | PUBACK p50: calm attack | p99:  calm attack control  times | healthz answers | servers: CPU  main block over50 | MiB: before peak heap outside`;

function row(name: string, pair: Pair, isGood: boolean): string {
  const { report, calm, hit, control, times, cost, rss } = pair;
  const { tried, refused, load } = report;
  const memory = [...rss, cost.heapTotal, cost.external].map((bytes) => Math.round(bytes / MIB));
  return [
    `${isGood ? ' ' : '!'}${name.padEnd(51)} ${String(tried).padStart(8)} ${String(refused).padStart(8)} ${load.toFixed(2).padStart(4)} `,
    `      ${ms(calm.p50)} ${ms(hit.p50)} `,
    `     ${ms(calm.p99)} ${ms(hit.p99)}  ${ms(control.p99)} ${times.toFixed(1).padStart(6)} `,
    ` ${ms(hit.health)}  ${ms(hit.answers)} `,
    `         ${cost.load.toFixed(2)}  ${cost.mainLoad.toFixed(2)} ${ms(cost.blockMs).slice(1)} ${String(cost.blocks).padStart(6)} `,
    `     ${memory.map((mib) => String(mib).padStart(5)).join(' ')}`,
  ].join('|');
}

const GOOD_PRIORITY = -10;

/** The good ones' own process, once the servers, which would have it too, have begun. */
function raise(): void {
  try {
    setPriority(GOOD_PRIORITY);
  } catch {
    // Only root may; then it is as fast as the servers.
  }
}

/** What went wrong, in sentences; none: all is well. */
export async function attackAll(settings: Settings): Promise<string[]> {
  const problems: string[] = [];
  const attacker = fork(new URL('attacker.ts', import.meta.url).pathname, {
    execArgv: ['--import', 'tsx'],
  });
  const watch = new Watch(settings.profile);
  try {
    for (const name of settings.sites) {
      const site = await SITES[name](watch.environment());
      raise();
      try {
        settings.say(`\n${name}\n${HEAD}`);
        const trial = new Trial(site, attacker, settings, watch);
        const names = Object.keys(ATTACKS).filter(
          (each) =>
            settings.only.some((part) => each.includes(part)) && LEAVES_OUT[each]?.(name) !== true,
        );
        await trial.run(names);
        problems.push(...trial.problems);
      } finally {
        await site.close();
      }
    }
  } finally {
    attacker.disconnect();
  }
  return problems;
}
