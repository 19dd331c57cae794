/**
 * `npm run soak -- [--minutes N] [--rate N] [--kafka] [--seed S] [--csv FILE] [--leak WHERE]`: a gateway and a collector as real processes under load
 * for hours. In the first part each of them is killed and restarted again and again; then they live on, while the link
 * fails, another gateway is killed, Kafka (with `--kafka`) is too, and the API is asked. What they take is sampled. After
 * a warm-up nothing may grow by more than 5 %, consumer groups are as many as they were, and all is stored, each once.
 * What of the heap grew is named by what holds it, by snapshots of its first and its last minute. `--leak` is the control:
 * the collector keeps 20 KiB more each second, and the run must fail.
 */
import { appendFileSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { groupsAt } from '../../collector/log/kafka-admin.ts';
import { startKafka } from '../services/servers.ts';
import { collectorSettings } from '../support/lake.ts';
import { startGateway, temporaryFolder, until, type Headwater } from '../support/process.ts';
import { fetchOnce, getJson } from '../support/reconcile.ts';
import { Relay } from './network.ts';
import { grownKinds } from './retained.ts';
import { MEASURES, PROBE, growthOf, sampleOf, type Measure, type Sample } from './samples.ts';
import { Site, wait, type Chance } from './site.ts';
import { flagsOf } from '../../scripts/flags.mjs';

const SHARE_MAX = 0.05;
/** Of the whole time: until then processes are restarted, and until then what they take does not count. */
const RESTARTS_UNTIL = 0.25;
const WARM_AT = 0.5;
const SAMPLE_MS = 5000;
/** A snapshot stops its process for seconds. */
const SNAPSHOT_MS = 60_000;
const MESSAGES = 48;

const { values } = flagsOf(import.meta.url, {
  options: {
    minutes: { type: 'number', default: 240, min: 0.1 },
    kafka: { type: 'boolean' },
    rate: { type: 'number', default: 100, min: 1, about: 'messages a second, about' },
    seed: { type: 'integer', default: 1 },
    csv: { type: 'string', about: 'samples are written there as they come' },
    leak: { type: 'string', choices: ['heap', 'buffers'], about: 'a control' },
  },
});
const { minutes, rate } = values;

let state = values.seed >>> 0;
const chance: Chance = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
};

/** Small, so that what fills up is full before the warm-up ends, at a low rate as well. */
const SETTINGS = {
  'lake.flushSeconds': 5,
  'lake.memoryBytes': 64 * 1024 * 1024,
  'store.memoryBytes': 64 * 1024 * 1024,
  'log.cacheBytes': 1024 * 1024,
};
/**
 * What DuckDB was given, for the store and for the lake, and what a collector takes natively beside it (measured: 63 MiB a minute after
 * its start). Up to there native memory may grow: as data grow so do the pages and working sets that DuckDB keeps, and glibc keeps
 * for itself what was freed, in an arena for each of 15 threads (malloc_info after 22 and 25 minutes: 63 and 61 MB in use, 226 and
 * 230 MB free, of which a part is resident). Beyond it it may not.
 */
const NATIVE_BYTES =
  SETTINGS['lake.memoryBytes'] + SETTINGS['store.memoryBytes'] + 80 * 1024 * 1024;
const GIVEN: Partial<Record<Measure, number>> = {
  nativeBytes: NATIVE_BYTES,
  // With Node and the libraries themselves, and the heap.
  rssBytes: NATIVE_BYTES + 150 * 1024 * 1024,
};
const GATEWAY = {
  HEADWATER_BUFFER_HISTORY_BYTES_MAX: String(1024 * 1024),
};

const probe = join(temporaryFolder(), 'probe.mjs');
writeFileSync(probe, PROBE);
const heapFiles = {
  gateway: join(temporaryFolder(), 'heap'),
  collector: join(temporaryFolder(), 'heap'),
};
const snapshots = { gateway: temporaryFolder(), collector: temporaryFolder() };
const watched = (part: 'gateway' | 'collector'): Record<string, string> => ({
  NODE_OPTIONS: `--import=${probe} --heapsnapshot-signal=SIGUSR2 --diagnostic-dir=${snapshots[part]}`,
  SOAK_HEAP: heapFiles[part],
  ...(part === 'collector' && values.leak !== undefined ? { SOAK_LEAK: values.leak } : {}),
});

