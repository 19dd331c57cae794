/**
 * Makes readings, store and results again from what is kept (law 4):
 *
 * 1. raw frames that the lake has and the log has not go back into the log, and are decoded as they arrive there;
 * 2. the results that the lake has, alerts and batch results among them, are said again in their newest revisions;
 * 3. every frame of the log is decoded again with the mappings in force, by a replay: readings are written again under
 *    their identities, what older mappings wrote elsewhere is removed, and windows are computed again from the lake.
 *
 * All of it may be done twice, or be cut off and begun again: identities make it once in effect.
 */
import { HeadwaterError, messageOf } from '../shared/errors.ts';
import { KIND_STATUS, checkFrame } from '../shared/frame/frame.ts';
import { RangeSet } from '../shared/model/ranges.ts';
import type { Reading } from '../shared/model/reading.ts';
import { encodeReadings } from '../shared/model/readings-record.ts';
import type { ReplayJobs } from './decode/replay-jobs.ts';
import type { Lake } from './lake/lake.ts';
import type { SpanSet, Spans } from './lake/manifest.ts';
import {
  HEADER_AGAIN,
  HEADER_FROM_LAKE,
  TOPIC_RAW,
  TOPIC_RESULTS,
  type Log,
  type LogRecord,
} from './log/log.ts';

export interface RebuildStatus {
  running: boolean;
  /** What it does now. */
  step: string;
  restoredFrames: number;
  results: number;
  /** Of the replay; '' before it has begun. */
  replay: string;
  failure?: string;
}

const APPEND_BYTES = 2 * 1024 * 1024;
const POLL_MS = 300;
const RESULTS_PER_RECORD = 500;

export class Rebuild {
  status: RebuildStatus = { running: false, step: '', restoredFrames: 0, results: 0, replay: '' };
  private readonly log: Log;
  private readonly lake: Lake;
  private readonly replays: ReplayJobs;
  private readonly newId: () => string;
  private work: Promise<void> = Promise.resolve();
  private stopped = false;

  constructor(log: Log, lake: Lake, replays: ReplayJobs, newId: () => string) {
    this.log = log;
    this.lake = lake;
    this.replays = replays;
    this.newId = newId;
  }

  /** Throws QUERY_INVALID while one is running. */
  begin(): void {
    if (this.status.running)
      throw new HeadwaterError('QUERY_INVALID', 'a rebuild is running: wait for its end');
    this.status = { running: true, step: 'raw', restoredFrames: 0, results: 0, replay: '' };
    this.work = this.run()
      .catch((error: unknown) => {
        this.status.failure = messageOf(error);
      })
      .finally(() => {
        this.status.running = false;
      });
  }

  /** Begins one, unless one is running, and waits for its end. Throws what it failed with. */
  async whole(): Promise<void> {
    if (!this.status.running) this.begin();
    await this.work;
    const { failure } = this.status;
    if (failure !== undefined || this.stopped)
      throw new HeadwaterError('LAKE_UNAVAILABLE', `the rebuild: ${failure ?? 'it was stopped'}`);
  }

  private async run(): Promise<void> {
    const { status } = this;
    await this.restore();
    status.step = 'results';
    await this.sayResults();
    status.step = 'readings';
    const { id } = await this.replays.create({ which: 'all' });
    status.replay = id;
    while (!this.replays.isFinished(id)) {
      if (this.stopped) return;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    status.step = 'done';
  }

  /** Sequences of frames that the log has, by gateway, epoch and kind. */
  private async inLog(): Promise<Map<string, RangeSet>> {
    const known = new Map<string, RangeSet>();
    const consumer = await this.log.consumer({
      group: `headwater-rebuild-${this.newId()}`,
      topic: TOPIC_RAW,
      from: 'start',
      bytesMax: 4 * 1024 * 1024,
    });
    try {
      while (!this.stopped && consumer.ended().size < this.log.partitions)
        for (const { value } of await consumer.poll(POLL_MS)) {
          try {
            const { gateway, epoch, kind, firstSequence, count } = checkFrame(value);
            const name = `${gateway}/${epoch}/${kindOf(kind, count, value)}`;
            let set = known.get(name);
            if (set === undefined) known.set(name, (set = new RangeSet()));
            set.add(firstSequence, firstSequence + Math.max(1, count) - 1);
          } catch {
            // Not a frame: it is in quarantine, and the lake's copy of it as well.
          }
        }
    } finally {
      await consumer.close();
    }
    return known;
  }

  /** Frames that the lake has and the log has not; `only`: of these gateways and sequences. */
  async restore(only?: SpanSet): Promise<void> {
    const known = await this.inLog();
    await this.lake.read('raw', { withoutLost: true }, async (rows, paths) => {
      let batch: LogRecord[] = [];
      let bytes = 0;
      const flush = async (): Promise<void> => {
        if (batch.length > 0) await this.log.append(TOPIC_RAW, batch);
        this.status.restoredFrames += batch.length;
        batch = [];
        bytes = 0;
      };
      for await (const row of rows.frames(paths)) {
        if (this.stopped) return;
        const { gateway, epoch, kind, firstSequence: from, count, frame, headers } = row;
        const to = from + Math.max(1, count) - 1;
        const spans = { [epoch]: [[from, to]] } satisfies Spans;
        if (only !== undefined && !only.touches(gateway, spans)) continue;
        const name = `${gateway}/${epoch}/${kindOf(kind, count, frame)}`;
        let set = known.get(name);
        if (set === undefined) known.set(name, (set = new RangeSet()));
        if (set.covers(from, to)) continue;
        set.add(from, to);
        batch.push({
          key: gateway,
          value: frame,
          headers: { ...headers, [HEADER_FROM_LAKE]: 'true' },
        });
        bytes += frame.length;
        if (bytes >= APPEND_BYTES) await flush();
      }
      await flush();
    });
  }

  /** Under the revisions that they had: windows that are computed anew afterwards have higher ones. */
  private async sayResults(): Promise<void> {
    await this.lake.read('results', { withoutLost: true }, async (rows, paths) => {
      let name = '';
      let own = { gateway: '', epoch: '', revision: 0 };
      let readings: Reading[] = [];
      const flush = async (): Promise<void> => {
        const { gateway, epoch, revision } = own;
        if (readings.length > 0)
          await this.log.append(TOPIC_RESULTS, [
            {
              key: epoch,
              headers: { [HEADER_AGAIN]: 'true' },
              value: encodeReadings({ gateway, epoch, arrivedMs: revision, readings, revision }),
            },
          ]);
        this.status.results += readings.length;
        readings = [];
      };
      for await (const { reading, ...about } of rows.results(paths)) {
        if (this.stopped) return;
        const next = `${about.gateway} ${about.epoch}`;
        if (next !== name || readings.length >= RESULTS_PER_RECORD) await flush();
        name = next;
        own = about;
        readings.push(reading);
      }
      await flush();
    });
  }

  async close(): Promise<void> {
    this.stopped = true;
    await this.work;
  }
}

/** Parts of one note have its sequence, all of them: their checksums tell them apart. */
const kindOf = (kind: number, count: number, frame: Buffer): string =>
  count > 0 || kind === KIND_STATUS ? `${kind}` : `${kind}/${frame.readUInt32LE(8)}`;
