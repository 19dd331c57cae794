/**
 * What of a collector lies behind the log: the lake's stages, streams, replays, healing and the look at everything, all of
 * them the product's own, over the model of a disk (`files.ts`) and files without native code (`lake-engine.ts`).
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Job } from '../../collector/batch/job.ts';
import { BatchRunner } from '../../collector/batch/runner.ts';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { ReplayJobs } from '../../collector/decode/replay-jobs.ts';
import { Replayer } from '../../collector/decode/replay.ts';
import { Heal } from '../../collector/heal.ts';
import { Lake } from '../../collector/lake/lake.ts';
import { ZONES, dateOf } from '../../collector/lake/layout.ts';
import { LocalObjects } from '../../collector/lake/local.ts';
import { Scrub } from '../../collector/lake/scrub.ts';
import { LakeStage } from '../../collector/lake/stage.ts';
import type { LedgerView } from '../../collector/ledger/view.ts';
import type { EmbeddedLog } from '../../collector/log/embedded.ts';
import { Rebuild } from '../../collector/rebuild.ts';
import { BATCH, groupHash } from '../../collector/stream/results.ts';
import { parseRules } from '../../collector/stream/rules.ts';
import { explainSilence } from '../../collector/stream/silence.ts';
import { StreamStage } from '../../collector/stream/stage.ts';
import { checkFrame, KIND_RECORDS, readRecords } from '../../shared/frame/frame.ts';
import type { Reading } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { BatchEngine } from '../../contracts/batch-engine.ts';
import { ROOT } from './file-calls.ts';
import { SimEngine, rowsIn, simRows } from './lake-engine.ts';
import type { SimStore } from './store.ts';
import type { Control } from './world.ts';

const DAY_MS = 86_400_000;
/** Gathered so long, milliseconds. */
const FLUSH_MS = 400;
export const WINDOW_MS = 1000;

const RULES = `
rules:
  - name: second
    from: { measurement: '*', field: value }
    window: 1s
    compute: [count, sum]
    lateness: 2s
  - name: double
    from: { measurement: '*', field: value }
    derive: { twice: value * 2 }
`;

/** A day's readings, counted: another row with each count, so that each run takes the one before back. */
const TALLY: Job = {
  ...{ name: 'tally', file: 'tally.sql', about: '', measurement: 'tally', sql: 'tally', hash: '' },
  ...{ schedule: undefined, lookbackDays: 1, inputDays: 1 },
};
const tags = (count: number): Record<string, string> => ({ of: `${count} readings` });
const COUNTS: BatchEngine = {
  run: async ({ files }) => {
    let count = 0;
    for (const path of files.readings) count += rowsIn(await readFile(path)).length;
    const rows = count === 0 ? [] : [[tags(count)['of'], count]];
    return { columns: ['of', 'count'], rows };
  },
  close: () => Promise.resolve(),
};
/** How often it is run while faults come. */
const TALLY_MS = 500;
const NOTE_MS = 100;

export interface CentreOptions {
  log: EmbeddedLog;
  ledger: LedgerView;
  notify: Notify;
  wallMs: () => number;
  newId: () => string;
  control: Control | undefined;
}

