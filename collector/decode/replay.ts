/**
 * Runs replays: a consumer group of its own over `raw`, from its beginning to where it ended when the job was made.
 * What is read again is decoded with the mappings now in force and produced with the offsets in one step, so a restart
 * goes on where it was. Identities make what is written twice once; what older mappings wrote elsewhere is named to the
 * stores as removed, computed with those mappings as they were kept (`mapping/` in the ledger topic).
 *
 * Frames that still wait for their gateway's clock are left to the decode stage, which will decode them when it is known.
 * Those that it may still move are said by the clocks of when the replay came to the partition; an anchor that the stage takes
 * meanwhile moves them before the replay has said where they were, so they are said once more then. Until that is known the
 * replay's place stays before the first of them.
 * Codec state is read, not written: names come from the newest BIRTH or description. Series are counted as they are in
 * the stage, but those that only a replay makes are counted anew after a restart.
 */
import { setImmediate } from 'node:timers/promises';
import { isRetryable } from '../../contracts/errors.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import {
  KIND_RECORDS,
  KIND_SUMMARY,
  checkFrame,
  type FrameHeader,
} from '../../shared/frame/frame.ts';
import { readNote, type Summary } from '../../shared/frame/notes.ts';
import { encodeQuarantined, encodeResolved } from '../../shared/model/quarantine-record.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import type { Quarantined } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { HELD_PREFIX } from '../ledger/view.ts';
import {
  TOPIC_LEDGER,
  TOPIC_QUARANTINE,
  TOPIC_RAW,
  type Log,
  type LogConsumer,
  type Produced,
  type StoredRecord,
} from '../log/log.ts';
import { BootClocks, CLOCK_PREFIX } from './boot-clocks.ts';
import type { SeriesLimits } from './admission.ts';
import { CODEC_PREFIX, CodecStates, FrozenState } from './codec-state.ts';
import { FrameDecoder } from './frame-decoder.ts';
import { heldKey, mayMove } from './held-frames.ts';
import { timedBy } from './summary-clock.ts';
import { MAPPING_PREFIX, mappingsOf, type MappingVersion } from './mapping/set.ts';
import type { Mappings } from './mapping/mappings.ts';
import { isPartWanted, isWanted, mayHold } from './selected.ts';
import { decodedTo } from './state.ts';
import {
  REPLAY_DONE_PREFIX,
  type ReplayDone,
  type ReplayJob,
  type ReplayJobs,
} from './replay-jobs.ts';

/** Older mappings that are looked at, newest first: each is one more decoding of every message. */
const VERSIONS_MAX = 100;
const NOTHING_DONE: ReplayDone = { messages: 0, readings: 0, quarantined: 0, finishedMs: 0 };
const POLL_MS = 300;
const RETRY_MS = 500;

/** Messages that are decoded in one turn of the event loop, by each version of the mappings: others wait for it. */
const AT_ONCE = 500;

interface Part {
  clocks: BootClocks;
  /** Keys of frames that the decode stage may move, and the record of raw from which on it may take others up. */
  held: ReadonlySet<string>;
  decodedTo: number;
  /** Of those the first that was said here, and the boots that they are of. */
  openFrom: number | undefined;
  readonly openBoots: Map<string, FrameHeader>;
  /** What had been done before it, or before what is not committed. */
  before: ReplayDone;
  codecs: CodecStates;
  frozen: Map<string, FrozenState>;
  done: ReplayDone;
  finished: boolean;
}

export interface ReplayerOptions {
  log: Log;
  jobs: ReplayJobs;
  /** Those in force now. */
  mappings: () => Mappings;
  limits: SeriesLimits;
  nowMs: () => number;
  notify: Notify;
}

export class Replayer {
  private readonly options: ReplayerOptions;
  private readonly running = new Map<string, Promise<void>>();
  private stopped = false;

  constructor(options: ReplayerOptions) {
    this.options = options;
    options.jobs.onJob = (job) => this.take(job);
  }

  private take(job: ReplayJob): void {
    if (this.stopped || this.running.has(job.id)) return;
    const { notify } = this.options;
    const run = this.run(job)
      .catch((error: unknown) =>
        notify({
          level: 'error',
          event: 'replay_failed',
          text: `replay ${job.id} stopped: ${messageOf(error)}; it goes on at the next start`,
        }),
      )
      .finally(() => this.running.delete(job.id));
    this.running.set(job.id, run);
  }

