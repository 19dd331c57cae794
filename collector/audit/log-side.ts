/**
 * What the topic `readings` says, for the audit: read from its front to its end in windows, so that memory stays bounded.
 * Of each identity what was said last counts; what was said twice without a word that it is said again is told.
 */
import { RangeSet } from '../../shared/model/ranges.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { readingsOf } from '../../shared/model/readings-record.ts';
import { appendValue, type DuckDBConnection } from '../duckdb/database.ts';
import { sumsOf, sumsSql, type PointSum } from '../duckdb/points.ts';
import { nanosOf } from '../duckdb/nanos.ts';
import type { LakeState } from '../lake/gather.ts';
import { SeriesTexts } from '../lake/rows.ts';
import { LAKE_PREFIX } from '../lake/gather.ts';
import {
  HEADER_AGAIN,
  TOPIC_READINGS,
  TOPIC_STATE,
  type Log,
  type StoredRecord,
} from '../log/log.ts';
import { identityName } from '../store/changes.ts';
import type { Identity } from '../store/store.ts';
import { epochName } from './epoch-name.ts';
import type { AuditEngine } from './engine.ts';

const POLL_MS = 200;
const BYTES_MAX = 1024 * 1024;
/** Readings that are compared at once. */
const WINDOW = 50_000;

/** What the log says of an identity. */
export interface Saying {
  identity: Identity;
  /** Undefined: it is there no more. */
  reading: Reading | undefined;
  arrivedMs: number;
  /** Of the record. */
  offset: number;
  sum: PointSum | undefined;
}

export interface Window {
  /** Last one of each identity, by its name. */
  sayings: Map<string, Saying>;
  /** Partition → offsets that it spans, from and up to without. */
  offsets: Map<number, Bounds>;
}

/** Between these offsets a partition is compared: what the other side has of it. */
export interface Bounds {
  from: number;
  /** Exclusive. */
  to: number;
}

export interface Scanned {
  readings: number;
  /** Epoch, by `epochName` → sequences that are said more than once. */
  doubled: Map<string, RangeSet>;
}

/** What the lake's stage says of a partition of a zone. */
export async function lakeState(
  log: Log,
  zone: string,
  partition: number,
): Promise<LakeState | undefined> {
  const key = `${LAKE_PREFIX}${zone}/${partition}`;
  const records = await log.state(TOPIC_STATE, partition, key);
  const value = records.find((record) => record.key === key)?.value;
  if (value === undefined) return undefined;
  const state = JSON.parse(value.toString('utf8')) as LakeState;
  return state.step === undefined ? undefined : state;
}

export class LogSide {
  private readonly log: Log;
  private readonly engine: AuditEngine;
  private readonly newId: () => string;

  constructor(log: Log, engine: AuditEngine, newId: () => string) {
    this.log = log;
    this.engine = engine;
    this.newId = newId;
  }

  /** Reads all of it. Throws LOG_UNAVAILABLE. */
  async scan(
    bounds: ReadonlyMap<number, Bounds>,
    take: (window: Window) => Promise<void>,
    rest: (workMs: number) => Promise<void>,
    isStopped: () => boolean,
  ): Promise<Scanned> {
    const { log } = this;
    const scanned: Scanned = { readings: 0, doubled: new Map() };
    const said = new Doubles(scanned.doubled);
    const consumer = await log.consumer({
      group: `headwater-audit-${this.newId()}`,
      topic: TOPIC_READINGS,
      from: 'start',
      watches: true,
      bytesMax: BYTES_MAX,
    });
    let sayings = new Map<string, Saying>();
    let offsets = new Map<number, Bounds>();
    let since = performance.now();
    const flush = async (): Promise<void> => {
      await this.sum(sayings);
      await take({ sayings, offsets });
      sayings = new Map();
      offsets = new Map([...offsets].map(([partition, { to }]) => [partition, { from: to, to }]));
      await rest(performance.now() - since);
      since = performance.now();
    };
    try {
      while (!isStopped()) {
        for (const record of await consumer.poll(POLL_MS)) {
          const { partition, offset } = record;
          const { from, to } = bounds.get(partition) ?? { from: 0, to: 0 };
          if (offset < from || offset >= to) continue;
          const spanned = offsets.get(partition);
          if (spanned === undefined) offsets.set(partition, { from: offset, to: offset + 1 });
          else spanned.to = offset + 1;
          scanned.readings += hear(record, sayings, said);
        }
        if (sayings.size >= WINDOW) await flush();
        if (consumer.ended().size >= log.partitions) break;
      }
      // What stood behind the last one that is there is missing as well.
      for (const [partition, spanned] of offsets)
        spanned.to = Math.max(spanned.to, bounds.get(partition)?.to ?? 0);
      if (!isStopped()) await flush();
    } finally {
      await consumer.close();
    }
    return scanned;
  }

