/**
 * Replays: raw messages decoded once more with the mappings now in force (law 4). A job is an entry of the ledger topic,
 * so that it survives restarts and any process with the decode role can take part; each partition says there when it
 * has come to its end.
 */
import { HeadwaterError } from '../../shared/errors.ts';
import { decodeQuarantineRecord, isResolved } from '../../shared/model/quarantine-record.ts';
import { RangeSet, type Range } from '../../shared/model/ranges.ts';
import type { Quarantined } from '../../shared/model/reading.ts';
import { filterMatches } from '../../shared/mqtt/packets.ts';
import { TOPIC_LEDGER, TOPIC_QUARANTINE, type Log, type LogRecord } from '../log/log.ts';
import { View } from '../log/view.ts';

export const REPLAY_PREFIX = 'replay/';
export const REPLAY_DONE_PREFIX = 'replay-done/';

/** Which messages. Times are of receipt by the gateway, epoch milliseconds. */
export interface Selection {
  /** Those in quarantine, all that the raw log has, or the sequences that the job names. */
  which: 'quarantined' | 'all' | 'named';
  gateway?: string;
  /** MQTT topic filter. */
  topic?: string;
  /** A part of the reason. */
  reason?: string;
  fromMs?: number;
  toMs?: number;
}

export interface ReplayJob {
  id: string;
  createdMs: number;
  selection: Selection;
  /** Those in quarantine that match: `gateway/epoch` → sequences. */
  ranges: Record<string, Range[]>;
}

export interface ReplayDone {
  messages: number;
  readings: number;
  quarantined: number;
  finishedMs: number;
}

export interface ReplayStatus extends Omit<ReplayJob, 'ranges'> {
  finished: boolean;
  messages: number;
  readings: number;
  quarantined: number;
}

const RANGES_CHARS_MAX = 512 * 1024;
/** Jobs that are remembered. */
const JOBS_MAX = 100;

/** Whether a message in quarantine is meant. */
export function selects(
  { gateway, topic, reason, fromMs, toMs }: Selection,
  item: Pick<Quarantined, 'gateway' | 'topic' | 'reason' | 'receivedMs'>,
): boolean {
  if (gateway !== undefined && item.gateway !== gateway) return false;
  if (topic !== undefined && !filterMatches(topic, item.topic)) return false;
  if (reason !== undefined && !item.reason.includes(reason)) return false;
  if (fromMs !== undefined && item.receivedMs < fromMs) return false;
  return toMs === undefined || item.receivedMs < toMs;
}

export class ReplayJobs {
  private readonly log: Log;
  private readonly nowMs: () => number;
  private readonly newId: () => string;
  private readonly jobs = new Map<string, ReplayJob>();
  private readonly done = new Map<string, Map<number, ReplayDone>>();
  private readonly view: View;
  /** Called with every job that is not finished, at the start and when one is made. */
  onJob: (job: ReplayJob) => void = () => undefined;

  constructor(log: Log, nowMs: () => number, newId: () => string) {
    this.log = log;
    this.view = new View(log, TOPIC_LEDGER, 'which replays there are');
    this.nowMs = nowMs;
    this.newId = newId;
  }

  async start(): Promise<void> {
    await this.view.start((records) => {
      for (const record of records) this.take(record);
      for (const { key } of records) {
        const job = this.jobs.get(key.slice(REPLAY_PREFIX.length));
        if (key.startsWith(REPLAY_PREFIX) && job !== undefined && !this.isFinished(job.id))
          this.onJob(job);
      }
    });
  }

  private take({ key, value }: LogRecord): void {
    if (key.startsWith(REPLAY_PREFIX)) {
      const id = key.slice(REPLAY_PREFIX.length);
      if (value.length === 0) this.jobs.delete(id);
      else this.jobs.set(id, JSON.parse(value.toString('utf8')) as ReplayJob);
    } else if (key.startsWith(REPLAY_DONE_PREFIX)) {
      const [id = '', partition = ''] = key.slice(REPLAY_DONE_PREFIX.length).split('/');
      let parts = this.done.get(id);
      if (parts === undefined) this.done.set(id, (parts = new Map()));
      if (value.length > 0)
        parts.set(Number(partition), JSON.parse(value.toString('utf8')) as ReplayDone);
    }
  }

