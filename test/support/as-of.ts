/** Answers of the embedded store, recorded while a site goes through late data, a replay and clock repairs; asked again as of then. */
import { AsOf } from '../../collector/api/as-of.ts';
import { parseMappings } from '../../collector/decode/mapping/mapping.ts';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { TOPIC_LEDGER, type LogRecord } from '../../collector/log/log.ts';
import { ask } from '../../collector/store/aggregate.ts';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { StoreStage } from '../../collector/store/stage.ts';
import {
  FUNCTIONS,
  seriesName,
  type SeriesPoints,
  type StoreQuery,
} from '../../collector/store/store.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { CLOCK_SYNCHRONISED, CLOCK_UNKNOWN, KIND_ANCHOR } from '../../shared/frame/frame.ts';
import { noteFrame } from '../../shared/frame/notes.ts';
import { LakeSite } from './lake-site.ts';
import { apart } from './lake.ts';
import { until } from './process.ts';

export const EPOCH = '0102030405060708';

interface FrameOptions {
  gateway?: string;
  /** Of its first message by the gateway's clock, epoch milliseconds. */
  wallMs: number;
  monotonicUs?: number;
  isKnown?: boolean;
  arrivedMs?: number;
  topic?: string;
  payload?: (sequence: number) => string;
}

/** A frame of `count` messages a second apart. */
export function messages(first: number, count: number, options: FrameOptions): LogRecord {
  const { gateway = 'gw', wallMs, monotonicUs = 1, isKnown = true, topic = 'hall/1/n' } = options;
  const { payload = (n: number) => `{"n":${n},"t":${(n * 7) % 1000}}` } = options;
  const builder = new FrameBuilder();
  for (let at = 0; at < count; at++)
    builder.add(
      {
        client: 'c',
        topic,
        qos: 1,
        retain: false,
        dup: false,
        payload: Buffer.from(payload(first + at)),
      },
      (wallMs + at * 1000) * 1000,
      monotonicUs + at * 1e6,
    );
  const identity = { gateway, epoch: Buffer.from(EPOCH, 'hex'), bootId: Buffer.alloc(8, 7) };
  const quality = isKnown ? CLOCK_SYNCHRONISED : CLOCK_UNKNOWN;
  const value = builder.finish(identity, first, quality, true);
  const arrived = String(options.arrivedMs ?? Date.now());
  return { key: gateway, value, headers: { arrived, lane: '0' } };
}

/** What boot 0707… showed at a known time. */
export function anchor(
  sequence: number,
  { gateway = 'gw', trueMs, errorMs }: { gateway?: string; trueMs: number; errorMs: number },
): LogRecord {
  const identity = { gateway, epoch: Buffer.from(EPOCH, 'hex'), bootId: Buffer.alloc(8, 7) };
  const note = {
    boot: '07'.repeat(8),
    monotonicUs: 1e9,
    wallUs: trueMs * 1000,
    errorUs: errorMs * 1000,
    basis: 'collector' as const,
  };
  const time = { wallUs: 1e9, monotonicUs: 1e9, clockQuality: CLOCK_UNKNOWN };
  const value = noteFrame(KIND_ANCHOR, note, identity, sequence, time);
  return { key: gateway, value, headers: { arrived: String(Date.now()), lane: '0' } };
}

export interface Recorded {
  atMs: number;
  query: StoreQuery;
  answer: string[];
}

const textOf = ({ points, ...key }: SeriesPoints): string[] => {
  const name = seriesName(key);
  return points.map(([time, value]) => `${name} ${time} ${JSON.stringify(value)}`);
};

/** With the store, filled beside the lake. */
export class AsOfSite extends LakeSite {
  points!: DuckDbStore;
  private storing: StoreStage | undefined;

  override async open(): Promise<void> {
    await super.open();
    const notify = ({ text }: { text: string }): void => void this.said.push(text);
    const { folder, log } = this;
    const store = new DuckDbStore(
      { folder, memoryBytes: 128 << 20, now: () => Date.now() },
      notify,
    );
    await store.open();
    this.points = store;
    this.storing = new StoreStage({ log, store, notify, fillRate: 1e6 });
    this.storing.start();
  }

  override async close(): Promise<void> {
    await this.storing?.close();
    await this.points.close();
    await super.close();
  }

  /** Until decode, store and, if it is asked for, lake have everything; a moment passes before what comes next. */
  async settled(withLake: boolean): Promise<void> {
    let quiet = 0;
    await until('decode and store to have everything', () => {
      const wanted = withLake ? /-decode$|-store|-lake-/ : /-decode$|-store/;
      const groups = this.log.groups().filter(({ group }) => wanted.test(group));
      const isQuiet = groups.length >= 3 && groups.every(({ lagRecords }) => lagRecords === 0);
      quiet = isQuiet ? quiet + 1 : 0;
      return quiet >= 4 || undefined;
    });
  }

  /** The mappings in force from now on, as the command keeps them. */
  async map(text: string, hash: string): Promise<void> {
    const others = [{ file: 'm.yaml', text }];
    const version = { at: Date.now(), hash, main: '', files: {}, others, localZone: '' };
    const value = Buffer.from(JSON.stringify(version));
    await this.log.append(TOPIC_LEDGER, [{ key: `mapping/${hash}`, headers: {}, value }]);
    this.decode.decoder.mappings = new Mappings(parseMappings(text, 'm.yaml'));
  }

  async replay(which: 'all' | 'quarantined' = 'all'): Promise<void> {
    const { id } = await this.jobs.create({ which });
    await until('the replay', () => this.jobs.isFinished(id) || undefined);
  }

