/** The decode stage's account of gateways: losses, status, clocks; and that the raw log alone tells it again. */
import { afterEach, describe, expect, it } from 'vitest';
import { DecodeStage } from '../../collector/decode/stage.ts';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { ReplayJobs } from '../../collector/decode/replay-jobs.ts';
import { Replayer } from '../../collector/decode/replay.ts';
import { fleet } from '../../collector/api/fleet.ts';
import { EpochLedger, accountOf } from '../../collector/ledger/epoch-ledger.ts';
import { LedgerView } from '../../collector/ledger/view.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { topics } from '../../collector/log/topics.ts';
import { TOPIC_LEDGER, TOPIC_RAW, TOPIC_READINGS, type Log } from '../../collector/log/log.ts';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { gathered } from '../support/gathered.ts';
import { StoreStage } from '../../collector/store/stage.ts';
import { FrameBuilder, type FrameIdentity } from '../../shared/frame/builder.ts';
import {
  CLOCK_ASSUMED,
  CLOCK_SYNCHRONISED,
  KIND_ANCHOR,
  KIND_LOSS,
  KIND_STATUS,
  KIND_SUMMARY,
} from '../../shared/frame/frame.ts';
import { noteFrame, type Notes } from '../../shared/frame/notes.ts';
import type { ReadingBatch } from '../../shared/model/reading.ts';
import { decodeReadings } from '../../shared/model/readings-record.ts';
import { LevelDatabase } from '../../shared/kv/classic-level.ts';
import { temporaryFolder, until } from '../support/process.ts';

const T0 = 1_790_000_000_000_000;
const S = 1e6;
const identity: FrameIdentity = {
  gateway: 'gw',
  epoch: Buffer.from('aaaaaaaaaaaaaaaa', 'hex'),
  bootId: Buffer.from('0b0b0b0b0b0b0b0b', 'hex'),
};
const EPOCH = 'aaaaaaaaaaaaaaaa';

function records(
  from: number,
  count: number,
  wallUs: number,
  monotonicUs: number,
  quality: number,
): Buffer {
  const builder = new FrameBuilder();
  for (let i = 0; i < count; i++)
    builder.add(
      {
        client: 'c',
        topic: 'm',
        qos: 1,
        retain: false,
        dup: false,
        payload: Buffer.from(`{"n":${from + i}}`),
      },
      wallUs,
      monotonicUs,
    );
  return builder.finish(identity, from, quality, false);
}

const note = <K extends keyof Notes>(kind: K, value: Notes[K], sequence: number): Buffer =>
  noteFrame(kind, value, identity, sequence, { wallUs: T0, monotonicUs: 1, clockQuality: 2 });

const cleanups: (() => Promise<void>)[] = [];

async function saidIn(log: Log): Promise<ReadingBatch[]> {
  const consumer = await log.consumer({
    ...{ group: 'look', topic: TOPIC_READINGS, from: 'start', bytesMax: 1 << 20 },
  });
  const all = (await consumer.poll(0)).map(({ value }) => decodeReadings(value));
  await consumer.close();
  return all;
}

/** All of raw is decoded once more. */
async function replayed(log: Log): Promise<void> {
  const jobs = new ReplayJobs(log, Date.now, () => 'job');
  const limits = { perClient: 1e6, perGateway: 1e6 };
  const mappings = new Mappings([]);
  const notify = (): void => undefined;
  const more = { limits, notify, nowMs: Date.now, mappings: () => mappings };
  const replayer = new Replayer({ log, jobs, ...more });
  cleanups.push(() => replayer.close());
  await jobs.start();
  cleanups.push(() => jobs.close());
  await jobs.create({ which: 'all' });
  await until('the replay', () => jobs.isFinished('job') || undefined);
}
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

interface Centre {
  log: EmbeddedLog;
  ledger: LedgerView;
  decode: DecodeStage;
  store: DuckDbStore;
  notices: string[];
  append: (...frames: Buffer[]) => Promise<void>;
  /** While the collector's clock is not settled. */
  appendUnsettled: (...frames: Buffer[]) => Promise<void>;
  /** Times in seconds since T0, by value. */
  times: () => Promise<Map<number, number[]>>;
  stop: () => Promise<void>;
}