  isDone(id: string, partition: number): boolean {
    return this.done.get(id)?.has(partition) ?? false;
  }

  isFinished(id: string): boolean {
    return (this.done.get(id)?.size ?? 0) >= this.log.partitions;
  }

  /** Throws LOG_UNAVAILABLE until they have been read. */
  list(): ReplayStatus[] {
    this.view.check();
    return [...this.jobs.values()]
      .sort((a, b) => b.createdMs - a.createdMs)
      .slice(0, JOBS_MAX)
      .map((job) => {
        const parts = [...(this.done.get(job.id)?.values() ?? [])];
        const sum = (pick: (part: ReplayDone) => number): number =>
          parts.reduce((total, part) => total + pick(part), 0);
        const { ranges: _ranges, ...rest } = job;
        return {
          ...rest,
          finished: this.isFinished(job.id),
          messages: sum(({ messages }) => messages),
          readings: sum(({ readings }) => readings),
          quarantined: sum(({ quarantined }) => quarantined),
        };
      });
  }

  /** Makes a job. Throws NOT_FOUND when nothing in quarantine matches, QUERY_INVALID when too much does. */
  async create(selection: Selection, named?: Record<string, Range[]>): Promise<ReplayJob> {
    const ranges = named ?? (await this.quarantined(selection));
    const isEmpty = Object.keys(ranges).length === 0;
    if (selection.which === 'quarantined' && isEmpty)
      throw new HeadwaterError(
        'NOT_FOUND',
        'nothing in quarantine matches: there is nothing to replay',
      );
    if (JSON.stringify(ranges).length > RANGES_CHARS_MAX)
      throw new HeadwaterError(
        'QUERY_INVALID',
        'too many separate messages in quarantine match: narrow it by topic, gateway or time',
      );
    const job: ReplayJob = {
      id: this.newId(),
      createdMs: Math.round(this.nowMs()),
      selection,
      ranges,
    };
    const value = Buffer.from(JSON.stringify(job));
    await this.log.append(TOPIC_LEDGER, [{ key: `${REPLAY_PREFIX}${job.id}`, headers: {}, value }]);
    return job;
  }

  /** The sequences in quarantine that are meant and not resolved since. */
  private async quarantined(selection: Selection): Promise<Record<string, Range[]>> {
    const sets = new Map<string, RangeSet>();
    const consumer = await this.log.consumer({
      group: `headwater-replay-look-${this.newId()}`,
      topic: TOPIC_QUARANTINE,
      from: 'start',
      bytesMax: 4 * 1024 * 1024,
    });
    try {
      while (consumer.ended().size < this.log.partitions)
        for (const { value } of await consumer.poll(200)) this.note(sets, value, selection);
    } finally {
      await consumer.close();
    }
    return Object.fromEntries(
      [...sets]
        .filter(([, set]) => set.count > 0)
        .map(([name, set]): [string, Range[]] => [name, set.ranges.map(([a, b]) => [a, b])]),
    );
  }

  private note(sets: Map<string, RangeSet>, value: Buffer, selection: Selection): void {
    let record: ReturnType<typeof decodeQuarantineRecord>;
    try {
      record = decodeQuarantineRecord(value);
    } catch {
      return; // Somebody else's: the quarantine view counts it.
    }
    const name = `${record.gateway}/${record.epoch}`;
    let set = sets.get(name);
    if (set === undefined) sets.set(name, (set = new RangeSet()));
    if (isResolved(record)) {
      for (const [from, to] of record.resolved) set.remove(from, to);
    } else if (record.epoch !== '') {
      // The newest reason of a message counts.
      if (selects(selection, record)) set.add(record.sequence, record.sequence);
      else set.remove(record.sequence, record.sequence);
    }
  }

  async close(): Promise<void> {
    await this.view.close();
  }
}