  private async run(job: ReplayJob): Promise<void> {
    const { log, jobs } = this.options;
    const older = await this.olderMappings();
    const group = `headwater-replay-${job.id}`;
    const parts = new Map<number, Part>();
    while (!this.stopped && !jobs.isFinished(job.id)) {
      let consumer: LogConsumer | undefined;
      try {
        consumer = await log.consumer({
          group,
          topic: TOPIC_RAW,
          from: 'start',
          bytesMax: 1024 * 1024,
          onAssign: async (partition) => {
            parts.set(partition, await this.load(job, partition, parts.get(partition)?.before));
            return undefined;
          },
          onRevoke: (partition) => parts.delete(partition),
        });
        await this.follow(job, consumer, parts, older);
      } catch (error) {
        if (!isRetryable(error)) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      } finally {
        await consumer?.close();
      }
    }
    // Else it would lag behind what arrives from now on, for good. A process that is still in it does the same.
    if (jobs.isFinished(job.id))
      await log.forget(group).catch((error: unknown) => {
        if (!isRetryable(error)) throw error;
      });
  }

  /** Until every partition of the job is done, here or elsewhere, or what was said has to be said once more. */
  private async follow(
    job: ReplayJob,
    consumer: LogConsumer,
    parts: Map<number, Part>,
    older: readonly Mappings[],
  ): Promise<void> {
    const { jobs } = this.options;
    const decoder = new FrameDecoder(this.options.mappings(), this.options.limits, quarantined);
    while (!this.stopped && !jobs.isFinished(job.id)) {
      const records = await consumer.poll(POLL_MS);
      const offsets = new Map<number, number>();
      const produce: Produced[] = [];
      const own = new Map(parts);
      let messages = 0;
      for (const record of records) {
        const part = own.get(record.partition);
        const before = part?.done.messages ?? 0;
        if (part !== undefined && !part.finished)
          produce.push(...this.frame(job, decoder, part, record, older));
        offsets.set(record.partition, part?.openFrom ?? record.offset + 1);
        messages += (part?.done.messages ?? 0) - before;
        if (messages < AT_ONCE) continue;
        messages = 0;
        await setImmediate();
      }
      // Somebody else's by now: what is committed is told by whoever has them.
      if ([...offsets.keys()].some((partition) => parts.get(partition) !== own.get(partition)))
        throw new HeadwaterError('LOG_UNAVAILABLE', 'partitions were given away meanwhile');
      if (offsets.size > 0) await consumer.commit({ produce, offsets });
      for (const part of parts.values())
        if (part.openFrom === undefined) part.before = { ...part.done };
      // What came after the job was made was decoded with the present mappings anyway.
      for (const partition of consumer.ended()) {
        const part = parts.get(partition);
        if (part === undefined || part.finished) continue;
        // From where its place is, with the clocks of now.
        if (await this.hasMoved(partition, part)) return;
        part.finished = true;
        await this.finish(job, partition, part);
      }
    }
  }

  private async finish(job: ReplayJob, partition: number, { done }: Part): Promise<void> {
    const { log, jobs, nowMs } = this.options;
    if (jobs.isDone(job.id, partition)) return;
    const value = Buffer.from(JSON.stringify({ ...done, finishedMs: Math.round(nowMs()) }));
    const key = `${REPLAY_DONE_PREFIX}${job.id}/${partition}`;
    await log.append(TOPIC_LEDGER, [{ key, headers: {}, value }]);
  }

  private async load(job: ReplayJob, partition: number, before = NOTHING_DONE): Promise<Part> {
    const { log, jobs } = this.options;
    const clocks = new BootClocks();
    const codecs = new CodecStates();
    const held = new Set<string>();
    // Clocks and frames as they were in one moment.
    const records = await log.state(TOPIC_LEDGER, partition, '');
    for (const { key, value } of records) {
      clocks.load(key, value);
      if (key.startsWith(CODEC_PREFIX)) codecs.load(key, value);
      if (key.startsWith(HELD_PREFIX)) held.add(key);
    }
    return {
      clocks,
      held,
      decodedTo: decodedTo(records, partition),
      openFrom: undefined,
      openBoots: new Map(),
      codecs,
      frozen: new Map(),
      before,
      done: { ...before },
      finished: jobs.isDone(job.id, partition),
    };
  }

  /** Whether a clock by which frames were said that may still move is another one by now. */
  private async hasMoved(partition: number, { clocks, openBoots }: Part): Promise<boolean> {
    if (openBoots.size === 0) return false;
    const now = new BootClocks();
    for (const { key, value } of await this.options.log.state(
      TOPIC_LEDGER,
      partition,
      CLOCK_PREFIX,
    ))
      now.load(key, value);
    const textOf = (of: BootClocks, { gateway, bootId }: FrameHeader): string =>
      JSON.stringify(of.anchorsOf(gateway, bootId));
    return [...openBoots.values()].some((boot) => textOf(now, boot) !== textOf(clocks, boot));
  }