async function centre(folder: string): Promise<Centre> {
  const notices: string[] = [];
  const say = ({ event, text }: { event: string; text: string }): void =>
    void notices.push(`${event}: ${text}`);
  const log = new EmbeddedLog(
    { folder, cacheBytes: 1 << 20, topics: topics(Infinity), now: () => Date.now() },
    say,
  );
  await log.open();
  const store = new DuckDbStore({ folder, memoryBytes: 128 << 20, now: () => Date.now() }, say);
  await store.open();
  const decode = new DecodeStage(log, new Mappings([]), { perClient: 1e6, perGateway: 1e6 }, say);
  const storing = new StoreStage({
    log,
    store,
    notify: say,
    fillRate: 1e6,
  });
  const ledger = new LedgerView(log);
  await ledger.start();
  decode.start();
  storing.start();
  let stopped = false;
  const stop = async (): Promise<void> => {
    if (stopped) return;
    stopped = true;
    await decode.close();
    await storing.close();
    await ledger.close();
    await store.close();
    await log.close();
  };
  cleanups.push(stop);
  const append = async (frames: Buffer[], more: Record<string, string>): Promise<void> => {
    const headers = { arrived: String(T0 / 1000 + 3_600_000), lane: '0', ...more };
    await log.append(
      TOPIC_RAW,
      frames.map((value) => ({ key: 'gw', value, headers })),
    );
    let quiet = 0;
    await until('no lag', () => {
      const groups = log.groups();
      const done =
        groups.some(({ group }) => group === 'headwater-decode') &&
        groups.every(({ lagRecords }) => lagRecords === 0);
      quiet = done ? quiet + 1 : 0;
      return quiet >= 5 || undefined;
    });
  };
  return {
    log,
    ledger,
    decode,
    store,
    notices,
    append: (...frames) => append(frames, {}),
    appendUnsettled: (...frames) => append(frames, { unsettled: 'true' }),
    times: async () => {
      const found = new Map<number, number[]>();
      for (const { points } of await gathered(store.query({ measurement: 'm', field: 'n' })))
        for (const [time, value] of points)
          found.set(Number(value), [
            ...(found.get(Number(value)) ?? []),
            (time - T0 / 1000) / 1000,
          ]);
      return found;
    },
    stop,
  };
}

describe('ledger', () => {
  it('names what is received, lost, thinned, on its way and missing; and the raw log alone tells it again', async () => {
    const folder = temporaryFolder();
    const first = await centre(folder);
    await first.append(
      records(1, 10, T0, 1, CLOCK_SYNCHRONISED),
      records(21, 10, T0, 1, CLOCK_SYNCHRONISED),
      note(
        KIND_LOSS,
        { cause: 'dropped', where: 'buffer', reason: 'full', epoch: EPOCH, ranges: [[11, 15]] },
        31,
      ),
      note(KIND_LOSS, { cause: 'damaged', where: 'buffer/1.log', reason: 'rot', bytes: 5 }, 32),
      note(
        KIND_SUMMARY,
        {
          epoch: EPOCH,
          replaces: [[25, 26]],
          series: [
            {
              client: 'c',
              topic: 'm',
              constants: {},
              numbers: { n: [2, 25, 26, 25.5] },
              fromUs: T0,
              toUs: T0 + 2 * S,
            },
          ],
        },
        33,
      ),
      note(
        KIND_STATUS,
        {
          epochs: [
            {
              epoch: EPOCH,
              next: 60,
              waiting: [[40, 44]],
              history: [
                [1, 10],
                [50, 52],
              ],
              lost: [],
            },
          ],
        },
        0,
      ),
    );
    const expected = {
      missing: true,
      gateways: [
        {
          gateway: 'gw',
          epochs: [
            {
              epoch: EPOCH,
              received: [
                [1, 10],
                [21, 24],
                [27, 33],
              ],
              lost: [
                { from: 11, to: 15, cause: 'dropped', reason: 'full' },
                { from: 25, to: 26, cause: 'thinned' },
              ],
              pending: [
                [40, 44],
                [50, 52],
              ],
              missing: [
                { from: 16, to: 20 },
                { from: 34, to: 39 },
                { from: 45, to: 49 },
                { from: 53, to: 59 },
              ],
              damage: [{ where: 'buffer/1.log', reason: 'rot' }],
            },
          ],
        },
      ],
    };
    expect(first.ledger.answer()).toMatchObject(expected);
    expect(first.ledger.answer('nobody').gateways).toEqual([]);
    // Asked for again: what is history there and not in the log; not what merely waits.
    expect(first.ledger.wanted('gw', 1)).toEqual([{ epoch: EPOCH, ranges: [[50, 52]] }]);
    expect(first.ledger.wanted('gw', Number.MAX_SAFE_INTEGER)).toBeUndefined();
    const summary = await first.store.latest({ measurement: 'm' });
    expect(Object.fromEntries(summary.map(({ field, value }) => [field, value]))).toMatchObject({
      n_min: 25,
      n_max: 26,
      n_mean: 25.5,
      n_count: 2,
    });
    const readings = first.decode.decoder.decodedReadings;
    await first.stop();

    const db = new LevelDatabase(`${folder}/log`);
    await db.open();
    await db.clear({
      gte: Buffer.from(`c${TOPIC_LEDGER}\0`),
      lt: Buffer.from(`c${TOPIC_LEDGER}\u0001`),
    });
    await db.close();
    const second = await centre(folder);
    await second.append(records(16, 5, T0, 1, CLOCK_SYNCHRONISED));
    expect(second.notices.join()).toMatch(/ledger_rebuild/);
    expect(second.ledger.answer().gateways[0]?.epochs[0]?.received).toEqual([
      [1, 10],
      [16, 24],
      [27, 33],
    ]);
    expect(second.ledger.answer().gateways[0]?.epochs[0]?.lost).toMatchObject([
      { from: 11, to: 15, cause: 'dropped' },
      { from: 25, to: 26, cause: 'thinned' },
    ]);
    // Nothing was decoded a second time.
    expect(second.decode.decoder.decodedReadings).toBe(5);
    expect(readings).toBe(21);
  });
});