const say = (text: string): void =>
  void process.stdout.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`);

/** What lives long, and what is done to it. */
class Soak {
  readonly site: Site;
  private readonly relay: Relay;
  private readonly kafka: Awaited<ReturnType<typeof startKafka>> | undefined;
  private readonly otherFolder = temporaryFolder();
  private other: Headwater | undefined;
  private via = '';
  isOver = false;
  strikes = 0;

  constructor(kafka: Awaited<ReturnType<typeof startKafka>> | undefined) {
    this.kafka = kafka;
    const log = kafka === undefined ? [] : ['--log', `kafka://${kafka.address}`];
    const more = ['--config', collectorSettings(SETTINGS), ...log];
    const gateway = { ...GATEWAY, ...watched('gateway') };
    const environment = watched('collector');
    this.site = new Site([], temporaryFolder(), gateway, { more, environment });
    this.relay = new Relay(() => this.site.uplinkPort);
  }

  async start(): Promise<void> {
    await this.site.startCollector();
    this.via = await this.relay.listen();
    await this.site.startGateway(this.via);
    await this.startOther();
  }

  private async startOther(): Promise<void> {
    this.other = await startGateway(
      this.via,
      ['--data', this.otherFolder, '--id', 'gw-other'],
      GATEWAY,
    );
  }

  private get signal(): NodeJS.Signals {
    return chance() < 0.5 ? 'SIGKILL' : 'SIGTERM';
  }

  /** Each process in turn. */
  async restart(): Promise<void> {
    this.strikes++;
    const { site, signal } = this;
    if (chance() < 0.5) {
      await site.collector?.kill(signal);
      await wait(chance() * 3000);
      await site.startCollector();
    } else {
      await site.gateway?.kill(signal);
      await wait(chance() * 3000);
      await site.startGateway(this.via);
    }
  }

  /** What a process that lives on has to bear. */
  async disturb(): Promise<void> {
    const { site, relay, kafka, signal } = this;
    const which = this.strikes++ % (kafka === undefined ? 4 : 5);
    if (which === 0) {
      await this.other?.kill(signal);
      await wait(chance() * 3000);
      await this.startOther();
    } else if (which === 1) {
      relay.cut();
    } else if (which === 2) {
      relay.swallowing = true;
      await wait(1000 + chance() * 9000);
      relay.cut();
      relay.swallowing = false;
    } else if (which === 3) {
      await this.ask();
    } else {
      await kafka?.kill();
      await wait(chance() * 5000);
      await kafka?.restart();
    }
    // The other one has something to say, too.
    if (this.other !== undefined) await site.load(8, 2, 0, this.other.port('mqtt'));
  }

  private async ask(): Promise<void> {
    const { measurement, collector, gateway } = this.site;
    const paths = [
      `query?measurement=${measurement}&field=n&every=1m&fn=mean&from=now-1h`,
      ...['ledger', 'gateways', 'quarantine', 'status', 'stages', 'latest', 'series'],
    ];
    for (const path of paths)
      await (await fetchOnce(`http://${collector?.address['http']}/api/v1/${path}`)).text();
    for (const each of [collector, gateway])
      await (await fetchOnce(`http://${each?.address['http']}/metrics`)).text();
  }

  /** Consumer groups that the log has. */
  async groups(): Promise<number> {
    if (this.kafka !== undefined) return (await groupsAt(this.kafka.address, {})).length;
    const { stages } = await getJson<{ stages: unknown[] }>(
      `http://${this.site.collector?.address['http']}/api/v1/status`,
    );
    return stages.length;
  }

  async stop(): Promise<void> {
    await this.other?.kill('SIGKILL');
    await this.site.stop();
    await this.relay.close();
    await this.kafka?.stop();
  }
}

const soak = new Soak(values.kafka ? await startKafka() : undefined);
const { site } = soak;
const samples: Record<'gateway' | 'collector', Sample[]> = { gateway: [], collector: [] };
const began = performance.now();
const totalMs = minutes * 60_000;
const passed = (): number => (performance.now() - began) / totalMs;

async function load(): Promise<void> {
  while (!soak.isOver) {
    await site.load(MESSAGES, 25);
    await wait((MESSAGES / rate) * 1000);
  }
}

function take(): void {
  if (passed() < RESTARTS_UNTIL) return;
  const atMs = performance.now() - began;
  for (const part of ['gateway', 'collector'] as const) {
    const folder = part === 'gateway' ? site.gatewayFolder : site.collectorFolder;
    const found = sampleOf(site[part]?.pid ?? 0, folder, heapFiles[part]);
    const sample = { ...found, atMs, messages: site.acknowledged.size };
    samples[part].push(sample);
    if (values.csv !== undefined)
      appendFileSync(values.csv, `${[part, ...Object.values(sample)].join(',')}\n`);
  }
}

async function strike(): Promise<void> {
  const everyMs = Math.min(60_000, Math.max(10_000, totalMs / 60));
  while (!soak.isOver) {
    await wait(everyMs * (0.5 + chance()));
    if (passed() < RESTARTS_UNTIL - 0.02) await soak.restart();
    else if (passed() < 0.98) await soak.disturb();
    if (soak.strikes % 20 === 0)
      say(
        `${Math.round(passed() * 100)} %: ${site.acknowledged.size} acknowledged, ${soak.strikes} strikes`,
      );
  }
}