/** As the scrub does when it starts, where the lake can be read. */
async function learnAll({ check }: Lake): Promise<void> {
  for (;;)
    try {
      return await check.learnAll();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
}

const LIMITS = { perClient: 1e6, perGateway: 1e6 };

export class Centre {
  readonly lake: Lake;
  readonly streams: StreamStage;
  readonly replays: ReplayJobs;
  private readonly options: CentreOptions;
  private batches: BatchRunner | undefined;
  private tallying: NodeJS.Timeout | undefined;

  constructor(options: CentreOptions) {
    this.options = options;
    const { log, notify, wallMs, ledger, control } = options;
    const objects = new LocalObjects(join(ROOT, 'lake'));
    const put = objects.put.bind(objects);
    if (control === 'lake-early')
      objects.put = (key, file) => {
        void put(key, file).catch(() => undefined);
        return Promise.resolve();
      };
    this.lake = new Lake(objects, {
      folder: ROOT,
      memoryBytes: 1 << 20,
      cacheBytes: 1 << 20,
      engine: new SimEngine(join(ROOT, 'lake-work'), control === 'lake-lost-row'),
      rows: simRows,
    });
    this.lake.check.notify = notify;
    this.streams = new StreamStage({
      log,
      lake: this.lake,
      stateBytesMax: 1 << 20,
      wallMs,
      explain: explainSilence(ledger, wallMs),
      notify,
    });
    this.replays = new ReplayJobs(log, wallMs, options.newId);
  }

  /** As the parts of a collector open, in their order. */
  async open(): Promise<void> {
    const { lake, streams, replays, options } = this;
    const { log, notify, wallMs, newId, ledger } = options;
    ledger.lake = () => lake.check.damages;
    for (;;) {
      try {
        await lake.open();
        break;
      } catch {
        // A collector that does not come up is started again.
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
    for (const zone of ZONES)
      new LakeStage({ zone, log, lake, flushMs: FLUSH_MS, flushBytes: 1 << 20, notify }).start();
    await streams.start(parseRules(RULES, 'sim', () => ''));
    const mappings = new Mappings([]);
    const replayer = new Replayer({
      log,
      jobs: replays,
      mappings: () => mappings,
      limits: LIMITS,
      nowMs: wallMs,
      notify,
    });
    assert(replayer !== undefined); // It works on whatever the jobs tell it.
    await replays.start();
    const rebuild = new Rebuild(log, lake, replays, newId);
    const heal = new Heal({ log, lake, rebuild, replays, newId });
    await learnAll(lake);
    ledger.wantedRaw = (gateway) => heal.stillWanted(gateway);
    const batches = new BatchRunner({
      ...{ log, lake, notify, wallMs, jobs: [TALLY], engine: 'counts', packaged: COUNTS },
      ...{ folder: join(ROOT, 'batch-work'), timeoutMs: 1e9 },
      spark: { python: '', lakeUrl: '', folder: '' },
    });
    this.batches = batches;
    slowNotes(batches, options.control === 'batch-no-note');
    this.tallying = setInterval(() => {
      // What fails now is done by the next.
      void this.tally().catch(() => undefined);
    }, TALLY_MS);
  }

  /** Runs for every day that there is, and these. Rejects with what went wrong. */
  private async tally(more: readonly string[] = []): Promise<void> {
    const { batches } = this;
    assert(batches !== undefined); // It is open.
    const dates = new Set([...(await batches.dates()), ...more]);
    const { id } = batches.begin(TALLY.name, [...dates].sort(), 'counts', false);
    while (batches.task(id)?.finished === false)
      await new Promise((resolve) => setTimeout(resolve, 20));
    const failure = batches.task(id)?.failure;
    if (failure !== undefined) throw new Error(failure);
  }

  /** The last run of all, of which nothing is in the way. */
  async lastTally(): Promise<void> {
    clearInterval(this.tallying);
    const { results } = await this.seen();
    const said = results.flatMap(([id]) => {
      const [gateway, , , sequence] = id.split('/');
      return gateway === BATCH ? [dateOf(Number(sequence))] : [];
    });
    // A file that was merged under it is one that it reads again.
    for (let tries = 0; ; tries++)
      try {
        return await this.tally(said);
      } catch (error) {
        if (tries === 5) throw error;
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
  }

  /** What still has to be done; '' when it is at rest. */
  get waits(): string {
    const { lake, streams, replays } = this;
    const { lost, less, ahead } = lake.check;
    const open = [...lost.values()].filter(({ entry }) => entry.final !== true);
    return [
      streams.waitingCorrections > 0 ? `${streams.waitingCorrections} windows` : '',
      open.length > 0 ? `${open.length} lost files` : '',
      less.zones.size > 0 ? `less in ${[...less.zones.keys()].join()}` : '',
      ahead.gateways.length > 0 ? 'a log that is behind' : '',
      replays.list().some(({ finished }) => !finished) ? 'a replay' : '',
    ]
      .filter((text) => text !== '')
      .join(', ');
  }

  /** All of the lake is looked at once. */
  async look(): Promise<void> {
    const { notify, wallMs } = this.options;
    const pass = await new Scrub(this.lake, notify, wallMs).pass();
    for (const key of pass.pastLost)
      notify({ level: 'error', event: 'lake_past_damaged', text: key });
  }

  /** As a reader sees them. */
  async seen(): Promise<Seen> {
    const { lake } = this;
    const messages: number[] = [];
    await lake.read('raw', {}, async (rows, paths) => {
      messages.length = 0;
      for await (const { frame } of rows.frames(paths)) {
        const header = checkFrame(frame);
        if (header.kind !== KIND_RECORDS) continue;
        for (const { payload } of readRecords(frame, header)) messages.push(Number(payload));
      }
    });
    const readings: Seen['readings'] = [];
    await lake.read('readings', {}, async (rows, paths) => {
      readings.length = 0;
      for await (const { id, timeMs, ns, fields } of rows.readings(paths, -Infinity, Infinity))
        readings.push([id, `${timeMs}.${ns} ${valueOf(fields)}`]);
    });
    const results: Seen['results'] = [];
    await lake.read('results', {}, async (rows, paths) => {
      results.length = 0;
      for await (const { gateway, epoch, reading } of rows.results(paths))
        results.push([
          `${gateway}/${epoch}/${reading.sequence}/${reading.index}`,
          contentOf(reading.timeMs, reading.ns, reading.fields),
        ]);
    });
    return { messages, readings, results };
  }
}

/** A note takes as long as to a store far away. `isForgotten`, a control: what is about to be said is not noted before. */
function slowNotes(batches: BatchRunner, isForgotten: boolean): void {
  const own = batches as unknown as { keep(manifest: { fingerprint: string }): Promise<void> };
  const keep = own.keep.bind(batches);
  own.keep = async (manifest) => {
    if (isForgotten && manifest.fingerprint === '') return;
    await new Promise((resolve) => setTimeout(resolve, NOTE_MS));
    await keep(manifest);
  };
}

/** Of a reading its value; of what is left of thinned messages what it says of theirs. */
export const valueOf = (fields: Reading['fields']): string =>
  fields['value_count'] === undefined
    ? String(fields['value'])
    : `${String(fields['value_min'])}..${String(fields['value_max'])}*${String(fields['value_count'])}`;

export const contentOf = (timeMs: number, ns: number, fields: object): string =>
  `${timeMs}.${ns} ${JSON.stringify(Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1)))}`;

/** Values of messages; identities and what they are. */
export interface Seen {
  messages: number[];
  readings: [id: string, content: string][];
  results: [id: string, content: string][];
}

function doubled(ids: readonly (string | number)[]): (string | number)[] {
  const seen = new Set<string | number>();
  return ids.filter((id) => seen.size === seen.add(id).size);
}

/** What differs between two views, in words; '' when nothing does. */
function difference(
  of: string,
  here: ReadonlyMap<string, string>,
  there: ReadonlyMap<string, string>,
): string[] {
  const missing = [...there].filter(([id]) => !here.has(id));
  const extra = [...here].filter(([id]) => !there.has(id));
  const other = [...here].filter(([id, content]) => there.has(id) && there.get(id) !== content);
  const told: [string, [string, string][]][] = [
    ['are missing', missing],
    ['are there beyond the store', extra],
    ['differ', other],
  ];
  return told.flatMap(([how, list]) =>
    list.length === 0
      ? []
      : [
          `${list.length} ${of} of the lake ${how}, the first is ${list[0]?.join(' ')} (store: ${there.get(list[0]?.[0] ?? '') ?? 'none'})`,
        ],
  );
}

/** The laws behind the log: sentences of what is broken. `untilMs`: windows that end before it have been said. */
export function checkCentre(
  { messages, readings, results }: Seen,
  store: SimStore,
  acknowledged: ReadonlySet<number>,
  untilMs: number,
): string[] {
  const broken: string[] = [];
  const there = new Set(messages);
  const missing = [...acknowledged].filter((value) => !there.has(value));
  if (missing.length > 0)
    broken.push(
      `${missing.length} acknowledged messages are not in raw, the first is ${missing[0]}`,
    );
  for (const [zone, ids] of [
    ['raw', messages],
    ['readings', readings.map(([id]) => id)],
  ] as const) {
    const twice = doubled(ids);
    if (twice.length > 0)
      broken.push(`${twice.length} rows are in ${zone} more than once, the first is ${twice[0]}`);
  }
  const stored = new Map<string, string>();
  for (const [point, ids] of store.points) for (const id of ids) stored.set(id, point);
  broken.push(...difference('readings', new Map(readings), stored));
  broken.push(...difference('results', new Map(results), store.results));
  const ofBatch = (id: string): boolean => id.startsWith(`${BATCH}/`);
  const streamed = [...store.results].filter(([id]) => !ofBatch(id));
  broken.push(...checkResults(stored, new Map(streamed), untilMs));
  return broken;
}

/** Of each day one row, with the number of its readings. */
export function checkTally({ readings, results }: Seen): string[] {
  const counts = new Map<number, number>();
  for (const [, content] of readings) {
    const day = Math.floor(Number(content.split('.')[0]) / DAY_MS) * DAY_MS;
    counts.set(day, (counts.get(day) ?? 0) + 1);
  }
  const wanted = [...counts].map(
    ([day, count]) =>
      `${BATCH}/tally/${groupHash(tags(count))}/${day}/0 ${contentOf(day, 0, { count })}`,
  );
  const found = results.flatMap(([id, content]) =>
    id.startsWith(`${BATCH}/`) ? [`${id} ${content}`] : [],
  );
  return found.sort().join() === wanted.sort().join()
    ? []
    : [`the batch says ${found.join(', ') || 'nothing'} (it should be ${wanted.join(', ')})`];
}

/** Results are what the readings give. */
function checkResults(
  readings: ReadonlyMap<string, string>,
  results: ReadonlyMap<string, string>,
  untilMs: number,
): string[] {
  const windows = new Map<number, { count: number; sum: number }>();
  const wanted = new Map<string, string>();
  for (const [id, point] of readings) {
    const [time = '', value = ''] = point.split(' ');
    // What is left of thinned messages has other fields.
    if (value.includes('..')) continue;
    const [timeMs = 0, ns = 0] = time.split('.').map(Number);
    const window = Math.floor(timeMs / WINDOW_MS);
    const own = windows.get(window) ?? { count: 0, sum: 0 };
    windows.set(window, { count: own.count + 1, sum: own.sum + Number(value) });
    const [gateway, epoch, sequence, index] = id.split('/');
    wanted.set(
      `~stream/double/${gateway}/${epoch}/${sequence}/${index}`,
      contentOf(timeMs, ns, { twice: Number(value) * 2 }),
    );
  }
  // One group: all readings are of one series.
  const prefix = [...results.keys()].find((id) => id.startsWith('~stream/second/'));
  const group = prefix?.split('/')[2] ?? '';
  for (const [window, { count, sum }] of windows) {
    const id = `~stream/second/${group}/${window}/0`;
    const isDue = (window + 1) * WINDOW_MS <= untilMs;
    if (isDue || results.has(id))
      wanted.set(id, contentOf(window * WINDOW_MS, 0, { value_count: count, value_sum: sum }));
  }
  const missing = [...wanted].filter(([id]) => !results.has(id));
  const extra = [...results].filter(([id]) => !wanted.has(id));
  const wrong = [...results].filter(([id, text]) => wanted.has(id) && wanted.get(id) !== text);
  const tell = (how: string, list: [string, string][]): string[] => {
    const [first] = list;
    if (first === undefined) return [];
    return [
      `${list.length} results ${how}, the first is ${first.join(' ')} (it should be ${wanted.get(first[0]) ?? 'none'})`,
    ];
  };
  return [
    ...tell('are missing', missing),
    ...tell('are of nothing', extra),
    ...tell('are wrong', wrong),
  ];
}