describe('clocks', () => {
  const anchor = (errorUs: number, wallUs: number): Notes[typeof KIND_ANCHOR] => ({
    boot: '0b0b0b0b0b0b0b0b',
    monotonicUs: 1000 * S,
    wallUs,
    errorUs,
    basis: 'collector',
  });

  it('readings of an unknown clock reach no store before their anchor, and then at their right time', async () => {
    const { append, times, decode } = await centre(temporaryFolder());
    // The gateway woke in 1970; its boot is 900 s old when it takes these.
    await append(records(1, 5, 30 * S, 900 * S, 0));
    expect((await times()).size).toBe(0);
    expect(decode.heldFrames).toBe(1);
    await append(note(KIND_ANCHOR, anchor(20_000, T0), 6));
    expect(decode.heldFrames).toBe(0);
    expect([...(await times())]).toEqual([1, 2, 3, 4, 5].map((n) => [n, [-100]]));
    // Later ones of the same boot do not wait.
    await append(records(7, 1, 250 * S, 1120 * S, 0));
    expect((await times()).get(7)).toEqual([120]);
  });

  it('a much better anchor moves readings, and no second point stays behind, through a restart in between', async () => {
    const folder = temporaryFolder();
    const first = await centre(folder);
    await first.append(
      records(1, 3, 30 * S, 900 * S, 0),
      note(KIND_ANCHOR, anchor(3600 * S, T0 - 3000 * S), 4),
    );
    expect([...(await first.times()).values()]).toEqual([[-3100], [-3100], [-3100]]);
    await first.stop();
    const second = await centre(folder);
    // Not better enough: it stays.
    await second.append(note(KIND_ANCHOR, anchor(2000 * S, T0 - 2000 * S), 5));
    expect([...(await second.times()).values()]).toEqual([[-3100], [-3100], [-3100]]);
    await second.append(note(KIND_ANCHOR, anchor(50_000, T0), 6));
    expect([...(await second.times()).values()]).toEqual([[-100], [-100], [-100]]);
  });

  it('a replay names every place at which an anchor of its boot may have put a reading', async () => {
    const { log, append } = await centre(temporaryFolder());
    await append(
      note(KIND_ANCHOR, anchor(90_000, T0 + 50_000), 1),
      // Settled by what was known then; what is known later, by a little better, does not move it.
      records(2, 1, 30 * S, 900 * S, 0),
      note(KIND_ANCHOR, anchor(1000, T0), 3),
    );
    await replayed(log);
    const all = await saidIn(log);
    const first = all[0]?.readings[0]?.timeMs ?? 0;
    const last = all.at(-1);
    expect(last?.readings.map(({ timeMs }) => timeMs)).toEqual([first - 50]);
    expect(last?.removed?.map(({ timeMs }) => timeMs)).toEqual([first]);
  });

  it('a replay names the places of anchors, too, that a later one contradicted', async () => {
    const { log, append } = await centre(temporaryFolder());
    await append(
      note(KIND_ANCHOR, anchor(2000, T0 - 20 * 86_400 * S), 1),
      records(2, 1, 30 * S, 1000 * S, 0),
      // The collector's clock was set.
      note(KIND_ANCHOR, anchor(2000, T0), 3),
    );
    await replayed(log);
    const [first, last] = await saidIn(log);
    expect(last?.readings.map(({ timeMs }) => timeMs)).toEqual([T0 / 1000]);
    expect(last?.removed?.map(({ timeMs }) => timeMs)).toEqual([first?.readings[0]?.timeMs]);
  });

  it.each([
    'before the move',
    'after it',
  ])('an anchor that comes while a replay is on its way leaves no second point, said %s', async (when) => {
    const { log, append, times } = await centre(temporaryFolder());
    await append(
      note(KIND_ANCHOR, anchor(3600 * S, T0 - 3000 * S), 1),
      records(2, 3, 30 * S, 900 * S, 0),
    );
    expect([...(await times()).values()]).toEqual([[-3100], [-3100], [-3100]]);
    const real = log.consumer.bind(log);
    let better: Promise<void> | undefined;
    const comes = (): Promise<void> => (better ??= move());
    const move = async (): Promise<void> => {
      const value = note(KIND_ANCHOR, anchor(50_000, T0), 5);
      const headers = { arrived: String(T0 / 1000 + 3_600_000), lane: '0' };
      await log.append(TOPIC_RAW, [{ key: 'gw', value, headers }]);
      await until('the move', async () => (await times()).get(2)?.includes(-100) || undefined);
    };
    // The log as the replay sees it: what it commits first is held up, or held to, by the anchor.
    const consumer: EmbeddedLog['consumer'] = async (options) => {
      const own = await real(options);
      const commit = own.commit.bind(own);
      own.commit = async (step) => {
        if (when === 'after it') await comes();
        await commit(step);
        await comes();
      };
      return own;
    };
    const seen = new Proxy(log, {
      get: (of, name) => {
        const value: unknown = name === 'consumer' ? consumer : Reflect.get(of, name);
        return typeof value === 'function' && name !== 'consumer' ? value.bind(of) : value;
      },
    });
    await replayed(seen);
    await until('the store', () => log.groups().every(({ lagRecords }) => lagRecords === 0));
    expect([...(await times()).values()]).toEqual([[-100], [-100], [-100]]);
  });

  it("a collector's clock that is set moves what it had placed, whether the gateway's agreed with it or not, and nothing of a trusted one", async () => {
    const { appendUnsettled, append, times, decode } = await centre(temporaryFolder());
    const wrong = T0 - 20 * 86_400 * S;
    // A synchronised clock (it agreed with the wrong one), one that nobody knew, one that its operator answers for.
    await appendUnsettled(
      note(KIND_ANCHOR, anchor(2000, wrong), 1),
      records(2, 1, wrong, 1000 * S, CLOCK_SYNCHRONISED),
      records(3, 1, 30 * S, 1000 * S, 0),
      records(4, 1, T0, 1000 * S, CLOCK_ASSUMED),
    );
    const days = -20 * 86_400;
    expect([...(await times())]).toEqual([
      [2, [days]],
      [3, [days]],
      [4, [0]],
    ]);
    // Its wall clock is set 20 days ahead: the gateway tells its new anchor, which is no better than the old one.
    await appendUnsettled(note(KIND_ANCHOR, anchor(2000, T0), 5));
    expect([...(await times())].sort(([a], [b]) => a - b)).toEqual([
      [2, [0]],
      [3, [0]],
      [4, [0]],
    ]);
    // Once it has settled nothing is kept for it any more.
    await append(records(6, 1, T0, 1000 * S, CLOCK_SYNCHRONISED));
    expect(decode.keptFrames).toBe(0);
  });
});