  private async sum(sayings: Map<string, Saying>): Promise<void> {
    await this.engine.with(async (connection) => {
      await stagePoints(connection, sayings.values());
      for (const sum of await sumsOf(connection, sumsSql('SELECT * FROM said', 'reading'))) {
        const saying = sayings.get(identityName(sum));
        if (saying !== undefined) saying.sum = sum;
      }
    });
  }
}

/** Takes a record in; gives how many readings it has. */
function hear(record: StoredRecord, sayings: Map<string, Saying>, said: Doubles): number {
  const batch = readingsOf(record.value);
  // What is no such record the store stage has put into quarantine.
  if (batch === undefined) return 0;
  const { gateway, epoch, arrivedMs, readings, removed = [] } = batch;
  const isAgain = record.headers[HEADER_AGAIN] !== undefined;
  const own = said.ofRecord();
  const say = ({ sequence, index }: Reading, reading: Reading | undefined): void => {
    const identity = { gateway, epoch, sequence, index };
    const { offset } = record;
    sayings.set(identityName(identity), { identity, reading, arrivedMs, offset, sum: undefined });
  };
  for (const reading of removed) say(reading, undefined);
  for (const reading of readings) {
    const isNew = !isAgain && reading.was === undefined && removed.length === 0;
    // What is said again may have been said before, and still only once in a record.
    (isNew ? said : own).hear(gateway, epoch, reading);
    say(reading, reading);
  }
  return readings.length;
}

/** What was said once already. */
class Doubles {
  private readonly sets = new Map<string, RangeSet>();
  private readonly doubled: Map<string, RangeSet>;

  constructor(doubled: Map<string, RangeSet>) {
    this.doubled = doubled;
  }

  /** For what is said again: it tells doubles of one record. */
  ofRecord(): Doubles {
    return new Doubles(this.doubled);
  }

  hear(gateway: string, epoch: string, { sequence, index }: Reading): void {
    const name = `${gateway}/${epoch}/${index}`;
    let set = this.sets.get(name);
    if (set === undefined) this.sets.set(name, (set = new RangeSet()));
    if (!set.has(sequence)) {
      set.add(sequence, sequence);
      return;
    }
    const of = epochName(gateway, epoch);
    let twice = this.doubled.get(of);
    if (twice === undefined) this.doubled.set(of, (twice = new RangeSet()));
    twice.add(sequence, sequence);
  }
}

/** The table `said`: a relation of points. */
async function stagePoints(connection: DuckDBConnection, sayings: Iterable<Saying>): Promise<void> {
  await connection.run(
    'CREATE OR REPLACE TEMP TABLE said (gateway VARCHAR, epoch VARCHAR, sequence BIGINT, idx INTEGER, time_ns BIGINT, series VARCHAR, field VARCHAR, num DOUBLE, txt VARCHAR)',
  );
  const texts = new SeriesTexts();
  const appender = await connection.createAppender('said');
  for (const { identity, reading } of sayings) {
    if (reading === undefined) continue;
    const { measurement, tags, fields, timeMs, ns } = reading;
    const time = nanosOf(timeMs, ns);
    const series = texts.of(measurement, tags);
    for (const [field, value] of Object.entries(fields)) {
      appender.appendVarchar(identity.gateway);
      appender.appendVarchar(identity.epoch);
      appender.appendBigInt(BigInt(identity.sequence));
      appender.appendInteger(identity.index);
      appender.appendBigInt(time);
      appender.appendVarchar(series);
      appender.appendVarchar(field);
      appendValue(appender, value);
      appender.endRow();
    }
  }
  appender.closeSync();
}