const shown = (measure: Measure, value: number): string =>
  measure.endsWith('Bytes') ? `${(value / 2 ** 20).toFixed(1)} MiB` : value.toFixed(0);

/** Of each process; the file is there once it is whole. */
async function photograph(): Promise<void> {
  for (const part of ['gateway', 'collector'] as const) {
    const count = readdirSync(snapshots[part]).length;
    process.kill(site[part]?.pid ?? 0, 'SIGUSR2');
    await until(
      'a snapshot of the heap',
      () => {
        const names = readdirSync(snapshots[part]).toSorted();
        const newest = join(snapshots[part], names.at(-1) ?? '');
        return (names.length > count && readFileSync(newest, 'latin1').endsWith('}')) || undefined;
      },
      SNAPSHOT_MS,
      500,
    );
  }
}

/** What holds what the heaps have more than at the end of the warm-up. */
function tellGrown(): void {
  for (const part of ['gateway', 'collector'] as const) {
    const names = readdirSync(snapshots[part]).toSorted();
    const [first, last] = [names[0], names.at(-1)].map((name) => join(snapshots[part], name ?? ''));
    if (names.length < 2 || first === undefined || last === undefined) continue;
    say(`${part}: what its heap has more, and what holds it`);
    for (const [way, { count, bytes }] of grownKinds(first, last))
      say(
        `  ${String(Math.round(bytes / 1024)).padStart(6)} KiB ${String(count).padStart(7)}  ${way}`,
      );
  }
}

/** How many measures grow. */
function judge(): number {
  let bad = 0;
  for (const part of ['gateway', 'collector'] as const) {
    const counted = samples[part].filter(({ atMs }) => atMs >= WARM_AT * totalMs);
    for (const measure of Object.keys(MEASURES) as Measure[]) {
      const keeps = part === 'collector';
      const given = keeps ? GIVEN[measure] : undefined;
      const growth = growthOf(counted, measure, SHARE_MAX, keeps);
      const { median, grown, share } = growth;
      const isTooMuch = growth.isTooMuch && growth.last > (given ?? 0);
      const isKept = keeps && measure === 'diskBytes';
      const is = isKept ? `${median.toFixed(0)} bytes a message` : shown(measure, median);
      if (isTooMuch) bad++;
      say(
        `${part.padEnd(9)} ${measure.padEnd(9)} ${is.padStart(20)}  grown ${shown(measure, grown).padStart(10)} (${(share * 100).toFixed(1)} %)${isTooMuch ? '  GROWS' : ''}`,
      );
    }
  }
  return bad;
}

let failed: unknown;
try {
  await soak.start();
  say(`soak: ${minutes} minutes, seed ${values.seed}, log ${values.kafka ? 'Kafka' : 'embedded'}`);
  const sampling = setInterval(() => {
    try {
      take();
    } catch (error) {
      failed ??= error;
    }
  }, SAMPLE_MS);
  const work = Promise.all([load(), strike()]);
  work.catch((error: unknown) => (failed ??= error));
  let groupsBefore = 0;
  let isWarm = false;
  while (passed() < 1 && failed === undefined) {
    await wait(1000);
    // Before what counts begins.
    if (!isWarm && passed() > WARM_AT - 0.02) {
      isWarm = true;
      await photograph();
    }
    if (groupsBefore === 0 && passed() > RESTARTS_UNTIL) groupsBefore = await soak.groups();
  }
  soak.isOver = true;
  clearInterval(sampling);
  await work;
  if (failed !== undefined) throw failed;
  await photograph();
  const groups = await soak.groups();
  const { acknowledged, lost, extra, differing, note = '' } = await site.reconcile(true);
  const grows = judge() + (groups > groupsBefore ? 1 : 0);
  tellGrown();
  say(`consumer groups: ${groupsBefore}, at the end ${groups}`);
  say(
    `${acknowledged} acknowledged, ${soak.strikes} strikes: lost ${lost}, extra ${extra}, differing ${differing} ${note}`,
  );
  const isWell = grows + lost + extra + differing === 0;
  say(isWell ? 'nothing grows' : `FAILED: ${grows} grow`);
  process.exitCode = isWell ? 0 : 1;
} catch (error) {
  say(`FAILED: ${error instanceof Error ? error.message : String(error)}`);
  say(site.collector?.output().slice(-1500) ?? '');
  process.exitCode = 1;
} finally {
  soak.isOver = true;
  await soak.stop();
}
// A process that did not come up in time is nobody's, and ends with this one.
process.exit();
