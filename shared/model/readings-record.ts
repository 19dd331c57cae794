/**
 * The `readings` topic's record: JSON for anyone's consumer, documented in `docs/readings.md`. One record holds many
 * readings of one gateway; a series is named once and referred to by its index.
 */
import { hasCode, HeadwaterError, messageOf } from '../errors.ts';
import type { FieldValue, Reading, ReadingBatch } from './reading.ts';

interface SeriesEntry {
  measurement: string;
  tags: Record<string, string>;
}

interface ReadingEntry {
  series: number;
  sequence: number;
  index?: number;
  time: number;
  ns: number;
  fields: Record<string, FieldValue>;
  late?: true;
  was?: [time: number, ns: number];
}

interface RecordDocument {
  v: 1;
  gateway: string;
  epoch: string;
  arrived: number;
  series: SeriesEntry[];
  readings: ReadingEntry[];
  removed?: Omit<ReadingEntry, 'fields'>[];
  revision?: number;
}

/** A record's value. Readings of one mapping result share their `tags` object, which is what makes series cheap to find. */
export function encodeReadings({
  gateway,
  epoch,
  arrivedMs,
  readings,
  removed = [],
  revision,
}: ReadingBatch): Buffer {
  const series: SeriesEntry[] = [];
  const numbers = new Map<Record<string, string>, Map<string, number>>();
  const seriesOf = (measurement: string, tags: Record<string, string>): number => {
    let byName = numbers.get(tags);
    if (byName === undefined) numbers.set(tags, (byName = new Map()));
    let number = byName.get(measurement);
    if (number === undefined) {
      number = series.length;
      series.push({ measurement, tags });
      byName.set(measurement, number);
    }
    return number;
  };
  const entries: ReadingEntry[] = readings.map(
    ({ measurement, tags, fields, sequence, index, timeMs, ns, late, was }) => {
      const entry: ReadingEntry = {
        series: seriesOf(measurement, tags),
        sequence,
        time: timeMs,
        ns,
        fields,
      };
      if (index > 0) entry.index = index;
      if (late === true) entry.late = true;
      if (was !== undefined) entry.was = [was.timeMs, was.ns];
      return entry;
    },
  );
  const document: RecordDocument = {
    v: 1,
    gateway,
    epoch,
    arrived: arrivedMs,
    series,
    readings: entries,
  };
  if (revision !== undefined) document.revision = revision;
  if (removed.length > 0)
    document.removed = removed.map(({ measurement, tags, sequence, index, timeMs, ns }) => ({
      series: seriesOf(measurement, tags),
      sequence,
      time: timeMs,
      ns,
      ...(index > 0 ? { index } : {}),
    }));
  return Buffer.from(JSON.stringify(document));
}

/** 0001-01-01 and the end of 9999: what dates can say. */
const TIME_MS = { least: -62_135_596_800_000, most: 253_402_300_799_999 };

/** Stores and the lake count on it, and others may write to the topic too. */
function isPlace({ time, ns, sequence, index = 0 }: Omit<ReadingEntry, 'fields'>): boolean {
  return (
    Number.isInteger(time) &&
    time >= TIME_MS.least &&
    time <= TIME_MS.most &&
    Number.isInteger(ns) &&
    ns >= 0 &&
    ns < 1_000_000 &&
    Number.isSafeInteger(sequence) &&
    sequence >= 0 &&
    Number.isInteger(index) &&
    index >= 0 &&
    index < 2 ** 31
  );
}

/** Throws WIRE_INVALID for anything that is not such a record. */
export function decodeReadings(value: Buffer): ReadingBatch {
  let document: RecordDocument;
  try {
    document = JSON.parse(value.toString('utf8')) as RecordDocument;
  } catch (error) {
    throw new HeadwaterError('WIRE_INVALID', `readings record is not JSON: ${messageOf(error)}`, {
      cause: error,
    });
  }
  if (document.v !== 1 || !Array.isArray(document.series) || !Array.isArray(document.readings)) {
    throw new HeadwaterError('WIRE_INVALID', 'readings record is not of version 1');
  }
  const readingOf = (entry: ReadingEntry): Reading => {
    const series = document.series[entry.series];
    if (series === undefined)
      throw new HeadwaterError(
        'WIRE_INVALID',
        'readings record names a series that it does not list',
      );
    if (!isPlace(entry))
      throw new HeadwaterError(
        'WIRE_INVALID',
        'readings record has a time, ns, sequence or index that is no whole number in its range',
      );
    const reading: Reading = {
      measurement: series.measurement,
      tags: series.tags,
      fields: entry.fields,
      sequence: entry.sequence,
      index: entry.index ?? 0,
      timeMs: entry.time,
      ns: entry.ns,
    };
    if (entry.late === true) reading.late = true;
    if (entry.was !== undefined) reading.was = { timeMs: entry.was[0], ns: entry.was[1] };
    return reading;
  };
  const batch: ReadingBatch = {
    gateway: document.gateway,
    epoch: document.epoch,
    arrivedMs: document.arrived,
    readings: document.readings.map(readingOf),
  };
  if (document.revision !== undefined) batch.revision = document.revision;
  if (document.removed !== undefined)
    batch.removed = document.removed.map((entry) => readingOf({ ...entry, fields: {} }));
  return batch;
}

/** Undefined for what is not such a record: the store stage sets it aside, and nobody else stumbles over it. */
export function readingsOf(value: Buffer): ReadingBatch | undefined {
  try {
    return decodeReadings(value);
  } catch (error) {
    if (hasCode(error, 'WIRE_INVALID')) return undefined;
    throw error;
  }
}
