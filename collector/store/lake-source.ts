/** Readings and results as the lake has them, for a store that lacks what the log no longer has. */
import type { FieldValue, Reading } from '../../shared/model/reading.ts';
import { rowsOf } from '../duckdb/database.ts';
import { timeOf } from '../duckdb/nanos.ts';
import type { Lake } from '../lake/lake.ts';
import { entriesOf, objectOf } from '../lake/scan.ts';
import type { LakeState } from '../lake/gather.ts';
import { LAKE_PREFIX } from '../lake/gather.ts';
import { TOPIC_READINGS, TOPIC_STATE, type Log } from '../log/log.ts';
import type { Gap } from './place.ts';
import type { Change } from './store.ts';

export type FillZone = 'readings' | 'results';

export const zoneOf = (topic: string): FillZone =>
  topic === TOPIC_READINGS ? 'readings' : 'results';

/** What one partition's gap needs of the lake. */
export class LakeSource {
  private readonly lake: Lake;
  private readonly log: Log;
  private readonly zone: FillZone;
  private readonly partition: number;
  private readonly gap: Gap;

  constructor(lake: Lake, log: Log, topic: string, partition: number, gap: Gap) {
    this.lake = lake;
    this.log = log;
    this.zone = zoneOf(topic);
    this.partition = partition;
    this.gap = gap;
  }

  /** All that the lake has is asked for. */
  get isWhole(): boolean {
    return this.gap.from === 0;
  }

  /** What the lake's own stage says of the partition. */
  async state(): Promise<LakeState | undefined> {
    const key = `${LAKE_PREFIX}${this.zone}/${this.partition}`;
    const records = await this.log.state(TOPIC_STATE, this.partition, key);
    const value = records.find((record) => record.key === key)?.value;
    return value === undefined ? undefined : (JSON.parse(value.toString('utf8')) as LakeState);
  }

  /** Days that may have what is lacking, the newest first. */
  async days(): Promise<string[]> {
    const days = new Set((await this.lake.files(this.zone)).map(({ date }) => date));
    return [...days].sort().toReversed();
  }

  /** Whether the lake began no later in this log than the gap does. */
  covers({ begins = Infinity }: Partial<LakeState>): boolean {
    return begins <= this.gap.from;
  }

  /**
   * The rows of a day, in portions. A store that had nothing is given all of them, whatever log they came through; one
   * that lacks a middle part, what came through this log's offsets.
   */
  async day(
    date: string,
    log: string,
    size: number,
    take: (changes: Change[]) => Promise<void>,
  ): Promise<void> {
    const { zone, partition, gap } = this;
    const conditions = [];
    if (this.log.partitions > 1)
      conditions.push(`hash(gateway) % ${this.log.partitions} = ${partition}`);
    if (gap.from > 0)
      conditions.push(
        // What other writers took, before the lake had to begin anew under another name, may be of any offset.
        `log_partition = ${partition} AND (log <> '${log}' OR log_offset >= ${gap.from})`,
      );
    const where = conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`;
    const sql = `SELECT ${CHANGE_COLUMNS} FROM ${zone}${where}`;
    await this.lake.query({ from: date, to: date, zones: [zone] }, async (connection) => {
      let changes: Change[] = [];
      for await (const row of rowsOf(connection, sql)) {
        changes.push(changeOf(row));
        if (changes.length < size) continue;
        await take(changes);
        changes = [];
      }
      if (changes.length > 0) await take(changes);
    });
  }
}

/** What a change is made of. */
export const CHANGE_COLUMNS =
  'gateway, epoch, sequence, "index", time_ns, late, measurement, tags, fields, texts, bools';

export function changeOf(row: unknown[]): Change {
  const [gateway, epoch, sequence, index, time, late, measurement, tags, ...values] = row;
  const put: Reading = {
    measurement: String(measurement),
    tags: objectOf<string>(tags),
    fields: Object.fromEntries(values.flatMap((part) => entriesOf<FieldValue>(part))),
    sequence: Number(sequence),
    index: Number(index),
    ...timeOf(time as bigint), // A BIGINT column.
  };
  if (late === true) put.late = true;
  const identity = {
    gateway: String(gateway),
    epoch: String(epoch),
    sequence: put.sequence,
    index: put.index,
  };
  return { identity, put };
}