describe('which gateways there are', () => {
  const known = async (kind: string, nowMs: number): Promise<unknown[]> => {
    const say = (gateway: string, connected: boolean, at: number) => ({
      ...{ key: `link/${gateway}`, headers: {}, partition: 0, offset: 0 },
      value: Buffer.from(JSON.stringify({ connected, at })),
    });
    const watch: Log['watch'] = (_topic, onRecords) => {
      onRecords([say('a', true, 1000), say('b', true, 900_000), say('b', false, 900_001)]);
      return Promise.resolve({ close: () => Promise.resolve() });
    };
    const view = new LedgerView({ kind, watch } as Log); // All that it asks of a log.
    await view.start();
    return view.known(nowMs);
  };
  const rows = (connected: boolean): unknown[] => [
    { gateway: 'a', connected, lastSeenMs: 1000 },
    { gateway: 'b', connected: false, lastSeenMs: 900_001 },
  ];

  it('a collector that was killed said nothing of its gateways: a connection is told again, or is none', async () => {
    expect(await known('kafka', 900_999)).toEqual(rows(true));
    expect(await known('kafka', 901_001)).toEqual(rows(false));
    // Where the log is one process's own, that process knows.
    expect(await known('embedded', 10_000_000)).toEqual(rows(true));
  });

  it('each of several collectors answers for all, and what it has itself counts', () => {
    const here = { gateway: 'a', connected: true, lastSeenMs: 5, frames: 2, messages: 3 };
    const left = { gateway: 'c', connected: false, lastSeenMs: 7, frames: 1, messages: 1 };
    const elsewhere = [
      { gateway: 'a', connected: false, lastSeenMs: 4 },
      { gateway: 'b', connected: true, lastSeenMs: 6 },
      { gateway: 'c', connected: true, lastSeenMs: 9 },
    ];
    const said = { toldBy: () => undefined, stateOf: () => undefined, names: () => [] };
    expect(fleet([here, left], elsewhere, new Map(), () => false, said)).toMatchObject([
      { gateway: 'a', connected: true, lastSeenMs: 5, frames: 2 },
      { gateway: 'b', connected: true, lastSeenMs: 6, frames: 0 },
      { gateway: 'c', connected: true, lastSeenMs: 9, messages: 1 },
    ]);
  });
});