  private async olderMappings(): Promise<Mappings[]> {
    const { log, notify } = this.options;
    const versions: (MappingVersion & { at: number })[] = [];
    for (let partition = 0; partition < log.partitions; partition++)
      for (const { value } of await log.state(TOPIC_LEDGER, partition, MAPPING_PREFIX))
        versions.push(JSON.parse(value.toString('utf8')) as MappingVersion & { at: number });
    if (versions.length > VERSIONS_MAX)
      notify({
        level: 'warn',
        event: 'replay_version',
        text: `of ${versions.length} versions of the mappings the newest ${VERSIONS_MAX} are looked at: what only older ones wrote elsewhere is not removed`,
      });
    const older: Mappings[] = [];
    for (const version of versions.sort((a, b) => b.at - a.at).slice(0, VERSIONS_MAX)) {
      try {
        older.push(await mappingsOf(version));
      } catch (error) {
        notify({
          level: 'warn',
          event: 'replay_version',
          text: `mappings ${version.hash} cannot be read any more (${messageOf(error)}): what they wrote elsewhere is not removed`,
        });
      }
    }
    return older;
  }

  private frame(
    job: ReplayJob,
    decoder: FrameDecoder,
    part: Part,
    record: StoredRecord,
    older: readonly Mappings[],
  ): Produced[] {
    let header: FrameHeader;
    try {
      header = checkFrame(record.value);
    } catch {
      return []; // It is in quarantine as a frame: nothing in it can be read.
    }
    if (!mayHold(job, header)) return [];
    const summary = summaryOf(header, record.value);
    if (summary !== undefined) header = timedBy(header, summary);
    else if (header.kind !== KIND_RECORDS) return [];
    // What is left of thinned messages is in no quarantine.
    if (summary !== undefined && job.selection.which === 'quarantined') return [];
    const [offsetUs, ...elsewhereUs] = part.clocks.corrections(header, mayMove(record, header));
    if (offsetUs === undefined) return [];
    const { gateway, epoch } = header;
    if (!BootClocks.believes(header) || mayMove(record, header)) opens(part, record, header);
    const open = new RangeSet(job.ranges[`${gateway}/${epoch}`] ?? []);
    // One object for all frames of a gateway: what is counted by it is counted once.
    let state = part.frozen.get(gateway);
    if (state === undefined)
      part.frozen.set(gateway, (state = new FrozenState(part.codecs.of(gateway))));
    const resolved = new RangeSet();
    const { selection } = job;
    const produced = decoder.readings({
      frame: record.value,
      header,
      arrivedMs: Number(record.headers['arrived'] ?? 0),
      offsetUs,
      isFresh: (sequence) => job.selection.which === 'all' || open.has(sequence),
      state,
      partition: record.partition,
      hasAll: () => false,
      // What is named was lost and is made again: it had been known.
      ...(selection.which === 'named' ? {} : { saidMs: this.options.nowMs() }),
      replay: {
        older,
        elsewhereUs,
        isWanted: (message) => isWanted(selection, message, offsetUs),
        isPartWanted: (reading, summary) => isPartWanted(selection, summary, reading),
        onDecoded: (sequence, readings, isWhole) => {
          part.done.messages++;
          part.done.readings += readings;
          if (isWhole && open.has(sequence)) resolved.add(sequence, sequence);
        },
        onQuarantined: () => {
          part.done.messages++;
          part.done.quarantined++;
        },
      },
    });
    if (resolved.count > 0)
      produced.push({
        topic: TOPIC_QUARANTINE,
        key: gateway,
        headers: {},
        value: encodeResolved({
          gateway,
          epoch,
          resolved: resolved.ranges.map(([a, b]) => [a, b]),
        }),
      });
    return produced;
  }

  async close(): Promise<void> {
    this.stopped = true;
    await Promise.all(this.running.values());
  }
}

/** Of a note that is one; what is not whole is in quarantine as a frame. */
function summaryOf(header: FrameHeader, frame: Buffer): Summary | undefined {
  try {
    return header.kind === KIND_SUMMARY ? readNote(KIND_SUMMARY, frame, header) : undefined;
  } catch {
    return undefined;
  }
}

/** The decode stage may yet move what is said of this frame. */
function opens(part: Part, { offset }: StoredRecord, header: FrameHeader): void {
  if (!part.held.has(heldKey(header)) && offset < part.decodedTo) return;
  if (part.openFrom === undefined) {
    part.openFrom = offset;
    part.before = { ...part.done };
  }
  part.openBoots.set(`${header.gateway}/${header.bootId}`, header);
}

function quarantined(item: Quarantined): Produced {
  return {
    topic: TOPIC_QUARANTINE,
    key: item.gateway,
    headers: {},
    value: encodeQuarantined(item),
  };
}