  async answer(query: StoreQuery): Promise<string[]> {
    const found: string[] = [];
    for await (const part of ask(this.points, query)) found.push(...textOf(part));
    return found.sort();
  }

  /** What the store says now. */
  async record(queries: readonly StoreQuery[]): Promise<Recorded[]> {
    const atMs = Date.now();
    const recorded: Recorded[] = [];
    for (const query of queries) recorded.push({ atMs, query, answer: await this.answer(query) });
    await until('the next moment', () => Date.now() > atMs || undefined);
    return recorded;
  }

  async asOf(query: StoreQuery, atMs: number): Promise<{ answer: string[]; doubts: string[] }> {
    const sources = { lake: this.lake, log: this.log, nowMs: () => Date.now() };
    const { store, doubts } = new AsOf(sources).view(atMs);
    const answer: string[] = [];
    for await (const part of ask(store, query)) answer.push(...textOf(part));
    return { answer: answer.sort(), doubts };
  }
}

/** A question of a kind that a panel has, by a number. */
function questionOf(seed: number, dayMs: number): StoreQuery {
  const random = (n: number): number =>
    Number(BigInt.asUintN(31, BigInt(seed) * 1103515245n + BigInt(n) * 40503n + 12345n) % 997n);
  const query: StoreQuery = {};
  if (random(1) % 2 === 0) query.tags = { gateway: `gw${random(2) % GATEWAYS}` };
  if (random(3) % 3 === 0) query.field = random(4) % 2 === 0 ? 'n' : 't';
  if (random(5) % 2 === 0) {
    query.fromMs = dayMs - 3_600_000 + (random(6) % 120) * 60_000;
    query.toMs = query.fromMs + (1 + (random(7) % 60)) * 60_000;
  }
  if (random(8) % 2 === 0) {
    query.fn = FUNCTIONS[random(9) % FUNCTIONS.length] ?? 'mean';
    query.everyMs = [10_000, 60_000, 600_000][random(10) % 3] ?? 60_000;
  }
  return query;
}

const GATEWAYS = 4;
const PER_FRAME = 50;
const MAPS = ['hall', 'room', 'place'].map(
  (name) => `mappings:
  - topic: hall/+/n
    measurement: ${name}
    tags: {at: "{2}"}
    fields: {n: n, t: t}
`,
);

/** A site that lives through late data, clocks that become known, replays; with so many answers of its store on the way. */
export async function recordedSite(
  folder: string,
  answers: number,
  rounds = 10,
): Promise<{ site: AsOfSite; recorded: Recorded[] }> {
  const dayMs = Date.UTC(2026, 4, 1, 12);
  const site = new AsOfSite(folder, { flushMs: 500 });
  await site.open();
  const recorded: Recorded[] = [];
  const sequences = Array.from({ length: GATEWAYS }, () => 1);
  const take = (gateway: number, count: number): number => {
    const first = sequences[gateway] ?? 1;
    sequences[gateway] = first + count;
    return first;
  };
  const whatHappens = [
    // New, late, and of a clock that nobody knows.
    async (round: number): Promise<void> => {
      for (let at = 0; at < GATEWAYS; at++) {
        const gateway = `gw${at}`;
        const wallMs = dayMs + round * 60_000 * (at % 2 === 0 ? 1 : -1);
        const lost = { gateway, wallMs: 1000, monotonicUs: 1e9 + round * 6e7, isKnown: false };
        await site.append([messages(take(at, PER_FRAME), PER_FRAME, { gateway, wallMs })]);
        await site.append([messages(take(at, PER_FRAME), PER_FRAME, lost)]);
      }
    },
    async (round: number): Promise<void> => {
      const gateway = `gw${round % GATEWAYS}`;
      // Rough at first, then better.
      const errorMs = [60_000, 5000, 10][Math.floor(round / GATEWAYS)] ?? 10;
      const known = { gateway, trueMs: dayMs + errorMs, errorMs };
      await site.append([anchor(take(round % GATEWAYS, 1), known)]);
    },
    async (round: number): Promise<void> => {
      if (round % 3 !== 2) return;
      await site.map(MAPS[((round / 3) % 3) | 0] ?? '', `v${round}`);
      await site.replay();
    },
  ];
  const perMoment = Math.ceil(answers / (rounds * whatHappens.length));
  for (let round = 0; round < rounds; round++)
    for (const happen of whatHappens) {
      await happen(round);
      await site.settled(false);
      const questions = Array.from({ length: perMoment }, (_, at) =>
        questionOf(recorded.length + at, dayMs),
      );
      recorded.push(...(await site.record(questions)));
    }
  return { site, recorded: recorded.slice(0, answers) };
}

/** Floats may differ by 1e-9 of themselves: sums are made in another order. */
function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && apart(a, b, () => true) === undefined;
}

/** Asks all of them again as of then. Times in milliseconds. */
export async function differing(
  site: AsOfSite,
  recorded: readonly Recorded[],
): Promise<{ differ: number; doubts: number; p50: number; p99: number; changed: number }> {
  const took: number[] = [];
  let [differ, doubts, changed] = [0, 0, 0];
  for (const { atMs, query, answer } of recorded) {
    const since = performance.now();
    const then = await site.asOf(query, atMs);
    took.push(performance.now() - since);
    if (!isSame(then.answer, answer)) differ++;
    doubts += then.doubts.length;
    if (!isSame(await site.answer(query), answer)) changed++;
  }
  took.sort((a, b) => a - b);
  const of = (q: number): number => took[Math.floor(q * (took.length - 1))] ?? 0;
  return { differ, doubts, p50: of(0.5), p99: of(0.99), changed };
}