it('what a gateway tells the fate of is missing no more, though it has nothing of that epoch any more and never names it again', () => {
  const ledger = new EpochLedger('gw', EPOCH);
  ledger.receive(1, 10);
  const missing = (): unknown[] => accountOf(ledger.record).missing;
  ledger.heard({ epoch: EPOCH, next: 31, waiting: [], history: [], lost: [[11, 30]] }, false, 5);
  expect(missing()).toEqual([{ from: 11, to: 30, since: 5 }]);
  ledger.lose({ cause: 'thinned', where: 'buffer', reason: 'full', ranges: [[11, 20]] }, 6);
  expect(missing()).toEqual([{ from: 21, to: 30, since: 5 }]);
  ledger.lose({ cause: 'damaged', where: 'buffer', reason: 'rot', ranges: [[21, null]] }, 7);
  expect(missing()).toEqual([]);
});

it('what the lake has lost of a gateway is missing, also where a new log knows of no gateway at all', async () => {
  const folder = temporaryFolder();
  const log = new EmbeddedLog(
    { folder, cacheBytes: 1 << 20, topics: topics(Infinity), now: () => Date.now() },
    () => undefined,
  );
  await log.open();
  const ledger = new LedgerView(log);
  await ledger.start();
  expect(ledger.answer()).toEqual({ missing: false, gateways: [], lake: [] });
  const loss = {
    zone: 'raw',
    key: 'k',
    gateway: 'gw',
    rows: 27,
    reason: 'r',
    since: 1,
    final: true,
  };
  ledger.lake = () => [{ ...loss, kind: 'damaged' }];
  expect(ledger.answer()).toMatchObject({ missing: true, lake: [{ gateway: 'gw', rows: 27 }] });
  expect(ledger.answer('gw')).toMatchObject({ missing: true });
  expect(ledger.answer('other')).toMatchObject({ missing: false, lake: [] });
  await ledger.close();
  await log.close();
});
