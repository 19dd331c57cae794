/**
 * The end of the topics `readings` and `results`, followed once for all listeners, and the last of it kept: who was away for a moment
 * finds there what came meanwhile. A log that cannot tell where it ends (`Log.next`) is followed as well, but nobody can go on in it.
 */
import { messageOf } from '../../../shared/errors.ts';
import { readingsOf } from '../../../shared/model/readings-record.ts';
import type { ReadingBatch } from '../../../contracts/reading.ts';
import type { Notify } from '../../../shared/telemetry/log.ts';
import { Follower } from '../../log/follow.ts';
import type { Log, StoredRecord } from '../../log/log.ts';
import { TOPICS, laneOf, type Lane, type Letter } from './position.ts';

const KEPT_BYTES_MAX = 1024 * 1024;

/** A record, decoded when somebody wants it and once for all. */
export class Heard {
  readonly lane: Lane;
  readonly offset: number;
  readonly bytes: number;
  private value: Buffer | undefined;
  private decoded: ReadingBatch | undefined;
  /** What was written for one who wants the same. */
  readonly written = new Map<string, { through: number; json: string }[]>();

  constructor(letter: Letter, { partition, offset, value }: StoredRecord) {
    this.lane = laneOf(letter, partition);
    this.offset = offset;
    this.bytes = value.length;
    this.value = value;
  }

  /** Undefined for what is no record of readings: the store sets that aside. */
  get batch(): ReadingBatch | undefined {
    if (this.value !== undefined) this.decoded = readingsOf(this.value);
    this.value = undefined;
    return this.decoded;
  }
}

interface Kept {
  lane: Lane;
  offset: number;
  record: StoredRecord;
}

export interface TailOptions {
  log: Log;
  notify: Notify;
  /** This process's own: every listener's process sees everything. */
  group: string;
  onRecord: (heard: Heard) => void;
}

const LETTERS = Object.keys(TOPICS) as Letter[];

export class Tail {
  readonly log: Log;
  /** Lane → offset of the next record that has not been handed on; empty until the log has said where it ends. */
  readonly next = new Map<Lane, number>();
  /** Lane → offset from which on records are kept. */
  private readonly keptFrom = new Map<Lane, number>();
  private kept: Kept[] = [];
  private keptBytes = 0;
  private readonly options: TailOptions;
  private readonly followers: Follower[];

  constructor(options: TailOptions) {
    this.options = options;
    this.log = options.log;
    const { log, notify, group } = options;
    this.followers = LETTERS.map(
      (letter) =>
        new Follower({
          log,
          notify,
          event: 'live_stream',
          topic: TOPICS[letter],
          from: 'end',
          group: `${group}-${TOPICS[letter]}`,
          onRecords: (records) => this.take(letter, records),
          onAssign: (partition) => this.begin(letter, partition),
        }),
    );
  }

  /** Everything has its place: ids can be given, and listeners can go on. */
  get isPlaced(): boolean {
    return this.log.next !== undefined && this.next.size >= LETTERS.length * this.log.partitions;
  }

  /** Where it ends, or, after a trouble, where it was. */
  private async begin(letter: Letter, partition: number): Promise<number | undefined> {
    const lane = laneOf(letter, partition);
    const known = this.next.get(lane);
    if (known !== undefined || this.log.next === undefined) return known;
    const next = await this.log.next(TOPICS[letter], partition);
    this.next.set(lane, next);
    this.keptFrom.set(lane, next);
    return next;
  }

  private take(letter: Letter, records: StoredRecord[]): void {
    for (const record of records) {
      const heard = new Heard(letter, record);
      const { lane, offset, bytes } = heard;
      if (this.log.next !== undefined) {
        if (offset < (this.next.get(lane) ?? 0)) continue;
        this.next.set(lane, offset + 1);
        this.kept.push({ lane, offset, record });
        this.keptBytes += bytes;
      }
      try {
        this.options.onRecord(heard);
      } catch (error) {
        this.options.notify({ level: 'warn', event: 'live_stream', text: messageOf(error) });
      }
    }
    this.forget();
  }

  private forget(): void {
    let count = 0;
    while (this.keptBytes > KEPT_BYTES_MAX && count < this.kept.length) {
      const { lane, offset, record } = this.kept[count++] as Kept; // Below its length.
      this.keptBytes -= record.value.length;
      this.keptFrom.set(lane, offset + 1);
    }
    if (count > 0) this.kept = this.kept.slice(count);
  }

  /** Whether everything from there on is kept. */
  keeps(lane: Lane, next: number): boolean {
    return next >= (this.keptFrom.get(lane) ?? Infinity);
  }

  /** Those that are kept, in order. */
  *records(): Generator<Heard> {
    for (const { lane, record } of this.kept) yield new Heard(lane.charAt(0) as Letter, record); // A lane begins with it.
  }

  async close(): Promise<void> {
    await Promise.all(this.followers.map((follower) => follower.close()));
  }
}
